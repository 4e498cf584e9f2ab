"""What stages remember is that of the round before, whatever ends the worker and however far the server goes back."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.compression.float16 import Float16
from fl_core.errors import StorageError
from fl_core.plan import Checkpoint
from fl_worker.remembered import Remembered

FRESH: tuple[dict[str, Any], ...] = ({},)


def remembered(folder: Path, *, every: int = 1, keep: int = 2) -> Remembered:
    """As a process that starts has it."""
    return Remembered(folder, FRESH, Checkpoint(every_rounds=every, keep=keep))


def trained(one: Remembered, *rounds: int) -> list[bytes]:
    """What a worker hands in for these rounds."""
    sent = []
    for number in rounds:
        update = {"w": np.array([0.1, 1e-4, 3.3], "f4") * number}
        made, state = Float16().on_worker(update, one.before(number)[0])
        one.keep(number, (state,))
        sent.append(made["w"].tobytes())
    return sent


def test_who_is_started_again_hands_in_the_same(tmp_path: Path) -> None:
    """Killed after any round, before or after it was handed in, the next process goes on as if it had been there."""
    expected = trained(remembered(tmp_path / "undisturbed"), *range(1, 7))
    assert expected != trained(remembered(tmp_path / "other"), 1) + [
        trained(remembered(tmp_path / f"forgetful-{number}"), number)[0] for number in range(2, 7)
    ]
    for last in range(1, 6):
        for again in (last, last + 1):
            folder = tmp_path / f"{last}-{again}"
            trained(remembered(folder), *range(1, last + 1))
            assert trained(remembered(folder), *range(again, 7)) == expected[again - 1 :]


@pytest.mark.parametrize("anew", [True, False])
def test_a_server_that_goes_back_has_the_same_again(tmp_path: Path, *, anew: bool) -> None:
    """As far as it has checkpoints, with the same process and with a new one; what came later is forgotten."""
    every, keep = 3, 2
    one = remembered(tmp_path, every=every, keep=keep)
    expected = trained(one, *range(1, 10))
    one = remembered(tmp_path, every=every, keep=keep) if anew else one
    assert trained(one, *range(4, 10)) == expected[3:]
    one.before(5)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000003.safetensors"]


def test_a_worker_that_was_not_chosen_goes_on_from_its_own_last_round(tmp_path: Path) -> None:
    """Rounds between that others made do not count."""
    one = remembered(tmp_path)
    trained(one, 2)
    both = [which.before(7)[0]["w"].tolist() for which in (one, remembered(tmp_path))]
    assert both[0] == both[1] != [0, 0, 0]


def test_only_so_many_rounds_stay(tmp_path: Path) -> None:
    """The newest, and one for each checkpoint; files are the worker's alone, and stages without memory write none."""
    trained(remembered(tmp_path / "some", every=5, keep=2), *range(1, 9), *range(11, 20))
    files = sorted((tmp_path / "some").iterdir())
    assert [int(path.name[6:14]) for path in files] == [8, 15, 17, 18, 19]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    remembered(tmp_path / "none").keep(1, FRESH)
    assert not (tmp_path / "none").exists()


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    """The stages begin anew, which is sound, and the log names the file."""
    trained(remembered(tmp_path), 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with capture_logs() as logs:
        assert remembered(tmp_path).before(2) == FRESH
    assert logs[0]["file"] == str(file)


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    """What could not be kept is not handed in."""
    (tmp_path / "file").touch()
    one = remembered(tmp_path / "file" / "states")
    with pytest.raises(
        StorageError, match=r"file/states cannot be written: Not a directory; make room, or give --states"
    ):
        trained(one, 1)
