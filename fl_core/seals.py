"""A record's lines, each signed by the server that wrote it: nobody else can change one and be gone on with.

The first line of a server holds its certificate; its later ones name that. Each line holds the digest of the one before
it, so the signature of a server's last line stands for all lines up to there, and one for each server is looked at. It
is ECDSA over P-256 with SHA-256 over what begins with `fljob record line 1`: no TLS handshake, no statement of secure
aggregation and no envelope does (docs/decisions/0010 and 0017).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fl_core.errors import MismatchError
from fl_core.identity import Credentials, Identity
from fl_core.plan import canonical
from fl_core.record import Finding, Record, Row
from fl_core.secagg.signing import ALGORITHM, UNREADABLE, CertifiedSigner, issued

PREFIX: Final = b"fljob record line 1\n"


class Seal:
    """One server's signature under each of its lines.

    Lines of others hold that are signed under its own authority or an `earlier` one of the job (PEM).
    """

    def __init__(self, credentials: Credentials, *, earlier: Sequence[bytes] = ()) -> None:
        self.job = credentials.identity.job
        self.authorities = (credentials.authority, *earlier)
        self._signer = CertifiedSigner(credentials)
        self._certificate: str | None = _text(self._signer.certificate)
        self._name = _name(self._signer.certificate)

    def under(self, row: Mapping[str, Any]) -> Row:
        """The row, signed, as its line holds it; call `written` once it does."""
        first = {"certificate": self._certificate} if self._certificate is not None else {}
        content = {**row, "signer": self._name, **first}
        return {**content, "signature": _text(self._signer.sign(_stated(content)))}

    def written(self) -> None:
        """There is a line with the certificate."""
        self._certificate = None


def read_authorities(path: Path) -> list[bytes]:
    """The certificates in a PEM file, each as a text of its own; none where there is no file."""
    if not path.exists():
        return []
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MismatchError(f"{path} holds no certificate in PEM: {error}") from error
    return [one.public_bytes(Encoding.PEM) for one in found]


def broken(record: Record, *, job: str, authorities: Sequence[bytes]) -> Iterator[Finding]:
    """What is wrong with the signatures of a record whose chain holds, by these authorities (PEM).

    Without an authority nobody vouches for a certificate, and none is asked for.
    """
    trusted = [x509.load_pem_x509_certificate(text) for text in authorities]
    begins = [place for place, link in enumerate(record.links) if "certificate" in link]
    ends = [*begins[1:], len(record.links)]
    if record.links and 0 not in begins:
        yield _finding(record, 0, "no server has signed it")
    for first, after in zip(begins, ends, strict=False):
        try:
            _check(record, range(first, after), job=job, trusted=trusted)
        except MismatchError as error:
            yield _finding(record, after - 1, str(error))


def _check(record: Record, places: range, *, job: str, trusted: Sequence[x509.Certificate]) -> None:
    """Refuse the lines of one server that it has not signed."""
    links, last = record.links, places[-1]
    try:
        der = base64.b64decode(links[places[0]]["certificate"], validate=True)
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        who = Identity.from_uri(*names.get_values_for_type(x509.UniformResourceIdentifier))
        key, row = certificate.public_key(), json.loads(record.lines[last])
        signature, stated = base64.b64decode(row.pop("signature"), validate=True), _stated(row)
    except (*UNREADABLE, KeyError, RecursionError) as error:
        raise MismatchError(f"its server's certificate or signature cannot be read: {error!r}") from error
    if trusted and not any(issued(certificate, one) for one in trusted):
        raise MismatchError("it is signed under a certificate that no trusted authority has issued")
    if who != Identity(job, "server"):
        raise MismatchError(f"it is signed by {who.uri}, which is not the server of job {job}")
    if any(links[place].get("signer") != _name(der) for place in places):
        raise MismatchError(f"not all lines from {places[0] + 1} to here name the server that has signed")
    if not _fits(key, signature, stated):
        raise MismatchError(
            "its signature does not fit: somebody else than the server has changed it or a line before it"
        )


def _fits(key: object, signature: bytes, stated: bytes) -> bool:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    try:
        key.verify(signature, stated, ALGORITHM)
    except InvalidSignature:
        return False
    return True


def _stated(content: Mapping[str, Any]) -> bytes:
    """What is signed of a line: all of it but the signature."""
    return PREFIX + canonical(dict(content)).encode()


def _finding(record: Record, place: int, sentence: str) -> Finding:
    return Finding(sentence, place + 1, record.links[place].get("round"))


def _name(certificate: bytes) -> str:
    """What a certificate is called in lines."""
    return hashlib.sha256(certificate).hexdigest()[:32]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
