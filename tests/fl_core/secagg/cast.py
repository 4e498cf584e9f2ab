"""The cast of these tests: an authority, certified workers, and a cohort whose session dies where it is told to.

Members and host are the real ones. Between them stands a faithful server; `altered` may change messages on their way.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from fl_core.errors import ProtocolError
from fl_core.identity import Authority, Identity, wall_time
from fl_core.secagg.masks import Layout, Vector
from fl_core.secagg.policy import OPEN, Policy
from fl_core.secagg.recovery import Recovery
from fl_core.secagg.server import Host
from fl_core.secagg.session import Context
from fl_core.secagg.signing import AuthorityTrust, CertifiedSigner
from fl_core.secagg.terms import Terms
from fl_core.secagg.worker import Me, Member

JOB = "job-1"
SMALL = Layout(header=3, body=5, bits=32)
SILO, DEVICE = Terms(), Terms(profile="cross-device")

STEPS = ("advertise", "share", "upload", "sign", "unmask")

Altered = Callable[[str, int, Any], Any]
"""What becomes of a message on its way: (what it is, from or to which worker, the message)."""


class Stream:
    """A source of randomness that gives the same bytes in every run, and never the same ones twice."""

    def __init__(self, seed: object = 0) -> None:
        self._seed = seed
        self._asked = 0

    def __call__(self, count: int) -> bytes:
        self._asked += 1
        return hashlib.shake_256(f"{self._seed} {self._asked}".encode()).digest(count)


@cache
def authority(name: str) -> Authority:
    """The authority of this name, one for all tests of a process."""
    return Authority(name)


@cache
def signer(worker: int, *, job: str = JOB, by: str = JOB) -> CertifiedSigner:
    """A worker's signing key, certified."""
    return CertifiedSigner(authority(by).issue(Identity(job, "worker", worker)))


@cache
def trust() -> AuthorityTrust:
    """Trust in the job's authority; certificates are remembered as in a long-lived process."""
    return AuthorityTrust.of(JOB, authority(JOB).dump()[1], clock=wall_time)


class Notes:
    """A worker's memory, as long as this object lives: of each kind of sum the last round."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, dict[str, bytes]]] = {}

    def bind(self, context: Context, candidacy: bytes, content: bytes) -> None:
        self._note(context, "candidacy", candidacy)
        self._note(context, "content", content)

    def sign(self, context: Context, statement: bytes) -> None:
        self._note(context, "signed", statement)

    def _note(self, context: Context, what: str, said: bytes) -> None:
        newest = max((last for last, _ in self.rows.values()), default=0)
        if newest > context.round:
            raise ProtocolError(f"{context}: sums of round {newest} were made already")
        last, row = self.rows.get(context.purpose, (0, {}))
        row = row if last == context.round else {}
        if row.get(what, said) != said:
            raise ProtocolError(f"{context}: another {what} was noted already")
        self.rows[context.purpose] = (context.round, {**row, what: said})


def context(terms: Terms = SILO, **changes: Any) -> Context:
    """Which sum of which round; the fields that matter by name."""
    fields = {
        "job": JOB,
        "plan": "a plan",
        "round": 1,
        "attempt": 1,
        "purpose": "update",
        "model": "a model",
        "shape": "a shape",
    }
    return Context(**{**fields, **changes}, terms=terms)


def me(worker: int, *, memory: Notes | None = None, policy: Policy = OPEN, seed: object = 0) -> Me:
    """A worker, certified by the job's authority."""
    own = Notes() if memory is None else memory
    return Me(signer(worker), trust(), own, Stream((seed, worker)), policy)


def plain(layout: Layout, seed: int = 0) -> Vector:
    """A vector of any numbers of the rings."""
    random = np.random.default_rng(seed)
    header = random.integers(0, 2**64, layout.header, "u8")
    return Vector.of(layout, header, random.integers(0, 2**layout.bits, layout.body, layout.dtype))


def total_of(layout: Layout, vectors: Collection[Vector]) -> Vector:
    """The sum of plain vectors."""
    total = Vector.zeros(layout)
    for vector in vectors:
        total.add(vector)
    return total


def same(one: Vector, other: Vector) -> bool:
    """Whether two vectors are the same to the bit."""
    return all(
        np.array_equal(getattr(one, part), getattr(other, part)) for part in ("header", "body", "sentinels")
    )


