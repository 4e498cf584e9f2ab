from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fl_core.errors import MismatchError
from fl_core.extensions import Extension
from fl_core.lineage import begun_anew, check_fork, makers
from fl_core.plan import Plan, Privacy, SecureAggregation, Target
from tests.conftest import private

PlanOf = Callable[..., Plan]

SECURE = SecureAggregation(profile="cross-silo", tolerate=1, bits=32, max_examples=64)
PRIVATE = private()


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({}, ()),
        ({"seed": 9, "rounds": 99}, ()),
        ({"strategy": Extension(name="fedprox", options={"mu": 0.5})}, ("strategy",)),
        ({"secure_aggregation": SECURE}, ("secure_aggregation",)),
        ({"target": Target(metric="accuracy", at_least=0.5)}, ("score",)),
        ({"target": Target(metric="loss", at_most=0.5)}, ()),
    ],
)
def test_what_begins_anew(plan_of: PlanOf, changes: dict[str, Any], anew: tuple[str, ...]) -> None:
    """What made the checkpoint and is the same in the fork goes on; it survives being written as JSON."""
    before = json.loads(json.dumps(makers(plan_of())))
    assert begun_anew(before, plan_of().model_copy(update=changes)) == anew


def test_buckets_are_others(plan_of: PlanOf) -> None:
    """They are dealt by the job's uid, so that a fork with the very same settings has other ones."""
    plan = plan_of().model_copy(update={"secure_aggregation": SECURE.model_copy(update={"buckets": 4})})
    assert begun_anew(makers(plan), plan) == ("secure_aggregation",)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (PRIVATE, None, "keep spec.privacy in the fork"),
        (None, PRIVATE, "no epsilon holds for a model that goes on from them"),
        (
            PRIVATE,
            PRIVATE.model_copy(update={"unit": "example"}),
            "what the parent spent is about one worker",
        ),
    ],
)
def test_a_budget_cannot_be_forked_away(
    plan_of: PlanOf, before: Privacy | None, after: Privacy | None, complaint: str
) -> None:
    """Privacy neither comes nor goes with a fork, nor changes whom it is about."""
    parent, child = (plan_of().model_copy(update={"privacy": one}) for one in (before, after))
    told = {**makers(parent), "job": "another"}
    check_fork(told, child.model_copy(update={"privacy": before}))
    with pytest.raises(MismatchError, match="spec.privacy") as error:
        check_fork(told, child)
    assert complaint in str(error.value)


def test_nobody_is_its_own_parent(plan_of: PlanOf) -> None:
    """A checkpoint of the job itself is for going on, not for forking."""
    with pytest.raises(MismatchError, match="a fork has a uid of its own"):
        check_fork(makers(plan_of()), plan_of())
