from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.plan import InitialModel, Plan
from job_generator.local.chaos import Deed, Story
from job_generator.local.chaos_report import report, seconds_lost, sentence
from job_generator.local.folder import RunFolder

STORY = Story(
    deeds=[Deed("kill", "server", 2, 1, "commit", 3.5, 4.0)],
    opened={1: [2.0], 2: [3.0, 7.0], 3: [9.0], 4: [10.5]},
    starts={"server": 2, "scheduler": 1},
    ended=11.5,
)


Folder = Callable[..., RunFolder]


@pytest.fixture
def folder(tmp_path: Path, plan_of: Callable[..., Plan]) -> Folder:
    """A run whose record has lines of these rounds; of a negative number, one that says the server went back to it."""

    def made(*rounds: int, after: int | None = None) -> RunFolder:
        found = RunFolder(tmp_path / "run")
        found.prepare(job="", plan=plan_of(initial_model=after and InitialModel(round=after)))
        rows = [
            {"round": number, "dropouts": {"worker-1": "gone"} if number == 2 else {}}
            if number > 0
            else {"round": -number, "result": "Restored"}
            for number in rounds
        ]
        found.record.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return found

    return made


def test_time_lost_is_what_a_round_took_beyond_the_middle_one_of_the_others() -> None:
    """Round 2 lasted six seconds, its quiet neighbours one, one and a half and one: five are lost."""
    assert seconds_lost(STORY) == {2: 5.0}
    alone = Story(deeds=STORY.deeds, opened={2: [3.0]}, ended=4.0)
    assert seconds_lost(alone) == {}


def test_a_report_counts_what_the_job_did(folder: Folder) -> None:
    """Attempts, dropouts and restarts are counted, and so would be rounds that were lost or recorded twice."""
    good = report(STORY, folder(1, 2, 3, 4), seed=3)
    assert good["job"] == {
        "rounds": 4,
        "rounds_lost": 0,
        "rounds_counted_twice": 0,
        "rounds_skipped": 0,
        "attempts": 4,
        "dropouts": {"gone": 1},
        "restarts": {"server": 1},
        "seconds_lost": 5.0,
    }
    (deed,) = good["done"]
    assert (deed["who"], deed["back_after"], deed["round_seconds_lost"]) == ("server", 4.0, 5.0)
    assert "4 rounds in 4 attempts: 0 lost" in sentence(good["job"])
    assert "; dropouts: 1 (gone: 1); " in sentence(good["job"])
    several = sentence({**good["job"], "dropouts": {"gone": 1, "late": 2}})
    assert "; dropouts: 3 (gone: 1, late: 2); " in several


def test_a_lost_round_and_one_counted_twice_are_seen(folder: Folder) -> None:
    """A hole in the record is a round lost; a second line of a round is one counted twice."""
    bad = report(STORY, folder(1, 3, 3, 4), seed=3)["job"]
    assert (bad["rounds_lost"], bad["rounds_counted_twice"]) == (1, 1)


def test_rounds_before_a_fork_are_not_lost(folder: Folder) -> None:
    """They are the parent's; a hole after them is one of this job."""
    assert report(STORY, folder(6, 7, 9, after=5), seed=3)["job"]["rounds_lost"] == 1


def test_rounds_that_were_given_up_are_not_counted_twice(folder: Folder) -> None:
    """Where the server went back, what it makes again counts once; what was there twice before still counts."""
    run = folder(1, 2, 2, 3, -2, 3, 4)
    with run.record.open("a") as stream:
        stream.write('{"rou')
    assert report(STORY, run, seed=3)["job"]["rounds_counted_twice"] == 1
    run.record.write_text("".join(f"{line}\n" for line in run.record.read_text().splitlines()[3:-1]))
    assert report(STORY, run, seed=3)["job"]["rounds_counted_twice"] == 0
