"""The scheduler's roster as a pure state machine: who attends, whose lease holds, who takes part.

Workers enrol, beat, and go; the server calls for a cohort. Events and `now` (seconds of any clock that
does not go back) go in, actions come out. The roster holds nothing that heartbeats could not rebuild.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from fl_core.cohorts import Draw, Others, by_number
from fl_core.errors import JobError
from fl_core.plan import Selection
from fl_core.shortfall import LEFT, SILENT

LEASE_SECONDS = 15.0
"""A worker that has not beaten for so long is lost."""

BEAT_SECONDS = 3.0
"""How often a worker beats."""

RETURN_SECONDS = 3.0
"""How long a worker may stay away whose connection broke before it is lost.

A broken connection is not the worker's end: a pod that is started again, or a network that hiccups, is back
within seconds and hands in the same update. So a round that still needs it waits so long. A round that does
not, because enough others have reported (over-selection), closes at once; and a worker whose program has
failed says so before it goes, and nobody waits for it.
"""

MOST_ABSENT = 5
"""How many of those who have not come are named."""

Purpose = Literal["initialise", "train", "evaluate", "rejoin"]


@dataclass(frozen=True, slots=True)
class Call:
    """The server's call for workers; `evaluate` and `rejoin` name them, else the policy chooses.

    Where there are any of whom `only` may train, all of them are waited for a while, and nobody else is asked. Calls of
    a round with the same `draw` get the same cohort, where the same workers are there to choose from.
    """

    purpose: Purpose
    round: int
    attempt: int
    model: str = ""
    manifest: str = ""
    workers: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    draw: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """Tell a worker what this call wants of it."""

    worker: str
    call: Call


@dataclass(frozen=True, slots=True)
class Release:
    """Tell a worker that nothing more is wanted of it for this call."""

    worker: str
    call: Call


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a worker that it cannot take part: its model's manifest is not the job's; both are digests."""

    worker: str
    manifest: str
    expected: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Answer the call: the cohort, those whose initial weights differ, those that cannot show movement."""

    workers: tuple[str, ...]
    dissenters: tuple[str, ...]
    silent: tuple[str, ...]
    weights: str = ""
    manifest: str = ""
    others: Others | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Tell the server that a worker of the cohort is gone."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Tell the server that a worker of the cohort moves."""

    worker: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tell the server that the call waits for more workers."""

    live: int
    wanted: int
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Tell the server that nobody can be chosen, and why."""

    sentence: str


