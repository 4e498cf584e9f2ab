"""A round always ends, never below its minimum, and counts nobody twice, whatever happens."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.extensions import Extension
from fl_core.plan import Selection, Shortfall
from fl_core.rounds import (
    Abandon,
    Action,
    Actions,
    Aggregate,
    Commit,
    Conclude,
    Convene,
    Evaluate,
    Fail,
    Finish,
    Past,
    Phase,
    Rounds,
    Skip,
)

NAMES = tuple(f"worker-{index}" for index in range(6))
COHORT = NAMES[:3]


def selection(**changes: Any) -> Selection:
    whole: dict[str, Any] = {
        "policy": Extension(name="uniform"),
        "per_round": 3,
        "extra": 0,
        "minimum": 2,
        "join_seconds": 10,
        "stall_seconds": 10,
        "deadline_seconds": 60,
        "on_shortfall": Shortfall(action="Retry", attempts=2),
    }
    return Selection(**{**whole, **changes})


def opened(*, rounds: int = 2, every: int = 1, cohort: tuple[str, ...] = COHORT, **changes: Any) -> Rounds:
    """A machine in the training of its first round, at time 0."""
    machine = Rounds(selection(**changes), rounds=rounds, evaluation_every=every)
    assert machine.begin() == (Convene(1, 1, 1),)
    assert machine.convened(cohort, now=0) == ()
    return machine


def reported(machine: Rounds, *workers: str) -> Actions:
    return tuple(action for worker in workers for action in machine.reported(worker))


def state(machine: Rounds) -> dict[str, Any]:
    return deepcopy(vars(machine))


# -- one step at a time


def test_a_whole_job() -> None:
    """Each round convenes, commits, evaluates and concludes; after the last one the job is done."""
    machine = Rounds(selection(), rounds=2, evaluation_every=1)
    actions = machine.begin()
    for number in (1, 2):
        assert actions == (Convene(number, 1, 1),)
        assert machine.convened(COHORT, now=0) == ()
        assert reported(machine, *COHORT) == (Commit(number, 1, COHORT),)
        assert machine.committed(now=2) == (Evaluate(number, COHORT),)
        assert reported(machine, *COHORT) == (Conclude(number, COHORT),)
        actions = machine.concluded()
    assert actions == (Finish("RoundsDone"),)
    assert machine.phase == Phase.FINISHED


def test_enough_closes_an_over_selected_round() -> None:
    """With more asked than needed, the first ones suffice, in the order of their names."""
    machine = opened(cohort=NAMES)
    assert reported(machine, NAMES[5], NAMES[0], NAMES[4]) == (Commit(1, 1, (NAMES[0], NAMES[4], NAMES[5])),)
    assert reported(machine, NAMES[1]) == ()


def test_the_rest_suffices_when_everybody_else_is_lost() -> None:
    """A round with its minimum closes as soon as nobody is missing."""
    machine = opened()
    assert reported(machine, *COHORT[:2]) == ()
    assert machine.lost(COHORT[2], reason="gone") == (Commit(1, 1, COHORT[:2]),)


def test_a_hopeless_round_does_not_wait() -> None:
    """As soon as the minimum is out of reach, the attempt is given up and says who is missing and why."""
    machine = opened()
    assert machine.lost(COHORT[0], reason="gone") == ()
    abandon, convene = machine.lost(COHORT[1], reason="no heartbeat")
    assert isinstance(abandon, Abandon)
    assert "selection.minimum (2) (worker-0: gone; worker-1: no heartbeat)" in abandon.reason
    assert convene == Convene(1, 2, 2)


@pytest.mark.parametrize("action", ["Retry", "Skip", "Fail"])
def test_who_is_told_to_end_costs_no_attempt(action: str) -> None:
    """Where others are there for the quorum they are asked, whatever the rule, and however often; it says who left."""
    rule = Shortfall(action=action, attempts=1)  # type: ignore[arg-type]
    machine = Rounds(selection(minimum=3, on_shortfall=rule), rounds=2, evaluation_every=1)
    machine.begin()
    machine.convened(COHORT, now=0)
    for attempt, worker in enumerate(COHORT, start=1):
        abandon, again = machine.lost(worker, reason="left", live=3)
        assert isinstance(abandon, Abandon)
        assert f"({worker} left: told to end" in abandon.reason
        assert again == Convene(1, attempt + 1, attempt + 1)
        assert machine.convened(COHORT, now=0) == ()
    assert [type(one) for one in machine.lost(COHORT[0], reason="gone", live=3)][1:] == [
        Skip if action == "Skip" else Fail
    ]


def test_who_goes_twice_costs_an_attempt() -> None:
    """A worker that comes back to a round only to leave it again cannot keep it open for ever."""
    machine = opened(minimum=3, on_shortfall=Shortfall(action="Fail", attempts=1))
    assert machine.lost(COHORT[0], reason="left", live=3)[1] == Convene(1, 2, 2)
    machine.convened(COHORT, now=0)
    assert isinstance(machine.lost(COHORT[0], reason="left", live=3)[1], Fail)


def test_where_too_few_stay_the_rule_holds() -> None:
    """A scaling down below the quorum is a shortfall like any other, and says who left; so is one without leavers."""
    rule = Shortfall(action="Fail", attempts=1)
    for live, reason, told in ((2, "left", "worker-0 left: told to end"), (6, "gone", "worker-0: gone")):
        machine = Rounds(selection(minimum=3, on_shortfall=rule), rounds=2, evaluation_every=1)
        machine.begin()
        machine.convened(COHORT, now=0)
        _, failed = machine.lost(COHORT[0], reason=reason, live=live)
        assert isinstance(failed, Fail)
        assert told in failed.sentence
        assert not failed.recurs


def test_an_end_that_would_recur_says_so() -> None:
    """Where the program is why everybody is lost, going on does not help."""
    rule = Shortfall(action="Fail", attempts=1)
    machine = opened(minimum=3, on_shortfall=rule)
    _, failed = machine.lost(COHORT[0], reason="worker-0's update: NaN")
    assert isinstance(failed, Fail)
    assert failed.recurs


@pytest.mark.parametrize(
    ("action", "first", "second"), [("Retry", Convene, Fail), ("Skip", Skip, Skip), ("Fail", Fail, None)]
)
def test_a_shortfall_is_what_the_spec_says(action: str, first: type, second: type | None) -> None:
    """Another attempt up to `attempts`, the next round, or the end of the job; always with the reason."""
    machine = opened(on_shortfall=Shortfall(action=action, attempts=2))
    abandon, after = machine.tick(now=60)
    assert isinstance(abandon, Abandon)
    assert "0 updates of 3 asked" in abandon.reason
    assert isinstance(after, first)
    if isinstance(after, Skip):
        assert machine.concluded() == (Convene(2, 1, 1),)
    machine.convened(COHORT, now=60)
    assert [type(one) for one in machine.tick(now=120)] == ([Abandon, second] if second else [])


def test_an_empty_cohort_is_a_shortfall() -> None:
    """A cohort below the minimum is not waited for."""
    machine = Rounds(selection(), rounds=1, evaluation_every=1)
    machine.begin()
    abandon, again = machine.convened((), now=0)
    assert isinstance(abandon, Abandon)
    assert again == Convene(1, 2, 2)


def test_the_deadline_holds_for_those_who_move() -> None:
    """Dripping bytes keep a worker from stalling, not from missing the deadline."""
    machine = opened()
    reported(machine, *COHORT[:2])
    for now in range(60):
        machine.moved(COHORT[2], now=now)
        assert machine.tick(now=now) == ()
    gathering = machine.gathering
    assert machine.tick(now=60) == (Commit(1, 1, COHORT[:2]),)
    assert gathering is not None
    assert gathering.dropped == {COHORT[2]: "deadline"}


def test_who_does_not_move_stalls() -> None:
    """A worker is given up `stallSeconds` after it last moved, and not before."""
    machine = opened()
    reported(machine, *COHORT[:2])
    machine.moved(COHORT[2], now=7)
    assert machine.wake() == 10  # it may be early, so that movement costs nothing
    assert machine.tick(now=10) == ()
    assert machine.wake() == 17
    assert machine.tick(now=16.9) == ()
    assert machine.tick(now=17) == (Commit(1, 1, COHORT[:2]),)


def test_the_silent_do_not_stall() -> None:
    """Who cannot show that it moves has until the deadline, when it trains and when it measures."""
    machine = Rounds(selection(), rounds=1, evaluation_every=1)
    machine.begin()
    machine.convened(COHORT, silent=COHORT, now=0)
    assert machine.tick(now=59) == ()
    reported(machine, *COHORT)
    machine.committed(now=100)
    assert machine.tick(now=159) == ()
    assert machine.tick(now=160) == (Conclude(1, ()),)


def test_late_news_of_movement_is_no_step_back() -> None:
    """Movement that is heard of late does not bring the stall nearer."""
    machine = opened()
    machine.moved(COHORT[0], now=5)
    machine.moved(COHORT[0], now=3)
    assert machine.gathering is not None
    assert machine.gathering.moved[COHORT[0]] == 5


def test_evaluation_needs_nobody() -> None:
    """A round that is committed concludes even if no worker measures the new model."""
    machine = opened()
    reported(machine, *COHORT)
    machine.committed(now=2)
    actions = [action for worker in COHORT for action in machine.lost(worker, reason="gone")]
    assert actions == [Conclude(1, ())]


def test_evaluation_every_few_rounds() -> None:
    """Rounds between evaluations conclude at once; the last one is always measured."""
    machine = Rounds(selection(), rounds=3, evaluation_every=2)
    measured = []
    actions = machine.begin()
    while not isinstance(actions[0], Finish):
        machine.convened(COHORT, now=0)
        reported(machine, *COHORT)
        measured.append(isinstance(machine.committed(now=2)[0], Evaluate))
        reported(machine, *COHORT)
        actions = machine.concluded()
    assert measured == [False, True, True]


def test_the_wish_to_end_waits_for_the_round() -> None:
    """A job that is told to end closes and measures its open round first."""
    machine = opened(every=2)
    assert machine.finish("Stopped") == ()
    reported(machine, *COHORT)
    assert machine.committed(now=2) == (Evaluate(1, COHORT),)
    reported(machine, *COHORT)
    assert machine.concluded() == (Finish("Stopped"),)


def test_the_wish_to_end_before_a_cohort_is_chosen() -> None:
    """Where no worker has been asked, the job ends at once, and a cohort that comes later opens nothing."""
    machine = Rounds(selection(), rounds=2, evaluation_every=1)
    machine.begin()
    assert machine.finish("Stopped") == (Finish("Stopped"),)
    assert machine.convened(COHORT, now=1) == ()
    assert (machine.phase, machine.round, machine.gathering) == (Phase.FINISHED, 0, None)


@pytest.mark.parametrize("before", [True, False])
def test_a_job_ends_with_the_round_that_was_wished_for(*, before: bool) -> None:
    """Asked before its first round or while one selects, it trains that round, measures it, and begins no other."""
    machine = Rounds(selection(), rounds=8, evaluation_every=5)
    if before:
        assert machine.shorten(2) == ()
    machine.begin()
    if not before:
        assert machine.shorten(2) == ()
    for number in (1, 2):
        assert machine.round == number
        machine.convened(COHORT, now=0)
        reported(machine, *COHORT)
        measured = machine.committed(now=1)
        ends = machine.concluded()
    assert measured == (Evaluate(2, COHORT),)
    assert (ends, machine.shorten(3)) == ((Finish("Stopped"),), ())


def test_a_wish_for_a_round_that_is_over() -> None:
    """The round for which nobody was asked yet does not begin; one that trains is the last."""
    machine = Rounds(selection(), rounds=8, evaluation_every=1, done=5)
    machine.begin()
    selecting = deepcopy(machine)
    assert selecting.shorten(5) == (Finish("Stopped"),)
    assert (selecting.round, selecting.convened(COHORT, now=1)) == (5, ())
    machine.convened(COHORT, now=0)
    assert machine.shorten(3) == ()
    reported(machine, *COHORT)
    machine.committed(now=1)
    assert (machine.concluded(), machine.round) == ((Finish("Stopped"),), 6)


def test_a_wish_that_comes_in_the_last_round_changes_nothing() -> None:
    """All rounds are done then, and the job says so."""
    machine = Rounds(selection(), rounds=8, evaluation_every=1, done=7)
    machine.begin()
    machine.convened(COHORT, now=0)
    assert machine.shorten(6) == ()
    reported(machine, *COHORT)
    machine.committed(now=1)
    assert (machine.concluded(), machine.round) == ((Finish("RoundsDone"),), 8)


def test_a_wish_makes_no_job_longer() -> None:
    """A later wish for more rounds, or for more than there are, changes nothing."""
    machine = Rounds(selection(), rounds=8, evaluation_every=1)
    for last in (20, 3, 5):
        machine.shorten(last)
    assert machine.rounds == 3


def test_rounds_that_are_done_stay_done() -> None:
    """A server that starts again goes on after the rounds behind it."""
    assert Rounds(selection(), rounds=5, evaluation_every=1, done=3).begin() == (Convene(4, 1, 1),)
    assert Rounds(selection(), rounds=5, evaluation_every=1, done=5).begin() == (Finish("RoundsDone"),)


def test_an_attempt_of_another_process_is_not_opened_again() -> None:
    """A server that starts again opens the next one with the same draw; one that comes to nothing then draws anew."""
    machine = Rounds(selection(), rounds=5, evaluation_every=1, done=3)
    machine.past = Past({4: 3}, draws={4: 2})
    assert machine.begin() == (Convene(4, 4, 2),)
    machine.convened(COHORT, now=0)
    *_, convene = machine.tick(now=10**6)
    assert convene == Convene(4, 5, 3)


def test_a_commit_of_another_process_is_gone_on_with() -> None:
    """A server that starts again after a commit measures that model before the next round."""
    machine = Rounds(selection(), rounds=5, evaluation_every=1, done=3)
    assert machine.resume(2, reversed(COHORT), now=0) == (Evaluate(3, COHORT),)
    assert reported(machine, *COHORT) == (Conclude(3, COHORT),)
    assert machine.concluded() == (Convene(4, 1, 1),)


@pytest.mark.parametrize("worker", ["worker-0", "worker-1", "worker-5", "server", ""])
def test_a_refused_event_changes_no_state(worker: str) -> None:
    """Who has reported, who is lost and who was not asked can neither report, nor move, nor be lost."""
    machine = opened(minimum=1)
    reported(machine, "worker-0")
    machine.lost("worker-1", reason="gone")
    before = state(machine)
    assert machine.reported(worker) == ()
    assert machine.lost(worker, reason="again") == ()
    machine.moved(worker, now=5)
    assert state(machine) == before


def test_a_second_cohort_is_refused() -> None:
    """An answer of the scheduler that nobody waits for does not replace the open cohort."""
    machine = opened()
    before = state(machine)
    assert machine.convened(NAMES[3:], now=5) == ()
    assert state(machine) == before


def test_an_earlier_attempts_worker_is_a_stranger() -> None:
    """What a worker of an abandoned attempt reports is not taken for one of the next attempt's cohort."""
    machine = opened()
    machine.tick(now=60)
    machine.convened(NAMES[3:], now=61)
    before = state(machine)
    assert reported(machine, *COHORT) == ()
    assert state(machine) == before


