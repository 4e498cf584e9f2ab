"""An organisation's word for its worker: for this one, in this job, with this key, and nobody else's will do."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.identity import wall_time
from fl_core.secagg.endorsement import LARGEST, NONE, Endorsement, Organisations, endorse
from tests.fl_core.secagg.cast import JOB, signer
from tests.fl_core.secagg.hospitals import Hospital, hospital

OWN = signer(2).certificate
NORTH, SOUTH = hospital("North"), hospital("South")


def said(of: Hospital, *, job: str = JOB, worker: int = 2, own: bytes = OWN) -> Endorsement:
    """What a hospital says of a worker."""
    return endorse(of.certificate, of.key, job=job, worker=worker, own=own)


GOOD = said(NORTH)


def fingerprint(of: Hospital) -> str:
    return of.authority.fingerprint(hashes.SHA256()).hex()


def partners() -> Organisations:
    return Organisations([NORTH.authority, SOUTH.authority], wall_time)


def test_an_endorsed_worker_is_known_by_its_organisation() -> None:
    """By its authority's fingerprint, whatever that calls itself; asked again, it is remembered."""
    known = partners()
    for of in (NORTH, SOUTH, NORTH):
        assert known.of(said(of), job=JOB, worker=2, own=OWN) == fingerprint(of)


def test_a_word_for_another_is_no_word() -> None:
    """Another job's, another worker's, or that for an older certificate cannot be used again."""
    for other in (said(NORTH, job="job-2"), said(NORTH, worker=1), said(NORTH, own=signer(1).certificate)):
        with pytest.raises(
            ProtocolError, match="worker-2: its endorsement is for another worker, job or key"
        ):
            partners().of(other, job=JOB, worker=2, own=OWN)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            NONE,
            "no organisation endorses worker-2; this site's policy asks for the word of one of 2 authorities",
        ),
        (Endorsement(b"\x30\x03", b"x"), "worker-2 is endorsed with no certificate"),
        (Endorsement(bytes(LARGEST + 1), b""), "an endorsement of 4097 bytes; expected 4096 at most"),
    ],
)
def test_what_is_no_endorsement_is_refused(given: Endorsement, told: str) -> None:
    """Nothing, nonsense, and more than anybody needs."""
    with pytest.raises(ProtocolError, match=told):
        partners().of(given, job=JOB, worker=2, own=OWN)


def test_a_strange_organisation_is_refused() -> None:
    """One that calls itself like a partner, too: the name says nothing, its authority's signature does."""
    made_up = hospital("North", days=31)
    for strange, name in ((hospital("East"), "O=East"), (made_up, "O=North")):
        with pytest.raises(ProtocolError, match=f"worker-2 is endorsed by {name}, none of the organisations"):
            partners().of(said(strange), job=JOB, worker=2, own=OWN)


def test_a_certificate_that_has_ended_is_refused() -> None:
    """Also where the endorsement was good when it was first seen."""
    late = hospital("Late", days=1)
    now = [late.certificate.not_valid_after_utc]
    known = Organisations([late.authority], clock=lambda: now[0])
    assert known.of(said(late), job=JOB, worker=2, own=OWN) == fingerprint(late)
    now[0] = now[0].replace(year=now[0].year + 1)
    with pytest.raises(ProtocolError, match="endorsed with a certificate that is not good at"):
        known.of(said(late), job=JOB, worker=2, own=OWN)


@given(some.integers(0, 1), some.integers(min_value=0), some.integers(1, 255))
def test_a_changed_byte_makes_no_other_word(part: int, at: int, by: int) -> None:
    """In the signature it is always found; in the certificate, whose last bytes are not signed, it changes no name."""
    parts = [bytearray(one) for one in (GOOD.certificate, GOOD.signature)]
    parts[part][at % len(parts[part])] ^= by
    changed = Endorsement(*map(bytes, parts))
    try:
        name = partners().of(changed, job=JOB, worker=2, own=OWN)
    except ProtocolError:
        return
    assert (part, name) == (0, fingerprint(NORTH))


def test_an_authority_that_has_ended_vouches_for_nobody() -> None:
    """However long the certificates last that it once issued."""
    known = Organisations(
        [NORTH.authority], clock=lambda: NORTH.authority.not_valid_after_utc.replace(year=9999)
    )
    with pytest.raises(ProtocolError, match="not good at"):
        known.of(GOOD, job=JOB, worker=2, own=OWN)