Action = Order | Release | Refuse | Chosen | Lost | Moved | Waiting | Failed


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a worker says of itself when it comes."""

    weights: str
    manifest: str
    moves: bool


@dataclass(slots=True)
class Member:
    """A worker that attends."""

    enrolment: Enrolment
    lease: float
    steps: int = 0


class Roster:
    """Members by name, and at most one open call.

    The first call is answered when as many attend as are `expected`, or when a quorum has waited long enough for
    them. Who comes beyond them takes part in later rounds as they do. Where a record is `replayed`, it names each
    round's cohort, and all of them are waited for. Who had nothing to hand in is passed over in the round's later
    attempts, if a quorum of others is there; for those who are absent a call waits as long before it asks that worker
    again, for it would say the same. Who is told to end says so, and is chosen no more.
    """

    def __init__(
        self,
        selection: Selection,
        draw: Draw,
        *,
        expected: Sequence[str],
        replayed: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.members: dict[str, Member] = {}
        self._selection = selection
        self._draw = draw
        self._expected = expected
        self._replayed = replayed
        self._call: Call | None = None
        self._cohort: frozenset[str] = frozenset()
        self._away: dict[str, float] = {}
        self._answered = False
        self._called = 0.0
        self._manifest = ""
        self._quorum_since: float | None = None
        self._settled = False
        self._declined: tuple[int, frozenset[str]] = (0, frozenset())
        self._left: set[str] = set()
        self._parting: set[str] = set()

    @property
    def live(self) -> Mapping[str, Member]:
        """Those who attend and may be chosen: all but who hands in what it is at and then goes."""
        if not self._parting:
            return self.members
        return {name: member for name, member in self.members.items() if name not in self._parting}

    @property
    def count(self) -> int:
        """How many may be chosen."""
        return len(self.members) - len(self._parting)

    def enrol(self, worker: str, enrolment: Enrolment, *, now: float) -> tuple[Action, ...]:
        """A worker comes, or comes back; one that is wanted is told so again."""
        if self._manifest and enrolment.manifest != self._manifest:
            return (Refuse(worker, enrolment.manifest, self._manifest),)
        self.members[worker] = Member(enrolment, now + LEASE_SECONDS)
        self._away.pop(worker, None)
        self._left.discard(worker)
        self._parting.discard(worker)
        if self._call is not None and worker in self._cohort:
            return (Order(worker, self._call),)
        return self._answer(now)

    def beat(self, worker: str, *, steps: int, now: float) -> tuple[Action, ...]:
        """A worker lives; `steps` grows while it trains or sends."""
        member = self.members.get(worker)
        if member is None:
            return ()
        member.lease = now + LEASE_SECONDS
        moves, member.steps = steps != member.steps, steps
        return (Moved(worker),) if moves and worker in self._cohort else ()

    def decline(self, worker: str, *, round: int, attempt: int, reason: str) -> tuple[Action, ...]:
        """A worker has nothing to hand in for this call; it stays for the next one."""
        call = self._call
        if call is None or (call.round, call.attempt) != (round, attempt) or worker not in self._cohort:
            return ()
        self._cohort = self._cohort - {worker}
        self._declined = (round, self._unwilling(call) | {worker})
        return (Lost(worker, reason),)

    def quit(self, worker: str, *, reason: str) -> tuple[Action, ...]:
        """A worker goes for good, and says why: nobody waits for it."""
        self.members.pop(worker, None)
        self._parting.discard(worker)
        if worker not in self._cohort:
            return ()
        self._cohort = self._cohort - {worker}
        return (Lost(worker, reason),)

    def part(self, worker: str, *, round: int, attempt: int) -> tuple[Action, ...]:
        """A worker was told to end: it is chosen no more, and goes at once unless it is at this call."""
        self._left.add(worker)
        call, here = self._call, worker in self.members and worker in self._cohort
        if not here or call is None or (call.round, call.attempt) != (round, attempt):
            return self.quit(worker, reason=LEFT)
        self._parting.add(worker)
        return ()

    def leave(self, worker: str, *, now: float) -> None:
        """A worker's connection broke; it has a moment to come back."""
        if member := self.members.get(worker):
            member.lease = min(member.lease, now + RETURN_SECONDS)

    def call(self, call: Call, *, now: float) -> tuple[Action, ...]:
        """The server calls; an earlier call ends with that."""
        released = self.close()
        self._call, self._answered, self._called = call, False, now
        if self._unwilling(call):
            self._quorum_since = None
        refused = self._learn(call.manifest)
        return (*released, *refused, *self._answer(now, announce=True))

    def close(self) -> tuple[Action, ...]:
        """The server needs the cohort no longer."""
        call, cohort = self._call, self._cohort
        self._call, self._cohort, self._away = None, frozenset(), {}
        return tuple(Release(worker, call) for worker in sorted(cohort & self.members.keys()) if call)

    def tick(self, *, now: float) -> tuple[Action, ...]:
        """Time has passed: leases end, a call that has waited long enough is answered."""
        leases = {name: member.lease for name, member in self.members.items()} | self._away
        gone = sorted(name for name, lease in leases.items() if lease <= now)
        for name in gone:
            self.members.pop(name, None)
            self._away.pop(name, None)
        self._parting.difference_update(gone)
        lost = tuple(Lost(name, SILENT) for name in gone if name in self._cohort)
        self._cohort = self._cohort.difference(gone)
        return (*lost, *self._answer(now))

    def wake(self) -> float | None:
        """When `tick` is next worth calling."""
        times = [*(member.lease for member in self.members.values()), *self._away.values()]
        if self._call is not None and not self._answered and self._quorum_since is not None:
            times.append(self._quorum_since + self._selection.join_seconds)
        if self._call is not None and not self._answered and self._call.only:
            times.append(self._called + self._selection.join_seconds)
        return min(times, default=None)

    def _answer(self, now: float, *, announce: bool = False) -> tuple[Action, ...]:
        call = self._call
        if call is None or self._answered:
            return ()
        if call.purpose in {"evaluate", "rejoin"}:
            left = sorted(self._left.intersection(call.workers), key=by_number)
            gone = tuple(Lost(name, LEFT) for name in left)
            return (*gone, *self._choose(call, self._recalled(call, now)))
        if self._replayed is not None and call.purpose == "train":
            return self._again(call, self._replayed.get(call.round, ()), announce=announce)
        if self._ready(call, now):
            self._settled = True
            try:
                return self._choose(call, self._pick(call))
            except JobError as error:
                self._answered = True
                return (Failed(str(error)),)
        wanted = self._selection.minimum if self._settled else len(self._expected)
        waiting = Waiting(self.count, len(call.only) or wanted, self._absent(call))
        return (waiting,) if announce or not self._settled else ()

    def _again(self, call: Call, recorded: Sequence[str], *, announce: bool) -> tuple[Action, ...]:
        """Those whom the record names, once all of them attend."""
        absent = [name for name in recorded if name not in self.live]
        if not recorded:
            self._answered = True
            return (Failed(f"the record that is replayed has no committed round {call.round}"),)
        if absent:
            waiting = Waiting(self.count, len(recorded), tuple(absent[:MOST_ABSENT]))
            return (waiting,) if announce else ()
        self._settled = True
        return self._choose(call, recorded)

    def _recalled(self, call: Call, now: float) -> Collection[str]:
        """Those named who attend; on a roster that has chosen nobody yet, so that it is new, all but who has left:
        those who are not there have a lease's time to come back.
        """
        staying = set(call.workers) - self._left
        absent = [name for name in staying if name not in self.members]
        if self._settled:
            return staying.difference(absent)
        self._away = dict.fromkeys(absent, now + LEASE_SECONDS)
        return staying

    def _absent(self, call: Call) -> tuple[str, ...]:
        live, expected = self.live, call.only or self._expected
        return tuple(islice((name for name in expected if name not in live), MOST_ABSENT))

    def _unwilling(self, call: Call) -> frozenset[str]:
        """Who declined in an earlier attempt of this round."""
        number, workers = self._declined
        return workers if call.purpose == "train" and call.round == number else frozenset()

    def _willing(self, call: Call) -> list[str]:
        """Those who attend without those who declined; everybody where that leaves no quorum."""
        live = self.live
        willing = live.keys() - self._unwilling(call)
        enough = len(willing) >= self._selection.minimum
        return sorted(willing if enough else live, key=by_number)

    def _ready(self, call: Call, now: float) -> bool:
        if call.only:
            late = now >= self._called + self._selection.join_seconds
            return late or all(self._is_connected(name, now) for name in call.only)
        live = self.count
        if live < self._selection.minimum:
            self._quorum_since = None
            return False
        if self._quorum_since is None:
            self._quorum_since = now
        patient = now < self._quorum_since + self._selection.join_seconds
        willing = self._unwilling(call).isdisjoint(self._willing(call))
        return (self._settled and willing) or live >= len(self._expected) or not patient

    def _is_connected(self, worker: str, now: float) -> bool:
        """Whether it attends, and not just may come back."""
        member = self.members.get(worker)
        return member is not None and member.lease > now + RETURN_SECONDS

    def _pick(self, call: Call) -> list[str]:
        if call.only:
            return [name for name in call.only if name in self.live]
        candidates = self._willing(call)
        if call.purpose == "initialise":
            return [self._beginner(candidates, call.attempt)]
        count = min(self._selection.asked, len(candidates))
        return self._draw.cohort(candidates, count, round=call.round, number=call.draw)

    def _beginner(self, candidates: Sequence[str], attempt: int) -> str:
        """Whose initial weights this attempt asks for: in turn, of those with the job's arrays, the majority first."""
        majority = self._majority()
        said = {name: _beginning(self.members[name]) for name in candidates}
        fitting = [name for name in candidates if said[name][1] == majority[1]]
        fitting.sort(key=lambda name: said[name] != majority)
        return fitting[(attempt - 1) % len(fitting)]

    def _choose(self, call: Call, workers: Collection[str]) -> tuple[Action, ...]:
        self._cohort, self._answered = frozenset(workers), True
        cohort = tuple(sorted(self._cohort, key=by_number))
        dissenters: tuple[str, ...] = ()
        refused: tuple[Action, ...] = ()
        asked = Enrolment("", "", moves=False)
        if call.purpose == "initialise":
            asked = self.members[cohort[0]].enrolment
            refused = self._learn(asked.manifest)
            given = asked.weights, asked.manifest
            others = (name for name, member in self.live.items() if _beginning(member) != given)
            dissenters = tuple(sorted(others, key=by_number))
        here = [name for name in cohort if name in self.members]
        silent = tuple(name for name in here if not self.members[name].enrolment.moves)
        orders = (Order(name, call) for name in here)
        train = call.purpose == "train"
        of = Others.of(self._cohort, live=self.live, expected=self._expected) if train else None
        return (Chosen(cohort, dissenters, silent, asked.weights, asked.manifest, of), *orders, *refused)

    def _majority(self) -> tuple[str, str]:
        """The manifest that most workers have, and of its initial weights the commonest: those may all differ.

        On a tie it is the first worker's.
        """
        live = self.live
        found = [_beginning(live[name]) for name in sorted(live, key=by_number)]
        [(shape, _)] = Counter(manifest for _, manifest in found).most_common(1)
        fitting = Counter(beginning for beginning in found if beginning[1] == shape)
        return fitting.most_common(1)[0][0]

    def _learn(self, manifest: str) -> tuple[Action, ...]:
        self._manifest = manifest or self._manifest
        wrong = {
            name: member.enrolment.manifest
            for name, member in self.members.items()
            if self._manifest and member.enrolment.manifest != self._manifest
        }
        for name in wrong:
            del self.members[name]
        self._parting.difference_update(wrong)
        return tuple(Refuse(name, wrong[name], self._manifest) for name in sorted(wrong, key=by_number))


def _beginning(member: Member) -> tuple[str, str]:
    """The initial weights of a worker, by their digest, and what arrays they are."""
    return member.enrolment.weights, member.enrolment.manifest
