"""A power cut at every system call of a commit: `python powercut.py FOLDER`, run by `test_powercut.py`.

A child is forked for each call by which a storage is changed (open, write, fsync, rename, unlink, mkdir, truncate), and
ends before it. FOLDER/<call>-<loss>/storage is then what a disk may hold, and `said` is what was acknowledged:

    kill    all that was done: the process ended, the machine did not
    content names are as they were given, contents as they were last synced and half of what came since
    all     what was not synced is lost: contents, and names in folders that were not synced
    after   as `all`, once a server that began after a kill has read what was there: `after` is what it found
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.plan import Plan
from fl_core.weights import Manifest
from fl_server.checkpoints import Saved
from fl_server.journal import Journal
from fl_server.privacy import Privacy
from fl_server.storage import Storage
from tests.fl_server.recorded import recorded

ROUNDS = 2
LOSSES = ("kill", "content", "all", "after")
CUT = 9


class Disk:
    """The changes of one folder as they are made, and what of them a power cut cannot take."""

    def __init__(self, root: Path, cut: int, lost: Callable[[Disk], None]) -> None:
        self.root = root
        self.left = cut
        self.contents: dict[int, bytes] = {}
        self.names: dict[Path, dict[str, int]] = {}
        self._held: set[int] = set()
        self._allowed = False
        self._lost = lost
        self._real = {name: getattr(os, name) for name in CALLS} | {
            "fsync": lambda _: None
        }  # no power is cut
        for name in CALLS:
            setattr(os, name, self._counted(name))
        sys.addaudithook(self._watch)

    def _counted(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*arguments: Any, **options: Any) -> Any:
            if self._is_mine(name, arguments):
                self.left -= 1
                if self.left < 0:
                    self._lost(self)
                    os._exit(CUT)
            self._allowed = True
            result = real(*arguments, **options)
            self._allowed = False
            if name == "fsync":
                self._synced(arguments[0])
            return result

        return call

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Nothing may change the folder behind this class's back."""
        changes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (changes or event in {"os.rename", "os.remove", "os.mkdir", "os.truncate"}) and not self._allowed:
            named = str(arguments[0])
            if named.startswith(str(self.root)):
                os.write(2, f"{event} {named} was not seen\n".encode())
                os._exit(1)

    def _is_mine(self, name: str, arguments: tuple[Any, ...]) -> bool:
        one = arguments[0]
        path = Path(f"/proc/self/fd/{one}").readlink() if isinstance(one, int) else Path(one)
        reads = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
        return path.is_relative_to(self.root) and not reads

    def _synced(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.names[path] = {one.name: one.lstat().st_ino for one in path.iterdir()}
        elif path.is_relative_to(self.root):
            self._held.add(self._real["open"](path, os.O_RDONLY))  # no later file gets this one's number
            self.contents[path.stat().st_ino] = path.read_bytes()

    def killed(self) -> None:
        """Let go of what a process that ends lets go of: its files, and with them its locks."""
        self.left = sys.maxsize
        for link in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if int(link.name) not in self._held and link.readlink().is_relative_to(self.root):
                    os.close(int(link.name))

    def left_behind(self, loss: str, target: Path) -> None:
        """Write down what a disk may hold after this loss."""
        self.left = sys.maxsize
        if loss == "kill" and self.root.exists():
            shutil.copytree(self.root, target)
        else:
            self._leave(self.root, target, loss)

    def _leave(self, folder: Path, target: Path, loss: str) -> None:
        now = {one.name: one.lstat().st_ino for one in folder.iterdir()} if folder.is_dir() else {}
        kept = now if loss == "content" else self.names.get(folder, {})
        target.mkdir(parents=True)
        for name, number in kept.items():
            if (folder / name).is_dir():
                self._leave(folder / name, target / name, loss)
            else:
                (target / name).write_bytes(self._content(folder / name, number, loss))

    def _content(self, path: Path, number: int, loss: str) -> bytes:
        synced = self.contents.get(number, b"")
        if loss == "all" or not path.exists() or path.stat().st_ino != number:
            return synced
        fresh = path.read_bytes()[len(synced) :]
        return synced + fresh[: len(fresh) // 2]


CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "truncate", "ftruncate", "link")


def saved(plan: Plan, number: int, head: dict[str, Any]) -> Saved:
    """The model of this round."""
    facts = {"round": number, "plan": plan.digest, "metrics": {}, "ledger": head, "row": row(number)}
    weights = {"w": np.full(50, number, "f4")}
    return Saved(weights, facts, {"strategy": {"velocity": np.full(50, -number, "f4")}})


def row(number: int) -> dict[str, Any]:
    """The line of this round."""
    return {"round": number, "result": "Committed", "metrics": {"loss": 1 / (number + 1)}}


def commits(folder: Path, plan: Plan, *, store: str | None = None) -> Iterator[str]:
    """What a server keeps of its job, from where it stands to the last round, each with a word when it is done.

    The order is the coordinator's.
    """
    storage = Storage(folder, plan, store=store)
    found = storage.checkpoints.newest()
    done = found.facts["round"] if found else 0
    journal = Journal(storage.sessions)
    journal.restore(done=done)
    privacy = Privacy.of(plan, storage.folder, within=storage.fence.held)
    assert privacy is not None
    privacy.open(found.facts["ledger"] if found else None, begun=found is not None)
    privacy.settle(plan_manifest())
    yield f"begun {done}"
    if found is None:
        storage.checkpoints.save(saved(plan, 0, privacy.head))
        yield "saved 0"
    if done and done not in {one["round"] for one in recorded(storage)}:
        yield from concluded(storage, done, found)
    for number in range(done + 1, ROUNDS + 1):
        journal.dealing(number, 1, "update", candidates=[0, 1, 2])
        journal.signing(number, 1, "update", survivors=[0, 1, 2])
        yield f"signed {number}"
        privacy.charge(number, 1)
        yield f"charged {number}"
        made = saved(plan, number, privacy.head)
        storage.checkpoints.save(made)
        yield f"saved {number}"
        yield from concluded(storage, number, made)
    made = saved(plan, ROUNDS, {})
    storage.keep_model("last", Saved(made.weights, {"round": ROUNDS}))
    yield f"last {ROUNDS}"


def concluded(storage: Storage, number: int, made: Saved | None) -> Iterator[str]:
    """What comes after the commit of a round."""
    assert made is not None
    best = Saved(made.weights, {"round": number, "metrics": row(number)["metrics"]})
    storage.record(row(number), best=best)
    yield f"best {number}"
    yield f"recorded {number}"


def check(storage: Storage, plan: Plan, told: dict[str, int], *, where: str) -> None:
    """Of what was acknowledged each thing is there, at most one more is, and what follows was never before its cause.

    `told` are the last rounds of which each thing was acknowledged.
    """
    here = found(storage, plan)
    for what, number in here.items():
        acknowledged = told.get(what, -1 if what == "saved" else 0)
        assert number in {acknowledged, acknowledged + 1}, (where, what, number, told)
    assert here["recorded"] <= here["best"] <= max(here["saved"], 0) <= here["charged"] <= here["signed"]
    newest = storage.checkpoints.newest()
    assert newest is None or newest.weights["w"].tolist() == [newest.facts["round"]] * 50


def found(storage: Storage, plan: Plan) -> dict[str, int]:
    """The last round of which each thing is there."""
    newest, best = storage.checkpoints.newest(), storage.model("best")
    return {
        "saved": newest.facts["round"] if newest else -1,
        "best": best.facts["round"] if best else 0,
        "recorded": len(recorded(storage)),
        "signed": max((one["round"] for one in storage.sessions.read() if "survivors" in one), default=0),
        "charged": charges(storage, plan, newest),
    }


def charges(storage: Storage, plan: Plan, newest: Saved | None) -> int:
    """How many rounds the ledger knows, which opens with the head that the newest checkpoint saw."""
    privacy = Privacy.of(plan, storage.folder, within=storage.fence.held)
    assert privacy is not None
    privacy.open(newest.facts["ledger"] if newest else None, begun=newest is not None)
    return int(privacy.head["entries"]) - 1


def plan_manifest() -> Manifest:
    """The shape of all models here."""
    return Manifest.of({"w": np.zeros(50, "f4")})


def cut(folder: Path, plan: Plan, call: int) -> bool:
    """Let the power be cut at this call; False if there are fewer."""
    child = os.fork()
    if not child:
        place = folder / f"{call:03}"
        place.mkdir()
        said = os.open(place / "said", os.O_WRONLY | os.O_CREAT)
        write = os.write

        def lost(disk: Disk) -> None:
            for loss in LOSSES:
                if loss == "after":
                    disk.killed()
                    words = found(Storage(place / "storage", plan), plan).items()
                    (place / "after").write_text("".join(f"{word} {number}\n" for word, number in words))
                disk.left_behind("all" if loss == "after" else loss, folder / f"{call:03}-{loss}")

        Disk(place / "storage", call, lost)
        for word in commits(place / "storage", plan):
            write(said, f"{word}\n".encode())
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in {0, CUT}:
        sys.exit(f"the child of call {call} ended with {code}")
    return code == CUT


def main() -> None:
    """Cut at every call, until a child comes through."""
    folder = Path(sys.argv[1])
    plan, call = Plan.read(folder / "plan.json"), 0
    while cut(folder, plan, call):
        call += 1


if __name__ == "__main__":
    main()
