"""What was kept in a store of objects is there for the next server, whatever becomes of the last one or its folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from fl_core.errors import FencedError, MismatchError, StorageError, UnusableError
from fl_core.extensions import Extension
from fl_core.plan import Job, Plan, Privacy
from fl_server import download, mirror, storage
from fl_server.checkpoints import Saved
from fl_server.heads import decoded, head_name
from fl_server.mirror import KEPT, MOST_PARTS
from fl_server.objects import Folder
from fl_server.storage import Storage
from tests.conftest import plan_of
from tests.fl_server.mirrored import PLAN, Watched, commit, committed, last, server, stored, watched
from tests.fl_server.powercut import ROUNDS, check, commits

pytestmark = pytest.mark.usefixtures("quick")


def private_plan() -> Plan:
    mechanism = Extension(name="gaussian", options={"clip": 1.0, "noise_multiplier": 4.0})
    own = Privacy(unit="worker", mechanism=mechanism, epsilon=50.0, delta=1e-5, corrupt=1, measured=True)
    return plan_of(rounds=ROUNDS, privacy=own)


def test_another_machine_goes_on(tmp_path: Path, uri: str) -> None:
    """A server in an empty folder finds all that one elsewhere has kept, byte for byte, and nothing else."""
    one = server(tmp_path / "one", uri)
    for number in (1, 2, 3):
        commit(one, number)
    other = server(tmp_path / "other", uri)
    assert committed(other) == (3, [1, 2, 3])
    files = [download.files_of(tmp_path / name).keys() for name in ("one", "other")]
    assert files[0] == files[1]
    for name in files[0]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    commit(other, 4)
    assert committed(server(tmp_path / "one", uri)) == (4, [1, 2, 3, 4])


def counted(folder: Path, plan: Plan, left: int) -> None:
    """Commit, and kill this process after so many calls."""

    def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    storage.opened = lambda uri: Watched(uri, Path(uri.removeprefix("file://")), count)  # type: ignore[assignment]
    with (folder / "said").open("w") as said:
        for word in commits(folder / "local", plan, store=f"file://{folder}/store"):
            said.write(f"{word}\n")
            said.flush()


def killed(folder: Path, plan: Plan, call: int) -> int | None:
    """Commit in a child that is killed at this call of the store; None where there are fewer."""
    child = os.fork()
    if not child:
        try:
            counted(folder, plan, call)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code or None


def test_killed_at_each_call(tmp_path: Path) -> None:
    """Killed before or after any request, a server leaves the old or the new state, and another one does the rest."""
    plan, call = private_plan(), 0
    assert list(commits(tmp_path / "undisturbed", plan))[-1] == f"last {ROUNDS}"
    kept = ("metrics.jsonl", "models/last.safetensors", "models/best.safetensors")
    expected = [(tmp_path / "undisturbed" / name).read_bytes() for name in kept]
    while True:
        folder = tmp_path / str(call)
        (folder / "store").mkdir(parents=True)
        if killed(folder, plan, call) is None:
            break
        words = [line.split() for line in (folder / "said").read_text().splitlines()]
        there = f"file://{folder}/store"
        check(
            server(folder / "new", there, plan=plan),
            plan,
            {word: int(number) for word, number in words},
            where=str(call),
        )
        if not call % 8:  # it takes a second
            assert list(commits(folder / "local", plan, store=there))[-1] == f"last {ROUNDS}"
            assert [(folder / "local" / name).read_bytes() for name in kept] == expected, call
        shutil.rmtree(folder)
        call += 1
    assert call > 80


def test_a_claim_at_any_call_of_a_commit(tmp_path: Path) -> None:
    """A newer server that starts between any two requests of an older one's commit has the last word, for good."""
    step, outcomes = 0, list[str]()
    while (outcome := interrupted(tmp_path / str(step), call=step)) is not None:
        outcomes.append(outcome)
        step += 1
    assert outcomes == ["fenced"] * len(outcomes)
    assert len(outcomes) >= 10