# -- whatever happens


@dataclass
class Play:
    """A driver that answers every action at once, and an account of its own of who has reported."""

    machine: Rounds
    cohorts: list[set[str]]
    now: float = 0.0
    since: float = 0.0
    asked: set[str] = field(default_factory=set)
    credited: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    attempts: list[tuple[int, int]] = field(default_factory=list)
    ended: Action | None = None

    def carry_out(self, actions: Actions) -> None:
        for action in actions:
            self.carry_out(self.answer(action))

    def answer(self, action: Action) -> Actions:
        match action:
            case Convene(number, attempt):
                self.attempts.append((number, attempt))
                cohort = self.cohorts[len(self.attempts) % len(self.cohorts)]
                self.expect(cohort)
                return self.machine.convened(cohort, silent=list(cohort)[:1], now=self.now)
            case Commit(_, _, reporters):
                assert list(reporters) == sorted(self.credited)
                assert self.machine.selection.minimum <= len(reporters) <= self.machine.selection.per_round
                self.expect(set(reporters))
                return self.machine.committed(now=self.now)
            case Conclude(_, measured):
                assert list(measured) == sorted(self.credited) or not measured
                return self.machine.concluded()
            case Skip():
                return self.machine.concluded()
            case Finish() | Fail():
                self.ended = action
        return ()

    def expect(self, cohort: set[str]) -> None:
        self.asked, self.credited, self.gone, self.since = set(cohort), [], set(), self.now

    def tell(self, kind: str, worker: str, seconds: int) -> None:
        """One event of the world; what was not to be expected must change nothing."""
        before, wanted = state(self.machine), worker in self.asked - self.gone - set(self.credited)
        if kind == "report":
            if wanted:
                self.credited.append(worker)
            actions = self.machine.reported(worker)
        elif kind in {"gone", "left"}:
            self.gone |= {worker} & self.asked - set(self.credited)
            actions = self.machine.lost(worker, reason=kind, live=seconds)
        elif kind == "move":
            self.machine.moved(worker, now=self.now)
            actions = ()
        else:
            self.pass_time(self.now + seconds)
            return
        if not wanted:
            assert actions == ()
            assert state(self.machine) == before
        self.carry_out(actions)

    def pass_time(self, now: float) -> None:
        self.now = now
        gathering = self.machine.gathering
        actions = self.machine.tick(now=now)
        if gathering is not None:
            self.gone |= set(gathering.dropped)
            assert now < self.since + self.machine.selection.deadline_seconds or not gathering.missing
        self.carry_out(actions)


