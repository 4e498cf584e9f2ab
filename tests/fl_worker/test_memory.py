"""What a worker has sent and signed it knows after any restart, and it does neither in two ways."""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fl_core import durable
from fl_core.errors import ProtocolError, StorageError
from fl_worker.memory import FileMemory
from tests.fl_core.secagg.cast import context

HERE, THERE = b"here", b"there"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where it is kept."""
    return tmp_path / "sums.jsonl"


def kept(path: Path) -> Any:
    """What the file holds: of each kind of sum the last row."""
    return {kind: row for line in path.read_text().splitlines() for kind, row in json.loads(line).items()}


def sum_of(number: int, **changes: Any) -> Any:
    """The sum of a round."""
    return context(round=number, **changes)


@pytest.mark.parametrize(
    ("act", "first", "second", "words"),
    [
        ("bind", (HERE, HERE), (THERE, HERE), "sent among other candidates"),
        ("bind", (HERE, HERE), (HERE, THERE), "another vector of this sum was sent before"),
        ("sign", (HERE,), (THERE,), "other survivors of this sum were signed already"),
    ],
)
def test_a_second_one_is_refused_over_restarts(
    path: Path, act: str, first: tuple[bytes, ...], second: tuple[bytes, ...], words: str
) -> None:
    """The same again is no harm; another one is refused, in any attempt, by this process and the next."""
    memory = FileMemory(path)
    getattr(memory, act)(sum_of(1), *first)
    for one in (memory, FileMemory(path)):
        getattr(one, act)(sum_of(1, attempt=2), *first)
        with pytest.raises(ProtocolError, match=f"round 1, attempt 3.*{words}"):
            getattr(one, act)(sum_of(1, attempt=3), *second)
        getattr(one, act)(sum_of(1), *first)


def test_the_next_round_begins_afresh(path: Path) -> None:
    """Other candidates and survivors are right in another round."""
    memory = FileMemory(path)
    for number, fact in ((1, HERE), (2, THERE), (5, HERE)):
        memory.bind(sum_of(number), fact, fact)
        memory.sign(sum_of(number), fact)
        assert kept(path)["update"] == {
            "round": number,
            "candidacy": fact.hex(),
            "content": fact.hex(),
            "signed": fact.hex(),
        }


def test_a_memory_is_its_owners_alone(path: Path) -> None:
    """The digest of a vector could confirm a guess of it: nobody else reads the file, also when it is written anew."""
    FileMemory(path).bind(sum_of(1), HERE, HERE)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    FileMemory(path).bind(sum_of(2), HERE, HERE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_older_round_is_refused_whole(path: Path) -> None:
    """Rounds only go on, whatever a server says that was set back."""
    FileMemory(path).sign(sum_of(3), HERE)
    memory = FileMemory(path)
    with pytest.raises(ProtocolError, match="sums of round 3 were made already; rounds only go on"):
        memory.bind(sum_of(2), HERE, HERE)
    with pytest.raises(ProtocolError, match="sums of round 3 were made already; rounds only go on"):
        memory.sign(sum_of(2), HERE)


def test_kinds_of_sums_are_apart(path: Path) -> None:
    """A round's range, update and measurement have members and signatures of their own."""
    memory = FileMemory(path)
    for purpose, fact in (("range", HERE), ("update", THERE), ("measure", HERE)):
        memory.bind(sum_of(1, purpose=purpose), fact, fact)
        memory.sign(sum_of(1, purpose=purpose), fact)
    assert set(kept(path)) == {"range", "update", "measure"}


@pytest.mark.parametrize(("first", "second"), [("range", "update"), ("update", "range")])
def test_ranges_are_told_in_one_kind_of_sum_a_round(path: Path, first: str, second: str) -> None:
    """Votes and counts of one round would differ by single workers; over restarts, and until the next round."""
    FileMemory(path).bind(sum_of(1, purpose=first, tells_ranges=True), HERE, HERE)
    memory = FileMemory(path)
    with pytest.raises(ProtocolError, match=f"this round's {first} sum has told already"):
        memory.bind(sum_of(1, attempt=2, purpose=second, tells_ranges=True), HERE, HERE)
    memory.bind(sum_of(1, attempt=2, purpose=first, tells_ranges=True), HERE, HERE)
    memory.bind(sum_of(1, purpose="measure"), HERE, HERE)
    memory.bind(sum_of(2, purpose=second, tells_ranges=True), HERE, HERE)


