"""A member's half of a session: each step checks what the server shows and gives one message, once.

    advertise -> share -> mask -> sign -> unmask

A step that refuses raises ProtocolError and changes nothing. What must not be forgotten over a crash (that a vector
was sent, and which survivors were signed) is told to `Memory` before it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from fl_core.errors import ProtocolError
from fl_core.secagg import keys, masks, sealing, shamir
from fl_core.secagg.endorsement import NONE, Endorsement
from fl_core.secagg.masks import Layout, Mask, Vector
from fl_core.secagg.messages import Agreement, Roster, Shares, Unmasking
from fl_core.secagg.policy import OPEN, Policy
from fl_core.secagg.session import Context, Entry, Session, named
from fl_core.secagg.signing import Signer, Trust

Random = Callable[[int], bytes]

SEED_BYTES = 32


class Memory(Protocol):
    """What a worker remembers of the sums it took part in, over its own restarts."""

    def bind(self, context: Context, candidacy: bytes, content: bytes) -> None:
        """Note that this vector of the sum is about to leave under this candidacy; refuse others than before."""
        ...

    def sign(self, context: Context, statement: bytes) -> None:
        """Note that these survivors of this sum are about to be signed; refuse others than before."""
        ...


@dataclass(frozen=True, slots=True)
class Me:
    """A worker in all its sessions: its key, whom it trusts, what it remembers and insists on, who endorses it."""

    signer: Signer
    trust: Trust
    memory: Memory
    random: Random
    policy: Policy = OPEN
    endorsement: Endorsement = NONE


class Step(IntEnum):
    """What was done last."""

    NEW = 0
    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    SIGNED = 4
    DONE = 5


class Member:
    """One worker in one session."""

    def __init__(self, me: Me, context: Context) -> None:
        self.context = context
        self.step = Step.NEW
        self._me = me
        self._worker = me.signer.worker
        self._mask = keys.KeyPair.generate(me.random)
        self._seal = keys.KeyPair.generate(me.random)
        self._seed = me.random(SEED_BYTES)
        self._own: Entry | None = None
        self._session: Session | None = None
        self._entries: dict[int, Entry] = {}
        self._agreed: dict[int, bytes] = {}
        self._share = b""
        self._sealed: dict[int, bytes] = {}
        self._circle: tuple[int, ...] = ()
        self._survivors: tuple[int, ...] = ()

    def advertise(self) -> Entry:
        """Two fresh public keys and the commitment to the self-mask's seed, signed."""
        self._expect(Step.NEW, "advertise")
        bare = Entry(
            worker=self._worker,
            mask_key=self._mask.public,
            seal_key=self._seal.public,
            commitment=keys.commit(self._seed),
            certificate=self._me.signer.certificate,
            endorsement=self._me.endorsement,
        )
        self._own = replace(bare, signature=self._me.signer.sign(bare.statement(self.context.digest)))
        self.step = Step.ADVERTISED
        return self._own

    def share(self, roster: Roster) -> Shares:
        """Sealed shares of the seed and of the mask key for each neighbour; refuses a roster that is not sound."""
        self._expect(Step.ADVERTISED, "share")
        session = roster.session(self.context)
        entries = self._checked(roster, session)
        self._me.policy.check_session(session)
        self._me.policy.check_members(session, session.members, entries)
        circle = session.circle(self._worker)
        points = [session.point(other) for other in circle]
        secrets = [self._seed, self._mask.private]
        shares = shamir.split(secrets, threshold=session.threshold, points=points, random=self._me.random)
        by_holder = dict(zip(circle, shares, strict=True))
        own = by_holder.pop(self._worker)
        agreed = {other: self._seal.agree(entries[other].seal_key) for other in by_holder}
        sealed = {
            other: sealing.seal(
                session.seal_key(agreed[other], sender=self._worker, receiver=other), share, about=session.id
            )
            for other, share in by_holder.items()
        }
        self._session, self._entries, self._agreed, self._share = session, entries, agreed, own
        self.step = Step.SHARED
        return sealed

    def mask(self, vector: Vector, layout: Layout, dealt: Shares) -> None:
        """Mask a plain vector in place, with those whose shares were dealt out to this member; ever the same one."""
        self._expect(Step.SHARED, "mask")
        session = self._joined
        neighbours = session.neighbours(self._worker)
        if strangers := set(dealt).difference(neighbours):
            raise ProtocolError(
                f"{self._here}: shares come from {named(strangers)}, who are no neighbours of it"
            )
        circle = tuple(sorted((*dealt, self._worker)))
        session.check_near(circle, what="members that shared")
        lost = set(neighbours).difference(dealt)
        self._me.policy.check_members(session, set(session.members).difference(lost), self._entries)
        layout.check(vector)
        applied = [Mask(session.self_key(self._seed), 1)]
        applied += [
            Mask(self._pair_key(session, other), 1 if self._worker < other else -1) for other in sorted(dealt)
        ]
        self._me.memory.bind(self.context, session.candidacy(), session.content(vector.digest))
        masks.apply(vector, applied, layout=layout)
        self._sealed, self._circle = dict(dealt), circle
        self.step = Step.MASKED

    def sign(self, survivors: Sequence[int]) -> bytes:
        """Sign whose vectors are in the sum; for one sum only one set is ever signed."""
        self._expect(Step.MASKED, "sign")
        session = self._joined
        listed = tuple(survivors)
        if list(listed) != sorted(set(listed)) or not set(listed) <= set(session.members):
            raise ProtocolError(f"{self._here}: the survivors are not members in order, each once")
        session.check(listed, what="survivors")
        self._me.policy.check_members(session, listed, self._entries)
        if self._worker not in listed:
            raise ProtocolError(f"{self._here}: it is not among the survivors, and signs nothing for others")
        near = set(session.circle(self._worker)).intersection(listed)
        if strangers := near.difference(self._circle):
            raise ProtocolError(f"{self._here}: {named(strangers)} survive whose shares never came")
        session.check_near(near, what="survivors that hold its shares")
        statement = session.survivors(listed)
        self._me.memory.sign(self.context, session.settled(listed))
        self._survivors = listed
        self.step = Step.SIGNED
        return self._me.signer.sign(statement)

    def unmask(self, agreement: Agreement) -> Unmasking:
        """Shares of each neighbour's seed or mask key, never of both; once, against proof that enough agree."""
        self._expect(Step.SIGNED, "unmask")
        session = self._joined
        self._check_agreement(session, agreement)
        seeds: dict[int, bytes] = {}
        mask_keys: dict[int, bytes] = {}
        spoilt = []
        for other in self._circle:
            try:
                seed, mask_key = self._opened(session, other)
            except ProtocolError:
                spoilt.append(other)
                continue
            if other in self._survivors:
                seeds[other] = seed
            else:
                mask_keys[other] = mask_key
        self.step = Step.DONE
        return Unmasking(seeds, mask_keys, tuple(spoilt))

    # -- what is checked --

    def _checked(self, roster: Roster, session: Session) -> dict[int, Entry]:
        """The entries that this member depends on, by worker, each found good."""
        needed = set(session.circle(self._worker)) if self._worker in session.members else set()
        shown = {entry.worker: entry for entry in roster.entries}
        if shown.get(self._worker) != self._own:
            raise ProtocolError(f"{self._here}: the roster does not hold what it advertised")
        if set(shown) != needed or len(shown) != len(roster.entries):
            raise ProtocolError(f"{self._here}: the roster shows {named(shown)}; expected {named(needed)}")
        roster.check(session)
        context = self.context.digest
        for entry in roster.entries:
            self._me.trust.check(
                entry.certificate,
                worker=entry.worker,
                statement=entry.statement(context),
                signature=entry.signature,
            )
        return shown

    def _check_agreement(self, session: Session, agreement: Agreement) -> None:
        """Refuse signatures that are too few, of others than survivors that it knows, or not good."""
        near = set(self._circle).intersection(self._survivors)
        if strangers := set(agreement.signatures).difference(near):
            raise ProtocolError(
                f"{self._here}: signatures of {named(strangers)}, who are no survivors it knows"
            )
        if len(agreement.signatures) < session.threshold:
            raise ProtocolError(
                f"{self._here}: {len(agreement.signatures)} signatures of the survivors, "
                f"fewer than the threshold {session.threshold}"
            )
        statement = session.survivors(self._survivors)
        for worker, signature in agreement.signatures.items():
            certificate = self._entries[worker].certificate
            self._me.trust.check(certificate, worker=worker, statement=statement, signature=signature)

    def _expect(self, step: Step, act: str) -> None:
        if self.step != step:
            raise ProtocolError(
                f"{self._here}: asked to {act} in step {self.step.name}, expected {step.name}"
            )

    @property
    def _joined(self) -> Session:
        if self._session is None:
            raise ProtocolError(f"{self._here}: there is no session yet")
        return self._session

    def _pair_key(self, session: Session, other: int) -> bytes:
        secret = self._mask.agree(self._entries[other].mask_key)
        return session.mask_key(secret, self._worker, other)

    def _opened(self, session: Session, other: int) -> tuple[bytes, bytes]:
        """The shares of a member's seed and mask key that this one holds; what its dealer sealed may be none."""
        share = self._share
        if other != self._worker:
            key = session.seal_key(self._agreed[other], sender=other, receiver=self._worker)
            share = sealing.unseal(key, self._sealed[other], about=session.id)
        seed, mask_key = share[: len(self._share) // 2], share[len(self._share) // 2 :]
        shamir.check(seed, mask_key)  # or who handed it on would seem to have made it
        return seed, mask_key

    @property
    def _here(self) -> str:
        return f"worker-{self._worker}, {self.context}"
