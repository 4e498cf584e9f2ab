"""A search for attacks by a malicious server with colluding workers, on real members; broken protocols fall to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fl_core.errors import ProtocolError
from fl_core.secagg.messages import Agreement, Roster
from fl_core.secagg.server import SEALED_BYTES
from fl_core.secagg.session import Context, Entry, Purpose, root_of
from fl_core.secagg.terms import Terms
from fl_core.secagg.worker import Me, Member, Step
from fl_worker.memory import FileMemory
from tests.fl_core.secagg.attacker import LAYOUT, Attacker, vector_of
from tests.fl_core.secagg.cast import Stream, context, signer, trust
from tests.fl_core.secagg.mutants import (
    MUTANTS,
    content_is_not_bound,
    no_memory_of_survivors,
    ranges_are_told_twice,
)

CASTS = [
    (3, 0, Terms()),
    (3, 1, Terms()),
    (4, 0, Terms()),
    (4, 1, Terms()),
    (5, 0, Terms()),
    (5, 0, Terms(tolerate=2)),
    (5, 1, Terms()),
    (5, 2, Terms(minimum=5)),
]
"""Workers, how many of them collude, and terms under which 2t > n + c holds for every list of candidates allowed."""

MASKED = 5
EVERYBODY = 2**MASKED - 1
but_one = some.sampled_from([EVERYBODY - 2**worker for worker in range(MASKED)])
everybody = some.one_of(some.just(EVERYBODY), some.just(EVERYBODY), but_one, some.integers(0, EVERYBODY))
nobody = everybody.map(lambda who: EVERYBODY - who)
latest = some.integers(0, 2)
"""Sets of workers as bits, a sixth worker with the first; and the session that began last, or one or two before."""

MOST_PLAYS = 4


@dataclass(frozen=True)
class Place:
    """Where a session begins, what is summed and how far it goes at once; if rosters are forged; whose vector is anew.

    An update is `counted` where it tells what lies beyond the ranges.
    """

    round: int = 1
    attempt: int = 1
    far: int = 2
    forged: bool = False
    anew: int = 0
    purpose: Purpose = "update"
    counted: bool = False

    def context(self, terms: Terms) -> Context:
        """The sum that begins here."""
        tells = self.purpose == "range" or (self.purpose == "update" and self.counted)
        return context(
            terms,
            round=self.round,
            attempt=self.attempt,
            purpose=self.purpose,
            shape=f"{self.purpose} {tells}",
            tells_ranges=tells,
        )


places = some.builds(
    Place,
    round=some.sampled_from([1, 1, 1, 1, 2]),
    attempt=latest,
    far=some.sampled_from([2, 2, 2, 2, 1, 0]),
    forged=some.sampled_from([False, False, False, True]),
    anew=some.one_of(some.just(0), some.just(0), some.just(EVERYBODY), some.integers(0, EVERYBODY)),
    purpose=some.sampled_from(["update", "update", "update", "range", "measure"]),
    counted=some.booleans(),
)


class Play:
    """One session as the server plays it: the honest members, who may have been shown different things."""

    def __init__(self, members: Mapping[int, Member]) -> None:
        self.members = dict(members)
        self.context = next(iter(members.values())).context
        self.entries: dict[int, Entry] = {}


class MaliciousServer(RuleBasedStateMachine):
    """Shows anything to anybody, in any order, over attempts, crashes and rollbacks, many sessions at a time."""

    masked = MASKED

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.plays: list[Play] = []
        self.attacker = Attacker(())
        self.workers = range(0)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(cast=some.sampled_from(CASTS))
    def gather(self, cast: tuple[int, int, Terms]) -> None:
        """The last ones collude."""
        n, colluding, self.terms = cast
        self.workers = range(n)
        self.attacker = Attacker(range(n - colluding, n))
        self.memories = {worker: self._memory(worker) for worker in self.workers}

    @rule(
        move=some.sampled_from(["begin", "begin", "freeze", "deal", "survive", "survive", "crash"]),
        play=latest,
        one=everybody,
        other=everybody,
        to=everybody,
        place=places,
    )
    def turn(self, move: str, play: int, one: int, other: int, to: int, place: Place) -> None:
        """Do one thing; as one rule, so that no run goes without any of them."""
        if move == "begin" or not self.plays:
            if len(self.plays) < MOST_PLAYS:
                self.begin(one, place)
        elif move == "freeze":
            self.freeze(self.plays[-1 - play % len(self.plays)], one, other, to=to, forged=place.forged)
        elif move == "deal":
            dealt = self.plays[-1 - play % len(self.plays)]
            self.deal(dealt, to, dropped=EVERYBODY - other, anew=place.anew)
        elif move == "survive":
            self.survive(self.plays[-1 - play % len(self.plays)], one, other, to=to)
        else:
            self.crash(EVERYBODY - one)

    def begin(self, who: int, place: Place) -> None:
        """Ask some for advertisements, in any round and attempt; and go on so far, with all of them."""
        which = place.context(self.terms)
        honest = self._some(who) - self.attacker.colluders
        members = {worker: Member(self._me(worker), which) for worker in sorted(honest)}
        if members:
            self.plays.append(play := Play(members))
            play.entries = {worker: member.advertise() for worker, member in members.items()}
            if place.far > 0:
                self._show(play, self._roster(play, who, who, forged=place.forged), who)
            if place.far > 1:
                self.deal(play, who, dropped=0, anew=place.anew)

    def freeze(self, play: Play, one: int, other: int, *, to: int, forged: bool) -> None:
        """Show one roster to some and another one to the rest; in a forged one all others' keys are the server's."""
        self._show(play, self._roster(play, one, one | other, forged=forged), to)
        self._show(play, self._roster(play, other, one | other, forged=forged), EVERYBODY - to)

    def deal(self, play: Play, to: int, *, dropped: int, anew: int = 0) -> None:
        """Deal shares out to some, without those of some others; some have made their vectors anew."""
        for worker in self._some(to).intersection(play.members):
            member = play.members[worker]
            if member.step != Step.SHARED:
                continue
            session = member._joined
            sealed = self.attacker.seen[session.id].sealed
            dealt = {
                other: sealed.get(other, {}).get(worker, bytes(SEALED_BYTES))
                for other in session.neighbours(worker)
                if other not in self._some(dropped)
            }
            version = int(worker in self._some(anew))
            vector = vector_of(worker, version)
            if tried(lambda m=member, v=vector, d=dealt: m.mask(v, LAYOUT, d) or True):
                self.attacker.uploaded(member, vector, dealt, version=version)

    def survive(self, play: Play, one: int, other: int, *, to: int) -> None:
        """Name survivors to some and others to the rest; then ask all for their shares with whatever there is."""
        for listed, told in ((one, to), (other, EVERYBODY - to)):
            for worker in self._some(told).intersection(play.members):
                self._tell(play.members[worker], self._some(listed))
        for member in play.members.values():
            self._unmask(member)

    def crash(self, who: int) -> None:
        """Some restart: their sessions are gone, their files are not."""
        for worker in self._some(who):
            for play in self.plays:
                play.members.pop(worker, None)
            self.memories[worker] = self._memory(worker)

    @invariant()
    def nothing_leaks(self) -> None:
        """What is known of vectors are sums that enough have agreed to."""
        self.attacker.check()

    # -- how --

    def _some(self, mask: int) -> set[int]:
        return {worker for worker in self.workers if mask >> worker % self.masked & 1}

    def _memory(self, worker: int) -> FileMemory:
        return FileMemory(self.folder / f"{worker}.json")

    def _me(self, worker: int) -> Me:
        source = Stream((worker, len(self.plays)))
        return Me(signer(worker), trust(), self.memories[worker], source)

    def _roster(self, play: Play, members: int, among: int, *, forged: bool) -> Callable[[int], Roster]:
        """The roster for a viewer: whoever has not advertised is left out, colluders are always there."""
        there = self._some(members).intersection({*play.entries, *self.attacker.colluders})
        candidates = tuple(sorted(self._some(among) | there))
        own = {
            worker: self.attacker.entry(worker, play.context)
            for worker in there
            if forged or worker in self.attacker.colluders
        }

        def seen_by(viewer: int) -> Roster:
            entries = {**play.entries, **own, viewer: play.entries[viewer]}
            listed = tuple(entries[worker] for worker in sorted(there))
            return Roster(candidates, tuple(sorted(there)), root_of(listed), listed)

        return seen_by

    def _show(self, play: Play, roster: Callable[[int], Roster], to: int) -> None:
        for worker in self._some(to).intersection(play.members):
            member, shown = play.members[worker], roster(worker)
            if (sealed := tried(member.share, shown)) is not None:
                self.attacker.shown(member, shown, sealed)

    def _tell(self, member: Member, workers: set[int]) -> None:
        if member.step < Step.MASKED:
            return
        listed = tuple(sorted(workers.intersection(member._joined.members)))
        if (signature := tried(member.sign, listed)) is not None:
            self.attacker.seen[member._joined.id].signatures[listed][member._worker] = signature

    def _unmask(self, member: Member) -> None:
        """With good signatures and, where there are too few of them, with bad ones; and once more."""
        if member.step < Step.SIGNED:
            return
        session, listed = member._joined, member._survivors
        good = self.attacker.signatures(self.attacker.seen[session.id], listed)
        bad = {worker: good.get(worker, bytes(70)) for worker in listed}
        for signatures in (good, bad):
            if (answer := tried(member.unmask, Agreement(signatures))) is not None:
                self.attacker.unmasked(member, answer)
                assert tried(member.unmask, Agreement(signatures)) is None, "it has answered twice"


def tried(act: Callable[..., Any], *what: Any) -> Any:
    """What a member says to this, or None if it refuses it."""
    try:
        return act(*what)
    except ProtocolError:
        return None


def search(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """The same search in every run; it stops at the first thing it finds."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def test_a_malicious_server_learns_agreed_sums_only() -> None:
    """Whatever it shows to whom, and with whomever it colludes, it knows sums that enough have agreed to, no more."""
    opened: list[int] = []

    class Counted(MaliciousServer):
        def teardown(self) -> None:
            opened.append(len(self.attacker.relations()))
            super().teardown()

    search(Counted, 100)
    assert sum(map(bool, opened)) > 10, "a search that seldom comes as far as a sum finds nothing"


