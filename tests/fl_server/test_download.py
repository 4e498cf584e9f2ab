"""A store that is silent is asked again, and what is not what was kept takes the place of nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fl_core.errors import StorageError, UnavailableError, UnusableError
from fl_core.models import checkpoints
from fl_server import download
from fl_server.download import Patient, newest
from fl_server.objects import Folder, SilentError
from tests.fl_server.mirrored import commit, committed, last, server, stored, watched

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("when", ["create", "created", "put", "done", "list"])
def test_an_answer_that_does_not_come(tmp_path: Path, uri: str, when: str) -> None:
    """Whether a request was carried out or not when its answer is lost, the commit goes well, once, and it is told."""
    silent, told = [when] * 2, list[str]()

    def happen(call: str) -> None:
        if silent and silent[-1] == call:
            raise SilentError(f"{silent.pop()} was not answered")

    one = server(tmp_path / "one", uri)
    watched(one, happen)
    one.tell(told.append)
    commit(one, 1)
    assert [bool(sentence) for sentence in told] == [True, False] * (len(told) // 2)
    assert all("it is asked again" in sentence for sentence in told[::2])
    assert committed(server(tmp_path / "other", uri)) == (1, [1])


def test_a_store_that_is_gone_for_long(
    tmp_path: Path,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the patience the server ends and keeps nothing more, and the next one goes on from what was kept."""
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.05)
    one = server(tmp_path / "one", uri)
    commit(one, 1)
    away = True

    def happen(_: str) -> None:
        if away:
            raise SilentError("the store does not answer")

    watched(one, happen)
    before = stored(uri)
    with pytest.raises(UnavailableError, match="for 0.05 s; nothing is lost"):
        commit(one, 2)
    away = False
    with pytest.raises(UnavailableError, match="does not answer"):
        one.record({"round": 2})
    assert stored(uri) == before
    assert committed(server(tmp_path / "one", uri)) == (1, [1])


def test_a_long_transfer_that_breaks_off_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience counts from when the store fell silent, however long the transfer went on before."""
    now, silent = [0.0], [SilentError("the store does not answer")]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def transfer() -> str:
        now[0] += 10 * download.PATIENCE_SECONDS
        if silent:
            raise silent.pop()
        return "done"

    assert download.Patient(Folder("file:///nowhere", Path("/nowhere"))).call(transfer) == "done"


def test_the_end_of_a_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that failed for good is told once, and so is the first call after it that is answered."""
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.0)
    patient, told, silent = download.Patient(Folder("file:///n", Path("/n"))), list[str](), [True] * 2

    def look() -> None:
        if silent:
            silent.pop()
            raise SilentError("the store does not answer")

    patient.told = told.append
    for _ in range(2):
        with pytest.raises(UnavailableError, match="for 0 s"):
            patient.call(look)
    for _ in range(2):
        patient.call(look)
    assert [bool(sentence) for sentence in told] == [True, True, False]


@pytest.mark.parametrize("damage", ["torn", "changed", "gone"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, uri: str, damage: str) -> None:
    """Where the newest checkpoint's object is not what was kept the one before it is used, and it is told."""
    one = server(tmp_path / "one", uri)
    for number in (1, 2):
        commit(one, number)
    newest = next(iter(checkpoints(tmp_path / "one" / "checkpoints").values()))
    (part,) = last(uri)["files"][f"checkpoints/{newest.name}"]
    path = tmp_path / "store" / part["object"]
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:-1] if damage == "torn" else content[:-1] + bytes([content[-1] ^ 1]))
    told = list[str]()
    with capture_logs() as logged:
        other = server(tmp_path / "other", uri)
        found = other.checkpoints.newest(told.append)
    assert found is not None
    assert found.facts["round"] == 1
    assert told == [f"{newest.name} is damaged and was passed over"]
    assert "damaged object" in [line["event"] for line in logged]


def test_a_checkpoint_that_others_made_is_not_believed(tmp_path: Path, uri: str) -> None:
    """A checkpoint that is whole in itself, but is not the one that was kept, is damaged."""
    one = server(tmp_path / "one", uri)
    for number in (1, 2):
        commit(one, number)
    files = last(uri)["files"]
    old, new = (files[f"checkpoints/round-{number:07d}.safetensors"][0]["object"] for number in (1, 2))
    (tmp_path / "store" / new).write_bytes((tmp_path / "store" / old).read_bytes())
    found = server(tmp_path / "other", uri).checkpoints.newest()
    assert found is not None
    assert found.facts["round"] == 1


def test_a_damaged_record_ends_the_server(tmp_path: Path, uri: str) -> None:
    """What there is no other of is not passed over: the sentence names the file and its objects."""
    commit(server(tmp_path / "one", uri), 1)
    (part,) = last(uri)["files"]["metrics.jsonl"]
    (tmp_path / "store" / part["object"]).write_bytes(b"{}\n")
    with pytest.raises(UnusableError, match=r"metrics.jsonl in .* is not what was kept: objects/"):
        server(tmp_path / "other", uri)


def test_a_lost_object_costs_no_file_here(tmp_path: Path, uri: str) -> None:
    """What a folder has of a file whose object is lost stays as it is, for it may be the last copy."""
    one = server(tmp_path / "one", uri)
    for number in (1, 2):
        commit(one, number)
    record = tmp_path / "one" / "metrics.jsonl"
    with record.open("a") as lines:
        lines.write('{"round":3}\n')
    before = record.read_bytes()
    (tmp_path / "store" / last(uri)["files"]["metrics.jsonl"][0]["object"]).unlink()
    with pytest.raises(UnusableError, match=r"metrics.jsonl in .* put a copy of it back"):
        server(tmp_path / "one", uri)
    assert record.read_bytes() == before


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_share_that_is_not_mounted_any_more(tmp_path: Path, uri: str, left: str) -> None:
    """Nothing goes on in what lies below a mount, and once it is mounted again the next server goes on there."""
    one = server(tmp_path / "one", uri)
    commit(one, 1)
    before, share = stored(uri), (tmp_path / "store").rename(tmp_path / "share")
    if left != "nothing":
        (tmp_path / "store").mkdir()
    with pytest.raises(StorageError, match=r"is no folder; mount|does not hold heads/.*; mount"):
        one.fence.check()
    with pytest.raises(StorageError, match=r"is no folder; mount|does not hold heads/.*; mount"):
        commit(one, 2)
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    share.rename(tmp_path / "store")
    assert stored(uri) == before
    assert committed(server(tmp_path / "other", uri)) == (1, [1])


def test_a_head_that_is_named_and_not_there(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for again with pauses, and no longer than a store that does not answer."""
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(download, "PAUSES", (0.02, 0.02))
    commit(server(tmp_path / "one", uri), 1)
    looks: list[str] = []

    class Forgetful(Folder):
        def read(self, name: str) -> Iterator[bytes]:
            looks.append(name)
            raise FileNotFoundError(name)

    with pytest.raises(UnavailableError, match=r"names heads/\S+ and does not have it, for 0.05 s"):
        newest(Patient(Forgetful(uri, Path(uri.removeprefix("file://")))))
    assert 2 <= len(looks) <= 5
