"""How a pod gets its certificate: it makes a key, shows its service-account token, and has the key signed.

The operator's enrolment endpoint reads from the token which pod asks, and from the cluster which process of
which job that pod is; nothing that this side says about itself counts. The key never leaves the process.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.errors import MismatchError
from fl_core.identity import Credentials

log = structlog.get_logger()

ANSWER_SECONDS = 10.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
"""Seconds before an endpoint that does not answer, or does not know this pod yet, is asked again."""

MOST_ANSWER = 1 << 16
REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.GONE}
"""Answers that asking again does not change; any other one may be better next time."""


@dataclass(frozen=True, slots=True)
class Office:
    """Where to enrol: the endpoint's https URL, this pod's token, and the authority of the endpoint."""

    url: str
    token: Path
    authority: Path

    def enrol(self, folder: Path, *, sleep: Callable[[float], None] = time.sleep) -> Credentials:
        """The credentials in `folder`; new ones where there are none, or half of their time is over.

        Waits for an endpoint that is not there: a pod that starts while the operator is down has nothing
        else to do. Raises MismatchError where it is refused.
        """
        if (kept := _still_good(folder)) is not None:
            return kept
        key = ec.generate_private_key(ec.SECP256R1())
        pause = FIRST_PAUSE
        while True:
            try:
                given = self._ask(key)
            except (OSError, ValueError, KeyError) as error:
                log.warning("not enrolled yet", url=self.url, reason=str(error), again_in=pause)
                sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            given.write(folder)
            log.info("certificate received", identity=given.identity.uri)
            return given

    def _ask(self, key: ec.EllipticCurvePrivateKey) -> Credentials:
        asked = {"token": self.token.read_text().strip(), "request": _request(key)}
        headers = {"Content-Type": "application/json"}
        post = urllib.request.Request(self.url, json.dumps(asked).encode(), headers)  # noqa: S310 - https, below
        if post.type != "https":
            raise MismatchError(f"--enrol {self.url}: a token is shown over https only")
        trust = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urllib.request.urlopen(post, timeout=ANSWER_SECONDS, context=trust) as answer:  # noqa: S310
                said = json.loads(answer.read(MOST_ANSWER))
        except urllib.error.HTTPError as error:
            sentence = error.read(MOST_ANSWER).decode(errors="replace").strip()
            if error.code in REFUSALS:
                raise MismatchError(f"the operator refuses this pod a certificate: {sentence}") from error
            raise OSError(f"{error.code}: {sentence}") from error
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Credentials(said["authority"].encode(), said["certificate"].encode(), private)


def public_key_of(request: str) -> ec.EllipticCurvePublicKey:
    """The key that a certificate signing request (RFC 2986, PEM) asks to have signed; its names are not read."""
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        good, key = asked.is_signature_valid, asked.public_key()
    except ValueError as error:
        raise MismatchError(f"this is no certificate signing request: {error}") from error
    if not good or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MismatchError("a certificate signing request must be signed by the P-256 key that it holds")
    return key


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    """A signing request without names: who asks is read from its token."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _still_good(folder: Path) -> Credentials | None:
    """What an earlier start of this container left, if more than half of its time is to come."""
    if not (folder / "cert.pem").exists():
        return None
    try:
        kept = Credentials.read(folder)
        own = x509.load_pem_x509_certificate(kept.certificate)
        key = serialization.load_pem_private_key(kept.key, password=None)
    except (MismatchError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != own.public_key():
        return None  # the container was killed between two files
    middle = own.not_valid_before_utc + (own.not_valid_after_utc - own.not_valid_before_utc) / 2
    return kept if dt.datetime.now(dt.UTC) < middle else None
