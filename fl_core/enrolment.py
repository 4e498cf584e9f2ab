"""How a process gets its certificate: it makes a key, shows its token, and has the key signed.

The operator's enrolment endpoint reads from the token which process of which job asks: from a pod's, which pod it is;
from an external site's, which site. Nothing that this side says about itself counts, and the key never leaves it.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.errors import MismatchError
from fl_core.identity import Credentials, private_pem, write_private

log = structlog.get_logger()

ANSWER_SECONDS = 10.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
"""Seconds before an endpoint that does not answer, or does not know this process yet, is asked again."""

MOST_ANSWER = 1 << 16
HTTPS_PORT = 443
REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.GONE}
"""Answers that asking again does not change; any other one may be better next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Where to enrol: the endpoint's https URL, this process's token, and the authority of the endpoint (PEM)."""

    url: str
    token: Callable[[], str]
    """Read for each request: a pod's changes while it waits."""
    authority: Callable[[], str]
    address: str | None = None
    """`host:port` to dial in the place of the URL's own: a relay, which finds the endpoint by the URL's host."""
    share: float = 0.5
    """How much of a certificate's time it is used; a later start asks for another."""

    def enrol(self, folder: Path, *, sleep: Callable[[float], None] = time.sleep) -> Credentials:
        """The credentials in `folder`; new ones where there are none, or `share` of their time is over.

        Waits for an endpoint that is not there: a process that starts while the operator is down has nothing
        else to do. Raises MismatchError where it is refused.
        """
        if (kept := _still_good(folder, self.share)) is not None:
            return kept
        key = _key(folder)
        pause = FIRST_PAUSE
        while True:
            try:
                given = self._ask(key)
            except (OSError, HTTPException, ValueError, KeyError) as error:
                log.warning("not enrolled yet", url=self.url, reason=str(error), again_in=pause)
                sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            given.write(folder)
            log.info("certificate received", identity=given.identity.uri)
            return given

    def _ask(self, key: ec.EllipticCurvePrivateKey) -> Credentials:
        asked = {"token": self.token().strip(), "request": signing_request(key)}
        code, answer = self._post(json.dumps(asked).encode())
        if code in REFUSALS:
            raise MismatchError(f"the operator refuses this process a certificate: {answer.strip()}")
        if code != HTTPStatus.OK:
            raise OSError(f"{code}: {answer.strip()}")
        said = json.loads(answer)
        return Credentials(said["authority"].encode(), said["certificate"].encode(), private_pem(key))

    def _post(self, body: bytes) -> tuple[int, str]:
        """Code and text of the answer; whatever is dialled, TLS is spoken with the URL's host."""
        url = urlsplit(self.url)
        if url.scheme != "https" or not url.hostname:
            raise MismatchError(f"--enrol {self.url}: a token is shown over https only")
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.load_verify_locations(cadata=self.authority())
        host, _, port = (self.address or f"{url.hostname}:{url.port or HTTPS_PORT}").rpartition(":")
        with (
            socket.create_connection((host, int(port)), ANSWER_SECONDS) as plain,
            trust.wrap_socket(plain, server_hostname=url.hostname) as secure,
        ):
            connection = HTTPConnection(url.netloc)
            connection.sock = secure
            connection.request("POST", url.path or "/", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read(MOST_ANSWER).decode(errors="replace")


def public_key_of(request: str) -> ec.EllipticCurvePublicKey:
    """The key that a certificate signing request (RFC 2986, PEM) asks to have signed; its names are not read."""
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        good, key = asked.is_signature_valid, asked.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MismatchError(f"this is no certificate signing request: {error}") from error
    if not good or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MismatchError("a certificate signing request must be signed by the P-256 key that it holds")
    return key


def signing_request(key: ec.EllipticCurvePrivateKey) -> str:
    """A signing request without names: who asks is read from its token."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _still_good(folder: Path, share: float) -> Credentials | None:
    """What an earlier start left, if less than this share of its time is over."""
    if not (folder / "cert.pem").exists():
        return None
    try:
        kept = Credentials.read(folder)
        own = x509.load_pem_x509_certificate(kept.certificate)
        key = _loaded(kept.key)
    except (MismatchError, ValueError):
        return None
    if key is None or key.public_key() != own.public_key():
        return None  # the process was killed between two files
    return kept if dt.datetime.now(dt.UTC) < kept.at(share) else None


def _key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key to have signed, kept before it is shown.

    A key without a certificate is one whose answer was lost; a token that is good only once is good for it again.
    """
    kept, certificate = folder / "key.pem", folder / "cert.pem"
    if kept.exists() and not certificate.exists() and (key := _loaded(kept.read_bytes())) is not None:
        return key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate.unlink(missing_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(kept, private_pem(key))
    return key


def _loaded(text: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except ValueError:
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
