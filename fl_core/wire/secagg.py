"""Secure aggregation's values as messages of the wire, and back; the types of fl_core.secagg know no protobuf."""

from __future__ import annotations

import google_crc32c

from fl_core.errors import UpdateError
from fl_core.secagg.endorsement import Endorsement
from fl_core.secagg.messages import Agreement, Roster, Unmasking
from fl_core.secagg.session import Entry
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.arrays import CHECKSUM, LENGTH

SHORT = 256 << 10
"""Bytes of a masked vector that travels as one message of its member's call; a longer one is a transfer of its own."""


def entry_out(entry: Entry) -> pb.Advertisement:
    """An advertisement to send."""
    return pb.Advertisement(
        worker=entry.worker,
        mask_key=entry.mask_key,
        seal_key=entry.seal_key,
        commitment=entry.commitment,
        certificate=entry.certificate,
        signature=entry.signature,
        organisation=entry.endorsement.certificate,
        endorsement=entry.endorsement.signature,
    )


def entry_in(said: pb.Advertisement) -> Entry:
    """An advertisement that came."""
    keys = (said.mask_key, said.seal_key, said.commitment)
    return Entry(
        said.worker,
        *keys,
        certificate=said.certificate,
        signature=said.signature,
        endorsement=Endorsement(said.organisation, said.endorsement),
    )


def roster_out(roster: Roster) -> pb.Roster:
    """A roster to send."""
    return pb.Roster(
        candidates=roster.candidates,
        members=roster.members,
        root=roster.root,
        entries=map(entry_out, roster.entries),
        proofs=[pb.Proof(hashes=proof) for proof in roster.proofs],
    )


def roster_in(said: pb.Roster) -> Roster:
    """A roster that came."""
    return Roster(
        candidates=tuple(said.candidates),
        members=tuple(said.members),
        root=said.root,
        entries=tuple(map(entry_in, said.entries)),
        proofs=tuple(tuple(proof.hashes) for proof in said.proofs),
    )


def unmasking_out(answer: Unmasking) -> pb.Shares:
    """Unmasking shares to send."""
    return pb.Shares(seeds=dict(answer.seeds), mask_keys=dict(answer.mask_keys), spoilt=answer.spoilt)


def unmasking_in(said: pb.Shares) -> Unmasking:
    """Unmasking shares that came."""
    return Unmasking(dict(said.seeds), dict(said.mask_keys), tuple(said.spoilt))


def agreement_in(said: pb.Agreement) -> Agreement:
    """A proof of the survivors that came."""
    return Agreement(dict(said.signatures))


def masked_out(vector: memoryview) -> pb.Masked:
    """A short vector to send."""
    data = bytes(vector)
    return pb.Masked(crc32c=google_crc32c.value(data), data=data)


def masked_in(said: pb.Masked, *, nbytes: int) -> bytes:
    """A short vector that came; UpdateError unless it has so many bytes, and its checksum."""
    data = said.data
    if nbytes > SHORT:
        raise UpdateError(f"a vector of {nbytes} bytes is due; as a message comes one of at most {SHORT}")
    if len(data) != nbytes:
        raise UpdateError(f"{len(data)} bytes came as a vector; {nbytes} are expected", short=LENGTH)
    if (found := google_crc32c.value(data)) != said.crc32c:
        raise UpdateError(f"the vector has CRC-32C {found:08x}, not {said.crc32c:08x}", short=CHECKSUM)
    return data