cohorts = st.lists(st.sets(st.sampled_from(NAMES), max_size=6), min_size=1, max_size=4)
events = st.lists(
    st.tuples(
        st.sampled_from(["report", "report", "gone", "left", "move", "time"]),
        st.sampled_from([*NAMES, "stranger"]),
        st.integers(0, 30),
    ),
    max_size=60,
)
shortfalls = st.builds(
    Shortfall, action=st.sampled_from(["Retry", "Skip", "Fail"]), attempts=st.integers(1, 3)
)


@settings(deadline=None, max_examples=150)
@given(cohorts, events, shortfalls, st.integers(1, 3), st.integers(0, 2), st.integers(1, 3))
def test_every_round_ends(
    answers: list[set[str]],
    happened: list[tuple[str, str, int]],
    shortfall: Shortfall,
    minimum: int,
    more: int,
    every: int,
) -> None:
    """Whatever is reported, lost, repeated or silent: the job ends, within deadlines and attempts.

    An attempt more is made for the sake of each worker that was told to end, at most.
    """
    chosen = selection(per_round=minimum + more, minimum=minimum, on_shortfall=shortfall)
    play = Play(Rounds(chosen, rounds=3, evaluation_every=every), answers)
    play.carry_out(play.machine.begin())
    for event in happened:
        play.tell(*event)
    limit = play.now + chosen.deadline_seconds * 2 * 3 * (shortfall.attempts + len(NAMES))
    while (wake := play.machine.wake()) is not None:
        before = state(play.machine)
        play.pass_time(max(wake, play.now))
        assert state(play.machine) != before
    assert play.ended is not None
    assert play.machine.phase == Phase.FINISHED
    assert play.now <= limit
    assert len(play.attempts) == len(set(play.attempts))
    left = {worker for kind, worker, _ in happened if kind == "left"}
    assert max(attempt for _, attempt in play.attempts) <= shortfall.attempts + len(left)


