"""What is in the ledger stays there, and what is not right with it is refused."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import FencedError, JobError, SpecError, StorageError
from fl_core.extensions import Extension
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.chain import Charge, Head, Opening, Parent, canonical, chained
from fl_core.privacy.costs import GaussianCost, Neighbours, SkellamCost
from fl_core.privacy.ledger import Ledger

ROOT = Path(__file__).parents[3]
COST = GaussianCost(noise_multiplier=2.0)


def opening(job: str = "job-1", **changes: Any) -> Opening:
    told = {"unit": "worker", "neighbours": Neighbours.ADD_OR_REMOVE, "adversary": "everyone", "delta": 1e-5}
    return Opening(job=job, **{**told, **changes})


def charge(round: int = 1, attempt: int = 1, *, job: str = "job-1", **changes: Any) -> Charge:
    mechanism = Extension(name="gaussian", options={"clip": 1.0, "noise_multiplier": 2.0})
    told = {"released": "update", "mechanism": mechanism, "costs": (COST,)}
    return Charge(job=job, round=round, attempt=attempt, **{**told, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "privacy" / "ledger"


@pytest.fixture
def kept(path: Path) -> Path:
    """A ledger with three charges."""
    ledger = Ledger.create(path, opening())
    for number in (1, 2, 3):
        ledger.charge(charge(number))
    return path


def test_charges_are_there_when_it_is_opened_again(kept: Path) -> None:
    """Rounds, mechanisms and costs come back as they were, and the epsilon is that of all of them."""
    ledger = Ledger.open(kept)
    assert ledger.charges == (charge(1), charge(2), charge(3))
    guarantee = ledger.epsilon()
    assert guarantee.epsilon == epsilon([COST] * 3, delta=1e-5, neighbours=Neighbours.ADD_OR_REMOVE)
    assert (guarantee.unit, guarantee.delta, guarantee.adversary) == ("worker", 1e-5, "everyone")


def test_a_charge_is_on_disk_before_it_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is synced, then the head and its folder, and only then may anything be released."""
    done: list[str] = []
    sync, move = os.fsync, os.replace
    ledger = Ledger.create(path, opening())
    named = lambda one: Path(f"/proc/self/fd/{one}").readlink().name  # noqa: E731
    short = lambda name: "head" if name.startswith(".ledger.head.") else name  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda one: (done.append(f"sync {short(named(one))}"), sync(one)))
    monkeypatch.setattr(
        os, "replace", lambda one, other: (done.append(f"move {other.name}"), move(one, other))
    )
    before = path.read_bytes()
    ledger.charge(charge())
    assert path.read_bytes().startswith(before)
    assert done == ["sync ledger", "sync head", "move ledger.head", "sync privacy"]


def test_every_attempt_counts(path: Path) -> None:
    """A round that is tried again, even under the same number, and an evaluation are paid for anew."""
    ledger = Ledger.create(path, opening())
    spent = [ledger.epsilon().epsilon]
    for one in (charge(1, 1), charge(1, 2), charge(1, 2), charge(1, 2, released="evaluation")):
        ledger.charge(one)
        spent.append(ledger.epsilon().epsilon)
    assert spent[0] == 0
    assert spent == sorted(set(spent))


def test_what_a_further_release_would_come_to_is_told_before(kept: Path) -> None:
    """Looking ahead writes nothing, and tells what the charge then comes to."""
    ledger = Ledger.open(kept)
    size = kept.stat().st_size
    ahead = ledger.epsilon(further=[COST])
    assert kept.stat().st_size == size
    ledger.charge(charge(4))
    assert ledger.epsilon() == ahead


def test_going_back_to_an_older_checkpoint_lowers_nothing(kept: Path) -> None:
    """Whoever remembers an older head gets the ledger as it is now."""
    ledger = Ledger.open(kept)
    older = ledger.head
    ledger.charge(charge(4))
    spent = ledger.epsilon()
    ledger = Ledger.open(kept, seen=older)
    assert ledger.epsilon() == spent


def test_a_fork_pays_for_its_parents(kept: Path, tmp_path: Path) -> None:
    """The charges of parents and theirs count from the start, and so do their adversaries."""
    child, grandchild = tmp_path / "child", tmp_path / "grandchild"
    ledger = Ledger.create(child, opening("job-2", adversary="the server too"), parents=[kept])
    ledger.charge(charge(9, job="job-2", costs=(SkellamCost(variance=90.0, l1=9, l2_squared=9),)))
    spent = ledger.epsilon()
    ledger = Ledger.create(grandchild, opening("job-3"), parents=[child])
    assert [one.job for one in ledger.charges] == ["job-1"] * 3 + ["job-2"]
    assert ledger.epsilon().epsilon == spent.epsilon
    assert ledger.epsilon().adversary == "everyone; in the rounds of job-2: the server too"


