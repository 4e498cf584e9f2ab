"""A pod gets its certificate over https with its token, waits for who is not there, and takes a no."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fl_core import enrolment, identity
from fl_core.enrolment import Office, public_key_of
from fl_core.errors import MismatchError
from fl_core.identity import Authority, Credentials, Identity

TOKEN = "a token"  # noqa: S105 - of nobody
WORKER = Identity("job-1", "worker", 2)


@dataclass
class Desk:
    """An endpoint on loopback; `answers` are given in turn, the last one again and again."""

    folder: Path
    authority: Authority = field(default_factory=lambda: Authority("cluster"))
    answers: list[tuple[int, str]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def office(self) -> Office:
        """What a pod is told of it."""
        return self.reached()

    def reached(self, url: str = "", **more: Any) -> Office:
        """The same, by another URL or with other fields."""
        token, authority = self.folder / "token", self.folder / "ca.pem"
        url = url or f"https://localhost:{self.port}/enrol"
        return Office(url=url, token=token.read_text, authority=authority.read_text, **more)

    def answer(self, asked: dict[str, str]) -> tuple[int, str]:
        self.asked.append(asked)
        if self.answers:
            return self.answers.pop(0)
        certificate = self.authority.sign(WORKER, public_key_of(asked["request"]))
        said = {"authority": self.authority.dump()[1].decode(), "certificate": certificate.decode()}
        return 200, json.dumps(said)


@dataclass(frozen=True)
class Later:
    """The module `datetime`, so much later."""

    by: dt.timedelta
    UTC = dt.UTC

    @property
    def datetime(self) -> Any:
        """Knows what time it will be."""
        return self

    def now(self, zone: dt.tzinfo) -> dt.datetime:
        return dt.datetime.now(zone) + self.by


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An endpoint that signs."""
    one = Desk(tmp_path)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    key, certificate = one.authority.issue_host("localhost")
    (tmp_path / "ca.pem").write_bytes(one.authority.dump()[1])
    (tmp_path / "desk.pem").write_bytes(key + certificate)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            code, said = one.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "desk.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    one.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield one
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pod_gets_the_certificate_of_what_it_is(desk: Desk, tmp_path: Path) -> None:
    """The token is shown, the key stays here, and what is written can be used at once."""
    got = desk.office.enrol(tmp_path / "own")
    assert got == Credentials.read(tmp_path / "own")
    assert got.identity == WORKER
    assert desk.asked[0]["token"] == TOKEN
    assert b"PRIVATE" in got.key
    assert "PRIVATE" not in json.dumps(desk.asked)


def test_a_container_that_starts_again_keeps_its_certificate(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again only when half of the time is over, or what it finds is torn."""
    first = desk.office.enrol(tmp_path / "own")
    assert desk.office.enrol(tmp_path / "own") == first
    (tmp_path / "own" / "key.pem").write_bytes(desk.authority.issue(WORKER).key)
    second = desk.office.enrol(tmp_path / "own")
    assert second.key != first.key
    monkeypatch.setattr(identity, "LIFETIME", dt.timedelta(seconds=1))
    (tmp_path / "own" / "cert.pem").write_text("torn")
    third = desk.office.enrol(tmp_path / "own")
    assert desk.office.enrol(tmp_path / "own").key != third.key
    assert len(desk.asked) == 4


def test_an_endpoint_that_cannot_answer_is_asked_again(desk: Desk, tmp_path: Path) -> None:
    """A pod that the operator does not know yet, or an operator that is down, is only a wait."""
    desk.answers += [(503, "no leader"), (425, "who is this?"), (200, "no json"), (200, "{}")]
    pauses: list[float] = []
    assert desk.office.enrol(tmp_path / "own", sleep=pauses.append).identity == WORKER
    assert len(pauses) == 4
    assert pauses[-1] > pauses[0]


@pytest.mark.parametrize("code", [400, 403])
def test_a_refusal_is_final(desk: Desk, tmp_path: Path, code: int) -> None:
    """The operator's sentence reaches the log, and no certificate is written."""
    desk.answers.append((code, "this token is another pod's"))
    with pytest.raises(MismatchError, match="this process a certificate: this token is another pod's"):
        desk.office.enrol(tmp_path / "own")
    assert not (tmp_path / "own" / "cert.pem").exists()


def test_a_key_whose_answer_was_lost_is_shown_again(desk: Desk, tmp_path: Path) -> None:
    """A process that is killed while it waits asks with the same key, for which a token may have been used up."""

    def killed(_: float) -> None:
        raise KeyboardInterrupt

    desk.answers.append((503, "the answer is lost"))
    with pytest.raises(KeyboardInterrupt):
        desk.office.enrol(tmp_path / "own", sleep=killed)
    assert (tmp_path / "own" / "key.pem").stat().st_mode & 0o777 == 0o600
    desk.office.enrol(tmp_path / "own")
    first, second = (public_key_of(one["request"]) for one in desk.asked)
    assert first == second


def test_a_certificate_is_used_for_its_share(desk: Desk, tmp_path: Path) -> None:
    """A pod asks again when half of the time is over, a site with a token for once when all of it is."""
    begun = dt.timedelta(days=20)
    lasting = desk.reached(share=1.0)
    first = desk.office.enrol(tmp_path / "own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enrolment, "dt", Later(begun))
        assert lasting.enrol(tmp_path / "own") == first
        assert desk.office.enrol(tmp_path / "own") != first
        patch.setattr(enrolment, "dt", Later(2 * begun))
        assert lasting.enrol(tmp_path / "own") != first


def test_a_relay_is_dialled_in_the_place_of_the_endpoint(desk: Desk, tmp_path: Path) -> None:
    """The address is the relay's, and TLS is still with the host of the URL and nobody else."""
    address = f"127.0.0.1:{desk.port}"
    assert desk.reached("https://localhost:1/", address=address).enrol(tmp_path / "own").identity == WORKER

    def give_up(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.reached("https://elsewhere/", address=address).enrol(tmp_path / "other", sleep=give_up)
    assert len(desk.asked) == 1


def test_a_token_is_shown_to_the_operator_only(desk: Desk, tmp_path: Path) -> None:
    """Over plain http it is not sent at all, and an endpoint of another authority does not get it."""
    with pytest.raises(MismatchError, match="over https only"):
        desk.reached(desk.office.url.replace("https", "http")).enrol(tmp_path / "own")
    (tmp_path / "ca.pem").write_bytes(Authority("cluster").dump()[1])

    def give_up(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.office.enrol(tmp_path / "own", sleep=give_up)
    assert desk.asked == []


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def request(key: Key) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: "hello", "no certificate signing request"),
        (lambda: "", "no certificate signing request"),
        (lambda: request(rsa.generate_private_key(65537, 2048)), "P-256"),
        (lambda: request(ec.generate_private_key(ec.SECP384R1())), "P-256"),
    ],
)
def test_only_a_p256_key_is_signed(make: Callable[[], str], complaint: str) -> None:
    """Anything else in the place of a request is refused."""
    with pytest.raises(MismatchError, match=complaint):
        public_key_of(make())
