"""Jobs with differential privacy: what does not go together is refused by name, with the nearest thing that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_core.plan import Plan
from job_generator.compiler import compile_job
from job_generator.rules import broken
from job_generator.spec import FLJob

Build = Callable[..., dict[str, Any]]


def private(name: str = "gaussian", *, metrics: str = "Released", **more: Any) -> dict[str, Any]:
    mechanism = {"name": name, "clip": 1.0, "noiseMultiplier": 2.0, **more}
    return {"mechanism": mechanism, "budget": {"epsilon": 8, "delta": 1e-5}, "metrics": metrics}


def plan_of(document: dict[str, Any]) -> Plan:
    return compile_job(FLJob.model_validate(document))


@pytest.mark.parametrize(
    ("changes", "blamed", "told"),
    [
        (
            {"privacy": private("skellam"), "secureAggregation": {"enabled": False}},
            "spec.privacy.mechanism: skellam",
            "expected secure aggregation",
        ),
        (
            {"privacy": private("skellam"), "workers": {"replicas": 2}},
            "spec.privacy.mechanism: skellam",
            "or gaussian",
        ),
        (
            {"privacy": private("dp_sgd", rate=0.1, steps=3)},
            "spec.privacy.mechanism: dp_sgd needs the gradient of each example",
            "expected gaussian",
        ),
        (
            {"privacy": private("house.noise:Own")},
            "spec.privacy.mechanism: house.noise:Own is no mechanism whose cost is known",
            "expected gaussian",
        ),
        (
            {
                "privacy": private(),
                "compression": [{"name": "float16"}],
                "secureAggregation": {"enabled": False},
            },
            "spec.compression: float16 changes updates after their length was bounded",
            "{bits: 16} sends half as much",
        ),
        (
            {"privacy": private(metrics="Suppressed"), "target": {"metric": "accuracy", "atLeast": 1}},
            "spec.target: is given, but under spec.privacy.metrics Suppressed",
            "expected Released, or no target",
        ),
    ],
)
def test_what_does_not_go_together(job_map: Build, changes: dict[str, Any], blamed: str, told: str) -> None:
    """Each refusal names the field, what is wrong with it, and what would be accepted instead."""
    (complaint,) = [str(problem) for problem in broken(job_map(**changes))]
    assert complaint.startswith(blamed)
    assert told in complaint


@pytest.mark.parametrize("name", ["gaussian", "local", "skellam"])
def test_what_goes_together(job_map: Build, name: str) -> None:
    """The other mechanisms are good with secure sums; all but skellam without them."""
    assert list(broken(job_map(privacy=private(name)))) == []
    alone = job_map(privacy=private(name), secureAggregation={"enabled": False})
    assert (list(broken(alone)) == []) == (name != "skellam")


def test_the_plan_holds_what_both_ends_derive_from(job_map: Build) -> None:
    """Mechanism and budget stand in the plan as written; the workers that may be corrupt are a share of the cohort."""
    privacy = plan_of(job_map(privacy=private(), workers={"replicas": 50})).privacy
    assert privacy is not None
    assert privacy.mechanism.name == "gaussian"
    assert privacy.mechanism.options == {"clip": 1.0, "noise_multiplier": 2.0}
    assert (privacy.epsilon, privacy.delta, privacy.corrupt) == (8, 1e-5, 3)
    assert plan_of(job_map()).privacy is None


def test_nobody_measures_where_metrics_are_suppressed(job_map: Build) -> None:
    """Suppressed metrics leave no evaluation in the plan; released ones leave it as it was."""
    every = {"evaluation": {"everyRounds": 2}}
    suppressed = plan_of(job_map(privacy=private(metrics="Suppressed"), **every))
    released = plan_of(job_map(privacy=private(), **every))
    assert (suppressed.evaluation_every, released.evaluation_every) == (0, 2)
