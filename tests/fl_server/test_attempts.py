"""Attempts that outlive the server: their numbers, their draws, and who was lost in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_core.errors import MismatchError
from fl_server.attempts import RESTARTED, Attempts
from fl_server.storage import Lines


def begun(folder: Path) -> Attempts:
    """The attempts as a server that starts finds them."""
    attempts = Attempts(Lines(folder / "attempts.jsonl"))
    attempts.restore()
    return attempts


def test_the_next_server_knows_number_draw_and_losses(tmp_path: Path) -> None:
    """Killed in the third attempt of a round, of which its successor tells who was lost in the first two."""
    first = begun(tmp_path)
    assert first.opening(1, 1, draw=1, lost={}) == []
    assert first.opening(2, 1, draw=1, lost={"worker-9": "of round 1"}) == []
    first.opening(2, 2, draw=2, lost={"worker-1": "gone"})
    first.opening(2, 3, draw=3, lost={"worker-2": "stalled"})
    second = Attempts(Lines(tmp_path / "attempts.jsonl"))
    past = second.restore()
    assert (past.attempts, past.draws) == ({1: 1, 2: 3}, {1: 1, 2: 3})
    given_up = [
        {"attempt": 1, "dropouts": {"worker-1": "gone"}},
        {"attempt": 2, "dropouts": {"worker-2": "stalled"}},
        {"attempt": 3, "dropouts": {}, "reason": RESTARTED},
    ]
    assert second.opening(2, 4, draw=3, lost={"worker-7": "of another round"}) == given_up
    assert second.opening(2, 5, draw=4, lost={"worker-3": "gone"}) == [
        *given_up,
        {"attempt": 4, "dropouts": {"worker-3": "gone"}},
    ]


def test_an_attempt_is_on_the_disk_when_it_is_opened(tmp_path: Path) -> None:
    """One line, and nothing of those who were lost but once."""
    attempts = begun(tmp_path)
    attempts.opening(7, 1, draw=1, lost={})
    attempts.opening(7, 2, draw=2, lost={"worker-1": "gone"})
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"round": 7, "attempt": 1, "draw": 1},
        {
            "round": 7,
            "attempt": 2,
            "draw": 2,
            "before": {"attempt": 1, "dropouts": {"worker-1": "gone"}},
        },
    ]


def test_lines_of_another_version_are_refused(tmp_path: Path) -> None:
    """With a sentence, and not begun anew."""
    (tmp_path / "attempts.jsonl").write_text('{"round":1}\n')
    with pytest.raises(MismatchError, match=r"attempts.jsonl: .*was written by another version of FLJob"):
        begun(tmp_path)
