"""Rosters and short masked vectors as messages."""

from __future__ import annotations

import pytest

from fl_core.errors import UpdateError
from fl_core.secagg.messages import Roster
from fl_core.secagg.terms import Terms
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.secagg import SHORT, masked_in, masked_out, roster_in, roster_out
from tests.fl_core.secagg.cast import DEVICE, SILO, goes_on, refusal, stopped


def sent(roster: Roster) -> pb.Roster:
    """The message as it arrives."""
    return pb.Roster.FromString(roster_out(roster).SerializeToString())


@pytest.mark.parametrize("terms", [SILO, DEVICE], ids=lambda terms: terms.profile)
def test_a_roster_comes_as_it_was_sent(terms: Terms) -> None:
    """Whoever shares by what came is in the session of the others; in cross-device each entry has its proof."""
    cohort = stopped("advertise", n=12, terms=terms)
    for worker, member in cohort.members.items():
        came = roster_in(sent(cohort.shown(worker)))
        assert came == cohort.shown(worker)
        assert (len(came.entries), len(came.proofs)) == ((7, 7) if terms is DEVICE else (12, 0))
        cohort.host.shared_by(worker, member.share(came))
    cohort._show("dealt", cohort.host.deal())
    goes_on(cohort)


def test_a_proof_that_has_changed_on_its_way_is_refused() -> None:
    """One bit of one hash, a hash too few or one too many."""
    cohort = stopped("advertise", n=12, terms=DEVICE)
    for way in ("bit", "fewer", "more"):
        message = sent(cohort.shown(0))
        hashes = message.proofs[3].hashes
        if way == "bit":
            hashes[1] = bytes([hashes[1][0] ^ 1]) + hashes[1][1:]
        elif way == "fewer":
            del hashes[-1]
        else:
            hashes.append(bytes(32))
        with refusal(cohort.members[0], "its entry is not in the tree"):
            cohort.members[0].share(roster_in(message))
    goes_on(cohort)


@pytest.mark.parametrize("nbytes", [0, 8, SHORT])
def test_a_short_vector_comes_as_it_was_sent(nbytes: int) -> None:
    """Up to the longest, its bytes are the same at the other end of the wire."""
    data = bytes(number % 251 for number in range(nbytes))
    sent = masked_out(memoryview(data)).SerializeToString()
    assert masked_in(pb.Masked.FromString(sent), nbytes=nbytes) == data


WRONG = {
    "too short": (bytes(7), 8, "7 bytes came as a vector; 8 are expected"),
    "too long": (bytes(9), 8, "9 bytes came as a vector; 8 are expected"),
    "no short one": (
        bytes(SHORT + 1),
        SHORT + 1,
        f"a vector of {SHORT + 1} bytes is due; as a message comes one of at most {SHORT}",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_vector_of_another_length_is_refused(wrong: str) -> None:
    """The words name the length that came and the one that is expected."""
    data, nbytes, words = WRONG[wrong]
    with pytest.raises(UpdateError) as refused:
        masked_in(masked_out(memoryview(data)), nbytes=nbytes)
    assert words in str(refused.value)


def test_a_vector_whose_bytes_have_changed_is_refused() -> None:
    """One bit is enough."""
    said = masked_out(memoryview(bytes(16)))
    said.data = bytes(15) + b"\1"
    with pytest.raises(UpdateError, match=r"CRC-32C [0-9a-f]{8}, not [0-9a-f]{8}"):
        masked_in(said, nbytes=16)