def interrupted(folder: Path, *, call: int) -> str | None:
    """Let a server start before this request of another's commit, which then goes on; None if there are fewer."""
    (folder / "store").mkdir(parents=True)
    uri, left = f"file://{folder}/store", call
    older, newer = server(folder / "older", uri), list[Storage]()
    commit(older, 1)

    def happen(_: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            newer.append(server(folder / "newer", uri))
            commit(newer[0], 100)

    watched(older, happen)
    try:
        commit(older, 2)
        outcome = "not fenced"
    except FencedError:
        outcome = "fenced"
    if not newer:
        return None
    with pytest.raises(FencedError):
        commit(older, 3)
    found = committed(server(folder / "third", uri))
    assert (found[0], found[1][-1]) == (100, 100)
    return outcome


def test_claims_at_any_call_of_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that starts while newer ones claim the store and go on takes it over or is fenced, and blames nobody."""
    monkeypatch.setattr(mirror, "MOST_PARTS", 8)
    template = tmp_path / "template"
    template.mkdir()
    one = server(tmp_path / "one", f"file://{template}")
    for number in range(1, 8):
        one.record({"round": number})
    commit(one, 8)
    call, outcomes = 0, list[str]()
    while (outcome := overtaken(tmp_path / str(call), template, monkeypatch, call=call)) is not None:
        outcomes.append(outcome)
        call += 1
    assert set(outcomes) == {"newest", "fenced"}
    assert len(outcomes) > 10


def overtaken(folder: Path, template: Path, monkeypatch: pytest.MonkeyPatch, *, call: int) -> str | None:
    """Let two servers claim a store at this request of one that starts; None if there are fewer."""
    shutil.copytree(template, folder / "store")
    uri, left, newer = f"file://{folder}/store", call, list[Storage]()

    def happen(_: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            for name in ("newer", "newest"):
                newer.append(server(folder / name, uri))
                commit(newer[-1], 100)
                commit(newer[-1], 101)

    with monkeypatch.context() as patched:
        patched.setattr(
            storage, "opened", lambda uri: Watched(uri, Path(uri.removeprefix("file://")), happen)
        )
        try:
            commit(server(folder / "older", uri), 200)
        except FencedError:
            return "fenced"
    return "newest" if newer else None


def test_who_slept_over_the_removal_of_heads_is_fenced(tmp_path: Path, uri: str) -> None:
    """A server that finds the next number free, since the heads that had it are gone, commits nothing all the same."""
    sleeper = server(tmp_path / "sleeper", uri)
    commit(sleeper, 1)
    newer = server(tmp_path / "newer", uri)
    for number in range(2, 4 * KEPT):
        commit(newer, number)
    assert head_name(sleeper.fence._mirror._number + 1) not in stored(uri)  # type: ignore[union-attr]
    with pytest.raises(FencedError, match="claimed by a newer server"):
        commit(sleeper, 2)
    assert committed(server(tmp_path / "third", uri))[0] == 4 * KEPT - 1


def test_another_jobs_store_is_left_alone(tmp_path: Path, uri: str) -> None:
    """The store of another job is refused with what to do, and nothing in it is touched."""
    one = server(tmp_path / "one", uri)
    commit(one, 1)
    before = stored(uri)
    other = plan_of(job=Job(name="other", namespace="default", uid="job-2"))
    with pytest.raises(MismatchError, match=r"job test \(job-1\), not of other"):
        server(tmp_path / "other", uri, plan=other)
    assert stored(uri) == before
    commit(one, 2)


def test_what_was_never_kept_is_gone(tmp_path: Path, uri: str) -> None:
    """Of a folder that is ahead of the store, only what the store has is taken up."""
    one = server(tmp_path / "one", uri)
    commit(one, 1)
    commit(Storage(tmp_path / "elsewhere", PLAN), 7)
    shutil.copytree(
        tmp_path / "elsewhere" / "checkpoints", tmp_path / "one" / "checkpoints", dirs_exist_ok=True
    )
    with (tmp_path / "one" / "metrics.jsonl").open("a") as lines:
        lines.write('{"round":7}\n')
    assert committed(server(tmp_path / "one", uri)) == (1, [1])


def test_a_store_that_knows_nothing_of_a_job_does_not_empty_its_folder(tmp_path: Path, uri: str) -> None:
    """A job that was begun elsewhere is not begun anew because its URI was changed."""
    commit(Storage(tmp_path / "one", PLAN), 1)
    with pytest.raises(MismatchError, match=r"nothing was kept in .* yet, but .* holds the storage of a job"):
        server(tmp_path / "one", uri)
    assert committed(Storage(tmp_path / "one", PLAN)) == (1, [1])


@pytest.mark.parametrize(
    "odd", [".cache/x", ".ipynb_checkpoints/metrics.jsonl", "a b/x", "checkpoints/.x/y", "ä/x"]
)
def test_an_odd_name_is_not_kept(tmp_path: Path, uri: str, odd: str) -> None:
    """What others have put into a folder under a name that no head may hold spoils none."""
    one = server(tmp_path / "one", uri)
    (tmp_path / "one" / odd).parent.mkdir()
    (tmp_path / "one" / odd).write_text("x")
    commit(one, 1)
    assert not [path for path in last(uri)["files"] if path.endswith("x")]
    assert committed(server(tmp_path / "other", uri)) == (1, [1])


def test_no_head_is_made_that_cannot_be_read(tmp_path: Path, uri: str) -> None:
    """A name that is too long for a head ends the server, and what was kept before stays readable."""
    one = server(tmp_path / "one", uri)
    commit(one, 1)
    path = (tmp_path / "one").joinpath(*["d" * 200] * 3)
    path.mkdir(parents=True)
    (path / "x").touch()
    with pytest.raises(StorageError, match=r"d/x.* cannot be kept"):
        commit(one, 2)
    assert committed(server(tmp_path / "other", uri)) == (1, [1])


def test_lines_are_added_as_parts(tmp_path: Path, uri: str) -> None:
    """Of a file that grows by lines only the new ones are sent; many parts become one again."""
    one = server(tmp_path / "one", uri)
    for number in range(1, MOST_PARTS + 3):
        one.record({"round": number, "result": "Committed"})
        parts = last(uri)["files"]["metrics.jsonl"]
        assert len(parts) == (number if number <= MOST_PARTS else number - MOST_PARTS)
    lines = (tmp_path / "one" / "metrics.jsonl").read_bytes()
    assert sum(part["size"] for part in parts) == len(lines)
    server(tmp_path / "other", uri)
    assert (tmp_path / "other" / "metrics.jsonl").read_bytes() == lines


def test_a_round_is_two_commits(tmp_path: Path, uri: str) -> None:
    """The checkpoint with what it replaces is one head, the line with its best model another; three objects are put."""
    one, calls = server(tmp_path / "one", uri), list[str]()
    for number in range(1, 5):
        commit(one, number)
    watched(one, calls.append)
    facts = {"round": 5, "plan": PLAN.digest, "metrics": {}, "row": {}}
    best = Saved({"w": np.full(3, 5, "f4")}, facts)
    one.checkpoints.save(best)
    assert [calls.count(call) for call in ("put", "create", "list")] == [1, 1, 1]
    one.record({"round": 5, "result": "Committed"}, best=best)
    assert [calls.count(call) for call in ("put", "create", "list")] == [3, 2, 2]
    other = server(tmp_path / "other", uri)
    found = other.model("best")
    assert (committed(other), found and found.facts["round"]) == ((5, [1, 2, 3, 4, 5]), 5)


def test_what_another_thread_keeps_meanwhile_is_kept(tmp_path: Path, uri: str) -> None:
    """Changes that wait for one another hold back nobody else's."""
    one = server(tmp_path / "one", uri)
    with one.fence.together():
        one.sessions.add({"round": 1})
        assert "sessions.jsonl" not in last(uri)["files"]
        other = threading.Thread(target=lambda: one.record({"round": 1, "result": "Committed"}))
        other.start()
        other.join()
        assert {"sessions.jsonl", "metrics.jsonl"} <= last(uri)["files"].keys()


def test_old_heads_and_objects_go(tmp_path: Path, uri: str) -> None:
    """However many rounds there were, a few heads stay, with their objects; the next server leaves its own only."""
    one = server(tmp_path / "one", uri)
    for number in range(1, 6 * KEPT):
        commit(one, number)
    heads = [name for name in stored(uri) if name.startswith("heads/")]
    assert len(heads) <= 2 * KEPT
    named = {name for head in heads for name in decoded(stored(uri)[head], head).objects}
    assert {name for name in stored(uri) if name.startswith("objects/")} == named
    server(tmp_path / "other", uri)
    objects = {part["object"] for parts in last(uri)["files"].values() for part in parts}
    assert {name for name in stored(uri) if name.startswith("objects/")} == objects


def test_what_a_killed_server_had_not_finished_goes(tmp_path: Path, uri: str) -> None:
    """The part of a file that a killed server has put into a mounted store is removed by the next one."""
    child = os.fork()
    if not child:
        try:
            one = server(tmp_path / "one", uri)
            shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
            commit(one, 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [name for name in stored(uri) if name.endswith(".partial")]
    newer = server(tmp_path / "other", uri)
    assert not [name for name in stored(uri) if name.endswith(".partial")]
    commit(newer, 1)


def test_a_file_that_is_swept_while_it_is_put(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose unfinished file a newer one has removed is fenced off, and its folder is not blamed."""
    one, real, newer = server(tmp_path / "one", uri), shutil.copyfile, list[Storage]()

    def copied(source: Path, target: Path) -> None:
        real(source, target)
        if not newer:
            newer.append(server(tmp_path / "newer", uri))

    monkeypatch.setattr(shutil, "copyfile", copied)
    with pytest.raises(FencedError):
        commit(one, 1)


def test_a_pod_that_was_replaced_does_not_come_back(tmp_path: Path, uri: str) -> None:
    """A pod's server may start again, but not once another pod's has claimed the store, on whatever node they are."""
    for pod in ("a", "a", "b"):
        server(tmp_path / pod, uri, holder=pod)
    with pytest.raises(FencedError, match=r"claimed from this pod \(a\) and then from another \(b\)"):
        server(tmp_path / "a", uri, holder="a")
    assert last(uri)["epoch"] == 3


def test_a_store_that_overwrites_is_refused(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `create` keeps nobody out, no server begins."""

    class Careless(Folder):
        def create(self, name: str, content: bytes) -> bool:
            self.put(name, content)
            return True

    monkeypatch.setattr(storage, "opened", lambda uri: Careless(uri, tmp_path / "store"))
    with pytest.raises(UnusableError, match=r"overwrites what it was told to make only if it is not there"):
        server(tmp_path / "one", uri)


def test_a_first_head_that_another_one_is_about_to_make(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that may not make the first head, and finds none, tries again."""
    refused = [True]

    class Busy(Folder):
        def create(self, name: str, content: bytes) -> bool:
            return not (refused and refused.pop()) and super().create(name, content)

    monkeypatch.setattr(storage, "opened", lambda uri: Busy(uri, tmp_path / "store"))
    commit(server(tmp_path / "one", uri), 1)
    assert committed(server(tmp_path / "other", uri)) == (1, [1])


@pytest.mark.parametrize(
    ("path", "object_"),
    [
        ("../x", "objects/0000000001/0000000001"),
        ("/x", "objects/0000000001/0000000001"),
        ("claims/lock", "objects/0000000001/0000000001"),
        ("x", "../secret"),
    ],
)
def test_a_head_leads_nowhere_else(tmp_path: Path, uri: str, path: str, object_: str) -> None:
    """A head that others wrote names no file outside the folder, and no object outside the store."""
    commit(server(tmp_path / "one", uri), 1)
    head = last(uri)
    head["files"] = {path: [{"object": object_, "size": 1, "sha256": "0" * 64}]}
    (tmp_path / "store" / head_name(10**6)).write_text(json.dumps(head))
    with pytest.raises(UnusableError, match=r"heads/0001000000.json is damaged"):
        server(tmp_path / "other", uri)


def test_what_a_store_refuses_is_final_at_the_first_start_alone(tmp_path: Path, uri: str) -> None:
    """A store that cannot be used from the start ends the job; one that held something is asked again."""
    commit(server(tmp_path / "one", uri), 1)
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(UnusableError, match="is no folder; mount what it is on"):
        server(tmp_path / "other", uri)
    with pytest.raises(StorageError, match="is no folder; mount what it is on"):
        server(tmp_path / "one", uri)
    (tmp_path / "away").rename(tmp_path / "store")
    assert committed(server(tmp_path / "one", uri)) == (1, [1])


def test_a_pod_on_a_new_node_that_is_refused_asks_again(tmp_path: Path, uri: str) -> None:
    """Its folder is empty, but what it may do can change from start to start: it goes on where the job was."""
    commit(server(tmp_path / "one", uri, holder="pod-1"), 1)
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(StorageError, match="is no folder; mount what it is on"):
        server(tmp_path / "two", uri, holder="pod-2")
    (tmp_path / "away").rename(tmp_path / "store")
    assert committed(server(tmp_path / "two", uri, holder="pod-2")) == (1, [1])


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/folder", "spec.server.storage.uri: ftp://host/folder is no store that is known"),
        ("file:///nowhere/at/all", "/nowhere/at/all is no folder; mount what it is on"),
    ],
)
def test_a_store_that_is_none(tmp_path: Path, uri: str, words: str) -> None:
    """A URI that names no store is refused with the field and the value."""
    with pytest.raises((MismatchError, UnusableError), match=words):
        server(tmp_path / "one", uri)
