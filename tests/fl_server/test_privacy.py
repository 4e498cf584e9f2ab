"""The server's half of a mechanism: nothing is released that was not charged, and no charge is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import JobError, MismatchError, SpecError
from fl_core.extensions import Extension
from fl_core.plan import AdaptiveClip, Job, Plan
from fl_core.plan import Privacy as Settings
from fl_core.secagg.summands import Summed
from fl_core.weights import ArraySpec, Manifest, Weights
from fl_server.privacy import Privacy

PlanOf = Callable[..., Plan]

ADAPTIVE = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=2.0)
MANIFEST = Manifest((ArraySpec("w", "float32", (2000,)),))


@dataclass(frozen=True)
class Total:
    """A sum of so many updates, whose mean this is."""

    weight: int
    update: Weights

    def mean(self) -> Weights:
        return self.update


def whole(units: int, *, votes: int, members: int = 3) -> Summed:
    """A secure sum of whole numbers with votes in it."""
    update = {"w": np.full(2000, units / 100)}
    return Summed(weight=members, examples=0, clipped=0, exponents=(), metrics={}, update=update, votes=votes)


def settings(name: str = "gaussian", **changes: Any) -> Settings:
    fields = {"epsilon": 8.0, "delta": 1e-5, "corrupt": 1, "measured": True, "unit": "worker", **changes}
    fields["adaptive_clip"] = ADAPTIVE if fields.pop("adaptive", False) else None
    noise = fields.pop("noise", 2.0)
    return Settings(
        mechanism=Extension(name=name, options={"clip": 1.0, "noise_multiplier": noise}), **fields
    )


@pytest.fixture
def opened(tmp_path: Path, plan_of: PlanOf) -> Callable[..., Privacy]:
    """Open the privacy of a job; `plan` has the fields that matter, `seen` and `begun` are what a checkpoint says."""

    def build(
        *, seen: dict[str, Any] | None = None, begun: bool = False, plan: Any = None, **changes: Any
    ) -> Privacy:
        made = plan_of(privacy=settings(**changes), **(plan or {}))
        privacy = Privacy(made, tmp_path / "privacy.jsonl")
        privacy.open(seen, begun=begun)
        privacy.settle(MANIFEST)
        return privacy

    return build


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


# -- a clip norm that moves


@pytest.mark.parametrize(("votes", "factor"), [(3, np.exp(-0.1)), (-3, np.exp(0.1)), (0, 1.0)])
def test_the_clip_norm_follows_the_votes(opened: Callable[..., Privacy], votes: int, factor: float) -> None:
    """Under skellam, whose noise is in the count already: all short lowers the norm, all long raises it."""
    one = opened(name="skellam", adaptive=True)
    one.charge(1, 1)
    assert one.released(whole(0, votes=votes)).clip == pytest.approx(factor)
    assert one.released(whole(0, votes=votes), clip=0.25).clip == pytest.approx(0.25 * factor)
    assert (one.clip(), one.clip(0.25)) == (1.0, 0.25)


def test_a_servers_noise_is_on_the_votes_too(opened: Callable[..., Privacy]) -> None:
    """Under gaussian the count is noised before the norm follows from it, anew each time."""
    one = opened(adaptive=True)
    one.charge(1, 1)
    assert len({one.released(whole(0, votes=0)).clip for _ in range(20)}) > 3


def test_units_are_parts_of_the_norm_in_force(opened: Callable[..., Privacy]) -> None:
    """The same whole numbers stand for an update half as long where the norm is half as long."""
    one = opened(name="skellam", adaptive=True)
    one.charge(1, 1)
    sum_ = whole(one._settled.units, votes=0)
    long, short = (one.released(sum_, clip=clip).mean()["w"][0] for clip in (1.0, 0.5))
    assert long == pytest.approx(2 * short)


def test_update_and_votes_stand_in_one_charge(opened: Callable[..., Privacy]) -> None:
    """One line of the ledger holds both costs; together they come to what a norm that stays costs."""
    steady = opened()
    steady.charge(1, 1)
    spent = steady.epsilon
    steady.path.unlink()
    steady.path.with_name("privacy.jsonl.head").unlink()
    one = opened(adaptive=True)
    one.charge(1, 1)
    (charge,) = one._open.charges
    assert [type(cost).__name__ for cost in charge.costs] == ["GaussianCost", "GaussianCost"]
    assert one.epsilon == pytest.approx(spent)


def test_votes_in_the_clear_are_refused(opened: Callable[..., Privacy]) -> None:
    """Nobody's vote is seen alone: a sum that is not a secure one has none."""
    one = opened(adaptive=True)
    one.charge(1, 1)
    with pytest.raises(JobError, match="counted in secure sums only"):
        one.released(Total(3, {"w": np.zeros(2000)}))