def test_a_forks_first_line_names_what_it_inherits(kept: Path, tmp_path: Path) -> None:
    """Job, digest of its ledger and number of its charges, for each ancestor; the parent may go on meanwhile."""
    child, grandchild = tmp_path / "child", tmp_path / "grandchild"
    parent = Ledger.open(kept)
    at_the_fork = parent.head.digest
    ledger = Ledger.create(child, opening("job-2"), parents=[kept])
    parent.charge(charge(4))
    ledger.charge(charge(1, job="job-2"))
    middle = ledger.head.digest
    Ledger.create(grandchild, opening("job-3"), parents=[child])
    first = json.loads(grandchild.read_text().splitlines()[0])["entry"]
    assert [(one["job"], one["digest"], one["charges"]) for one in first["parents"]] == [
        ("job-2", middle, 1),
        ("job-1", at_the_fork, 3),
    ]


def test_charges_that_no_parent_accounts_for_are_damage(path: Path) -> None:
    """A ledger that holds more or fewer charges of others than its first line says is refused."""
    told = Parent(job="job-1", adversary="everyone", digest="0" * 64, charges=2)
    for parents, jobs in (((told,), ["job-1"]), ((), ["job-1"]), ((told,), ["job-1"] * 3), ((told,), [])):
        lines, head = chained([opening("job-2", parents=parents), *(charge(job=one) for one in jobs)])
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(lines))
        path.with_name("ledger.head").write_text(
            canonical({"digest": head.digest, "entries": head.entries}) + "\n"
        )
        refused(path, "its opening names")


def test_no_job_is_a_fork_of_itself(kept: Path, tmp_path: Path) -> None:
    """A uid stands for one job: a fork under its parent's, or its grandparent's, is refused."""
    child = tmp_path / "child"
    Ledger.create(child, opening("job-2"), parents=[kept])
    for uid, parent in (("job-1", kept), ("job-2", child), ("job-1", child)):
        with pytest.raises(SpecError, match=f"is a ledger of job {uid} itself"):
            Ledger.create(tmp_path / "other", opening(uid), parents=[parent])


def test_a_fork_speaks_of_the_same_neighbours(kept: Path, tmp_path: Path) -> None:
    """Epsilons for workers and for examples do not add up."""
    with pytest.raises(SpecError, match="about the same"):
        Ledger.create(tmp_path / "child", opening("job-2", unit="example"), parents=[kept])
    assert not (tmp_path / "child").exists()


def test_a_ledger_is_begun_once(kept: Path) -> None:
    """Neither a ledger nor what is left of one is begun anew."""
    for file in (kept, kept.with_name("ledger.head")):
        with pytest.raises(JobError, match="a ledger is begun once"):
            Ledger.create(kept, opening())
        file.unlink()
    Ledger.create(kept, opening())


def test_a_beginning_that_was_cut_short_is_begun_again(path: Path) -> None:
    """Where only the head of the same beginning is there, nothing was charged yet, and the ledger is begun."""
    Ledger.create(path, opening())
    path.unlink()
    with pytest.raises(JobError, match="a ledger is begun once"):
        Ledger.create(path, opening("job-2"))
    Ledger.create(path, opening())


def test_what_may_not_write_changes_nothing(kept: Path) -> None:
    """Opening, charging and beginning happen within a guard; where it refuses, both files stay as they are."""
    refuses = [False]

    @contextmanager
    def guard() -> Iterator[None]:
        if refuses[0]:
            raise FencedError("a newer server is there")
        yield

    ledger, before = Ledger.open(kept, within=guard), files(kept)
    refuses[0] = True
    for attempt in (
        lambda: ledger.charge(charge(4)),
        lambda: Ledger.open(kept, within=guard),
        lambda: Ledger.create(kept.with_name("new"), opening(), within=guard),
    ):
        with pytest.raises(FencedError):
            attempt()
    assert files(kept) == before


def files(path: Path) -> dict[str, bytes]:
    """All that lies beside a ledger."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir()}


# -- damage


def refused(path: Path, reason: str, *, seen: Head | None = None) -> None:
    with pytest.raises(JobError, match=reason) as told:
        Ledger.open(path, seen=seen)
    assert str(path) in str(told.value)
    assert "nothing may be released" in str(told.value)


def test_every_damaged_byte_is_found(kept: Path) -> None:
    """Whatever byte of the ledger or its head is changed, it is refused."""
    for file in (kept, kept.with_name("ledger.head")):
        whole = file.read_bytes()
        for place in range(len(whole)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            refused(kept, "damaged|another ledger|shortened|longer")
        file.write_bytes(whole)
    Ledger.open(kept)


def test_every_shortened_file_is_found(kept: Path) -> None:
    """Cut off anywhere, at the end of a line too, the ledger is refused, and an empty one is not a new one."""
    whole = kept.read_bytes()
    for size in range(len(whole)):
        kept.write_bytes(whole[:size])
        refused(kept, "was shortened" if b"\n" in whole[:size] else "torn")


def test_lines_that_were_lost_moved_or_doubled_are_found(kept: Path) -> None:
    """Each line vouches for those before it."""
    first, one, two, three = kept.read_bytes().splitlines(keepends=True)
    for lines in ([first, one, three], [first, two, one, three], [first, one, one, two, three], [one, two]):
        kept.write_bytes(b"".join(lines))
        refused(kept, "damaged")


def test_without_either_file_there_is_no_ledger(kept: Path) -> None:
    """A ledger without its head, and a head without its ledger, are refused."""
    head = kept.with_name("ledger.head")
    content = head.read_bytes()
    head.unlink()
    refused(kept, "ledger.head is missing")
    head.write_bytes(content)
    kept.unlink()
    refused(kept, "ledger is missing")


def test_an_older_copy_of_both_files_is_found(kept: Path) -> None:
    """What a whole older copy lacks is told by the head that a checkpoint remembers."""
    copies = {file: file.read_bytes() for file in (kept, kept.with_name("ledger.head"))}
    ledger = Ledger.open(kept)
    seen = ledger.charge(charge(4))
    for file, content in copies.items():
        file.write_bytes(content)
    refused(kept, "was shortened: it had 5 entries and has 4", seen=seen)
    refused(kept, "is another ledger", seen=Head(3, seen.digest))


def test_an_entry_of_another_make_is_refused(kept: Path) -> None:
    """A line whose digest is right and whose content is not what a ledger says is damage too."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    for wrong in ({"kind": "charge"}, {**rows[1]["entry"], "costs": []}, {**rows[1]["entry"], "more": 1}):
        kept.write_text(
            "".join(canonical({**row, "entry": wrong} if row is rows[1] else row) + "\n" for row in rows)
        )
        refused(kept, ":2 is damaged")


