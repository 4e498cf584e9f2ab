"""Whose signatures count: those under certificates that an authority has issued to this job's workers, in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from fl_core.errors import MismatchError, ProtocolError
from fl_core.identity import AUTHORITY_LIFETIME, LIFETIME, Identity, private_pem, wall_time
from fl_core.secagg.encoding import encode
from fl_core.secagg.signing import ALGORITHM, AuthorityTrust, CertifiedSigner
from tests.fl_core.secagg.cast import JOB, authority, signer

STATEMENT = encode("advertise", 1)
NOW = dt.datetime.now(dt.UTC)


def fresh(*names: str, job: str = JOB) -> AuthorityTrust:
    """Trust that has seen no certificate yet."""
    return AuthorityTrust.of(job, *(authority(name).dump()[1] for name in names or (JOB,)), clock=wall_time)


def der(*, key: object = None, uris: tuple[str, ...] = (), by: str = JOB) -> bytes:
    """A certificate that `by` has issued, for any key and names."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    issuer = authority(by)
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .issuer_name(issuer.certificate.subject)
        .public_key(own.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(hours=1))
        .not_valid_after(NOW + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer._key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def test_a_workers_signature_counts() -> None:
    """Of this statement, by this worker, again and again."""
    own, trust = signer(3), fresh()
    for _ in range(2):
        trust.check(own.certificate, worker=3, statement=STATEMENT, signature=own.sign(STATEMENT))
    assert (own.worker, len(trust._known)) == (3, 1)


@pytest.mark.parametrize("wrong", [b"", b"?", bytes(71), bytes(10_000)], ids=len)
def test_what_is_no_signature_is_refused(wrong: bytes) -> None:
    """Whatever its length."""
    with pytest.raises(ProtocolError, match="worker-3: the signature does not fit"):
        fresh().check(signer(3).certificate, worker=3, statement=STATEMENT, signature=wrong)


def test_a_signature_of_something_else_is_refused() -> None:
    """A label or a part that differs makes another statement."""
    signature = signer(3).sign(STATEMENT)
    for other in (b"", encode("advertise", 2), encode("survivors", 1), STATEMENT + b"\0"):
        with pytest.raises(ProtocolError, match="the signature does not fit"):
            fresh().check(signer(3).certificate, worker=3, statement=other, signature=signature)


def test_statements_are_no_handshakes() -> None:
    """What a worker signs begins with our version, and a TLS 1.3 handshake's text with 64 spaces."""
    assert STATEMENT.startswith(b"fljob secagg 1")
    assert not STATEMENT.startswith(b" ")


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no certificate of a process"),
    "no name of ours": (der, "no certificate of a process"),
    "another scheme": (lambda: der(uris=("https://fljob.dev/job/job-1/worker/3",)), "names no process"),
    "two names": (
        lambda: der(uris=(Identity(JOB, "worker", 3).uri, Identity(JOB, "worker", 4).uri)),
        "no certificate of a process",
    ),
    "another job's": (lambda: der(uris=(Identity("job-2", "worker", 3).uri,)), "no worker of job job-1"),
    "the server's": (lambda: der(uris=(Identity(JOB, "server").uri,)), "no worker of job job-1"),
    "an observer's": (lambda: der(uris=(Identity(JOB, "observer").uri,)), "no worker of job job-1"),
    "another worker's": (lambda: der(uris=(Identity(JOB, "worker", 4).uri,)), "certificate of worker-4"),
    "another authority's": (
        lambda: der(uris=(Identity(JOB, "worker", 3).uri,), by="else"),
        "none of the trusted",
    ),
    "another curve": (
        lambda: der(key=ec.generate_private_key(ec.SECP384R1()), uris=(Identity(JOB, "worker", 3).uri,)),
        "not of the curve P-256",
    ),
    "no curve of ours": (
        lambda: der(key=ed25519.Ed25519PrivateKey.generate(), uris=(Identity(JOB, "worker", 3).uri,)),
        "not of the curve P-256",
    ),
    "the authority's own": (
        lambda: authority(JOB).certificate.public_bytes(serialization.Encoding.DER),
        "no certificate of a process",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_certificates_that_do_not_count_are_refused(name: str) -> None:
    """Each for its reason, and none is remembered as good for worker 3."""
    make, reason = REFUSED[name]
    trust = fresh()
    for _ in range(2):
        with pytest.raises(ProtocolError, match=f"worker-3 shows .*{reason}|worker-3 shows {reason}"):
            trust.check(make(), worker=3, statement=STATEMENT, signature=signer(3).sign(STATEMENT))


def test_an_authority_of_the_same_name_is_another_one() -> None:
    """Names are anybody's; the authority's key decides."""
    double = type(authority(JOB))(JOB)
    own = CertifiedSigner(double.issue(Identity(JOB, "worker", 3)))
    with pytest.raises(ProtocolError, match="none of the trusted authorities has issued"):
        fresh().check(own.certificate, worker=3, statement=STATEMENT, signature=own.sign(STATEMENT))


def test_several_authorities_can_be_trusted() -> None:
    """Organisations bring their own."""
    trust = fresh(JOB, "hospital")
    for by in (JOB, "hospital"):
        own = signer(3, by=by)
        trust.check(own.certificate, worker=3, statement=STATEMENT, signature=own.sign(STATEMENT))


@pytest.mark.parametrize("after", [-dt.timedelta(hours=1), LIFETIME + dt.timedelta(hours=1)], ids=str)
def test_a_certificate_counts_while_it_lasts(after: dt.timedelta) -> None:
    """Not before, and not afterwards, even where it was found good in between."""
    moment = [NOW]
    trust, own = replace(fresh(), clock=lambda: moment[0]), signer(3)
    trust.check(own.certificate, worker=3, statement=STATEMENT, signature=own.sign(STATEMENT))
    moment[0] = NOW + after
    assert after < AUTHORITY_LIFETIME
    with pytest.raises(ProtocolError, match="worker-3 shows a certificate that is not good at"):
        trust.check(own.certificate, worker=3, statement=STATEMENT, signature=own.sign(STATEMENT))


def test_only_workers_sign() -> None:
    """A server's credentials have no number, and a key of another kind does not sign."""
    server = CertifiedSigner(authority(JOB).issue(Identity(JOB, "server")))
    with pytest.raises(MismatchError, match="server is no worker; only workers sign"):
        _ = server.worker
    other = replace(signer(3).credentials, key=private_pem(ed25519.Ed25519PrivateKey.generate()))  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="no elliptic-curve key"):
        CertifiedSigner(other).sign(STATEMENT)


def test_signatures_are_of_p256_with_sha256() -> None:
    """Whoever knows only the standard finds the signature good."""
    own = signer(3)
    key = x509.load_der_x509_certificate(own.certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(own.sign(STATEMENT), STATEMENT, ec.ECDSA(hashes.SHA256()))
    assert isinstance(ALGORITHM.algorithm, hashes.SHA256)
