"""What both ends of a session derive from the same facts: its name, its graph, its keys' names, its statements.

A session sums one vector of each member. Its terms come from the plan, `Context` says which sum of which round this is,
and the session's id binds both to every member's advertisement: whoever was shown another roster, model or
parameter derives other keys, and nothing that it sends fits anybody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from fl_core.errors import ProtocolError
from fl_core.secagg import graph, keys, merkle
from fl_core.secagg.buckets import Buckets
from fl_core.secagg.encoding import digest, encode
from fl_core.secagg.endorsement import NONE, Endorsement
from fl_core.secagg.parameters import Parameters
from fl_core.secagg.terms import Terms

Purpose = Literal["range", "update", "measure"]
"""What is summed: in which ranges the updates lie, the updates themselves, or measurements of the new model."""

SHOWN = 8
"""Workers that a message names at most."""


@dataclass(frozen=True)
class Context:
    """Which sum this is: `model` is the digest of the round's model, `shape` says what the vector's elements mean.

    It is the sum of one `bucket` of so many `buckets`: of all workers where there is one. Whether it `tells_ranges`,
    by votes or by counts of what lies beyond them, follows from its shape.
    """

    job: str
    plan: str
    round: int
    attempt: int
    purpose: Purpose
    model: str
    shape: str
    terms: Terms
    bucket: int = 0
    buckets: int = 1
    tells_ranges: bool = False

    @cached_property
    def digest(self) -> bytes:
        """What every advertisement signs."""
        place = (self.round, self.attempt, self.purpose, self.bucket, self.buckets)
        return digest("context", self.job, self.plan, *place, self.model, self.shape, self.terms.encoded())

    def __str__(self) -> str:
        where = f", bucket {self.bucket}" if self.buckets > 1 else ""
        return f"round {self.round}, attempt {self.attempt}, {self.purpose}{where}"

    def holds(self, worker: int) -> bool:
        """Whether this worker is in the bucket that is summed."""
        return Buckets(self.job, self.buckets).of(worker) == self.bucket


@dataclass(frozen=True, slots=True)
class Entry:
    """One member's advertisement: two fresh public keys and the commitment to its self-mask's seed."""

    worker: int
    mask_key: bytes
    seal_key: bytes
    commitment: bytes
    certificate: bytes
    signature: bytes = b""
    endorsement: Endorsement = NONE

    def statement(self, context: bytes) -> bytes:
        """What its signature signs."""
        return encode("advertise", context, self.worker, self.mask_key, self.seal_key, self.commitment)

    @property
    def leaf(self) -> bytes:
        """The entry in the roster's tree, its certificate, signature and endorsement included."""
        keys_of = (self.mask_key, self.seal_key, self.commitment)
        word = (self.endorsement.certificate, self.endorsement.signature)
        return digest("entry", self.worker, *keys_of, self.certificate, self.signature, *word)


