"""A malicious server with colluding workers: it keeps book of real messages and computes what follows from them.

What it knows of vectors is linear: each upload is a sum of one vector and of masks, some of which it can compute. What
it can say about vectors alone is the row space without the unknown masks; and that may only be whole sums that were
agreed upon. Shares, seeds and keys are bytes: it puts them together as the real server would.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fl_core.errors import ProtocolError
from fl_core.secagg import keys, masks, sealing, shamir
from fl_core.secagg.keys import KeyPair
from fl_core.secagg.masks import Layout, Mask, Vector
from fl_core.secagg.messages import Roster, Shares, Unmasking
from fl_core.secagg.session import Context, Entry, Session
from fl_core.secagg.worker import Member
from tests.fl_core.secagg.cast import Stream, plain, same, signer

LAYOUT = Layout(header=1, body=0, bits=32)
VERSIONS = 1 << 16
PRIME = 2**61 - 1
"""Coefficients are small; a relation over this field is one over the rationals but for chances of 2^-50."""

Column = tuple[str, str, int, int]
"""A mask by its key and the part of the vector that it lies on, or a worker's vector by what it is summed for and its
version; masks come first in the order."""

Row = dict[Column, int]


def reduced(rows: Sequence[Mapping[Column, int]]) -> list[Row]:
    """The reduced row echelon form of these rows, columns in their order."""
    found: list[Row] = []
    for column in sorted({column for row in rows for column in row}):
        rest = [dict(row) for row in rows if row.get(column)]
        if not rest:
            continue
        first = _scaled(rest[0], pow(rest[0][column], -1, PRIME))
        pivot = next(row for row in rows if row.get(column))
        rows = [_without(row, first, column) for row in rows if row is not pivot]
        found = [_without(row, first, column) for row in found] + [first]
    return found


def _scaled(row: Mapping[Column, int], by: int) -> Row:
    return {column: value * by % PRIME for column, value in row.items()}


def _without(row: Mapping[Column, int], pivot: Mapping[Column, int], column: Column) -> Row:
    """The row less as much of the pivot as takes the column off it."""
    times = row.get(column, 0)
    new = {key: (row.get(key, 0) - times * pivot.get(key, 0)) % PRIME for key in {*row, *pivot}}
    return {key: value for key, value in new.items() if value}


def _places(context: Context) -> list[str]:
    """What is summed; where an update counts what lies beyond the ranges, that follows from the worker's votes."""
    own = f"{context.round} {context.purpose}"
    return [own, f"{context.round} range"] if context.tells_ranges and context.purpose == "update" else [own]


def vector_of(worker: int, version: int) -> Vector:
    """A worker's vector; one that was made anew, as with fresh noise, is of another version."""
    return plain(LAYOUT, worker * VERSIONS + version)


