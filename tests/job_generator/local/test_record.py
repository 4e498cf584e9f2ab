from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.errors import StorageError
from job_generator.local.record import ClosedRound, Spent, last_evaluated, latest, read_record


def test_round_trip() -> None:
    """A round is the same after it was written and read."""
    closed = ClosedRound(round=3, cohort=("worker-0",), metrics={"loss": 0.2}, bytes={"up": 7})
    assert ClosedRound.from_json(closed.model_dump_json()) == closed


def test_replayed_round() -> None:
    """A round that was closed twice counts once, as it was closed last."""
    rounds = latest([ClosedRound(round=2), ClosedRound(round=1), ClosedRound(round=2, attempt=2)])
    assert [(closed.round, closed.attempt) for closed in rounds] == [(1, 1), (2, 2)]


def test_unfinished_line(tmp_path: Path) -> None:
    """A line that the server is still writing is left for the next reading."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round":1}\n{"rou')
    assert [closed.round for closed in read_record(path)] == [1]
    assert read_record(tmp_path / "none") == []


def test_damaged_line() -> None:
    """A line that is no round is named."""
    with pytest.raises(StorageError, match="oops"):
        ClosedRound.from_json("oops")


def test_loss() -> None:
    """The loss is the evaluated one, or else that of the training."""
    assert ClosedRound(round=1, metrics={"loss": 0.0}, train={"loss": 2.0}).loss == 0.0
    assert ClosedRound(round=1, train={"loss": 2.0}).loss == 2.0


def test_what_was_spent_is_said_whole() -> None:
    """The sentence has budget, delta, unit, neighbours and adversary, and whether measurements are covered."""
    told = {
        "epsilon": 2.1687,
        "delta": 1e-5,
        "budget": 8,
        "neighbours": "add or remove one",
        "adversary": "everyone",
        "epsilonCovers": "modelOnly",
    }
    closed = ClosedRound.model_validate({"round": 1, "privacy": told})
    assert str(closed.privacy) == (
        "epsilon 2.17 of 8 at delta 1e-05, for one worker (add or remove one), against everyone; "
        "the measurements are not covered"
    )
    assert str(Spent(epsilon=2.0)) == "epsilon 2, for one worker"


def test_last_evaluated() -> None:
    """Rounds without an evaluation are passed over."""
    rounds = [ClosedRound(round=1, metrics={"loss": 1.0}), ClosedRound(round=2)]
    assert last_evaluated(rounds) == rounds[0]