def test_what_cannot_be_written_is_not_done(tmp_path: Path) -> None:
    """A full disk is an error before anything leaves, and nothing is remembered that is not on it."""
    folder = tmp_path / "away"
    memory = FileMemory(folder / "sums.jsonl")
    with pytest.raises(StorageError, match="sums.jsonl cannot be written"):
        memory.sign(sum_of(1), HERE)
    folder.mkdir()
    memory.sign(sum_of(1), THERE)
    assert kept(folder / "sums.jsonl")["update"]["signed"] == THERE.hex()


@pytest.mark.parametrize(
    "text",
    ["", "{", "{\n", "[1]\n", '{"update": 7}\n', '{"update": {"signed": "00"}}\n', "\ufffd\n", "\n{}\n"],
)
def test_a_damaged_memory_is_no_empty_one(path: Path, text: str) -> None:
    """A worker that cannot know what it has signed joins no sum."""
    path.write_text(text)
    with pytest.raises(StorageError, match="without it no sum is safe to join"):
        FileMemory(path)


def test_a_crash_leaves_the_old_facts_or_the_new(path: Path) -> None:
    """Killed while it writes again and again, a worker finds a whole file."""
    program = (
        "import sys; from pathlib import Path; from fl_worker.memory import FileMemory; "
        "from tests.fl_core.secagg.cast import context; memory = FileMemory(Path(sys.argv[1]))\n"
        "for number in range(1, 10**6): memory.sign(context(round=number), b'x')"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.DEVNULL) as process:
        while not path.exists():
            time.sleep(0.01)
        time.sleep(random.Random(5).uniform(0.05, 0.2))
        process.kill()
    FileMemory(path)
    assert kept(path)["update"]["round"] >= 1


@pytest.mark.parametrize("cut", [1, 20])
def test_a_half_line_was_not_acted_upon_and_is_never_added_to(path: Path, cut: int) -> None:
    """What stands before the half line counts, another fact may take its place, and the file is whole again."""
    memory = FileMemory(path)
    memory.sign(sum_of(1), HERE)
    memory.sign(sum_of(2), HERE)
    path.write_bytes(path.read_bytes()[:-cut])
    again = FileMemory(path)
    again.sign(sum_of(1), HERE)
    again.sign(sum_of(2), THERE)
    with pytest.raises(ProtocolError, match="other survivors"):
        FileMemory(path).sign(sum_of(2), HERE)


def test_after_an_error_the_file_is_written_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that breaks off and cannot be taken back leaves nothing that a later fact is lost behind."""
    memory = FileMemory(path)
    memory.sign(sum_of(1), HERE)

    def broken(where: Path, _: bytes) -> None:
        with where.open("ab") as file:
            file.write(b'{"upd')
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "append", broken)
        with pytest.raises(StorageError, match="cannot be written: broken"):
            memory.sign(sum_of(2), HERE)
    memory.sign(sum_of(2), THERE)
    memory.sign(sum_of(3), THERE)
    assert kept(path)["update"] == {"round": 3, "signed": THERE.hex()}
    with pytest.raises(ProtocolError, match="rounds only go on"):
        FileMemory(path).sign(sum_of(2), HERE)


def test_a_memory_that_is_taken_away_is_written_whole(path: Path) -> None:
    """What this process knows of the other kinds of sums is there again with the next fact."""
    memory = FileMemory(path)
    memory.sign(sum_of(1, purpose="range"), HERE)
    memory.sign(sum_of(1), HERE)
    path.unlink()
    memory.sign(sum_of(1, purpose="measure"), HERE)
    assert set(kept(path)) == {"range", "update", "measure"}


def test_the_file_does_not_grow_with_the_rounds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written anew with what counts once so much was added, and nothing is forgotten by that."""
    monkeypatch.setattr("fl_worker.memory.MOST_BYTES", 1000)
    memory = FileMemory(path)
    memory.sign(sum_of(1, purpose="range"), HERE)
    sizes = []
    for number in range(1, 100):
        memory.sign(sum_of(number), HERE)
        sizes.append(path.stat().st_size)
    assert max(sizes) < 1200
    assert sizes != sorted(sizes)
    assert {purpose: row["round"] for purpose, row in kept(path).items()} == {"range": 1, "update": 99}