# -- a record is followed


def aggregating(*, bound: tuple[int, ...] = (), **changes: Any) -> Rounds:
    """A machine whose first round is being summed; an earlier process may have had sums signed."""
    machine = Rounds(selection(**changes), rounds=2, evaluation_every=1, secure=True)
    machine.past = Past({1: 3} if bound else {}, bound)
    (convene,) = machine.begin()
    assert convene == Convene(1, *((4, 1) if bound else (1, 1)))
    machine.convened(COHORT, now=0)
    assert reported(machine, *COHORT) == (Aggregate(1, machine.attempt, COHORT, measurements=False),)
    return machine


def test_a_sum_that_may_be_signed_is_sought_again() -> None:
    """In as many attempts as the spec allows; after the last one the round is skipped, and the job goes on."""
    machine = aggregating()
    abandon, convene = machine.unsummed("too few", bound=True)
    assert (abandon, convene) == (Abandon(1, 1, "round 1, attempt 1: too few"), Convene(1, 2, 2))
    machine.convened(COHORT, now=0)
    reported(machine, *COHORT)
    assert machine.unsummed("again", bound=False)[1:] == (Skip(1, "round 1, attempt 2: again"),)
    assert machine.concluded() == (Convene(2, 1, 1),)


def test_too_few_to_seek_a_signed_sum_skip_the_round() -> None:
    """Nobody else may be asked, so that the job would fail for one round that was lost."""
    machine = aggregating(on_shortfall=Shortfall(action="Retry", attempts=2))
    machine.unsummed("too few", bound=True)
    assert isinstance(machine.convened((), now=0)[1], Skip)


