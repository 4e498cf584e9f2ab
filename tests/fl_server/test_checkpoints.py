"""A checkpoint is whole or not there; the newest whole one is found; a full disk loses no earlier one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.errors import MismatchError, StorageError, UnusableError
from fl_core.plan import InitialModel
from fl_core.weights import digest
from fl_server.checkpoints import Checkpoints, Saved, read, write
from fl_server.storage import Storage
from tests.conftest import plan_of

PLAN = "0" * 64


def saved(number: int, *, plan: str = PLAN, size: int = 4) -> Saved:
    weights = {
        "w": np.full((2, size), number, "f4"),
        "b": np.arange(3, dtype="f2"),
        "a": np.array(number / 3),
    }
    facts = {"round": number, "plan": plan, "metrics": {"loss": number / 7}}
    return Saved(weights, facts, {"strategy": {"momentum": np.ones(3), "steps": number}, "0": {}})


def same(one: Saved | None, other: Saved) -> bool:
    return (
        one is not None
        and digest(one.weights) == digest(other.weights)
        and one.facts == other.facts
        and one.states.keys() == other.states.keys()
        and one.states["strategy"]["steps"] == other.states["strategy"]["steps"]
        and np.array_equal(one.states["strategy"]["momentum"], other.states["strategy"]["momentum"])
    )


def filled(folder: Path, rounds: int, *, keep: int = 3) -> Checkpoints:
    """Checkpoints of so many rounds, of which `keep` are still there."""
    checkpoints = Checkpoints(folder / "checkpoints", PLAN, keep)
    for number in range(1, rounds + 1):
        checkpoints.save(saved(number))
    return checkpoints


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("*.safetensors"))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    """Arrays to the bit, in their order, with facts and states."""
    assert same(filled(tmp_path, 3).newest(), saved(3))
    found = filled(tmp_path, 3).newest()
    assert found is not None
    assert list(found.weights) == ["w", "b", "a"]


def test_nothing_saved_is_nothing(tmp_path: Path) -> None:
    """A job that begins has no checkpoint, and that is no error."""
    assert Checkpoints(tmp_path / "none", PLAN, 3).newest() is None


@pytest.mark.parametrize(("rounds", "keep"), [(12, 3), (2, 3), (5, 1)])
def test_only_the_newest_are_kept(tmp_path: Path, rounds: int, keep: int) -> None:
    """`keep` checkpoints stay, the newest by their round, and nothing else lies in the folder."""
    filled(tmp_path, rounds, keep=keep)
    first = max(rounds - keep, 0) + 1
    assert files(tmp_path) == [f"round-{number:07d}.safetensors" for number in range(first, rounds + 1)]


@pytest.mark.parametrize(
    ("keep", "there"),
    [(2, [5, 10, 12, 13]), (1, [10, 13]), (9, [5, 10, 12, 13])],
)
def test_between_the_rounds_to_keep_the_newest_stay(tmp_path: Path, keep: int, there: list[int]) -> None:
    """`keep` of every fifth, and the newest two of all, so that a damaged one costs one round."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", PLAN, keep, every=5)
    for number in range(1, 14):
        checkpoints.save(saved(number))
    assert files(tmp_path) == [f"round-{number:07d}.safetensors" for number in there]


