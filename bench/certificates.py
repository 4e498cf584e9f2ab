"""A throw-away authority with a server's and a client's certificate, for measuring mutual TLS on loopback."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = timedelta(hours=6)
SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """What one side of a mutual TLS connection needs, as PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


def identities() -> tuple[Identity, Identity]:
    """Make a server's and a client's identity under one new authority (P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("authority", key, by="authority", with_key=key, authority=True)
    return _identity("server", authority, key), _identity("client", authority, key)


def _identity(name: str, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(name, key, by="authority", with_key=authority_key)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(encoding, form, serialization.NoEncryption())
    return Identity(authority.public_bytes(encoding), certificate.public_bytes(encoding), secret)


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    by: str,
    with_key: ec.EllipticCurvePrivateKey,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return builder.add_extension(address, critical=False).sign(with_key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