def test_a_sum_that_is_sought_again_can_be_made() -> None:
    """Then the round is committed by that attempt, and the next one has all its attempts."""
    machine = aggregating(bound=(1,))
    assert machine.summed(COHORT) == (Commit(1, 4, COHORT),)
    machine.committed(now=0)
    reported(machine, *COHORT)
    machine.summed(COHORT)
    assert machine.concluded() == (Convene(2, 1, 1),)
    machine.convened(COHORT, now=0)
    reported(machine, *COHORT)
    assert isinstance(machine.unsummed("too few", bound=False)[1], Convene)


def test_what_an_earlier_process_had_signed_is_skipped_when_too_few_come() -> None:
    """Whatever is to be done about a shortfall: those who come may not be those who signed."""
    for action in ("Retry", "Skip", "Fail"):
        machine = aggregating(bound=(1,), on_shortfall=Shortfall(action=action, attempts=1))
        assert isinstance(machine.unsummed("too few", bound=True)[1], Skip)


def test_rounds_that_were_begun_after_a_lost_checkpoint_are_skipped() -> None:
    """Workers send no vector of an earlier round than their last one, nor of that one from another model."""
    machine = Rounds(selection(), rounds=3, evaluation_every=1, secure=True)
    machine.past = Past({1: 1, 2: 1}, (1, 2))
    for actions in (machine.begin(), machine.concluded()):
        (skip,) = actions
        assert isinstance(skip, Skip)
        assert "workers have sent vectors up to round 2" in skip.reason
    assert machine.concluded() == (Convene(3, 1, 1),)