def test_what_was_just_saved_stays_below_damaged_newer_ones(tmp_path: Path) -> None:
    """A server that passed over two damaged checkpoints and went back keeps the round that it made since."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", PLAN, 3, every=5)
    for number in (5, 6, 7, 8):
        checkpoints.save(saved(number))
    for path in sorted((tmp_path / "checkpoints").iterdir())[1:]:
        path.write_bytes(b"")
    checkpoints.save(saved(6))
    assert same(checkpoints.newest(), saved(6))


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_torn_newest_is_passed_over(tmp_path: Path, part: float) -> None:
    """A file that ends early, anywhere, is detected and told, and the one before it is used."""
    checkpoints = filled(tmp_path, 3)
    content = newest(tmp_path).read_bytes()
    newest(tmp_path).write_bytes(content[: int(len(content) * part)])
    with capture_logs() as logged:
        assert same(checkpoints.newest(), saved(2))
    assert [line["event"] for line in logged] == ["damaged checkpoint passed over"]


def test_any_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    """Whichever byte of the file is spoilt, it is refused, or it still says exactly what was saved."""
    path = tmp_path / "round-0000001.safetensors"
    write(path, saved(1))
    whole = path.read_bytes()
    for spot in range(len(whole)):
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1 << spot % 8]) + whole[spot + 1 :])
        with suppress(StorageError, UnusableError):
            assert same(read(path), saved(1)), spot


def tampered(path: Path, edit: Any) -> None:
    """Change the sealed text inside the file and write the file anew, well formed."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    sealed = json.loads(header["__metadata__"]["fljob"])
    edit(sealed)
    header["__metadata__"]["fljob"] = json.dumps(sealed)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


@pytest.mark.parametrize(
    "edit",
    [
        lambda sealed: sealed["facts"].update(round=9),
        lambda sealed: sealed["facts"]["metrics"].update(loss=0),
        lambda sealed: sealed["arrays"].reverse(),
        lambda sealed: sealed["arrays"].pop(),
        lambda sealed: sealed["states"]["strategy"]["map"]["steps"].update(value=0),
        lambda sealed: sealed.update(sha256="0" * 64),
        lambda sealed: sealed.pop("sha256"),
        lambda sealed: sealed.pop("states"),
        lambda sealed: sealed["arrays"].append("more"),
    ],
    ids=["round", "metrics", "order", "array", "state", "digest", "no-digest", "no-states", "more"],
)
def test_a_tampered_newest_is_passed_over(tmp_path: Path, edit: Any) -> None:
    """A well-formed file whose facts, order or states were changed is not what was saved."""
    checkpoints = filled(tmp_path, 3)
    tampered(newest(tmp_path), edit)
    assert same(checkpoints.newest(), saved(2))


def test_tampering_by_these_tests_alone_is_harmless(tmp_path: Path) -> None:
    """The same rewriting without a change leaves a whole checkpoint, so the change is what is found."""
    checkpoints = filled(tmp_path, 3)
    tampered(newest(tmp_path), lambda _: None)
    assert same(checkpoints.newest(), saved(3))


def test_a_file_that_was_never_finished_is_ignored(tmp_path: Path) -> None:
    """What a killed server had not yet renamed is not taken for a checkpoint."""
    checkpoints = filled(tmp_path, 2)
    (tmp_path / "checkpoints" / ".round-0000003.safetensors.00.partial").write_bytes(b"half")
    assert same(checkpoints.newest(), saved(2))


def test_no_whole_one_is_told(tmp_path: Path) -> None:
    """When every checkpoint is damaged nobody begins anew unasked: each is named, and what a person may do."""
    checkpoints, told = filled(tmp_path, 2), list[str]()
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"nonsense")
    with pytest.raises(
        UnusableError, match="put a copy of one back from a backup, .* or begin anew in another job"
    ):
        checkpoints.newest(told.append)
    assert told == [f"round-000000{number}.safetensors is damaged and was passed over" for number in (2, 1)]


@pytest.mark.parametrize("is_whole", [True, False])
def test_no_round_is_given_up_for_what_cannot_be_read_now(tmp_path: Path, *, is_whole: bool) -> None:
    """Whether an older checkpoint is whole or not, another start may find the newest, or a person takes it away."""
    checkpoints, told = filled(tmp_path, 2), list[str]()
    old, new = sorted((tmp_path / "checkpoints").iterdir())
    if not is_whole:
        old.write_bytes(b"nonsense")
    content = new.read_bytes()
    new.unlink()
    new.mkdir()
    with pytest.raises(
        StorageError, match=rf"{new.name} cannot be read: .*; nothing was changed: .* take it away"
    ):
        checkpoints.newest(told.append)
    new.rmdir()
    new.write_bytes(content)
    assert same(checkpoints.newest(told.append), saved(2))
    assert told == []


