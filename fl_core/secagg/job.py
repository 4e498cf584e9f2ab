"""A job's sessions from its plan: what both ends derive alike, so that neither has to believe the other."""

from __future__ import annotations

import math
from dataclasses import replace

from fl_core.errors import MismatchError
from fl_core.plan import Plan, SecureAggregation
from fl_core.privacy.job import clip_of, meaning_of, mechanism_of, release_of
from fl_core.secagg.buckets import Buckets
from fl_core.secagg.ring import Ring
from fl_core.secagg.session import Context, Purpose
from fl_core.secagg.summands import METRIC_LIMIT, Summand, WholeSum
from fl_core.secagg.terms import Terms
from fl_core.weights import Manifest


def settings_of(plan: Plan) -> SecureAggregation:
    """The plan's settings; refuses a plan that has none."""
    if plan.secure_aggregation is None:
        raise MismatchError("this job has no secure aggregation (spec.secureAggregation.enabled is false)")
    return plan.secure_aggregation


def buckets_of(plan: Plan) -> Buckets:
    """The job's buckets; one where it has none."""
    return Buckets(plan.job.uid, settings_of(plan).buckets)


def cohort_of(plan: Plan) -> int:
    """How many of a round's workers the smallest bucket has, when all are there."""
    return plan.selection.per_round // settings_of(plan).buckets


def most_of(plan: Plan) -> int:
    """How many workers the largest bucket has, when all that there may ever be are there."""
    return -(-plan.workers // settings_of(plan).buckets)


def terms_of(plan: Plan) -> Terms:
    """What the job fixes for all its sessions; with buckets the fewest of a bucket are those its sum opens with.

    Corrupt workers are counted of the largest bucket's, however few of them come, and of `perRound`, however many more
    are asked.
    """
    own = settings_of(plan)
    cohort = -(-plan.selection.per_round // own.buckets)
    terms = Terms(profile=own.profile, tolerate=own.tolerate, corrupt=_corrupt_of(plan), cohort=cohort)
    least = plan.selection.minimum if own.buckets == 1 else terms.survivors(cohort_of(plan))
    return replace(terms, minimum=least)


def _corrupt_of(plan: Plan) -> int:
    """How many of a round's workers may be in league with the server, where that would take noise off a sum.

    Two sums of the same vectors under other noise must not open even then, or epsilon would not hold.
    """
    return plan.privacy.corrupt if plan.privacy and mechanism_of(plan).noise == "workers" else 0


def ring_of(plan: Plan) -> Ring:
    """The ring that holds the updates of all who are asked in one bucket; with differential privacy each weighs 1."""
    own = settings_of(plan)
    most = own.max_examples if plan.privacy is None else 1
    members = min(plan.selection.asked, most_of(plan))
    return Ring(bits=own.bits, members=members, most_weight=most)


def most_measured(plan: Plan) -> float:
    """Below this lie the numbers that a worker measures, where a sum is to hold those of all."""
    return METRIC_LIMIT / ring_of(plan).members if plan.secure_aggregation is not None else math.inf


def whole_sum_of(plan: Plan, manifest: Manifest, *, clip: float = 0.0) -> WholeSum | None:
    """How updates of whole numbers are summed, where `clip` came with the model; None where the job's are none."""
    if plan.privacy is None or mechanism_of(plan).noise == "worker":
        return None
    moving = clip_of(plan, clip)
    meaning = meaning_of(release_of(plan, manifest), clip=moving)
    return WholeSum(settings_of(plan).bits, manifest, meaning, votes=moving > 0)


def context_of(
    plan: Plan, summand: Summand, *, round: int, attempt: int, purpose: Purpose, model: str, bucket: int = 0
) -> Context:
    """Which sum of which round this is."""
    return Context(
        job=plan.job.uid,
        plan=plan.digest,
        round=round,
        attempt=attempt,
        purpose=purpose,
        model=model,
        shape=summand.text,
        tells_ranges=summand.tells_ranges,
        terms=terms_of(plan),
        bucket=bucket,
        buckets=settings_of(plan).buckets,
    )
