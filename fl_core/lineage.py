"""A job that goes on from another one's checkpoint: what of that still means the same to it.

A checkpoint names what made it. Where the fork has another strategy, what the parent's remembered is nothing to it,
and so with everything that a job may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_core.errors import MismatchError
from fl_core.plan import Plan

MEMORIES = {
    "strategy": "spec.strategy",
    "compression": "spec.compression",
    "secure_aggregation": "spec.secureAggregation",
    "privacy": "spec.privacy",
    "score": "the metric of spec.target",
}
"""What remembers something from round to round, as a checkpoint names it, and as people know it."""


def makers(plan: Plan) -> dict[str, Any]:
    """What a checkpoint says of the plan that it was made under, as JSON."""
    target = plan.target
    score = [target.metric, target.at_least is not None] if target else ["loss", False]
    told = plan.model_dump(mode="json", include={"strategy", "compression", "secure_aggregation", "privacy"})
    return {"job": plan.job.uid, **told, "score": score}


def begun_anew(before: Mapping[str, Any], plan: Plan) -> tuple[str, ...]:
    """Of what made a checkpoint, that which is another one under this plan, so that it begins anew.

    Buckets are dealt by the job's uid, so a fork has others, and what was learned of them is nothing to it.
    """
    now, secure = makers(plan), plan.secure_aggregation
    dealt = {"secure_aggregation"} if secure is not None and secure.buckets > 1 else set()
    return tuple(name for name in MEMORIES if before.get(name) != now[name] or name in dealt)


def check_fork(before: Mapping[str, Any], plan: Plan) -> None:
    """Refuse a fork for which no epsilon would hold, and a job that would be its own parent."""
    if before.get("job") == plan.job.uid:
        raise MismatchError(
            "spec.initialModel: this is a checkpoint of this job itself; a fork has a uid of its own"
        )
    was, now = before.get("privacy"), plan.privacy
    if was is not None and now is None:
        raise MismatchError(
            "spec.privacy: the parent's model was made under a budget, which would mean nothing once rounds go on "
            "without; keep spec.privacy in the fork"
        )
    if was is None and now is not None:
        raise MismatchError(
            "spec.privacy: the parent's rounds were trained without it, so no epsilon holds for a model that goes on "
            "from them; begin a new job with spec.privacy, without a model that was learned from the same data"
        )
    if was is not None and now is not None and was["unit"] != now.unit:
        raise MismatchError(
            f"spec.privacy.unit: {now.unit}, but what the parent spent is about one {was['unit']}; keep it in a fork"
        )
