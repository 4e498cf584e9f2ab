"""What of a record a run follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.errors import MismatchError
from fl_core.record import written
from fl_core.replay import Replay

ROWS = [
    {"round": 1, "result": "Committed", "reporters": ["worker-1"], "ranges": {"0": [1, -2]}},
    {"round": 2, "result": "Skipped", "reporters": []},
    {"round": 3, "result": "Committed", "reporters": ["worker-0", "worker-2"]},
]
FOLLOWED = Replay(
    cohorts={1: ("worker-1",), 3: ("worker-0", "worker-2")},
    skipped=frozenset({2}),
    ranges={(1, 0): (1, -2)},
)


def test_a_round_asks_those_who_are_in_its_model(tmp_path: Path) -> None:
    """Reporters become cohorts, skipped rounds stay skipped, and ranges are known; through a file, too."""
    path = tmp_path / "replay.jsonl"
    path.write_bytes(b"".join(written(row) + b"\n" for row in ROWS))
    assert Replay.of(ROWS) == Replay.read(path) == FOLLOWED


@pytest.mark.parametrize("text", ["{", "[]", '{"round":1}', "3"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """By its path, as a file that is not there."""
    path = tmp_path / "replay.jsonl"
    path.write_text(text)
    for one in (path, tmp_path / "none"):
        with pytest.raises(MismatchError, match="holds no rounds to replay"):
            Replay.read(one)