def overlapping_candidates() -> MaliciousServer:
    """Two cohorts in one round with worker 2 in both, each with signatures of three, worker 4's twice."""
    machine = MaliciousServer()
    machine.gather((5, 1, Terms()))
    machine.begin(0b10111, Place(attempt=1))
    machine.survive(machine.plays[-1], EVERYBODY, 0, to=0b00011)
    machine.begin(0b11100, Place(attempt=2))
    machine.survive(machine.plays[-1], EVERYBODY, 0, to=EVERYBODY)
    return machine


def test_two_sums_of_one_round_have_nobody_in_common() -> None:
    """Whoever sent a vector under some candidates sends none under others, so that the second sum never opens."""
    machine = overlapping_candidates()
    assert len(machine.attacker.relations()) == 1
    machine.nothing_leaks()
    machine.teardown()


def test_without_a_memory_of_candidates_two_sums_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that forgets candidates opens both, and their difference is no sum that anybody agreed to."""
    monkeypatch.setattr(FileMemory, "bind", lambda *_: None)
    machine = overlapping_candidates()
    with pytest.raises(AssertionError, match=r"leak: \+1\*x0"):
        machine.nothing_leaks()
    machine.teardown()


def made_anew(anew: int) -> MaliciousServer:
    """All open their sum; in the next attempt some have other vectors, and whoever sends one signs for all again."""
    machine = MaliciousServer()
    machine.gather((4, 0, Terms()))
    for attempt, others in ((1, 0), (2, anew)):
        machine.begin(EVERYBODY, Place(attempt=attempt, anew=others))
        machine.survive(machine.plays[-1], EVERYBODY, 0, to=EVERYBODY)
    return machine


@pytest.mark.parametrize("anew", [0b0001, EVERYBODY], ids=["one", "all"])
def test_a_vector_that_was_made_anew_is_in_no_second_sum(anew: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sent a vector sends no other in a later attempt, in which a second sum would tell their difference."""
    machine = made_anew(anew)
    assert len(machine.attacker.relations()) == 1
    machine.nothing_leaks()
    machine.teardown()
    content_is_not_bound(monkeypatch)
    machine = made_anew(anew)
    with pytest.raises(AssertionError, match=r"leak: \+1\*x0"):
        machine.nothing_leaks()
    machine.teardown()


