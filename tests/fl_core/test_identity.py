"""A certificate says which process of which job speaks, and keys are for their owner only."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import MismatchError
from fl_core.identity import CLOCK_SKEW, LIFETIME, Authority, Credentials, Identity

AUTHORITY = Authority("job-1")
WORKER = Identity("job-1", "worker", 3)
ISSUED = AUTHORITY.issue(WORKER)

identities = st.builds(
    Identity, st.from_regex(r"[0-9A-Za-z-]{1,36}", fullmatch=True), st.just("worker"), st.integers(0, 10**6)
) | st.builds(Identity, st.just("job-1"), st.sampled_from(["server", "scheduler", "observer"]))


def certificate(issued: Credentials) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate)


@settings(deadline=None, max_examples=50)
@given(identities)
def test_an_identity_is_its_uri(identity: Identity) -> None:
    """Every identity is read again from its own SPIFFE ID."""
    assert Identity.from_uri(identity.uri) == identity


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://fljob.dev/job/job-1/worker",
        "spiffe://fljob.dev/job/job-1/server/0",
        "spiffe://fljob.dev/job/job-1/boss",
        "spiffe://fljob.dev/job//server",
        "spiffe://fljob.dev/job/a/b/server",
        "spiffe://fljobxdev/job/job-1/server",
        "spiffe://evil.dev/job/job-1/server",
        "https://fljob.dev/job/job-1/server",
        "spiffe://fljob.dev/job/job-1/server\n",
        " spiffe://fljob.dev/job/job-1/server",
        "spiffe://fljob.dev/job/job-1/worker/-1",
    ],
)
def test_another_name_is_no_process(uri: str) -> None:
    """Roles there are not, workers without a number, and other domains are refused whole."""
    with pytest.raises(MismatchError, match="names no process"):
        Identity.from_uri(uri)


def test_a_certificate_names_its_process(tmp_path: Path) -> None:
    """What was issued and written is read again, and says whose it is."""
    ISSUED.write(tmp_path)
    again = Credentials.read(tmp_path)
    assert again == ISSUED
    assert again.identity == WORKER
    assert (WORKER.name, Identity("job-1", "server").name) == ("worker-3", "server")


def test_a_certificate_is_signed_by_its_jobs_authority_only() -> None:
    """Another job's authority, even one of the same name, has not signed it."""
    issuer = x509.load_pem_x509_certificate(ISSUED.authority)
    certificate(ISSUED).verify_directly_issued_by(issuer)
    with pytest.raises(ValueError, match="[Ii]ssuer"):
        certificate(ISSUED).verify_directly_issued_by(Authority("job-2").certificate)
    with pytest.raises(InvalidSignature):
        certificate(ISSUED).verify_directly_issued_by(Authority("job-1").certificate)


def test_a_process_cannot_issue_certificates() -> None:
    """Only the authority's own certificate is one of an authority, and nothing may stand between."""
    basic = x509.BasicConstraints
    assert not certificate(ISSUED).extensions.get_extension_for_class(basic).value.ca
    assert AUTHORITY.certificate.extensions.get_extension_for_class(basic).value == basic(
        ca=True, path_length=0
    )


def test_every_process_has_its_own_key() -> None:
    """Two certificates never share a key, and each key fits its certificate."""
    other = AUTHORITY.issue(WORKER)
    assert other.key != ISSUED.key
    for issued in (ISSUED, other):
        key = load_pem_private_key(issued.key, None)
        assert key.public_key() == certificate(issued).public_key()


def test_a_certificate_expires() -> None:
    """It is good from a clock's error ago to the end of its lifetime, and no longer."""
    made, now = certificate(ISSUED), dt.datetime.now(dt.UTC)
    assert made.not_valid_before_utc < now < made.not_valid_after_utc
    assert made.not_valid_after_utc - made.not_valid_before_utc == LIFETIME + CLOCK_SKEW


def test_addresses_and_role_are_in_the_certificate() -> None:
    """A server is known by its role and job, and at the names and addresses that it was issued for."""
    issued = AUTHORITY.issue(Identity("job-1", "server"), addresses=("fl.example", "10.0.0.7"))
    names = certificate(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["server.job-1.fljob.dev", "fl.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]


@pytest.mark.parametrize("there_before", [False, True])
def test_key_files_are_for_their_owner_only(tmp_path: Path, there_before: bool) -> None:  # noqa: FBT001
    """Nobody else can read the files, not even where one with wider permissions lay there before."""
    if there_before:
        (tmp_path / "key.pem").write_bytes(b"old")
        (tmp_path / "key.pem").chmod(0o644)
    ISSUED.write(tmp_path)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("ca.pem", "cert.pem", "key.pem"), 0o600
    )
    ISSUED.write(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A process without its certificate says which file it lacks."""
    ISSUED.write(tmp_path)
    (tmp_path / "cert.pem").unlink()
    with pytest.raises(MismatchError, match=r"cert.pem cannot be read: No such file"):
        Credentials.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no pem", ISSUED.key, AUTHORITY.issue(WORKER).certificate[:200]])
def test_what_is_no_certificate_is_refused(content: bytes) -> None:
    """An empty, torn or wrong file is told in a sentence, not in a traceback."""
    with pytest.raises(MismatchError, match="cert.pem is no certificate"):
        _ = Credentials(ISSUED.authority, content, ISSUED.key).identity
    with pytest.raises(MismatchError, match="cert.pem is no certificate"):
        _ = Credentials(ISSUED.authority, ISSUED.authority, ISSUED.key).identity


def test_a_kept_authority_goes_on_signing() -> None:
    """An authority that was written down and read again signs what its certificate vouches for."""
    again = Authority.load(*AUTHORITY.dump())
    assert again.dump() == AUTHORITY.dump()
    signed = x509.load_pem_x509_certificate(again.issue(WORKER).certificate)
    signed.verify_directly_issued_by(AUTHORITY.certificate)
    assert AUTHORITY.certificate.not_valid_after_utc - AUTHORITY.certificate.not_valid_before_utc > LIFETIME


def test_a_spoilt_authority_is_told() -> None:
    """Another authority's key, or what is no PEM text, signs nothing."""
    key, own = AUTHORITY.dump()
    with pytest.raises(MismatchError, match="not that of its certificate"):
        Authority.load(Authority("job-2").dump()[0], own)
    for spoilt in ((b"no key", own), (key, b"no certificate")):
        with pytest.raises(MismatchError, match="no certificate authority"):
            Authority.load(*spoilt)


def test_a_job_s_processes_have_host_names_of_their_own() -> None:
    """The name says role and job, in lower case, so that no other job's process has it."""
    assert WORKER.host == "worker.job-1.fljob.dev"
    assert Identity("JOB-1", "server").host == "server.job-1.fljob.dev"
