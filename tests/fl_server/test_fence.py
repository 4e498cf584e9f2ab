"""Of two servers of one job the older commits nothing, wherever it stands; another job's storage is left alone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from fl_core.errors import FencedError, MismatchError, StorageError, UnavailableError
from fl_core.extensions import Extension
from fl_core.plan import Job, Plan, Privacy, Program
from fl_core.weights import Manifest
from fl_server.checkpoints import Saved
from fl_server.fence import KEPT, Fence, Owner
from fl_server.journal import Journal
from fl_server.privacy import Privacy as Charged
from fl_server.storage import Storage
from tests.conftest import plan_of
from tests.fl_server.recorded import recorded

EMPTY = Manifest.of({"w": np.zeros(3, "f4")})


def private_plan(**changes: Any) -> Plan:
    mechanism = Extension(name="gaussian", options={"clip": 1.0, "noise_multiplier": 4.0})
    own = Privacy(unit="worker", mechanism=mechanism, epsilon=900.0, delta=1e-5, corrupt=1, measured=True)
    return plan_of(privacy=own, **changes)


PLAN = private_plan()


class Server:
    """What one server process keeps: its storage, its journal and its privacy ledger."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage(folder, PLAN)
        self.found = self.storage.checkpoints.newest()
        self.journal = Journal(self.storage.sessions)
        self.journal.restore(done=self.round)
        privacy = Charged.of(PLAN, folder, within=self.storage.fence.held)
        assert privacy is not None
        self.privacy = privacy
        privacy.open(self.found.facts["ledger"] if self.found else None, begun=self.found is not None)
        privacy.settle(EMPTY)
        self.mark = 0

    @property
    def round(self) -> int:
        return self.found.facts["round"] if self.found else 0

    def commit(self, mark: int) -> None:
        """The next round, whose model is `mark`, in the coordinator's order."""
        number = self.round + 1
        self.journal.dealing(number, mark, "update", candidates=[mark])
        self.journal.signing(number, mark, "update", survivors=[mark])
        self.privacy.charge(number, mark)
        facts = {"round": number, "plan": PLAN.digest, "metrics": {}, "ledger": self.privacy.head, "row": {}}
        made = Saved({"w": np.full(3, mark, "f4")}, facts)
        self.storage.checkpoints.save(made)
        self.storage.keep_model("best", Saved(made.weights, {"round": number, "metrics": {}}))
        self.storage.record({"round": number, "mark": mark})
        self.found, self.mark = made, mark


def kept(folder: Path) -> dict[str, bytes]:
    """All that is there, but for the claims."""
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in sorted(folder.rglob("*"))
        if one.is_file() and "claims" not in one.parts
    }


@pytest.mark.parametrize("what", ["save", "keep_model", "record", "journal", "charge"])
def test_an_older_server_keeps_nothing(tmp_path: Path, what: str) -> None:
    """Once a newer one has claimed the storage, whatever the older one would keep is refused, and no byte changes."""
    older = Server(tmp_path)
    older.commit(1)
    Server(tmp_path)
    before = kept(tmp_path)
    one = Saved({"w": np.ones(3)}, {"round": 2, "plan": PLAN.digest, "metrics": {}})
    attempts: dict[str, Callable[[], Any]] = {
        "save": lambda: older.storage.checkpoints.save(one),
        "keep_model": lambda: older.storage.keep_model("last", one),
        "record": lambda: older.storage.record({"round": 2}),
        "journal": lambda: older.journal.signing(2, 1, "update", survivors=[1]),
        "charge": lambda: older.privacy.charge(2, 1),
    }
    with pytest.raises(
        FencedError, match=r"epoch 2, this one has 1\); this one commits nothing more and ends"
    ):
        attempts[what]()
    assert kept(tmp_path) == before


class Servers(RuleBasedStateMachine):
    """Servers of one job that start, commit and lag behind in any order."""

    servers = Bundle("servers")

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        self.history: list[int] = []
        self.newest: Server | None = None
        self.mark = 0

    @rule(target=servers)
    def start(self) -> Server:
        """A new server finds what was committed last, by whomever."""
        self.newest = Server(self.folder)
        found = self.newest.found
        assert (found.weights["w"][0] if found else 0) == (self.history[-1] if self.history else 0)
        return self.newest

    @rule(server=servers)
    def commit(self, server: Server) -> None:
        """The newest commits; an older one is refused."""
        self.mark += 1
        if server is self.newest:
            server.commit(self.mark)
            self.history.append(self.mark)
        else:
            with pytest.raises(FencedError):
                server.commit(self.mark)

    @invariant()
    def one_history(self) -> None:
        """Record, ledger and journal hold what the newest servers committed, in that order, and nothing else."""
        if self.newest is None:
            return
        assert [row["mark"] for row in recorded(self.newest.storage)] == self.history
        assert [row["attempt"] for row in self.newest.storage.sessions.read()[::2]] == self.history
        with_opening = (self.folder / "privacy.jsonl").read_text().splitlines()
        assert [json.loads(line)["entry"]["attempt"] for line in with_opening[1:]] == self.history

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.place.cleanup()


class TestServers(Servers.TestCase):  # type: ignore[misc,name-defined]
    """Thirty such histories."""

    settings = settings(max_examples=30, stateful_step_count=12, deadline=None)


CALLS = ("open", "write", "fsync", "replace", "unlink", "truncate", "link")


