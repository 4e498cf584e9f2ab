"""Which organisation stands behind a worker: its own authority's word, which no cluster and no server can give.

A job's authority decides who is a worker, so whoever controls it could make up all the members of a sum but one. An
organisation's endorsement is a signature over a worker's certificate by a key that the organisation's own authority
has certified. A site that knows the others' authorities can then tell its partners' workers from made-up ones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.errors import ProtocolError
from fl_core.secagg.encoding import encode
from fl_core.secagg.signing import ALGORITHM, UNREADABLE, Clock, issued

LARGEST = 4096
"""Bytes of an organisation's certificate, and of a signature, at most: each member is shown everybody's."""


@dataclass(frozen=True, slots=True)
class Endorsement:
    """An organisation's certificate, DER, and its signature over a worker's, DER; both empty where there is none."""

    certificate: bytes = b""
    signature: bytes = b""

    def check_size(self, worker: int) -> None:
        """Refuse, with ProtocolError, what is longer than any endorsement."""
        if (longest := max(len(self.certificate), len(self.signature))) > LARGEST:
            raise ProtocolError(
                f"worker-{worker}: an endorsement of {longest} bytes; expected {LARGEST} at most"
            )


NONE = Endorsement()


def endorse(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, job: str, worker: int, own: bytes
) -> Endorsement:
    """Endorse this job's worker and its certificate, `own` (DER), with an organisation's certificate and its key."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Endorsement(der, key.sign(_statement(job, worker, own), ALGORITHM))


@dataclass(frozen=True)
class Organisations:
    """The authorities of the organisations that a site takes for partners, its own among them.

    An endorsement that was found good is remembered by its bytes; whether it is still in force by `clock`, which tells
    the time in UTC, is asked each time.
    """

    authorities: Sequence[x509.Certificate]
    clock: Clock
    _known: dict[tuple[Endorsement, str, int, bytes], _Found] = field(default_factory=dict, repr=False)

    def of(self, endorsement: Endorsement, *, job: str, worker: int, own: bytes) -> str:
        """The SHA-256 of the authority that endorses this worker, in hex; ProtocolError where none of them does."""
        asked = (endorsement, job, worker, own)
        found = self._known.get(asked)
        if found is None:
            found = self._known[asked] = self._read(*asked)
        now = self.clock()
        if not found.begins <= now <= found.ends:
            raise ProtocolError(
                f"worker-{worker} is endorsed with a certificate that is not good at {now:%Y-%m-%d %H:%M} UTC"
            )
        return found.authority

    def _read(self, endorsement: Endorsement, job: str, worker: int, own: bytes) -> _Found:
        if endorsement == NONE:
            raise ProtocolError(
                f"no organisation endorses worker-{worker}; this site's policy asks for the word of one of "
                f"{len(self.authorities)} authorities"
            )
        endorsement.check_size(worker)
        try:
            certificate = x509.load_der_x509_certificate(endorsement.certificate)
            key, issuer = certificate.public_key(), certificate.issuer.rfc4514_string()
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except UNREADABLE as error:
            raise ProtocolError(f"worker-{worker} is endorsed with no certificate: {error}") from error
        by = next((one for one in self.authorities if issued(certificate, one)), None)
        if by is None:
            raise ProtocolError(
                f"worker-{worker} is endorsed by {issuer or 'nobody'}, none of the "
                "organisations that this site's policy names"
            )
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ProtocolError(f"worker-{worker} is endorsed with a key that is not of an elliptic curve")
        try:
            key.verify(endorsement.signature, _statement(job, worker, own), ALGORITHM)
        except InvalidSignature:
            raise ProtocolError(
                f"worker-{worker}: its endorsement is for another worker, job or key"
            ) from None
        begins, ends = max(begins, by.not_valid_before_utc), min(ends, by.not_valid_after_utc)
        return _Found(by.fingerprint(hashes.SHA256()).hex(), begins, ends)


class _Found(NamedTuple):
    authority: str
    begins: dt.datetime
    ends: dt.datetime


def _statement(job: str, worker: int, certificate: bytes) -> bytes:
    return encode("endorse", job, worker, certificate)
