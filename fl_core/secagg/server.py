"""The server's half of a session: it passes messages on, sums masked vectors, and opens nothing but the whole sum.

    advertised ... freeze -> shared ... deal -> arrived ... close -> signed ... agree -> unmasked ... open

The first of each pair takes one worker's message and may be called in any order of workers; the second ends the step
with those who have done theirs. A message that is refused raises ProtocolError and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum

from fl_core.errors import ProtocolError, UnmaskError
from fl_core.secagg import keys, masks, merkle, sealing, shamir
from fl_core.secagg.masks import Layout, Mask, Vector
from fl_core.secagg.messages import Agreement, Roster, Shares, Unmasking
from fl_core.secagg.recovery import Recovery
from fl_core.secagg.session import Context, Entry, Session, named, root_of
from fl_core.secagg.signing import Trust

SEALED_BYTES = 2 * shamir.share_bytes(keys.KEY_BYTES) + sealing.TAG_BYTES
"""A sealed share of seed and mask key."""

PROBE = keys.KeyPair.of(bytes(keys.KEY_BYTES))
"""A key that protects nothing: with it the server looks whether somebody's public key is sound."""


class Step(IntEnum):
    """What the server collects."""

    ADVERTISEMENTS = 0
    SHARES = 1
    VECTORS = 2
    SIGNATURES = 3
    SECRETS = 4
    OPEN = 5


