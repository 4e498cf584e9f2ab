"""The server's lines: bound to each other and to the plan, and to the software that made them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from fl_core.attestation import Ending
from fl_core.errors import MismatchError, UnusableError
from fl_core.identity import Authority, Identity
from fl_core.record import Head, read, written
from fl_core.seals import Seal
from fl_server.record import software
from fl_server.storage import Storage

World = Callable[..., Any]


@pytest.fixture
def storage(world: World) -> Storage:
    """A new job's storage."""
    job = world()
    return Storage(job.folder / "storage", job.plan)


def again(storage: Storage, world: World) -> Storage:
    """The same folder in the hands of the next process."""
    return Storage(storage.folder, world().plan)


def recorded(storage: Storage, results: str) -> None:
    """Record rounds that were (C)ommitted or (S)kipped."""
    words = {"C": "Committed", "S": "Skipped"}
    for number, result in enumerate(results, start=1):
        storage.record({"round": number, "result": words[result], "metrics": {"loss": float(number)}})


def test_lines_of_two_processes_are_one_chain(storage: Storage, world: World) -> None:
    """A server that was started again goes on with the chain, and the record is whole."""
    plan = world().plan
    storage.record({"round": 1})
    again(storage, world).record({"round": 2})
    record = read((storage.folder / "metrics.jsonl").read_bytes(), plan.digest)
    assert (record.findings, [row["round"] for row in record.rows()]) == ((), [1, 2])