def test_a_damaged_first_model_is_asked_for_again(tmp_path: Path) -> None:
    """Before any round was committed there is nothing to lose, and the job begins anew."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", PLAN, 3)
    checkpoints.save(saved(0))
    newest(tmp_path).write_bytes(b"nonsense")
    assert checkpoints.newest() is None


def test_a_forks_damaged_first_checkpoint(tmp_path: Path) -> None:
    """It is taken from its parent again, as none of its own rounds was committed; that of a later round is not."""
    plan = plan_of(initial_model=InitialModel(round=5))
    checkpoints = Storage(tmp_path, plan).checkpoints
    checkpoints.save(saved(5, plan=plan.digest))
    newest(tmp_path).write_bytes(b"nonsense")
    assert checkpoints.newest() is None
    checkpoints.save(saved(6, plan=plan.digest))
    newest(tmp_path).write_bytes(b"nonsense")
    with pytest.raises(UnusableError, match=r"no checkpoint in .* is whole \(round-0000006"):
        checkpoints.newest()


def test_another_jobs_checkpoint_is_refused(tmp_path: Path) -> None:
    """A folder that holds another plan's model is the author's mistake and is not trained on."""
    filled(tmp_path, 2)
    with pytest.raises(
        MismatchError, match="kept by another job, or under another plan or program; nothing was"
    ):
        Checkpoints(tmp_path / "checkpoints", "f" * 64, 3).newest()


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from fl_core.errors import StorageError
from fl_server.checkpoints import Checkpoints, Saved

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    Checkpoints(folder, "0" * 64, 1).save(Saved({"w": np.zeros(100_000)}, {"round": 9, "plan": "0" * 64}))
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 1000, 500_000])
def test_a_full_disk_loses_no_earlier_checkpoint(tmp_path: Path, limit: int) -> None:
    """Where the system stops a write half way, the error says so, nothing half is left, and nothing is pruned."""
    checkpoints = filled(tmp_path, 3)
    before = files(tmp_path)
    arguments = [sys.executable, "-c", FULL, str(tmp_path / "checkpoints"), str(limit)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "round-0000009.safetensors cannot be written: File too large" in done.stdout
    assert files(tmp_path) == before
    assert same(checkpoints.newest(), saved(3))


def test_a_name_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    """Where the last step fails, what stood under the name is untouched, and nothing half is left beside it."""
    path = tmp_path / "last.safetensors"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(StorageError, match=r"last.safetensors cannot be written"):
        write(path, saved(2))
    assert [one.name for one in tmp_path.rglob("*")] == ["last.safetensors", "kept"]


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    """Two writes of the same checkpoint give the same bytes."""
    write(tmp_path / "one.safetensors", saved(1))
    write(tmp_path / "two.safetensors", saved(1))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


ROOM = """
import sys
from pathlib import Path
from fl_core.errors import StorageError
from fl_core.steps import fill
from fl_server.checkpoints import Checkpoints

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
fill(folder, seconds=seconds)
try:
    Checkpoints(folder / "checkpoints", "", 3).check_room()
    print("there is room")
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(60, "has no room for the next checkpoint: No space left on device; earlier"), (0, "there is room")],
)
def test_a_disk_that_takes_no_file_has_no_room(tmp_path: Path, seconds: float, said: str) -> None:
    """Room is looked for by making a file, which is gone afterwards; what is kept is as it was."""
    kept = filled(tmp_path, 2)
    arguments = [sys.executable, "-c", ROOM, str(tmp_path), str(seconds)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert said in done.stdout
    assert len([*(tmp_path / "checkpoints").iterdir()]) == 2
    assert same(kept.newest(), saved(2))


def test_room_is_for_two_more_files_of_the_largest(tmp_path: Path) -> None:
    """A checkpoint of which the disk's free bytes hold no second one is the last for which there was room."""
    checkpoints = filled(tmp_path, 1)
    checkpoints.check_room()
    with newest(tmp_path).open("r+b") as sparse:
        sparse.truncate(shutil.disk_usage(tmp_path).free * 3 // 4)
    with pytest.raises(StorageError, match="no room for the next checkpoint"):
        checkpoints.check_room()