class Host:
    """One session as its server sees it."""

    def __init__(self, context: Context, trust: Trust, *, candidates: Sequence[int] = ()) -> None:
        self.context = context
        self.step = Step.ADVERTISEMENTS
        self.session: Session | None = None
        self.shared: tuple[int, ...] = ()
        self.survivors: tuple[int, ...] = ()
        self._trust = trust
        self._candidates = tuple(sorted(candidates))
        self._entries: dict[int, Entry] = {}
        self._used: set[tuple[str, bytes]] = set()
        self._statement = b""
        self._sealed: dict[int, Shares] = {}
        self._vectors: set[int] = set()
        self._signatures: dict[int, bytes] = {}
        self._unmaskings: dict[int, Unmasking] = {}
        self._support: Counter[int] = Counter()
        """In the open step: how many have signed around each survivor, or given shares of each one's secret."""
        self._lacking: set[int] = set()
        """Those for whom these are not yet as many as the threshold."""

    @property
    def done(self) -> frozenset[int]:
        """Who has done the open step."""
        return frozenset(self._done)

    @property
    def _done(self) -> Collection[int]:
        by_step: tuple[Collection[int], ...] = (
            self._entries,
            self._sealed,
            self._vectors,
            self._signatures,
            self._unmaskings,
            (),
        )
        return by_step[self.step]

    # -- one worker's messages --

    def advertised(self, worker: int, entry: Entry) -> None:
        """A worker is there."""
        self._expect(Step.ADVERTISEMENTS, worker, "an advertisement")
        if entry.worker != worker:
            raise ProtocolError(f"worker-{worker} advertises for worker-{entry.worker}")
        if self._candidates and worker not in self._candidates:
            raise ProtocolError(
                f"worker-{worker} is not among this sum's candidates, {named(self._candidates)}"
            )
        own = {(what, getattr(entry, what)) for what in ("mask_key", "seal_key", "commitment")}
        for what, _ in sorted(own & self._used):
            raise ProtocolError(f"worker-{worker} advertises another member's {what.replace('_', ' ')}")
        for key in (entry.mask_key, entry.seal_key):
            PROBE.agree(key)
        entry.endorsement.check_size(worker)
        statement = entry.statement(self.context.digest)
        self._trust.check(entry.certificate, worker=worker, statement=statement, signature=entry.signature)
        self._entries[worker] = entry
        self._used |= own

    def shared_by(self, worker: int, sealed: Shares) -> None:
        """A member's sealed shares for its neighbours."""
        self._expect(Step.SHARES, worker, "shares")
        receivers = self.frozen.neighbours(worker)
        if set(sealed) != set(receivers):
            raise ProtocolError(
                f"worker-{worker} sends shares to {named(sealed)}; expected {named(receivers)}"
            )
        if wrong := [other for other, text in sealed.items() if len(text) != SEALED_BYTES]:
            raise ProtocolError(
                f"worker-{worker}: the share for worker-{wrong[0]} is not {SEALED_BYTES} bytes long"
            )
        self._sealed[worker] = dict(sealed)

    def arrived(self, worker: int) -> None:
        """A member's whole masked vector is in the sum."""
        self._expect(Step.VECTORS, worker, "a vector")
        self._vectors.add(worker)

    def expects_vector(self, worker: int) -> None:
        """Refuse a vector that may not be in the sum."""
        self._expect(Step.VECTORS, worker, "a vector")

    def signed(self, worker: int, signature: bytes) -> None:
        """A survivor's signature of the survivors."""
        self._expect(Step.SIGNATURES, worker, "a signature")
        certificate = self._entries[worker].certificate
        self._trust.check(certificate, worker=worker, statement=self._statement, signature=signature)
        self._signatures[worker] = signature
        self._supports(self.frozen.circle(worker))

    def unmasked(self, worker: int, answer: Unmasking) -> None:
        """A survivor's shares."""
        self._expect(Step.SECRETS, worker, "unmasking shares")
        circle = set(self.frozen.circle(worker)).intersection(self.shared)
        live, dead = circle.intersection(self.survivors), circle.difference(self.survivors)
        spoilt = set(answer.spoilt)
        if strangers := spoilt - circle:
            raise ProtocolError(f"worker-{worker} names seals of {named(strangers)}, which it does not hold")
        for what, given, held in (("seeds", answer.seeds, live), ("mask keys", answer.mask_keys, dead)):
            if set(given) != (due := held - spoilt):
                raise ProtocolError(
                    f"worker-{worker} gives shares of {what} of {named(given)}; expected {named(due)}"
                )
            shamir.check(*given.values())
        self._unmaskings[worker] = answer
        self._supports((*answer.seeds, *answer.mask_keys))

    # -- the ends of the steps --

    def freeze(self, workers: Iterable[int] | None = None) -> dict[int, Roster]:
        """Freeze the roster with these of the advertised (all without it): what each member is shown."""
        self._expect(Step.ADVERTISEMENTS)
        members = tuple(sorted(self._entries if workers is None else workers))
        entries = [self._entries[worker] for worker in members]
        session = Session(self.context, self._candidates or members, members, root_of(entries))
        self._entries = dict(zip(members, entries, strict=True))
        self.session, self.step = session, Step.SHARES
        if self.context.terms.profile == "cross-silo":
            whole = Roster(session.candidates, members, session.root, tuple(entries))
            return dict.fromkeys(members, whole)
        tree = merkle.Tree([entry.leaf for entry in entries])
        proofs = {worker: tuple(tree.proof(place)) for place, worker in enumerate(members)}
        return {worker: self._view(session, worker, proofs) for worker in members}

    def deal(self) -> dict[int, Shares]:
        """End the sharing: what each of those who shared gets from its neighbours."""
        self._expect(Step.SHARES)
        shared = tuple(sorted(self._sealed))
        self.frozen.check(shared, what="members that shared")
        self.shared, self.step = shared, Step.VECTORS
        return {
            worker: {
                other: self._sealed[other][worker]
                for other in self.frozen.neighbours(worker)
                if other in self._sealed
            }
            for worker in shared
        }

    def close(self) -> tuple[int, ...]:
        """End the uploads: those whose vectors are whole survive; who comes later stays dead."""
        self._expect(Step.VECTORS)
        survivors = tuple(sorted(self._vectors))
        self.frozen.check(survivors, what="vectors")
        self.survivors, self.step = survivors, Step.SIGNATURES
        self._statement = self.frozen.survivors(survivors)
        self._support, self._lacking = Counter(), set(survivors)
        return survivors

    @property
    def agreed(self) -> bool:
        """Whether enough have signed to go on, without waiting for the others."""
        return self.step == Step.SIGNATURES and not self._lacking

    def agree(self) -> dict[int, Agreement]:
        """End the signing: the proof for each survivor that signed."""
        self._expect(Step.SIGNATURES)
        self.frozen.check(self._signatures, what="signatures")
        self.step = Step.SECRETS
        self._support, self._lacking = Counter(), set(self.shared)
        return {worker: Agreement(self._near(worker)) for worker in self._signatures}

    @property
    def recoverable(self) -> bool:
        """Whether every secret can be put together from the shares that have come."""
        return self.step == Step.SECRETS and not self._lacking

    def open(self, total: Vector, layout: Layout) -> Recovery:
        """Take all masks off the sum, in place, and check that they came off; says whose shares were wrong."""
        self._expect(Step.SECRETS)
        absent = set(self.survivors).difference(self._unmaskings)
        recovery = Recovery(self.frozen, self._entries, self._unmaskings, absent=absent)
        seeds = recovery.seeds(self.survivors)
        lost = [worker for worker in self.shared if worker not in self.survivors]
        mask_keys = recovery.mask_keys(lost)
        off = [Mask(self.frozen.self_key(seed), -1) for seed in seeds.values()]
        off += self._pairs(mask_keys)
        masks.apply(total, off, layout=layout)
        if (total.sentinels != len(self.survivors)).any():
            raise UnmaskError(
                f"{self.context}: the masks do not come off: a member masked otherwise than it advertised"
            )
        self.step = Step.OPEN
        return recovery

    # -- parts --

    def _supports(self, workers: Collection[int]) -> None:
        """One more has done the open step for these."""
        threshold = self.frozen.threshold
        self._support.update(workers)
        self._lacking.difference_update(worker for worker in workers if self._support[worker] >= threshold)

    def _pairs(self, mask_keys: Mapping[int, keys.KeyPair]) -> list[Mask]:
        """The masks that survivors share with those who were lost after sharing."""
        session, survivors, off = self.frozen, set(self.survivors), []
        for lost, pair in mask_keys.items():
            for other in session.neighbours(lost):
                if other in survivors:
                    secret = pair.agree(self._entries[other].mask_key)
                    off.append(Mask(session.mask_key(secret, lost, other), -1 if other < lost else 1))
        return off

    def _near(self, worker: int) -> dict[int, bytes]:
        """The threshold's number of signatures that this survivor can check."""
        known = (other for other in self.frozen.circle(worker) if other in self._signatures)
        return {
            other: self._signatures[other]
            for other, _ in zip(known, range(self.frozen.threshold), strict=False)
        }

    def _view(self, session: Session, worker: int, proofs: Mapping[int, tuple[bytes, ...]]) -> Roster:
        """The roster as one member of a sparse graph is shown it."""
        circle = session.circle(worker)
        entries = tuple(self._entries[other] for other in circle)
        shown = tuple(proofs[other] for other in circle)
        return Roster(session.candidates, session.members, session.root, entries, shown)

    @property
    def frozen(self) -> Session:
        """The session of the frozen roster."""
        if self.session is None:
            raise ProtocolError(f"{self.context}: the roster is not frozen yet")
        return self.session

    def _expect(self, step: Step, worker: int | None = None, what: str = "") -> None:
        """Refuse what is not due: from this worker, if one speaks."""
        if self.step != step:
            who = f"worker-{worker} sends {what}" if worker is not None else step.name.lower()
            raise ProtocolError(f"{self.context}: {who}, but the open step is {self.step.name.lower()}")
        if worker is None:
            return
        due: tuple[Collection[int] | None, ...] = (
            None,
            self._entries,
            self.shared,
            self.survivors,
            self._signatures,
        )
        allowed = due[step]
        if allowed is not None and worker not in allowed:
            raise ProtocolError(f"{self.context}: worker-{worker} sends {what}, but is no longer part of it")
        if worker in self._done:
            raise ProtocolError(f"{self.context}: worker-{worker} sends {what} twice")