def test_a_line_names_plan_program_and_software(
    storage: Storage, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests, versions, and the image where the pod was told it."""
    monkeypatch.setenv("FLJOB_IMAGE", "fljob:1@sha256:ab")
    plan, row = world().plan, json.loads(again(storage, world).record({"round": 1}))
    assert (row["plan"], row["program"]) == (plan.digest, plan.program.sha256 or "")
    assert row["software"].items() >= {"fljob": version("fljob"), "image": "fljob:1@sha256:ab"}.items()


def test_a_framework_that_is_not_here_is_not_named() -> None:
    """Only what this process can know is said."""
    assert "nothing" not in software("nothing")
    assert software("sklearn")["scikit-learn"] == version("scikit-learn")


@pytest.mark.parametrize(
    ("results", "over"),
    [("C", 1), ("CS", 2), ("CSSC", 3), ("CCS", 1)],
)
def test_rounds_that_were_skipped_since_are_over(storage: Storage, results: str, over: int) -> None:
    """After round 1's checkpoint those skipped next are not begun again; a committed one is, for its model is lost."""
    recorded(storage, results)
    found = storage.resumed(1, model="m", made=True)
    assert (found.over, found.metrics, list(found.rows)) == (over, {"loss": 1.0}, list(range(1, over + 1)))


def test_skipped_rounds_before_the_first_model_are_over(storage: Storage) -> None:
    """From the initial model on, too."""
    recorded(storage, "SS")
    found = storage.resumed(0, model="m", made=False)
    assert (found.over, found.metrics) == (2, {})


def test_a_round_that_was_not_recorded_is_told(storage: Storage) -> None:
    """Its checkpoint is newer than the record."""
    recorded(storage, "C")
    found = storage.resumed(2, model="m", made=True)
    assert (found.over, found.recorded, list(found.rows)) == (2, False, [1])


def test_who_goes_back_gives_up_what_came_after(storage: Storage, world: World) -> None:
    """A server with an older checkpoint says so once, takes no line away, and the later rounds stand no more."""
    recorded(storage, "CCSC")
    told = []
    for _ in range(2):
        found = again(storage, world).resumed(2, model="m", made=True)
        assert (found.over, found.metrics, list(found.rows)) == (3, {"loss": 2.0}, [1, 2, 3])
        told += found.told
    lines = (storage.folder / "metrics.jsonl").read_text().splitlines()
    assert told == lines[4:]
    assert [json.loads(line)["result"] for line in lines[4:]] == ["Restored"]
    assert [row["round"] for row in again(storage, world)._record.read().rows()] == [1, 2, 3]


def test_a_record_whose_end_is_missing_is_not_gone_on_with(storage: Storage, world: World) -> None:
    """A checkpoint is at most one round ahead; where the record is shorter nothing is added to it."""
    recorded(storage, "CCC")
    path = storage.folder / "metrics.jsonl"
    path.write_text(path.read_text().partition("\n")[0] + "\n")
    with pytest.raises(UnusableError, match="checkpoint of round 3, and the record ends with round 1"):
        again(storage, world).resumed(3, model="m", made=True)
    path.unlink()
    with pytest.raises(UnusableError, match="checkpoint of round 3, and the record ends with round 0"):
        again(storage, world).resumed(3, model="m", made=True)
    assert not path.exists()


def test_what_was_signed_must_still_be_there(storage: Storage, world: World) -> None:
    """A job that ended and is resumed goes on with the lines that its server signed, or not at all."""
    recorded(storage, "CCSS")
    ending = Ending("Stopped", dt.datetime.now(dt.UTC), "m", 4)
    storage.sign(ending, Authority("job").issue(Identity("job", "server")))
    assert again(storage, world).resumed(2, model="m", made=True).over == 4
    signature = (storage.folder / "record.sig.json").read_bytes()
    path = storage.folder / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(UnusableError, match=r"record.sig.json was signed for 4 lines"):
        again(storage, world).resumed(2, model="m", made=True)
    assert (storage.folder / "record.sig.json").read_bytes() == signature


def test_a_record_of_an_earlier_version_ends_with_a_sentence(storage: Storage) -> None:
    """Lines without `previous` are no KeyError, and nothing is added to them."""
    path = storage.folder / "metrics.jsonl"
    path.write_text('{"round":1,"result":"Committed"}\n')
    with pytest.raises(MismatchError, match="metrics.jsonl: the record was written by a version"):
        storage.record({"round": 2})
    assert path.read_text().count("\n") == 1


def test_nothing_is_added_to_a_record_that_was_changed(storage: Storage, world: World) -> None:
    """The server that finds a changed line names it, and leaves the file as it is."""
    recorded(storage, "CCC")
    path = storage.folder / "metrics.jsonl"
    path.write_text(path.read_text().replace('"loss":2', '"loss":9'))
    with pytest.raises(UnusableError, match=r"metrics.jsonl is damaged: line 2 \(round 2\): it was changed"):
        again(storage, world).resumed(3, model="m", made=True)
    assert path.read_text().count("\n") == 3


def forged(path: Path, plan: str) -> None:
    """Change the first line, and make the chain anew."""
    head, content = Head.of(plan), b""
    for row in map(json.loads, path.read_text().splitlines()):
        line = written({**row, "reporters": ["worker-666"], **head.bound({})})
        head, content = head.after(line), content + line + b"\n"
    path.write_bytes(content)


def test_what_was_changed_before_it_is_signed_is_not_signed(storage: Storage, world: World) -> None:
    """Though its chain was made to fit: the server knows what it wrote last."""
    recorded(storage, "CCC")
    forged(storage.folder / "metrics.jsonl", world().plan.digest)
    ending = Ending("RoundsDone", dt.datetime.now(dt.UTC), "m", 3)
    with pytest.raises(UnusableError, match="is not what this server has read and written, which were 3"):
        storage.sign(ending, Authority("job").issue(Identity("job", "server")))
    assert not (storage.folder / "record.sig.json").exists()


@pytest.fixture
def begun(world: World) -> Callable[..., Storage]:
    """The job's storage in the hands of a server under this authority, which trusts earlier ones, too."""
    job = world()

    def storage(authority: Authority, *earlier: Authority) -> Storage:
        credentials = authority.issue(Identity("job-1", "server"))
        seal = Seal(credentials, earlier=[one.dump()[1] for one in earlier])
        return Storage(job.folder / "storage", job.plan, seal=seal)

    return storage


def unchanged(storage: Storage, finding: str) -> None:
    """The server that begins with this storage tells the finding, and leaves the record as it is."""
    path = storage.folder / "metrics.jsonl"
    before = path.read_bytes()
    with pytest.raises(UnusableError, match=finding):
        storage.resumed(2, model="m", made=True)
    assert path.read_bytes() == before


def test_a_server_goes_on_with_what_servers_have_signed(begun: Callable[..., Storage], world: World) -> None:
    """Each line is signed by the server that wrote it, so a chain that was made anew is found when the next begins."""
    authority = Authority("job-1")
    recorded(begun(authority), "CC")
    storage = begun(authority)
    assert storage.resumed(2, model="m", made=True).over == 2
    forged(storage.folder / "metrics.jsonl", world().plan.digest)
    unchanged(begun(authority), r"line 2 \(round 2\): its signature does not fit")


def test_a_record_from_before_lines_were_signed_is_of_another_version(
    begun: Callable[..., Storage], world: World
) -> None:
    """It is not called damaged; nothing is added to it all the same."""
    job = world()
    recorded(Storage(job.folder / "storage", job.plan), "CC")
    path = job.folder / "storage" / "metrics.jsonl"
    before = path.read_bytes()
    with pytest.raises(
        MismatchError, match="metrics.jsonl: the record has no signed line: a version of FLJob"
    ):
        begun(Authority("job-1")).resumed(2, model="m", made=True)
    assert path.read_bytes() == before


def test_nobody_makes_up_an_authority_for_lines(begun: Callable[..., Storage]) -> None:
    """Lines under an authority that the server does not know are no server's, though all signatures fit."""
    authority, invented = Authority("job-1"), Authority("job-1")
    recorded(begun(invented), "CC")
    unchanged(begun(authority), r"line 2 \(round 2\): it is signed under a certificate that no trusted")
    assert begun(authority, invented).resumed(2, model="m", made=True).over == 2


def test_lines_of_earlier_authorities_are_checked(begun: Callable[..., Storage], world: World) -> None:
    """A run that was resumed has a new authority: what servers under the earlier one wrote cannot be changed either."""
    earlier, authority = Authority("job-1"), Authority("job-1")
    recorded(storage := begun(earlier), "CC")
    forged(storage.folder / "metrics.jsonl", world().plan.digest)
    unchanged(begun(authority, earlier), r"line 2 \(round 2\): its signature does not fit")
