"""Who signs in secure aggregation: each worker with the key of its certificate, which an authority vouches for.

A signature is ECDSA over P-256 with SHA-256 (FIPS 186-5) over a statement that `encoding.encode` has made, so that
it can be mistaken neither for another statement nor for a TLS handshake's. See docs/decisions/0010.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.errors import MismatchError, ProtocolError
from fl_core.identity import Credentials, Identity

ALGORITHM = ec.ECDSA(hashes.SHA256())

Clock = Callable[[], dt.datetime]

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    MismatchError,
)
"""What the reading of a damaged certificate raises."""


class Signer(Protocol):
    """A worker that can prove who it is."""

    @property
    def worker(self) -> int:
        """Its number."""
        ...

    @property
    def certificate(self) -> bytes:
        """Its certificate, DER."""
        ...

    def sign(self, statement: bytes) -> bytes:
        """A signature of the statement, DER."""
        ...


@dataclass(frozen=True)
class CertifiedSigner:
    """Signs with the key of a process's credentials."""

    credentials: Credentials = field(repr=False)

    @cached_property
    def worker(self) -> int:
        """The number in its certificate."""
        index = self.credentials.identity.index
        if index is None:
            raise MismatchError(f"{self.credentials.identity.name} is no worker; only workers sign")
        return index

    @cached_property
    def certificate(self) -> bytes:
        """Its certificate, DER."""
        own = x509.load_pem_x509_certificate(self.credentials.certificate)
        return own.public_bytes(serialization.Encoding.DER)

    def sign(self, statement: bytes) -> bytes:
        """A signature of the statement, DER."""
        return self._key.sign(statement, ALGORITHM)

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self.credentials.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise MismatchError("key.pem holds no elliptic-curve key")
        return key


class Trust(Protocol):
    """Whose signatures count."""

    def check(self, certificate: bytes, *, worker: int, statement: bytes, signature: bytes) -> None:
        """Refuse, with ProtocolError, a statement that this worker has not signed."""
        ...


class Known(NamedTuple):
    """What a certificate says."""

    worker: int
    key: ec.EllipticCurvePublicKey
    begins: dt.datetime
    ends: dt.datetime


@dataclass(frozen=True)
class AuthorityTrust:
    """Signatures count under certificates of one job's workers that one of these authorities has issued.

    They count from the certificate's first moment to its last by `clock`, which tells the time in UTC.
    What a certificate says is remembered by its bytes, so that a cohort is looked through once and not in each round.
    """

    job: str
    authorities: Sequence[x509.Certificate]
    clock: Clock
    _known: dict[bytes, Known] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, job: str, *authorities: bytes, clock: Clock) -> AuthorityTrust:
        """Trust the authorities of these PEM texts."""
        return cls(job, [x509.load_pem_x509_certificate(text) for text in authorities], clock)

    def check(self, certificate: bytes, *, worker: int, statement: bytes, signature: bytes) -> None:
        """Refuse a statement that this worker has not signed."""
        found = self._known.get(certificate)
        if found is None:
            found = self._known[certificate] = self._read(certificate, worker)
        if found.worker != worker:
            raise ProtocolError(f"worker-{worker} shows the certificate of worker-{found.worker}")
        now = self.clock()
        if not found.begins <= now <= found.ends:
            raise ProtocolError(
                f"worker-{worker} shows a certificate that is not good at {now:%Y-%m-%d %H:%M} UTC"
            )
        try:
            found.key.verify(signature, statement, ALGORITHM)
        except InvalidSignature:
            raise ProtocolError(
                f"worker-{worker}: the signature does not fit what it is said to sign"
            ) from None

    def _read(self, der: bytes, worker: int) -> Known:
        try:
            certificate = x509.load_der_x509_certificate(der)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            who = Identity.from_uri(*names.get_values_for_type(x509.UniformResourceIdentifier))
            key = certificate.public_key()
        except UNREADABLE as error:
            raise ProtocolError(
                f"worker-{worker} shows no certificate of a process of an FLJob: {error}"
            ) from error
        if not any(issued(certificate, authority) for authority in self.authorities):
            raise ProtocolError(
                f"worker-{worker} shows a certificate that none of the trusted authorities has issued"
            )
        if who.job != self.job or who.role != "worker" or who.index is None:
            raise ProtocolError(
                f"worker-{worker} shows the certificate of {who.uri}, which is no worker of job {self.job}"
            )
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ProtocolError(f"worker-{worker} shows a certificate whose key is not of the curve P-256")
        return Known(who.index, key, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority itself has issued the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True