def test_a_spoilt_sum_is_not_sought_again() -> None:
    """It would be spoilt again."""
    machine = aggregating()
    assert isinstance(machine.unsummed("masks do not come off", bound=True, spoilt=True)[1], Skip)


@pytest.mark.parametrize(("action", "then"), [("Skip", Skip), ("Fail", Fail)])
def test_no_sum_is_sought_again_where_no_round_is(action: Any, then: type) -> None:
    """A job that skips or fails at a shortfall does so at this one."""
    machine = aggregating(on_shortfall=Shortfall(action=action, attempts=2))
    assert isinstance(machine.unsummed("too few", bound=True)[1], then)


def following(skipped: tuple[int, ...] = (), *, secure: bool = False) -> Rounds:
    """Three rounds of a record that skipped some; two updates would do where none is followed."""
    return Rounds(selection(), rounds=3, evaluation_every=1, secure=secure, replayed=skipped)


def test_a_round_that_the_record_skipped_is_skipped() -> None:
    """Nobody is asked for it, and the next one goes on as recorded."""
    machine = following((1,))
    assert machine.begin() == (Skip(1, "round 1: the record that is replayed skipped it"),)
    assert machine.concluded() == (Convene(2, 1, 1),)


def test_a_replayed_round_needs_everybody() -> None:
    """One lost worker is one too many, though the job's own minimum is reached: the round is tried again."""
    machine = following()
    machine.begin()
    machine.convened(COHORT, now=0)
    assert reported(machine, *COHORT[:2]) == ()
    abandon, again = machine.lost(COHORT[2], reason="gone")
    assert isinstance(abandon, Abandon)
    assert again == Convene(1, 2, 2)


def test_a_sum_that_lacks_a_recorded_worker_ends_the_replay() -> None:
    """It cannot be sought again, and another model would be made of it."""
    machine = following(secure=True)
    machine.begin()
    machine.convened(COHORT, now=0)
    reported(machine, *COHORT)
    (failed,) = machine.summed(COHORT[:2])
    assert isinstance(failed, Fail)
    assert "the sum lacks worker-2, whom the record has" in failed.sentence


def test_a_replay_ends_with_the_record() -> None:
    """A target ends no replay, for the record went on; a user may."""
    machine = following()
    machine.begin()
    assert machine.concluded(ending="TargetReached") == (Convene(2, 1, 1),)
    machine.convened(COHORT, now=0)
    machine.finish("Stopped")
    assert machine.concluded() == (Finish("Stopped"),)
