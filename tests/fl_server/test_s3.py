"""A bucket of S3, as moto serves it: what goes wrong there is told with what to do, and no secret is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.errors import FencedError, StorageError
from fl_server import download
from fl_server.checkpoints import Saved
from fl_server.objects import Bucket, opened
from fl_server.storage import Storage
from tests.conftest import plan_of
from tests.moto import ABSENT, MOTO, SECRET, Moto

pytestmark = pytest.mark.skipif(not MOTO.exists(), reason=ABSENT)

PLAN = plan_of()


@pytest.fixture(scope="module")
def served() -> Iterator[Moto]:
    """A server for all tests here."""
    moto = Moto()
    yield moto
    moto.stop()


@pytest.fixture
def moto(served: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """The server with an empty bucket, and an environment that leads to it."""
    served.ask("POST", "moto-api/reset")
    served.ask("PUT", "jobs")
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.5)
    return served


def server(folder: Path, uri: str = "s3://jobs/digits") -> Storage:
    """A server's storage."""
    return Storage(folder, PLAN, store=uri)


def commit(one: Storage, number: int, *, size: int = 3) -> None:
    """A round whose model holds its number."""
    facts = {"round": number, "plan": PLAN.digest, "metrics": {}, "row": {}}
    one.checkpoints.save(Saved({"w": np.full(size, number, "f4")}, facts))
    one.record({"round": number, "result": "Committed"})


def rounds(one: Storage) -> tuple[int, list[int]]:
    """The newest checkpoint's, and those on record."""
    found = one.checkpoints.newest()
    return found.facts["round"] if found else 0, [row["round"] for row in one.rows()]


@pytest.mark.usefixtures("moto")
def test_another_machine_goes_on(tmp_path: Path) -> None:
    """What one server kept is there for the next, a model of many pieces included, and the first is fenced off."""
    one = server(tmp_path / "one")
    commit(one, 1, size=3 << 20)
    commit(one, 2)
    other = server(tmp_path / "other")
    assert rounds(other) == (2, [1, 2])
    found = other.checkpoints.newest()
    assert found is not None
    with pytest.raises(FencedError, match=r"s3://jobs/digits was claimed by a newer server"):
        commit(one, 3)
    commit(other, 3)
    assert rounds(server(tmp_path / "third")) == (3, [1, 2, 3])


@pytest.mark.usefixtures("moto")
def test_one_of_two_makes_an_object() -> None:
    """An object is made once; what is read and listed is what was made, and what is removed is gone."""
    bucket = opened("s3://jobs/digits")
    assert isinstance(bucket, Bucket)
    assert [bucket.create("heads/1", content) for content in (b"a", b"b")] == [True, False]
    bucket.put("heads/2", b"c")
    assert b"".join(bucket.read("heads/1")) == b"a"
    assert bucket.names("heads") == ["heads/1", "heads/2"]
    assert bucket.names("heads", after="heads/1") == ["heads/2"]
    bucket.remove(["heads/1", "heads/never"])
    with pytest.raises(FileNotFoundError):
        list(bucket.read("heads/1"))


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_the_endpoint_comes_from_the_environment(
    moto: Moto, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Either of the two variables that Amazon's own tools know leads to the store."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(variable, moto.url)
    assert opened("s3://jobs/digits").create("heads/1", b"")


def test_wrong_credentials(moto: Moto, tmp_path: Path) -> None:
    """Credentials that are refused are told at once, with the URI and the variables, and without what they hold."""
    moto.ask("POST", "moto-api/reset-auth", b"0")
    try:
        with pytest.raises(StorageError) as raised:
            server(tmp_path / "one")
    finally:
        moto.ask("POST", "moto-api/reset-auth", b"Infinity")
    said = str(raised.value)
    assert said.startswith("s3://jobs/digits: its credentials are refused, or there are none (403")
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "storage.secretName" in said
    assert SECRET not in said
    assert not list((tmp_path / "one").rglob("*.safetensors"))


@pytest.mark.usefixtures("moto")
def test_a_bucket_that_is_not_there(tmp_path: Path) -> None:
    """It is told at once, with what must be there."""
    with pytest.raises(
        StorageError,
        match=r"s3://nobody/digits cannot be used \(404 NoSuchBucket\); the bucket must be there",
    ):
        server(tmp_path / "one", "s3://nobody/digits")


def test_a_store_that_is_away_for_a_while(
    moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server waits for a store that comes back, says so, and its commit is there; for one that does not it ends."""
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 30.0)
    one = server(tmp_path / "one")
    patient, told = one._objects, list[str]()
    assert patient is not None
    one.tell(told.append)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    here, silent = patient.objects, [3]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nobody)
    away = opened("s3://jobs/digits")

    class Comes:
        """The store after so many calls that nobody answers."""

        uri = here.uri

        def __getattr__(self, name: str) -> object:
            silent[0] -= 1
            return getattr(away if silent[0] >= 0 else here, name)

    patient.objects = Comes()  # type: ignore[assignment]
    with capture_logs() as logged:
        commit(one, 1)
    assert [line["event"] for line in logged if "store" in line["event"]].count(
        "the store is asked again"
    ) == 3
    assert told == [f"{told[0].partition(';')[0]}; it is asked again for 30 s"]
    assert SECRET not in str(logged)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.url)
    assert rounds(server(tmp_path / "other")) == (1, [1])
    patient.objects, patient._patience = away, 0.3
    with pytest.raises(
        StorageError, match=r"s3://jobs/digits does not answer .*, for 0.3 s; nothing is lost"
    ):
        commit(one, 2)