# -- kills and full disks

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_ledger import charge, opening
from fl_core.privacy.ledger import Ledger

def guarded(function, *, half=None):
    def call(*arguments):
        global left
        left -= 1
        if left == 0 and half:
            half(*arguments)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

def charge_twice(folder):
    write, said = os.write, os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    ledger = Ledger.open(folder / "ledger")
    os.write = guarded(write, half=lambda one, content: write(one, content[: len(content) // 2]))
    os.fsync, os.replace = guarded(os.fsync), guarded(os.replace)
    for round in (4, 5):
        ledger.charge(charge(round))
        write(said, b"%d " % round)
    write(said, b"done")

original = Path(sys.argv[1])
for step in range(1, 100):
    folder = original.with_name(f"{step:02}")
    shutil.copytree(original, folder)
    left, child = step, os.fork()
    if not child:
        charge_twice(folder)
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
"""


def killed_at_every_step(folder: Path) -> list[Path]:
    """Copies of a ledger; in each a process charged rounds 4 and 5 until it was killed, a step later in each."""
    here = [str(ROOT), str(Path(__file__).parent)]
    subprocess.run([sys.executable, "-c", KILLED, str(folder), *here], check=True, timeout=120)
    return sorted(one for one in folder.parent.iterdir() if one.name.isdigit())


def test_a_kill_at_any_step_loses_no_charge_that_was_acknowledged(kept: Path) -> None:
    """Killed at each write, sync and rename, and within writes: what was acknowledged is there, and it goes on."""
    folders, torn = killed_at_every_step(kept.parent), 0
    for folder in folders:
        path, said = folder / "ledger", (folder / "said").read_text().split()
        if path.read_bytes()[-1:] != b"\n":
            torn += 1
        ledger = Ledger.open(path)
        rounds = [one.round for one in ledger.charges]
        assert rounds in ([1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5])
        assert len(rounds) >= 3 + len(said) - ("done" in said)
        ledger.charge(charge(6))
        Ledger.open(path)
    assert said == ["4", "5", "done"]
    assert (len(folders), torn) == (13, 2)


def test_only_a_torn_line_is_taken_back(kept: Path) -> None:
    """Where whole entries are missing or damaged nothing is cut off, and nothing is changed where all is well."""
    whole = kept.read_bytes()
    Ledger.open(kept)
    assert kept.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    for wrong in (b"".join(lines[:3]) + lines[3][:9], whole[:40] + b"?" + whole[41:], b"", whole[:9]):
        kept.write_bytes(wrong)
        refused(kept, "shortened|damaged")
        assert kept.read_bytes() == wrong


def test_a_full_disk_releases_nothing_and_damages_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line is taken back, the error says so, and the ledger goes on when there is room again."""
    write, whole = os.write, kept.read_bytes()
    ledger = Ledger.open(kept)
    room = [10, 0]

    def full(one: int, content: memoryview) -> int:
        if left := room.pop(0):
            return write(one, content[:left])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="nothing may be released without its charge"):
        ledger.charge(charge(4))
    monkeypatch.undo()
    assert kept.read_bytes() == whole
    with pytest.raises(StorageError, match="open it again"):
        ledger.charge(charge(4))
    again = Ledger.open(kept)
    again.charge(charge(4))


def test_a_charge_whose_head_could_not_be_written_counts(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error after the line is on disk releases nothing, and the charge stays: rather too much than too little."""

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    ledger = Ledger.open(kept)
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        ledger.charge(charge(4))
    monkeypatch.undo()
    again = Ledger.open(kept)
    assert [one.round for one in again.charges] == [1, 2, 3, 4]
    again.charge(charge(4, 2))