class OneSum(MaliciousServer):
    """Asks for the same sum of updates again and again, of which it comes further in as many turns."""

    def begin(self, who: int, place: Place) -> None:
        super().begin(who, replace(place, round=1, purpose="update", counted=False))


class RangesOnly(MaliciousServer):
    """Asks for votes and counts alone: all of its updates tell what lies beyond the ranges."""

    def begin(self, who: int, place: Place) -> None:
        purpose = "range" if place.purpose == "measure" else place.purpose
        super().begin(who, replace(place, purpose=purpose, counted=True))


VOTED = Place(purpose="range")
COUNTED = Place(attempt=2, counted=True)


def told_by_two_lists(first: Place, second: Place, *between: Place) -> MaliciousServer:
    """Two kinds of sums of one round, of all but worker 3 and then of all, and others of all between them."""
    machine = MaliciousServer()
    machine.gather((4, 0, Terms()))
    for who, place in ((0b0111, first), *((EVERYBODY, one) for one in between), (EVERYBODY, second)):
        machine.begin(who, place)
        machine.survive(machine.plays[-1], who, 0, to=EVERYBODY)
    return machine


@pytest.mark.parametrize("between", [(), (Place(round=2),), (Place(round=2, purpose="range"),)], ids=len)
@pytest.mark.parametrize(("first", "second"), [(VOTED, COUNTED), (COUNTED, VOTED)], ids=["votes", "counts"])
def test_votes_and_counts_of_one_round_are_of_no_two_lists(
    first: Place, second: Place, between: tuple[Place, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has voted for ranges counts nothing beyond them in that round, nor the reverse, whatever sums of a later
    round were asked for meanwhile; else one stands alone.
    """
    machine = told_by_two_lists(first, second, *between)
    machine.nothing_leaks()
    machine.teardown()
    if between:  # whatever the later one was, the earlier round is over
        return
    ranges_are_told_twice(monkeypatch)
    machine = told_by_two_lists(first, second)
    with pytest.raises(AssertionError, match=r"leak: \+1\*x3"):
        machine.nothing_leaks()
    machine.teardown()


@pytest.mark.parametrize("later", [Place(), Place(purpose="measure")], ids=["update", "measure"])
def test_other_sums_of_the_round_open_after_the_votes(later: Place) -> None:
    """An update that counts nothing, and measurements, are summed as ever, also among others than have voted."""
    machine = told_by_two_lists(VOTED, later)
    assert len(machine.attacker.relations()) == 2
    machine.nothing_leaks()
    machine.teardown()


@pytest.mark.parametrize(("terms", "leaks"), [(Terms(), False), (Terms(tolerate=2), True)], ids=["4", "3"])
def test_the_threshold_bears_so_many_colluders_and_no_more(terms: Terms, *, leaks: bool) -> None:
    """Among five, with one that signs twice, a threshold of 4 keeps 2t > n + c; one of 3 does not, and all is lost."""
    machine = MaliciousServer()
    machine.gather((5, 1, terms))
    machine.begin(EVERYBODY, Place())
    machine.survive(machine.plays[-1], EVERYBODY, 0b11110, to=0b00011)
    if leaks:
        with pytest.raises(AssertionError, match=r"leak: \+1\*x0"):
            machine.nothing_leaks()
    else:
        machine.nothing_leaks()
    machine.teardown()


def test_the_search_claims_no_more_than_is_said() -> None:
    """Each cast has at most as many colluders as terms say of every list, those of fewer than all among them."""
    assert all(colluding <= terms.helping(n) for n, colluding, terms in CASTS)


NARROWER = {
    ranges_are_told_twice: RangesOnly,
    no_memory_of_survivors: OneSum,
    content_is_not_bound: OneSum,
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_search_finds_a_broken_protocol(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any one of its checks the protocol falls to the same search, or to one of the kind of sum it is about."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="leak|answered twice"):
        search(NARROWER.get(mutant, MaliciousServer), 2000)