@dataclass(frozen=True)
class Session:
    """A frozen roster under its terms.

    `candidates` are the workers among whom this round's members were first sought: the parameters follow from their
    number, also in later attempts with fewer members. `root` is the Merkle root over all members' entries.
    """

    context: Context
    candidates: tuple[int, ...]
    members: tuple[int, ...]
    root: bytes = field(repr=False)
    _near: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse lists that no honest server makes."""
        for name, listed in (("candidates", self.candidates), ("members", self.members)):
            if list(listed) != sorted(set(listed)):
                raise ProtocolError(f"the {name} are not in order, each once: {named(listed)}")
        if strangers := set(self.members).difference(self.candidates):
            raise ProtocolError(f"the members {named(strangers)} are no candidates")
        if elsewhere := [worker for worker in self.candidates if not self.context.holds(worker)]:
            raise ProtocolError(f"{self.context}: {named(elsewhere)} in other buckets, by the job's deal")
        self.check(self.members, what="members")

    @cached_property
    def parameters(self) -> Parameters:
        """Threshold and graph: in cross-silo from the number of candidates, so that no two attempts can both open.

        In cross-device from that of the members, among whom the curious of the whole cohort are denser when others
        have gone.
        """
        return self.context.terms.parameters(len(self.members if self._sparse else self.candidates))

    @property
    def threshold(self) -> int:
        """How many shares open a secret, and how many signatures prove the survivors."""
        return self.parameters.threshold

    @cached_property
    def id(self) -> bytes:
        """The session's id: 32 bytes that all keys and signatures of the session are bound to."""
        lists = (self._named("candidates", self.candidates), self._named("members", self.members))
        return digest(
            "session", self.context.digest, *lists, self.threshold, self.parameters.degree, self.root
        )

    def check(self, workers: Collection[int], *, what: str) -> None:
        """Refuse to go on with so few in the whole session."""
        self._at_least(self._fewest if self._sparse else self._floor, workers, what)

    def check_near(self, workers: Collection[int], *, what: str) -> None:
        """Refuse to go on with so few around one member, itself included: in cross-silo these are all there are."""
        self._at_least(self.threshold if self._sparse else self._floor, workers, what)

    def neighbours(self, worker: int) -> tuple[int, ...]:
        """With whom a member shares masks and secrets; in cross-silo with all others."""
        if worker not in self._near:
            self._near[worker] = self._neighbours(worker)
        return self._near[worker]

    def _neighbours(self, worker: int) -> tuple[int, ...]:
        if not self._sparse:
            return tuple(other for other in self.members if other != worker)
        return tuple(self.members[place] for place in self._graph.neighbours(self._places[worker]))

    def place(self, worker: int) -> int:
        """Where in the roster this member's entry lies."""
        return self._places[worker]

    def point(self, worker: int) -> int:
        """Where on everybody's polynomials this member's share lies."""
        return self._places[worker] + 1

    def circle(self, worker: int) -> tuple[int, ...]:
        """Who holds shares of a member's secrets: its neighbours and itself."""
        return tuple(sorted((*self.neighbours(worker), worker)))

    # -- keys, each used for one thing only --

    def mask_key(self, secret: bytes, one: int, other: int) -> bytes:
        """The key of the mask that two members share, from the secret that they agreed on."""
        return keys.derive(secret, "mask", self.id, min(one, other), max(one, other))

    def self_key(self, seed: bytes) -> bytes:
        """The key of a member's own mask."""
        return keys.derive(seed, "self", self.id)

    def seal_key(self, secret: bytes, *, sender: int, receiver: int) -> bytes:
        """The key under which shares travel from one member to another."""
        return keys.derive(secret, "seal", self.id, sender, receiver)

    # -- statements --

    def survivors(self, workers: Sequence[int]) -> bytes:
        """What the members sign whose vectors are in the sum."""
        return encode("survivors", self.id, self._named("survivors", workers))

    # -- what later attempts of the same sum must keep to: none of it depends on the session's id --

    def settled(self, survivors: Sequence[int]) -> bytes:
        """For whom a member has signed."""
        return self._named("settled", survivors)

    def content(self, vector: bytes) -> bytes:
        """The plain vector, by its digest, that a member has masked and sent, and what it means."""
        return digest("content", self.context.model, self.context.shape, vector)

    def candidacy(self) -> bytes:
        """Among whom, and in cross-silo with which threshold.

        In cross-device that follows from the members, fewer of whom may come to a later attempt (decision 0021).
        """
        threshold = () if self._sparse else (self.threshold,)
        return digest("candidacy", self._named("candidates", self.candidates), *threshold)

    @cached_property
    def _fewest(self) -> int:
        """Of a bucket that has more members than its part of a round more must stay, or it could fall into two."""
        return self.context.terms.survivors(len(self.members))

    @property
    def _floor(self) -> int:
        return max(self.context.terms.floor, self.threshold)

    def _at_least(self, least: int, workers: Collection[int], what: str) -> None:
        if len(workers) < least:
            raise ProtocolError(
                f"{self.context}: {len(workers)} {what}, fewer than the {least} that are needed"
            )

    @property
    def _sparse(self) -> bool:
        return self.context.terms.profile == "cross-device"

    @cached_property
    def _graph(self) -> graph.Graph:
        return graph.regular(
            len(self.members), self.parameters.degree, seed=digest("graph", self.context.digest, self.root)
        )

    @cached_property
    def _places(self) -> dict[int, int]:
        return {worker: place for place, worker in enumerate(self.members)}

    @staticmethod
    def _named(what: str, workers: Sequence[int]) -> bytes:
        return digest(what, *workers)


def root_of(entries: Sequence[Entry]) -> bytes:
    """The root of the tree over a whole roster's entries, in the order of the members."""
    return merkle.root([entry.leaf for entry in entries])


def named(workers: Collection[int]) -> str:
    """A few of these workers in words."""
    shown = ", ".join(f"worker-{worker}" for worker in sorted(workers)[:SHOWN])
    return shown + (", …" if len(workers) > SHOWN else "")
