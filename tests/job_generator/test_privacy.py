"""Jobs with differential privacy: what does not go together is refused by name, with the nearest thing that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_core.plan import Plan
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.costs import GaussianCost, SampledGaussianCost
from fl_core.privacy.job import NEIGHBOURS
from job_generator.assurance import assurance
from job_generator.compiler import compile_job
from job_generator.outlay import outlay
from job_generator.rules import broken
from job_generator.spec import FLJob

Build = Callable[..., dict[str, Any]]


def private(
    name: str = "gaussian", *, metrics: str = "Released", adaptive: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    mechanism = {"name": name, "clip": 1.0, "noiseMultiplier": 2.0, **more}
    moving = {"adaptiveClip": adaptive} if adaptive is not None else {}
    return {"mechanism": mechanism, "budget": {"epsilon": 8, "delta": 1e-5}, "metrics": metrics, **moving}


def by_example() -> dict[str, Any]:
    return {**private("dp_sgd", rate=0.1, steps=3, learningRate=0.5), "unit": "example"}


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
            {"privacy": by_example(), "program__framework": "paddle"},
            "spec.program.framework: is paddle, whose programs give no gradient of each example",
            "expected numpy or sklearn, or the mechanism skellam",
        ),
        (
            {"privacy": {**by_example(), "unit": "worker"}, "program__framework": "numpy"},
            "spec.privacy.unit: is worker, but dp_sgd hides one example",
            "expected example, or another mechanism",
        ),
        (
            {"privacy": {**private("skellam"), "unit": "example"}},
            "spec.privacy.unit: is example, but skellam hides one worker",
            "expected worker",
        ),
        (
            {
                "privacy": by_example(),
                "program__framework": "numpy",
                "strategy": {"name": "fedsgd", "learningRate": 0.1},
            },
            "spec.strategy: fedsgd changes how workers train",
            "expected fedavg",
        ),
        (
            {"privacy": private("house.noise:Own")},
            "spec.privacy.mechanism: house.noise:Own is no mechanism whose cost is known",
            "expected gaussian",
        ),
        (
            {"privacy": private("local", adaptive={})},
            "spec.privacy.adaptiveClip: is given, but local releases no count of votes",
            "expected gaussian or skellam",
        ),
        (
            {"privacy": private(adaptive={}), "secureAggregation": {"enabled": False}},
            "spec.privacy.adaptiveClip: is given, but votes are counted in secure sums only",
            "expected secure aggregation",
        ),
        (
            {"privacy": private("skellam", adaptive={"countNoise": 1})},
            "spec.privacy.adaptiveClip: has countNoise 1, with which the votes alone",
            "expected more than 1",
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


@pytest.mark.parametrize(
    ("given", "replicas", "noise"), [({}, 10, 2.0), ({}, 100, 5.0), ({"countNoise": 1.5}, 100, 1.5)]
)
def test_the_noise_on_the_count(job_map: Build, given: dict[str, Any], replicas: int, noise: float) -> None:
    """A twentieth of the cohort, the noise multiplier where that is more, or what is given: a number in the plan."""
    plan = plan_of(job_map(privacy=private(adaptive=given), workers={"replicas": replicas}))
    assert plan.privacy is not None
    moving = plan.privacy.adaptive_clip
    assert moving is not None
    assert (moving.quantile, moving.learning_rate, moving.count_noise) == (0.5, 0.2, noise)
    assert plan_of(job_map(privacy=private())).privacy.adaptive_clip is None  # type: ignore[union-attr]


def test_a_norm_that_moves_costs_no_more(job_map: Build) -> None:
    """What is foretold of a job is the same with votes as without; their part comes out of the update's."""
    steady, moving = (
        outlay(
            plan_of(job_map(privacy=private(adaptive=given), workers={"replicas": 10}, rounds=5)),
            dimension=1000,
        )
        for given in (None, {})
    )
    assert steady is not None
    assert moving is not None
    assert (moving.first, moving.epsilon) == pytest.approx((steady.first, steady.epsilon))
    assert moving.fit == steady.fit


def test_examples_are_sampled_to_their_advantage(job_map: Build) -> None:
    """What is foretold of dp_sgd is the sampled Gaussian's epsilon over all steps, far below that of full batches."""
    plan = plan_of(job_map(privacy=by_example(), program__framework="numpy", rounds=10))
    found = outlay(plan)
    assert found is not None
    cost = SampledGaussianCost(noise_multiplier=2.0, rate=0.1, steps=30)
    assert found.epsilon == pytest.approx(epsilon([cost], delta=1e-5, neighbours=NEIGHBOURS))
    assert (
        found.epsilon
        < epsilon([GaussianCost(noise_multiplier=2.0)] * 30, delta=1e-5, neighbours=NEIGHBOURS) / 5
    )
    assert (found.unit, found.fit > 10) == ("example", True)
    assert any("of one example of a worker" in claim.sentence for claim in assurance(plan))