class Cohort:
    """One session of these workers; each step is done by those who are told to do it, by default all who can."""

    def __init__(
        self,
        workers: Sequence[int],
        *,
        terms: Terms = SILO,
        layout: Layout = SMALL,
        vectors: Mapping[int, Vector] | None = None,
        memories: Mapping[int, Notes] | None = None,
        candidates: Sequence[int] = (),
        policy: Policy = OPEN,
        **changes: Any,
    ) -> None:
        self.context = context(terms, **changes)
        self.layout = layout
        self.plain = vectors or {worker: plain(layout, worker) for worker in workers}
        self.memories = memories or {worker: Notes() for worker in workers}
        self.host = Host(self.context, trust(), candidates=candidates)
        self.members = {
            worker: Member(
                me(worker, memory=self.memories[worker], policy=policy, seed=self.context), self.context
            )
            for worker in workers
        }
        self.total = Vector.zeros(layout)
        self.altered: Altered = lambda _what, _worker, message: message
        self._shown: dict[int, Any] = dict.fromkeys(workers)

    # -- the steps --

    def advertise(self, who: Collection[int] | None = None) -> None:
        """These advertise, and the roster is frozen."""
        for worker in self._of(who):
            entry = self.members[worker].advertise()
            self.host.advertised(worker, self.altered("advertisement", worker, entry))
        self._show("roster", self.host.freeze())

    def share(self, who: Collection[int] | None = None) -> None:
        """These share their secrets, and the shares are dealt."""
        for worker in self._of(who):
            sealed = self.members[worker].share(self._shown[worker])
            self.host.shared_by(worker, self.altered("shares", worker, sealed))
        self._show("dealt", self.host.deal())

    def upload(self, who: Collection[int] | None = None) -> None:
        """These mask and hand in their vectors, and the uploads are closed."""
        for worker in self._of(who):
            vector = copy.deepcopy(self.plain[worker])
            self.members[worker].mask(vector, self.layout, self._shown[worker])
            vector = self.altered("vector", worker, vector)
            self.host.arrived(worker)
            self.total.add(vector)
        self._show("survivors", dict.fromkeys(survivors := self.host.close(), survivors))

    def sign(self, who: Collection[int] | None = None) -> None:
        """These sign the survivors, and the agreement is passed on."""
        for worker in self._of(who):
            signature = self.members[worker].sign(self._shown[worker])
            self.host.signed(worker, self.altered("signature", worker, signature))
        self._show("agreement", self.host.agree())

    def unmask(self, who: Collection[int] | None = None) -> None:
        """These give their shares."""
        for worker in self._of(who):
            answer = self.members[worker].unmask(self._shown[worker])
            self.host.unmasked(worker, self.altered("unmasking", worker, answer))

    def open(self) -> Recovery:
        """The sum is opened."""
        return self.host.open(self.total, self.layout)

    # -- whole sessions --

    def run(self, *, last: str = "unmask", deaths: Mapping[int, str] | None = None) -> None:
        """All steps up to the last one named; a worker that dies at a step does not do it, nor any later one."""
        for step in STEPS[: STEPS.index(last) + 1]:
            gone = {worker for worker, at in (deaths or {}).items() if STEPS.index(at) <= STEPS.index(step)}
            getattr(self, step)(set(self._shown).difference(gone))

    def finish(self) -> Recovery:
        """Go on from wherever the session stands, with all who are left, and open the sum."""
        for step in STEPS[self.host.step :]:
            getattr(self, step)()
        return self.open()

    def sum(self, workers: Collection[int]) -> Vector:
        """What the sum of these must be."""
        return total_of(self.layout, [self.plain[worker] for worker in workers])

    def shown(self, worker: int) -> Any:
        """The last message of the server to this worker, which it has not answered yet."""
        return self._shown[worker]

    def _show(self, what: str, messages: Mapping[int, Any]) -> None:
        self._shown = {worker: self.altered(what, worker, message) for worker, message in messages.items()}

    def _of(self, who: Collection[int] | None) -> list[int]:
        """Of these, those who were shown something and have not answered it."""
        return [
            worker
            for worker in sorted(self._shown)
            if (who is None or worker in who) and worker not in self.host.done
        ]


def state(actor: Member | Host) -> dict[str, Any]:
    """All that an actor remembers, its memory of earlier sums included."""
    own = {name: copy.copy(value) for name, value in vars(actor).items() if name not in {"_me", "_trust"}}
    if isinstance(actor, Member) and isinstance(notes := actor._me.memory, Notes):
        own["memory"] = dict(notes.rows)
    return own


@contextmanager
def refusal(actor: Member | Host, reason: str) -> Iterator[None]:
    """What is done in this block is refused for this reason, and leaves the actor as it was."""
    before = state(actor)
    with pytest.raises(ProtocolError, match=reason):
        yield
    assert state(actor) == before


def stopped(last: str, n: int = 4, **more: Any) -> Cohort:
    """A session up to this step."""
    cohort = Cohort(range(n), **more)
    cohort.run(last=last)
    return cohort


def goes_on(cohort: Cohort) -> None:
    """The honest rest of the session opens the sum of all."""
    cohort.finish()
    assert same(cohort.total, cohort.sum(cohort.members))
