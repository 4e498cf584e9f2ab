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


@pytest.mark.parametrize(("round", "said"), [(None, True), (3, False)])
def test_a_model_from_elsewhere_is_not_counted(
    claims: Callable[..., Any], round: int | None, *, said: bool
) -> None:
    """What a job begins with may tell of its data, too; a fork counts what its parent spent."""
    given = {"uri": "m.npz", **({} if round is None else {"round": round})}
    claim = claims("gaussian", metrics="Suppressed", initialModel=given)[USERS]
    assert ("is not counted (spec.initialModel)" in claim.sentence) == said
    assert claim.verdict == ("conditional" if said else "protected")


def test_a_large_epsilon_is_called_what_it_is(claims: Callable[..., Any]) -> None:
    """Where the bound says nothing any more, that is said."""
    assert "promises nothing by itself" in claims("gaussian", epsilon=8)[USERS].sentence


@pytest.mark.parametrize(("metrics", "verdict"), [("Released", "conditional"), ("Suppressed", "protected")])
def test_measurements_are_covered_or_not(claims: Callable[..., Any], metrics: str, verdict: str) -> None:
    """Metrics without noise are a hole in the claim; where nobody measures there is none."""
    said = claims("gaussian", metrics=metrics)[USERS]
    assert said.verdict == verdict
    assert ("not covered" in said.sentence) == (metrics == "Released")


COUNTS, TWICE = "the difference is its own", "Two rounds suffice"


@pytest.mark.parametrize(
    ("changes", "counts", "loss", "update"),
    [
        ({}, "How many examples a worker has is no secret", True, False),
        (
            {"strategy": {"name": "fedsgd", "learningRate": 0.1}},
            "How many examples a worker has is no secret",
            True,
            True,
        ),
        ({"name": "skellam"}, "With how many examples a worker measures is no secret", True, False),
        ({"name": "skellam", "metrics": "Suppressed"}, "", False, False),
    ],
)
def test_two_rounds_that_differ_by_one_worker_tell_of_it(
    claims: Callable[..., Any], changes: dict[str, Any], counts: str, *, loss: bool, update: bool
) -> None:
    """Its number of examples to anybody who reads the rounds; to a server that asks twice its loss, or its update."""
    said = claims(**changes, selection={"perRound": 5}, workers={"replicas": 5})
    curious = said["a server that follows the protocol and keeps what it sees"].sentence
    cheating = said["a server that cheats"].sentence
    assert counts in curious
    assert (COUNTS in curious) == bool(counts)
    assert (TWICE in cheating, "with fedsgd its update" in cheating) == (loss, update)


def test_local_noise_hides_from_the_server(claims: Callable[..., Any]) -> None:
    """A server without secure sums sees updates with all of their noise under local, and without it otherwise."""
    plain = {"secureAggregation": {"enabled": False}}
    assert claims("local", metrics="Suppressed", **plain)["the server"].verdict == "protected"
    assert claims("gaussian", metrics="Suppressed", **plain)["the server"].verdict == "open"


BUCKETED = {
    "workers": {"replicas": 12},
    "secureAggregation": {"buckets": 3},
    "aggregation": {"name": "median", "hostile": 1},
}
SERVER = "a server that follows the protocol and keeps what it sees"
POISON = "workers that hand in false updates"


def test_buckets_are_said_aloud(claims: Callable[..., Any]) -> None:
    """What the server learns is a sum of each bucket; each worker is hidden among so many, and not among all."""
    said = claims(**BUCKETED)
    for words in ("3 sums, one of each bucket of about 4 workers, over at least 3 of them", "over all 12"):
        assert words in said[SERVER].sentence
    assert "(3 of 4 must sign the same workers)" in said["a server that cheats"].sentence
    assert "with 3 in a sum the other 2 together" in said["the other workers"].sentence
    assert "the sum over at least 9 workers" in claims(workers={"replicas": 12})[SERVER].sentence


def test_the_curious_of_a_large_cohort_are_counted(claims: Callable[..., Any]) -> None:
    """In cross-device it is a share of the whole cohort, and the sentence has the number."""
    said = claims(workers={"replicas": 200})[SERVER].sentence
    assert "the sum over at least 140 workers" in said
    assert "even if 10 of the workers (5% of 200) told it" in said


@pytest.mark.parametrize(
    ("workers", "tolerate", "curious", "helped"),
    [
        (3, None, "one of the workers", "with one worker who helps it"),
        (8, None, "4 of the workers", "with up to 2 workers who help it"),
        (10, 4, "4 of the workers", "if no worker helps it"),
    ],
)
def test_how_many_may_be_in_league_is_told_for_the_worst_roster(
    claims: Callable[..., Any], workers: int, tolerate: int | None, curious: str, helped: str
) -> None:
    """Not for that of all workers: with fewer, whether late or left out by the server, fewer shares open a secret."""
    said = claims(workers={"replicas": workers}, secureAggregation={"tolerate": tolerate})
    assert f"even if {curious} told it all they know" in said[SERVER].sentence
    assert f"{helped}, however few it lists" in said["a server that cheats"].sentence


def test_a_list_of_more_than_the_cohort_counts_too(claims: Callable[..., Any]) -> None:
    """Of six that take part three may help the server; of 20, seven of whom it can list, two."""
    few, many = (claims(workers={"replicas": n}, selection={"perRound": 6}) for n in (6, 20))
    assert "with up to 3 workers who help it" in few["a server that cheats"].sentence
    assert "with up to 2 workers who help it" in many["a server that cheats"].sentence


def test_what_a_policy_can_name_is_said(claims: Callable[..., Any]) -> None:
    """Programs and images; and that an image is known by hearsay."""
    said = claims(workers={"replicas": 5})
    assert "name the programs and the images that are allowed" in said["a server that cheats"].sentence
    assert "a policy's list of images finds a wrong one, and no lie" in (
        said["an administrator of the cluster"].sentence
    )


def test_what_a_rule_withstands_is_claimed(claims: Callable[..., Any]) -> None:
    """So many hostile workers, among buckets or single updates; of a mean nothing of the kind is said."""
    said = claims(**BUCKETED)[POISON]
    assert said.verdict == "conditional"
    assert "median compares the sums of 3 buckets and withstands 1 such workers" in said.sentence
    plain = claims(**{**BUCKETED, "secureAggregation": {"enabled": False}})
    assert "the updates of single workers" in plain[POISON].sentence
    assert POISON not in claims()
