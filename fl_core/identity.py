"""Who speaks: a job's certificate authority, and the SPIFFE name in each certificate.

`spiffe://fljob.dev/job/<uid>/worker/3` is worker 3 of that job (SPIFFE ID, as a URI SAN). A name is
read from the certificate that mutual TLS has verified, never from a message.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fl_core import durable
from fl_core.errors import MismatchError

TRUST_DOMAIN = "fljob.dev"
ROLES = ("server", "scheduler", "worker", "observer")
LIFETIME = dt.timedelta(days=30)
AUTHORITY_LIFETIME = dt.timedelta(days=3650)
CLOCK_SKEW = dt.timedelta(minutes=5)
_URI = re.compile(
    rf"spiffe://{re.escape(TRUST_DOMAIN)}/job/([0-9A-Za-z-]+)/({'|'.join(ROLES)})(?:/([0-9]+))?"
)


def wall_time() -> dt.datetime:
    """The time of day in UTC, by which certificates begin and end."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """One process of one job; workers have an index."""

    job: str
    role: str
    index: int | None = None

    @property
    def name(self) -> str:
        """`server`, `scheduler`, `worker-3`: the word used in logs, records and messages."""
        return self.role if self.index is None else f"{self.role}-{self.index}"

    @property
    def host(self) -> str:
        """The host name that its certificate is good for, wherever it runs: no other job's process has it."""
        return f"{self.role}.{self.job.lower()}.{TRUST_DOMAIN}"

    @property
    def uri(self) -> str:
        """The SPIFFE ID."""
        path = self.role if self.index is None else f"{self.role}/{self.index}"
        return f"spiffe://{TRUST_DOMAIN}/job/{self.job}/{path}"

    @classmethod
    def from_uri(cls, uri: str) -> Identity:
        """Read a SPIFFE ID; refuses what no authority of ours would have signed."""
        match = _URI.fullmatch(uri)
        if match is None or (match[2] == "worker") != (match[3] is not None):
            raise MismatchError(f"{uri!r} names no process of an FLJob")
        return cls(match[1], match[2], int(match[3]) if match[3] else None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM texts of one process: its key, its certificate, and the authority it trusts."""

    authority: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def read(cls, folder: Path) -> Credentials:
        """Read what `write` wrote."""
        try:
            return cls(*((folder / name).read_bytes() for name in ("ca.pem", "cert.pem", "key.pem")))
        except OSError as error:
            raise MismatchError(f"{error.filename} cannot be read: {error.strerror}") from error

    def write(self, folder: Path) -> None:
        """Write ca.pem, cert.pem and key.pem, readable by this user only."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in (
            ("ca.pem", self.authority),
            ("cert.pem", self.certificate),
            ("key.pem", self.key),
        ):
            write_private(folder / name, content)

    @property
    def identity(self) -> Identity:
        """Whose credentials these are."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound) as error:
            raise MismatchError(f"cert.pem is no certificate of a process of an FLJob: {error}") from error
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return Identity.from_uri(uris[0] if uris else "")

    def at(self, share: float) -> dt.datetime:
        """When this share of the certificate's time is over; at 1 it ends."""
        own = x509.load_pem_x509_certificate(self.certificate)
        return own.not_valid_before_utc + share * (own.not_valid_after_utc - own.not_valid_before_utc)


@dataclass(frozen=True)
class Authority:
    """A certificate authority, of one local run or of a cluster.

    A run's lives as long as this object, and its key is never written; a cluster's is kept by the operator.
    """

    name: str
    kept: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None

    @classmethod
    def load(cls, key: bytes, certificate: bytes) -> Authority:
        """The authority whose PEM texts `dump` gave."""
        try:
            own = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, password=None)
        except ValueError as error:
            raise MismatchError(f"this is no certificate authority: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != own.public_key():
            raise MismatchError("the certificate authority's key is not that of its certificate")
        return cls(own.subject.rfc4514_string(), (private, own))

    def dump(self) -> tuple[bytes, bytes]:
        """Key and certificate as PEM texts; whoever has the first can be any process of any job."""
        return private_pem(self._key), self.certificate.public_bytes(serialization.Encoding.PEM)

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return self.kept[0] if self.kept else ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def _subject(self) -> x509.Name:
        if self.kept:
            return self.kept[1].subject
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"FLJob {self.name}"[:64])])

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The authority's own certificate."""
        if self.kept:
            return self.kept[1]
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            self._builder(self._subject, self._key.public_key(), AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self, identity: Identity, *, addresses: tuple[str, ...] = ("localhost", "127.0.0.1")
    ) -> Credentials:
        """A fresh key and a certificate for it, good at these host names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.sign(identity, key.public_key(), addresses=addresses)
        return Credentials(self.dump()[1], certificate, private_pem(key))

    def sign(
        self, identity: Identity, key: ec.EllipticCurvePublicKey, *, addresses: tuple[str, ...] = ()
    ) -> bytes:
        """A certificate, as PEM, that says whose key this is."""
        return self._leaf(identity.name, key, identity.uri, (identity.host, *addresses))

    def issue_host(self, host: str) -> tuple[bytes, bytes]:
        """A fresh key and a certificate, as PEM, for a web server that belongs to no job."""
        key = ec.generate_private_key(ec.SECP256R1())
        return private_pem(key), self._leaf(host, key.public_key(), "", (host,))

    def _leaf(self, name: str, key: ec.EllipticCurvePublicKey, uri: str, hosts: Iterable[str]) -> bytes:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        uris = [x509.UniformResourceIdentifier(uri)] if uri else []
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        certificate = (
            self._builder(subject, key, LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([*uris, *map(_address, hosts)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = wall_time()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + lifetime)
        )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM text (PKCS #8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, or leave the one that was there."""
    durable.replace(path, content, mode=durable.PRIVATE)


def _address(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
