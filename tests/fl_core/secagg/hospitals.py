"""Organisations with authorities of their own, and what they endorse their workers with."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Hospital:
    """An organisation: its authority, and a certificate of it for the site's own key."""

    name: str
    authority: x509.Certificate
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path) -> dict[str, str]:
        """The files, PEM, and their names as a policy gives them."""
        folder.mkdir(exist_ok=True)
        pem = serialization.Encoding.PEM
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / f"{self.name}.pem").write_bytes(self.authority.public_bytes(pem))
        (folder / f"{self.name}-site.pem").write_bytes(self.certificate.public_bytes(pem))
        (folder / f"{self.name}-site.key").write_bytes(self.key.private_bytes(pem, form, none))
        return {"certificate": f"{self.name}-site.pem", "key": f"{self.name}-site.key"}


@cache
def hospital(name: str, *, days: int = 30) -> Hospital:
    """The organisation of this name, whose site's certificate ends in so many days."""
    own = ec.generate_private_key(ec.SECP256R1())
    root = ec.generate_private_key(ec.SECP256R1())
    by = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
    site = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"a worker of {name}")])
    return Hospital(
        name,
        _certificate(by, root, by=by, signed=root, days=3650),
        _certificate(site, own, by=by, signed=root, days=days),
        own,
    )


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    by: x509.Name,
    signed: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.Certificate:
    end = dt.datetime.now(dt.UTC) + days * DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 4000 * DAY)
        .not_valid_after(end)
        .sign(signed, hashes.SHA256())
    )
