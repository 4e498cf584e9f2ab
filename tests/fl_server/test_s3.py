"""A bucket of S3, as moto serves it: what goes wrong there is told with what to do, and no secret is."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.errors import FencedError, StorageError, UnavailableError, UnusableError
from fl_server import download
from fl_server.checkpoints import Saved
from fl_server.objects import Bucket, DeniedError, SilentError, opened
from fl_server.storage import Storage
from tests.conftest import plan_of
from tests.fl_server.recorded import recorded
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


class Between(ThreadingHTTPServer):
    """What stands between a client and moto, and answers some requests itself."""

    def __init__(self, moto: Moto, answer: Callable[[str, str], tuple[int, str] | None]) -> None:
        super().__init__(("127.0.0.1", 0), Passed)
        self.moto, self.answer, self.seen = moto, answer, list[str]()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Passed(BaseHTTPRequestHandler):
    """One request, answered or passed on."""

    server: Between
    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        """One method for all methods."""
        if whole := super().parse_request():
            setattr(self, f"do_{self.command}", self.do)
        return whole

    def do(self) -> None:
        """Answer, or let moto."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(f"{self.command} {self.path}")
        if (own := self.server.answer(self.command, self.path)) is not None:
            status, headers, content = own[0], {}, f"<Error><Code>{own[1]}</Code></Error>".encode()
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.moto.port)
            connection.request(self.command, self.path, body, dict(self.headers))
            found = connection.getresponse()
            status, headers, content = found.status, dict(found.headers), found.read()
            connection.close()
        self.send_response(status)
        for name in {"ETag", "Last-Modified", "Content-Type", "Content-Range"} & headers.keys():
            self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def between(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Between]]:
    """Let requests go through an answerer; the environment leads to it."""
    made = list[Between]()

    def stand(answer: Callable[[str, str], tuple[int, str] | None]) -> Between:
        made.append(Between(moto, answer))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", made[-1].url)
        return made[-1]

    yield stand
    for one in made:
        one.shutdown()
        one.server_close()


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
    return found.facts["round"] if found else 0, [row["round"] for row in recorded(one)]


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
        with pytest.raises(UnusableError) as raised:
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
        UnusableError,
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
    assert told == [f"{told[0].partition(';')[0]}; it is asked again for 30 s", ""]
    assert SECRET not in str(logged)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.url)
    assert rounds(server(tmp_path / "other")) == (1, [1])
    patient.objects, patient._patience = away, 0.3
    with pytest.raises(
        UnavailableError, match=r"s3://jobs/digits does not answer .*, for 0.3 s; nothing is lost"
    ):
        commit(one, 2)


def test_one_piece_that_is_refused_for_now(between: Callable[..., Between], tmp_path: Path) -> None:
    """Of a large object only the piece is sent again that the store did not take."""
    busy = [(503, "SlowDown")]
    passed = between(lambda _, path: busy.pop() if "partNumber=2" in path and busy else None)
    content = bytes(range(256)) * (12 << 12)
    (tmp_path / "model").write_bytes(content)
    bucket = opened("s3://jobs/digits")
    bucket.put("objects/1", tmp_path / "model")
    assert b"".join(bucket.read("objects/1")) == content
    asked = [sum(one in seen for seen in passed.seen) for one in ("uploads", "partNumber=1", "partNumber=2")]
    assert asked == [1, 1, 2]


@pytest.mark.parametrize(
    ("code", "raised", "words"),
    [
        ("RequestTimeout", SilentError, "does not answer (400 RequestTimeout)"),
        ("ExpiredToken", StorageError, "its credentials are refused, or there are none (400 ExpiredToken)"),
        ("InvalidArgument", DeniedError, "cannot be used (400 InvalidArgument)"),
    ],
)
def test_a_bad_request_is_judged_by_its_code(
    between: Callable[..., Between], code: str, raised: type[StorageError], words: str
) -> None:
    """Of what S3 answers with 400 some may be tried again, and some is about the credentials."""
    between(lambda *_: (400, code))
    with pytest.raises(StorageError) as found:
        opened("s3://jobs/digits").names("heads")
    assert type(found.value) is raised
    assert words in str(found.value)