@dataclass
class Seen:
    """One session as the attacker has seen it: who was shown which entries, and the answers, by worker."""

    session: Session
    entries: Mapping[int, Entry]
    masked: bool = False
    sealed: dict[int, Shares] = field(default_factory=dict)
    signatures: dict[tuple[int, ...], dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    seeds: dict[int, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    mask_keys: dict[int, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))


class Attacker:
    """All that a server has seen, and the workers that collude with it."""

    def __init__(self, colluders: Collection[int]) -> None:
        self.colluders = frozenset(colluders)
        self.seen: dict[bytes, Seen] = {}
        self.uploads: list[Row] = []
        self._own: dict[bytes, KeyPair] = {}
        self._random = Stream("attacker")
        self._news = False

    # -- messages that it makes --

    def entry(self, worker: int, context: Context) -> Entry:
        """An entry with keys of its own: good for a colluder, with a signature by nobody for another worker."""
        mask, seal = KeyPair.generate(self._random), KeyPair.generate(self._random)
        self._own |= {mask.public: mask, seal.public: seal}
        by = signer(worker)
        bare = Entry(worker, mask.public, seal.public, keys.commit(self._random(32)), by.certificate)
        other = by if worker in self.colluders else signer(min(self.colluders, default=99))
        return replace(bare, signature=other.sign(bare.statement(context.digest)))

    def signatures(self, seen: Seen, survivors: tuple[int, ...]) -> dict[int, bytes]:
        """All signatures of these survivors that it has or that colluders make."""
        statement = seen.session.survivors(survivors)
        own = {worker: signer(worker).sign(statement) for worker in self.colluders.intersection(survivors)}
        return {**seen.signatures[survivors], **own}

    # -- messages that it sees --

    def shown(self, member: Member, roster: Roster, sealed: Shares) -> None:
        """A member has accepted this roster and sent sealed shares."""
        session = member._joined
        entries = {entry.worker: entry for entry in roster.entries}
        seen = self.seen.setdefault(session.id, Seen(session, entries))
        worker = member._worker
        seen.sealed[worker] = dict(sealed)
        for receiver, text in sealed.items():
            if pair := self._own.get(entries[receiver].seal_key):
                secret = pair.agree(entries[worker].seal_key)
                key = session.seal_key(secret, sender=worker, receiver=receiver)
                share = sealing.unseal(key, text, about=session.id)
                self._share(seen, worker, receiver, seed=share[:36], mask_key=share[36:])

    def uploaded(self, member: Member, vector: Vector, dealt: Shares, *, version: int = 0) -> None:
        """A member has masked its vector with those that were dealt: one row, checked against the real numbers."""
        session, worker = member._joined, member._worker
        used = [Mask(session.self_key(member._seed), 1)]
        used += [Mask(member._pair_key(session, other), 1 if worker < other else -1) for other in dealt]
        again = vector_of(worker, version)
        masks.apply(again, used, layout=LAYOUT)
        assert same(again, vector), "the book does not say what was sent"
        for part, place in enumerate(_places(member.context)):
            row: Row = {("vector", place, worker, version): 1}
            for key, sign in used:
                column = ("mask", key.hex(), part, 0)
                row[column] = row.get(column, 0) + sign
            self.uploads.append(row)
        self._news = self.seen[session.id].masked = True

    def unmasked(self, member: Member, answer: Unmasking) -> None:
        """A member has given shares."""
        seen, holder = self.seen[member._joined.id], member._worker
        for owner, share in answer.seeds.items():
            self._share(seen, owner, holder, seed=share)
        for owner, share in answer.mask_keys.items():
            self._share(seen, owner, holder, mask_key=share)

    def _share(
        self, seen: Seen, owner: int, holder: int, *, seed: bytes = b"", mask_key: bytes = b""
    ) -> None:
        point = seen.session.point(holder)
        self._news = self._news or seen.masked
        if seed:
            seen.seeds[owner][point] = seed
        if mask_key:
            seen.mask_keys[owner][point] = mask_key

    # -- what follows --

    def known(self) -> set[str]:
        """The keys of all masks that it can compute, in hexadecimal."""
        used = {column[1] for row in self.uploads for column in row}
        sessions = [seen for seen in self.seen.values() if seen.masked]
        return used.intersection(key.hex() for seen in sessions for key in self._keys(seen))

    def _keys(self, seen: Seen) -> Iterator[bytes]:
        session, entries = seen.session, seen.entries
        for owner, shares in seen.seeds.items():
            if seed := _together(shares, session.threshold):
                assert keys.commit(seed) == entries[owner].commitment
                yield session.self_key(seed)
        pairs = {owner: self._own[e.mask_key] for owner, e in entries.items() if e.mask_key in self._own}
        for owner, shares in seen.mask_keys.items():
            if private := _together(shares, session.threshold):
                pairs[owner] = KeyPair.of(private)
                assert pairs[owner].public == entries[owner].mask_key
        for owner, pair in pairs.items():
            for other in session.neighbours(owner):
                yield session.mask_key(pair.agree(entries[other].mask_key), owner, other)

    def relations(self) -> list[Row]:
        """What it can say about vectors alone."""
        known = self.known()
        rows = [
            {column: value for column, value in row.items() if column[0] != "mask" or column[1] not in known}
            for row in self.uploads
        ]
        return [row for row in reduced(rows) if all(kind == "vector" for kind, *_ in row)]

    def agreed(self) -> set[frozenset[tuple[str, int]]]:
        """The honest workers of all sets that enough members have signed, with what was summed."""
        return {
            frozenset(
                (place, worker)
                for worker in self.colluders.symmetric_difference({*survivors, *self.colluders})
            )
            for seen in self.seen.values()
            for place in _places(seen.session.context)
            for survivors, signed in seen.signatures.items()
            if len({*signed, *self.colluders.intersection(survivors)}) >= seen.session.threshold
        }

    def check(self) -> None:
        """Raise AssertionError if more is known than sums over whole agreed sets, each of two honest workers at least.

        In reduced form the sums over disjoint sets are just these sums, so anything else is more than they are: as is a
        second sum of the same workers in which their vectors are others.
        """
        if not self._news:
            return
        self._news, agreed = False, self.agreed()
        opened: set[tuple[str, int]] = set()
        for row in self.relations():
            who = frozenset((place, worker) for _, place, worker, _ in row)
            text = " ".join(
                f"{value:+d}*x{worker}" + "'" * version
                for (_, _, worker, version), value in sorted(row.items())
            )
            assert set(row.values()) == {1}, f"leak: {text}"
            assert who in agreed, f"leak: {text}, which nobody agreed to"
            assert len(who) > 1, f"leak: {text}"
            assert not who & opened, f"leak: {text}, of which another sum is known"
            opened |= who


def _together(shares: Mapping[int, bytes], threshold: int) -> bytes | None:
    """The secret, if there are enough shares of it."""
    try:
        return shamir.combine(shares, threshold=threshold)
    except ProtocolError:
        return None
