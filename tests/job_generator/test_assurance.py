"""What is said about the privacy of a job is what its mechanism, budget and metrics come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from job_generator.assurance import Claim, assurance
from job_generator.compiler import compile_job
from job_generator.spec import FLJob

USERS = "whoever uses the model"


@pytest.fixture
def claims(job_map: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Claim]]:
    """The claims about a job, by against whom."""

    def build(name: str = "", *, epsilon: float = 2, metrics: str = "Released", **changes: Any) -> Any:
        if name:
            changes["privacy"] = {
                "mechanism": {"name": name, "clip": 1.0, "noiseMultiplier": 9.0},
                "budget": {"epsilon": epsilon, "delta": 1e-5},
                "metrics": metrics,
            }
        plan = compile_job(FLJob.model_validate(job_map(**changes)))
        return {one.against: one for one in assurance(plan)}

    return build


def test_a_model_without_noise_is_open(claims: Callable[..., Any]) -> None:
    """Without differential privacy nothing is claimed, and the field that would help is named."""
    said = claims()[USERS]
    assert said.verdict == "open"
    assert "spec.privacy would bound that" in said.sentence


def test_a_budget_is_explained(claims: Callable[..., Any]) -> None:
    """Epsilon comes with delta, unit, neighbours and adversary, and with what it means to somebody who guesses."""
    said = claims("gaussian")[USERS]
    for words in (
        "epsilon 2 at most, at delta 1e-05",
        "differ by add or remove one worker",
        "against everyone who sees the models; the server is trusted",
        "with 1% false alarms, is right in at most 7.4%",
    ):
        assert words in said.sentence


def test_a_large_epsilon_is_called_what_it_is(claims: Callable[..., Any]) -> None:
    """Where the bound says nothing any more, that is said."""
    assert "promises nothing by itself" in claims("gaussian", epsilon=8)[USERS].sentence


@pytest.mark.parametrize(("metrics", "verdict"), [("Released", "conditional"), ("Suppressed", "protected")])
def test_measurements_are_covered_or_not(claims: Callable[..., Any], metrics: str, verdict: str) -> None:
    """Metrics without noise are a hole in the claim; where nobody measures there is none."""
    said = claims("gaussian", metrics=metrics)[USERS]
    assert said.verdict == verdict
    assert ("not covered" in said.sentence) == (metrics == "Released")


def test_local_noise_hides_from_the_server(claims: Callable[..., Any]) -> None:
    """A server without secure sums sees updates with all of their noise under local, and without it otherwise."""
    plain = {"secureAggregation": {"enabled": False}}
    assert claims("local", metrics="Suppressed", **plain)["the server"].verdict == "protected"
    assert claims("gaussian", metrics="Suppressed", **plain)["the server"].verdict == "open"
