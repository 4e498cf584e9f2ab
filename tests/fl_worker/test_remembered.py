"""What stages remember is that of the last round that counts, whatever ends the worker or takes the server back."""

from __future__ import annotations

import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.compression.float16 import Float16
from fl_core.errors import StorageError
from fl_worker.remembered import Remembered

FRESH: tuple[dict[str, Any], ...] = ({},)


def remembered(folder: Path) -> Remembered:
    """As a process that starts has it."""
    return Remembered(folder, FRESH)


def handed_in(one: Remembered, number: int, counted: Collection[int]) -> bytes:
    """What a worker hands in for a round, where these of its rounds count."""
    update = {"w": np.array([0.1, 1e-4, 3.3], "f4") * number}
    made, state = Float16().on_worker(update, one.before(number, counted)[0])
    one.keep(number, (state,))
    return made["w"].tobytes()


def trained(one: Remembered, *rounds: int) -> list[bytes]:
    """What it hands in for these rounds, all of which count."""
    return [handed_in(one, number, range(1, number)) for number in rounds]


def files(folder: Path) -> list[int]:
    """The rounds of which there is a file."""
    return sorted(int(path.name[6:14]) for path in folder.iterdir())


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
    """To a checkpoint of any round, with the same process and with a new one; what came later is forgotten."""
    one = remembered(tmp_path)
    expected = trained(one, *range(1, 10))
    one.before(10, (4, 9))
    one = remembered(tmp_path) if anew else one
    assert [handed_in(one, number, {4, number - 1}) for number in range(5, 10)] == expected[4:]
    one.before(5, [4])
    assert files(tmp_path) == [4]


@pytest.mark.parametrize("anew", [True, False])
def test_an_update_that_came_to_nothing_leaves_no_trace(tmp_path: Path, *, anew: bool) -> None:
    """Late, refused or given up with its round: what is handed in next is what it would be without it."""
    expected = [handed_in(remembered(tmp_path / "not asked"), *one) for one in ((1, []), (4, [1]))]
    one = remembered(tmp_path / "late")
    first = handed_in(one, 1, [])
    for number in (2, 3):
        handed_in(one, number, [1])
        one = remembered(tmp_path / "late") if anew else one
    assert [first, handed_in(one, 4, [1])] == expected


def test_a_worker_that_was_not_chosen_goes_on_from_its_own_last_round(tmp_path: Path) -> None:
    """Rounds between that others made do not count."""
    one = remembered(tmp_path)
    trained(one, 2)
    both = [which.before(7, [2])[0]["w"].tolist() for which in (one, remembered(tmp_path))]
    assert both[0] == both[1] != [0, 0, 0]


def test_an_order_that_comes_again_takes_nothing_away(tmp_path: Path) -> None:
    """A worker that dies over it, when its first answer is in the sum already, has what counts then."""
    trained(remembered(tmp_path), 1, 2)
    remembered(tmp_path).before(2, [1])
    assert files(tmp_path) == [1, 2]


def test_only_what_counts_stays(tmp_path: Path) -> None:
    """And the newest; files are the worker's alone, and without stages there is none."""
    trained(remembered(tmp_path / "some"), *range(1, 19))
    handed_in(remembered(tmp_path / "some"), 19, [8, 15, 17])
    assert files(tmp_path / "some") == [8, 15, 17, 19]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "some").iterdir()} == {0o600}
    none = Remembered(tmp_path / "none", ())
    none.keep(1, none.before(1, ()))
    assert not (tmp_path / "none").exists()


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    """The stages begin anew, which is sound, and the log names the file."""
    trained(remembered(tmp_path), 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with capture_logs() as logs:
        assert remembered(tmp_path).before(2, [1]) == FRESH
    assert logs[0]["file"] == str(file)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """As after a pod's disk went with it: the stages begin anew, though older files are there, and the log says it."""
    trained(remembered(tmp_path), 1, 2)
    (tmp_path / "round-00000002.safetensors").unlink()
    with capture_logs() as logs:
        assert remembered(tmp_path).before(3, [1, 2]) == FRESH
    assert [(row["log_level"], Path(row["file"]).name) for row in logs] == [
        ("warning", "round-00000002.safetensors")
    ]


def test_stages_that_remember_nothing_yet_miss_nothing(tmp_path: Path) -> None:
    """An empty memory is one that was kept: another one of before does not come back, and nobody is warned."""
    one = remembered(tmp_path)
    trained(one, 1)
    one.keep(2, FRESH)
    with capture_logs() as logs:
        assert remembered(tmp_path).before(3, [1, 2]) == FRESH
    assert logs == []


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    """What could not be kept is not handed in."""
    (tmp_path / "file").touch()
    one = remembered(tmp_path / "file" / "states")
    with pytest.raises(
        StorageError, match=r"file/states cannot be written: Not a directory; make room, or give --states"
    ):
        trained(one, 1)