def test_a_claim_at_any_call_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer server that starts between any two calls of the older one's commit has the last word, for good."""
    monkeypatch.setattr(Fence.__init__, "__kwdefaults__", {"patience": 0})
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is cut
    step, outcomes = 0, []
    while (outcome := interrupted(tmp_path / str(step), monkeypatch, call=step)) is not None:
        outcomes.append(outcome)
        step += 1
    assert set(outcomes) == {"fenced", "busy"}  # the last call of a commit is under the lock
    assert len(outcomes) > 40


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, *, call: int) -> str | None:
    """Let a server start before this call of another's commit, which then goes on; None if there are fewer calls."""
    older, newer = Server(folder), list[Server]()
    left, busy = call, False

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def done(*arguments: Any, **options: Any) -> Any:
            nonlocal left, busy
            left -= 1
            if left == -1:
                try:
                    newer.append(Server(folder))
                    newer[0].commit(100)
                except UnavailableError:
                    busy = True
            return real(*arguments, **options)

        return done

    with monkeypatch.context() as watched:
        for name in CALLS:
            watched.setattr(os, name, counted(name))
        try:
            older.commit(1)
        except FencedError:
            outcome = "fenced"
        else:
            outcome = "busy" if busy else "not fenced"
    if left >= 0:
        return None
    last = Server(folder)
    expected = newer[0] if newer else older
    assert last.found is not None
    assert last.found.weights["w"].tolist() == [expected.mark] * 3
    row = recorded(last.storage)[-1]
    assert (row["mark"], row["round"]) == (expected.mark, expected.round)
    best = last.storage.model("best")
    assert best is not None
    assert best.weights["w"].tolist() == [expected.mark] * 3
    return outcome


def test_a_server_that_hangs_in_a_write_is_named(tmp_path: Path) -> None:
    """While another one holds the lock nobody can claim: the sentence says what to do, and no epoch is spent."""
    first = Fence(tmp_path, Owner.of(PLAN))
    with first.held(), pytest.raises(UnavailableError, match="where it hangs or is stopped, end it"):
        Fence(tmp_path, Owner.of(PLAN), patience=0)
    assert Fence(tmp_path, Owner.of(PLAN)).epoch == 2


def test_a_lock_that_cannot_be_had_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file system says of its locks, the file that would be locked is closed again."""
    fence = Fence(tmp_path, Owner.of(PLAN))
    opened = len(list(Path("/proc/self/fd").iterdir()))

    def refused(*_: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StorageError, match="no locks available"), fence.held():
        pass
    with pytest.raises(StorageError, match="no locks available"):
        Fence(tmp_path, Owner.of(PLAN))
    assert len(list(Path("/proc/self/fd").iterdir())) == opened


def test_one_claim_has_one_holder_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks exclude nobody, two that claim at once still have two epochs, and the older one is fenced off."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    first = Fence(tmp_path, Owner.of(PLAN))
    monkeypatch.setattr(Fence, "_newest", lambda _: 0)
    second = Fence(tmp_path, Owner.of(PLAN))
    monkeypatch.undo()
    assert (first.epoch, second.epoch) == (1, 2)
    with pytest.raises(FencedError):
        first.check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"job": Job(name="other", namespace="default", uid="job-2")}, r"job test \(job-1\), not of other"),
        ({"program": Program(entrypoint="toy:task", framework="numpy", sha256="f" * 64)}, "with the program"),
        ({"seed": 2}, "with the plan"),
    ],
    ids=["job", "program", "plan"],
)
def test_another_jobs_storage_is_left_alone(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """The storage of another job, program or plan is refused with what to do, and nothing in it is touched."""
    server = Server(tmp_path)
    server.commit(1)
    before = kept(tmp_path), sorted((tmp_path / "claims").glob("*.json"))
    with pytest.raises(MismatchError, match=words) as raised:
        Storage(tmp_path, private_plan(**changes))
    assert "nothing in it was changed: g" in str(raised.value)
    assert (kept(tmp_path), sorted((tmp_path / "claims").glob("*.json"))) == before
    server.commit(2)


def test_old_claims_go(tmp_path: Path) -> None:
    """However often a job's server starts, the last claims stay; the newest counts even when its content is spoilt."""
    for epoch in range(1, KEPT + 5):
        assert Fence(tmp_path, Owner.of(PLAN)).epoch == epoch
    claims = sorted((tmp_path / "claims").glob("*.json"))
    assert [int(one.stem) for one in claims] == list(range(5, KEPT + 5))
    claims[-1].write_text("{")
    assert Fence(tmp_path, Owner.of(PLAN)).epoch == KEPT + 5


def test_a_pod_that_was_replaced_does_not_come_back(tmp_path: Path) -> None:
    """A pod's server may start again, but not once another pod's has claimed the storage: they would fence in turn."""
    owner = Owner.of(PLAN)
    assert [Fence(tmp_path, owner, holder=pod).epoch for pod in ("a", "a", "b")] == [1, 2, 3]
    for _ in range(2):
        with pytest.raises(FencedError, match=r"claimed from this pod \(a\) and then from another \(b\)"):
            Fence(tmp_path, owner, holder="a")
    assert [Fence(tmp_path, owner, holder=pod).epoch for pod in ("b", "c", "")] == [4, 5, 6]


def test_a_claim_that_is_gone_is_told(tmp_path: Path) -> None:
    """Who removes the claims from under a server is told, and nothing is kept."""
    fence = Fence(tmp_path, Owner.of(PLAN))
    for one in (tmp_path / "claims").glob("*.json"):
        one.unlink()
    with pytest.raises(StorageError, match="0000001.json is gone"), fence.held():
        pass
