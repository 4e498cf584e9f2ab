"""What members and server send each other in a session, as values; how they travel is the wire's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fl_core.errors import ProtocolError
from fl_core.secagg import merkle
from fl_core.secagg.session import Context, Entry, Session, root_of


@dataclass(frozen=True, slots=True)
class Roster:
    """The frozen roster as one member sees it.

    In cross-silo `entries` are those of all members and `proofs` is empty. In cross-device they are the member's own
    and its neighbours', each with its Merkle proof, so that a roster of 10,000 is never sent whole.
    """

    candidates: tuple[int, ...]
    members: tuple[int, ...]
    root: bytes
    entries: tuple[Entry, ...]
    proofs: tuple[tuple[bytes, ...], ...] = ()

    def session(self, context: Context) -> Session:
        """The session that this roster names."""
        root = self.root if self.proofs else root_of(self.entries)
        return Session(context, self.candidates, self.members, root)

    def check(self, session: Session) -> None:
        """Refuse entries that are not in the roster's tree, and keys that two of them share."""
        sparse = session.context.terms.profile == "cross-device"
        if len(self.proofs) != (len(self.entries) if sparse else 0):
            raise ProtocolError(
                f"{session.context}: {len(self.proofs)} proofs for {len(self.entries)} entries; in cross-device each "
                "entry has one, in cross-silo none"
            )
        places = {worker: place for place, worker in enumerate(self.members)}
        for entry, proof in zip(self.entries, self.proofs, strict=True) if self.proofs else ():
            place = places[entry.worker]
            if not merkle.verify(session.root, entry.leaf, place, len(self.members), list(proof)):
                raise ProtocolError(
                    f"worker-{entry.worker}: its entry is not in the tree of {session.context}"
                )
        for what in ("mask_key", "seal_key", "commitment"):
            if len({getattr(entry, what) for entry in self.entries}) < len(self.entries):
                raise ProtocolError(
                    f"{session.context}: two members advertise the same {what.replace('_', ' ')}"
                )


Shares = Mapping[int, bytes]
"""Sealed shares: by receiver as a member sends them, by sender as the server deals them out."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Proof that enough members have signed the same survivors: signatures by member."""

    signatures: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Unmasking:
    """One member's shares: of the self-masks' seeds of those who are in the sum, of the mask keys of those who are not.

    `spoilt` names members whose sealed share for this one could not be opened.
    """

    seeds: Mapping[int, bytes] = field(repr=False)
    mask_keys: Mapping[int, bytes] = field(repr=False)
    spoilt: tuple[int, ...] = ()
