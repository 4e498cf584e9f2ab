"""The server's half of a mechanism: nothing is released that was not charged, and no charge is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import JobError, MismatchError, SpecError
from fl_core.extensions import Extension
from fl_core.plan import Job, Plan
from fl_core.plan import Privacy as Settings
from fl_core.weights import ArraySpec, Manifest, Weights
from fl_server.privacy import Privacy

PlanOf = Callable[..., Plan]

MANIFEST = Manifest((ArraySpec("w", "float32", (2000,)),))


@dataclass(frozen=True)
class Total:
    """A sum of so many updates, whose mean this is."""

    weight: int
    update: Weights

    def mean(self) -> Weights:
        return self.update


def settings(name: str = "gaussian", **changes: Any) -> Settings:
    fields = {"epsilon": 8.0, "delta": 1e-5, "corrupt": 1, "measured": True, "unit": "worker", **changes}
    noise = fields.pop("noise", 2.0)
    return Settings(
        mechanism=Extension(name=name, options={"clip": 1.0, "noise_multiplier": noise}), **fields
    )


@pytest.fixture
def opened(tmp_path: Path, plan_of: PlanOf) -> Iterator[Callable[..., Privacy]]:
    """Open the privacy of a job; `plan` has the fields that matter, `seen` and `begun` are what a checkpoint says."""
    there: list[Privacy] = []

    def build(
        *, seen: dict[str, Any] | None = None, begun: bool = False, plan: Any = None, **changes: Any
    ) -> Privacy:
        for other in there:
            other.close()
        made = plan_of(privacy=settings(**changes), **(plan or {}))
        privacy = Privacy(made, tmp_path / "privacy.jsonl")
        there.append(privacy)
        privacy.open(seen, begun=begun)
        privacy.settle(MANIFEST)
        return privacy

    yield build
    for one in there:
        one.close()


def test_an_attempt_is_charged_once(opened: Callable[..., Privacy]) -> None:
    """However often it is asked for, an attempt costs one release; another attempt of the round costs another."""
    one = opened()
    assert [one.charge(1, 1), one.charge(1, 1), one.charge(1, 2)] == [True, False, True]
    twice = one.epsilon
    assert one.charge(2, 1)
    assert one.epsilon > twice


def test_a_restart_forgets_nothing(opened: Callable[..., Privacy]) -> None:
    """What was charged stands in the ledger of the next process; the same attempt is charged again there."""
    one = opened()
    one.charge(1, 1)
    head, spent = one.head, one.epsilon
    again = opened(seen=head, begun=True)
    assert again.epsilon == spent
    assert again.charge(1, 1)
    assert again.epsilon > spent


def test_a_ledger_begun_before_the_first_checkpoint_is_gone_on_with(opened: Callable[..., Privacy]) -> None:
    """A server that died before it had a checkpoint finds its ledger."""
    opened().charge(1, 1)
    assert opened().epsilon > 2


@pytest.mark.parametrize("lost", ["privacy.jsonl", "privacy.jsonl.head"])
def test_a_lost_ledger_ends_the_job(opened: Callable[..., Privacy], tmp_path: Path, lost: str) -> None:
    """Where checkpoints are and their ledger is not, the job ends for good: nobody knows what was released."""
    head = opened().head
    (tmp_path / lost).unlink()
    with pytest.raises(JobError, match="is missing; nothing may be released until it is known what was"):
        opened(seen=head, begun=True)


def test_an_older_copy_of_the_ledger_is_refused(opened: Callable[..., Privacy], tmp_path: Path) -> None:
    """A ledger that lacks what a checkpoint has seen is not taken for the whole one."""
    one = opened()
    copies = {path: path.read_bytes() for path in tmp_path.iterdir()}
    one.charge(1, 1)
    for path, content in copies.items():
        path.write_bytes(content)
    with pytest.raises(JobError, match="was shortened"):
        opened(seen=one.head, begun=True)


def test_another_jobs_ledger_is_refused(opened: Callable[..., Privacy]) -> None:
    """A ledger is about one job and one delta."""
    opened()
    with pytest.raises(MismatchError, match="the ledger of job job-1"):
        opened(plan={"job": Job(name="test", namespace="default", uid="job-2")})
    with pytest.raises(MismatchError, match="about other things"):
        opened(delta=1e-6)


def test_checkpoints_that_know_no_ledger_are_refused(opened: Callable[..., Privacy]) -> None:
    """A job does not become private half way."""
    with pytest.raises(MismatchError, match="know of no ledger"):
        opened(begun=True)


def test_a_budget_without_room_for_one_round(opened: Callable[..., Privacy]) -> None:
    """It is refused before any round, with what one costs."""
    with pytest.raises(SpecError, match=r"spec\.privacy\.budget\.epsilon: 2 is less than the 2\.17 that one"):
        opened(epsilon=2.0)


def test_the_budget_is_never_passed(opened: Callable[..., Privacy]) -> None:
    """As long as another release is afforded it fits; the sentence of the end says what it would have been."""
    one, rounds = opened(epsilon=4.1, plan={"rounds": 10}), 0
    while one.affords():
        rounds += 1
        one.charge(rounds, 1)
    assert (rounds, one.epsilon <= 4.1) == (3, True)
    assert one.farewell(rounds) == (
        "epsilon 4.01 of 4.1 is spent after 3 of 10 rounds; another would make it 4.73"
    )


def test_nothing_is_released_without_a_charge(opened: Callable[..., Privacy]) -> None:
    """A sum that was not charged stays where it is."""
    with pytest.raises(JobError, match="was not charged"):
        opened().released(Total(3, {"w": np.zeros(2000)}))


@pytest.mark.parametrize("members", [2, 3])
def test_the_denominator_is_the_cohort(opened: Callable[..., Privacy], members: int) -> None:
    """Who is missing counts as zeros: the sum is divided by perRound, and its noise is the mechanism's."""
    one = opened(noise=1.0)
    one.charge(1, 1)
    units = one._settled.units
    total = Total(members, {"w": np.full(2000, units / 100)})
    released = one.released(total).mean()["w"]
    assert released.mean() == pytest.approx(members / 100 / 3, abs=5 / 3 / np.sqrt(2000))
    assert released.std() == pytest.approx(1 / 3, rel=0.1)


def test_skellams_noise_is_in_the_sum_already(opened: Callable[..., Privacy]) -> None:
    """The server turns units into values and adds nothing."""
    one = opened(name="skellam")
    one.charge(1, 1)
    units = one._settled.units
    released = one.released(Total(3, {"w": np.full(2000, float(units))})).mean()["w"]
    assert np.allclose(released, 1.0)


def test_what_epsilon_depends_on_is_said_with_it(opened: Callable[..., Privacy]) -> None:
    """The record has delta, unit, neighbours and adversary, and whether measurements are covered."""
    facts = opened(name="skellam").facts
    assert (facts["epsilon"], facts["delta"], facts["budget"]) == (0.0, 1e-5, 8.0)
    assert (facts["unit"], facts["neighbours"]) == ("worker", "add or remove one")
    assert "1 of 3 in a round" in facts["adversary"]
    assert facts["epsilonCovers"] == "modelOnly"
    assert opened(name="skellam", measured=False).facts["epsilonCovers"] == "everything"
