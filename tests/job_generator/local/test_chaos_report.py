from __future__ import annotations

import json
from pathlib import Path

from job_generator.local.chaos import Deed, Story
from job_generator.local.chaos_report import report, seconds_lost, sentence
from job_generator.local.folder import RunFolder

STORY = Story(
    deeds=[Deed("kill", "server", 2, 1, "commit", 3.5, 4.0)],
    opened={1: [2.0], 2: [3.0, 7.0], 3: [9.0], 4: [10.5]},
    starts={"server": 2, "scheduler": 1},
    ended=11.5,
)


def folder(path: Path, *rounds: int) -> RunFolder:
    found = RunFolder(path)
    found.storage.mkdir()
    rows = [{"round": number, "dropouts": {"worker-1": "gone"} if number == 2 else {}} for number in rounds]
    found.record.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def test_time_lost_is_what_a_round_took_beyond_the_middle_one_of_the_others() -> None:
    """Round 2 lasted six seconds, its quiet neighbours one, one and a half and one: five are lost."""
    assert seconds_lost(STORY) == {2: 5.0}
    alone = Story(deeds=STORY.deeds, opened={2: [3.0]}, ended=4.0)
    assert seconds_lost(alone) == {}


def test_a_report_counts_what_the_job_did(tmp_path: Path) -> None:
    """Attempts, dropouts and restarts are counted, and so would be rounds that were lost or recorded twice."""
    good = report(STORY, folder(tmp_path, 1, 2, 3, 4), seed=3)
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


def test_a_lost_round_and_one_counted_twice_are_seen(tmp_path: Path) -> None:
    """A hole in the record is a round lost; a second line of a round is one counted twice."""
    bad = report(STORY, folder(tmp_path, 1, 3, 3, 4), seed=3)["job"]
    assert (bad["rounds_lost"], bad["rounds_counted_twice"]) == (1, 1)
