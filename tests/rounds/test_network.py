"""Whole jobs whose network is slow or silent for longer than `stallSeconds`, or mixes what it carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.shortfall import STALLED
from fl_worker.backends.numpy import NumpyBackend
from tests.rounds.faults import tried

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(120)]

STALL = 5
SELECTION = {"minimum": 1, "deadlineSeconds": 60, "stallSeconds": STALL}


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models are made anew in this process, by a program that changes this."""
    monkeypatch.setattr(NumpyBackend, "moves", NumpyBackend.moves)


def test_an_upload_that_moves_is_waited_for(tmp_path: Path) -> None:
    """A transfer of 8 MB at 1 MB/s, for 7 s, is longer under way than `stallSeconds`, and is in the model."""
    drip = {"fault": "slow", "who": "worker-0", "round": 1, "step": "upload", "seconds": STALL + 2}
    drip["kilobytesPerSecond"] = 1_000
    run = tried(
        tmp_path,
        [drip],
        secure=False,
        rounds=1,
        workers=2,
        selection=SELECTION,
        moves=1,
        size=2_000_000,
    )
    run.check()
    (row,), (deed,) = run.rounds(), run.report["done"]
    assert deed["back_after"] > STALL
    assert (row["attempt"], row["dropouts"], row["reporters"]) == (1, {}, ["worker-0", "worker-1"])


def test_who_falls_silent_is_out_of_one_round(tmp_path: Path) -> None:
    """Its connections stay and carry nothing: the round goes on after `stallSeconds`, the next one has it again."""
    silence = {"fault": "cut", "silent": True, "who": "worker-0", "round": 2, "step": "upload"}
    silence["seconds"] = STALL + 1
    run = tried(tmp_path, [silence], secure=False, rounds=3, workers=2, selection=SELECTION, moves=1)
    run.check()
    before, during, after = run.rounds()
    assert (during["attempt"], during["reporters"]) == (1, ["worker-1"])
    assert during["dropouts"] == {"worker-0": STALLED}
    assert before["reporters"] == after["reporters"] == ["worker-0", "worker-1"]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_what_overtakes_on_the_way_changes_nothing(tmp_path: Path, *, secure: bool) -> None:
    """All links of a run are late by times of their own: each round is the first attempt's, of all workers."""
    mixed = {"fault": "reorder", "round": 1, "step": "open", "seconds": 600, "delaySeconds": 0.2}
    both = [{**mixed, "who": who} for who in ("server", "scheduler")]
    run = tried(tmp_path, both, secure=secure, rounds=2, selection={"minimum": 4})
    run.check()
    everybody = [f"worker-{index}" for index in range(4)]
    assert [(row["attempt"], row["reporters"]) for row in run.rounds()] == [(1, everybody)] * 2
