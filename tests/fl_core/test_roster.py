"""Leases expire and workers return; the same candidates and seed give the same cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.cohorts import MOST_NAMED, Draw
from fl_core.extensions import Extension
from fl_core.plan import Selection, Shortfall
from fl_core.roster import (
    LEASE_SECONDS,
    MOST_ABSENT,
    RETURN_SECONDS,
    Action,
    Call,
    Chosen,
    Enrolment,
    Failed,
    Lost,
    Moved,
    Order,
    Refuse,
    Release,
    Roster,
    Waiting,
)
from fl_core.selection.uniform import Uniform
from fl_core.shortfall import LEFT

TRAIN = Call("train", 1, 1, "model", "shape")
FIRST = Call("initialise", 0, 1)
DRAW = Draw(Uniform(), seed=7)
HONEST = Enrolment(weights="zero", manifest="shape", moves=True)


def selection(**changes: Any) -> Selection:
    whole: dict[str, Any] = {
        "policy": Extension(name="uniform"),
        "per_round": 2,
        "extra": 1,
        "minimum": 2,
        "join_seconds": 10,
        "stall_seconds": 10,
        "deadline_seconds": 60,
        "on_shortfall": Shortfall(action="Retry", attempts=2),
    }
    return Selection(**{**whole, **changes})


def roster(*workers: str, seed: int = 7, expected: int = 4, **changes: Any) -> Roster:
    """A roster that these workers have enrolled on at time 0."""
    made = Roster(selection(**changes), Draw(Uniform(), seed=seed), expected=names(expected))
    for worker in workers:
        made.enrol(worker, HONEST, now=0)
    return made


def names(count: int) -> tuple[str, ...]:
    return tuple(f"worker-{index}" for index in range(count))


def cohort(actions: Iterable[Action]) -> tuple[str, ...]:
    """Whom the one answer among these actions has chosen."""
    (chosen,) = [action for action in actions if isinstance(action, Chosen)]
    return chosen.workers


def state(made: Roster) -> dict[str, Any]:
    return deepcopy({name: value for name, value in vars(made).items() if name != "_draw"})


# -- who is chosen


def test_everybody_here_is_answered_at_once() -> None:
    """When all that are expected attend, a call is answered with a cohort, and each of it gets its order."""
    chosen, *orders = roster(*names(4)).call(TRAIN, now=1)
    assert isinstance(chosen, Chosen)
    assert len(chosen.workers) == 3
    assert orders == [Order(worker, TRAIN) for worker in chosen.workers]


def test_a_quorum_waits_for_the_others_for_a_while() -> None:
    """The first call waits `joinSeconds` from the quorum on for all who are expected, then takes who is there."""
    made = roster("worker-0")
    assert made.call(TRAIN, now=0) == (Waiting(1, 4, ("worker-1", "worker-2", "worker-3")),)
    assert made.enrol("worker-1", HONEST, now=5) == (Waiting(2, 4, ("worker-2", "worker-3")),)
    made.beat("worker-0", steps=0, now=14)
    assert made.wake() == 15
    assert [type(action) for action in made.tick(now=14.9)] == [Waiting]
    assert cohort(made.tick(now=15)) == ("worker-0", "worker-1")


def test_who_comes_beyond_the_expected_is_chosen_too() -> None:
    """A call does not wait for more than are expected; those who come later are candidates of the next one."""
    made = roster(*names(3), expected=3, per_round=3, extra=0)
    assert cohort(made.call(TRAIN, now=1)) == names(3)
    for worker in ("worker-3", "worker-4"):
        assert made.enrol(worker, HONEST, now=2) == ()
    chosen = {cohort(made.call(Call("train", number, 1), now=3)) for number in range(2, 12)}
    assert {"worker-3", "worker-4"} <= {worker for workers in chosen for worker in workers}


def test_who_was_taken_away_is_asked_no_more() -> None:
    """After a scaling down the rounds go on with those who stay, and wait for nobody else."""
    made = roster(*names(5), expected=5, per_round=2, extra=0)
    made.call(TRAIN, now=1)
    for worker in ("worker-3", "worker-4"):
        made.leave(worker, now=2)
    made.tick(now=2 + RETURN_SECONDS)
    for number in range(2, 12):
        actions = made.call(Call("train", number, 1), now=6)
        assert set(cohort(actions)) <= set(names(3))


def test_a_lost_quorum_waits_anew() -> None:
    """When the quorum is lost while a call waits, the next quorum's wait starts from its own beginning."""
    made = roster("worker-0", "worker-1")
    made.call(TRAIN, now=0)
    made.quit("worker-1", reason="gone")
    made.tick(now=9)
    made.beat("worker-0", steps=0, now=9)
    made.enrol("worker-1", HONEST, now=9)
    assert made.wake() == 19


def test_later_calls_wait_for_the_minimum_only() -> None:
    """Once a cohort has been chosen, a round begins with whoever is there, or as soon as the minimum is."""
    made = roster(*names(4))
    made.call(TRAIN, now=1)
    made.close()
    for worker in names(3):
        made.quit(worker, reason="gone")
    assert made.call(Call("train", 2, 1), now=2) == (Waiting(1, 2, names(3)),)
    assert cohort(made.enrol("worker-0", HONEST, now=3)) == ("worker-0", "worker-3")


BOUND = Call("train", 2, 2, "model", "shape", only=names(3))


def test_a_call_for_certain_workers_waits_for_all_of_them_and_asks_nobody_else() -> None:
    """A quorum is not enough, nor is one whose connection has broken: it is waited for until it comes back."""
    one = roster(*names(5), expected=5, per_round=5)
    one.leave("worker-1", now=1)
    assert one.call(BOUND, now=1) == (Waiting(5, 3, ()),)
    assert one.tick(now=1 + RETURN_SECONDS) == (Waiting(4, 3, ("worker-1",)),)
    assert cohort(one.enrol("worker-1", HONEST, now=9)) == names(3)


def test_a_call_for_certain_workers_does_not_wait_for_ever() -> None:
    """After `joinSeconds` it is answered with those who are there, were it nobody, and wakes for that."""
    one = roster("worker-0", "worker-3", "worker-4", expected=5)
    assert one.call(BOUND, now=1) == (Waiting(3, 3, ("worker-1", "worker-2")),)
    one.beat("worker-0", steps=0, now=10)
    assert one.wake() == 11
    assert cohort(one.tick(now=11)) == ("worker-0",)
    empty = roster("worker-4", expected=5)
    empty.call(BOUND, now=1)
    assert cohort(empty.tick(now=11)) == ()


def test_only_a_few_of_the_absent_are_named() -> None:
    """What the server hears of those who are missing does not grow with their number."""
    (waiting,) = roster(expected=1000).call(TRAIN, now=0)
    assert waiting == Waiting(0, 1000, names(MOST_ABSENT))


@settings(deadline=None, max_examples=60)
@given(st.permutations(names(12)), st.integers(0, 2**31), st.integers(1, 50), st.integers(1, 3))
def test_a_cohort_replays(order: list[str], seed: int, number: int, attempt: int) -> None:
    """The cohort follows from seed, round, draw and candidates, not from the attempt or the order of their coming."""
    call, later = (Call("train", number, one, draw=attempt) for one in (attempt, attempt + 7))
    once = cohort(roster(*names(12), seed=seed, expected=12).call(call, now=0))
    again = cohort(roster(*order, seed=seed, expected=12).call(later, now=5))
    assert once == again
    assert len(set(once)) == 3


def test_names_are_in_the_order_of_their_numbers() -> None:
    """worker-10 comes after worker-9."""
    made = roster(*names(12), expected=12, per_round=12, extra=0)
    assert cohort(made.call(TRAIN, now=0)) == names(12)


def test_the_majority_gives_the_first_weights() -> None:
    """One worker of those with the commonest initial weights hands them in; the others are named."""
    made = roster(expected=4)
    for index, weights in enumerate(("odd", "zero", "zero", "odd2")):
        made.enrol(f"worker-{index}", Enrolment(weights, "shape", moves=True), now=0)
    chosen, order = made.call(FIRST, now=0)
    assert chosen == Chosen(("worker-1",), ("worker-0", "worker-3"), (), "zero", "shape")
    assert order == Order("worker-1", FIRST)


def test_a_worker_with_false_arrays_refuses_nobody() -> None:
    """With the others' digest and arrays of its own it is no part of the majority, though it is the first."""
    made = roster(expected=3)
    for index, shape in enumerate(("false", "shape", "shape")):
        made.enrol(f"worker-{index}", Enrolment("zero", shape, moves=True), now=0)
    actions = made.call(FIRST, now=0)
    assert actions[:2] == (
        Chosen(("worker-1",), (), (), "zero", "shape"),
        Order("worker-1", FIRST),
    )
    assert [action.worker for action in actions if isinstance(action, Refuse)] == ["worker-0"]


def test_a_worker_with_false_arrays_refuses_nobody_where_all_weights_differ() -> None:
    """Who has which arrays is counted first: weights that no two workers share make no worker's arrays the job's."""
    made = roster(expected=4)
    for index, shape in enumerate(("false", "shape", "shape", "shape")):
        made.enrol(f"worker-{index}", Enrolment(f"weights-{index}", shape, moves=True), now=0)
    actions = made.call(FIRST, now=0)
    assert actions == (
        Chosen(("worker-1",), ("worker-2", "worker-3"), (), "weights-1", "shape"),
        Order("worker-1", FIRST),
        Refuse("worker-0", "false", "shape"),
    )


def test_the_first_weights_are_the_commonest_of_the_right_arrays() -> None:
    """Two workers with false arrays and weights of their own do not outvote three whose weights differ."""
    made = roster(expected=5)
    said = (("bad", "false"), ("bad", "false"), ("a", "shape"), ("b", "shape"), ("b", "shape"))
    for index, (weights, shape) in enumerate(said):
        made.enrol(f"worker-{index}", Enrolment(weights, shape, moves=True), now=0)
    (chosen, *_) = made.call(FIRST, now=0)
    assert chosen == Chosen(("worker-3",), ("worker-2",), (), "b", "shape")


def test_another_worker_gives_the_first_weights_when_one_could_not() -> None:
    """Each attempt asks the next worker of the majority."""
    made = roster("worker-0", "worker-1", "worker-2", expected=3)
    asked = [made.call(Call("initialise", 0, attempt), now=0) for attempt in (1, 2, 3, 4)]
    chosen = [action.workers[0] for actions in asked for action in actions if isinstance(action, Chosen)]
    assert chosen == ["worker-0", "worker-1", "worker-2", "worker-0"]


def first_asked(*weights: str) -> list[Chosen]:
    """What is chosen, attempt by attempt, where the workers enrolled with these weights of the same arrays."""
    made = roster(expected=len(weights))
    for index, one in enumerate(weights):
        made.enrol(f"worker-{index}", Enrolment(one, "shape", moves=True), now=0)
    attempts = (made.call(Call("initialise", 0, number + 1), now=0) for number in range(len(weights)))
    return [action for actions in attempts for action in actions if isinstance(action, Chosen)]


@pytest.mark.parametrize(
    ("weights", "asked"), [(("a", "b", "c", "d"), (0, 1, 2, 3)), (("a", "b", "b", "c"), (1, 2, 0, 3))]
)
def test_every_worker_with_the_arrays_is_asked_for_the_first_weights(
    weights: tuple[str, ...], asked: tuple[int, ...]
) -> None:
    """Once each, those with the commonest weights first; whoever is asked, those whose weights differ are named."""
    for chosen, index in zip(first_asked(*weights), asked, strict=True):
        others = tuple(name for name, one in zip(names(4), weights, strict=True) if one != weights[index])
        assert chosen == Chosen((f"worker-{index}",), others, (), weights[index], "shape")


def test_who_cannot_show_movement_is_named() -> None:
    """The server learns whom of the cohort it must not take for stalled."""
    made = roster("worker-0", expected=2)
    made.enrol("worker-1", Enrolment("zero", "shape", moves=False), now=0)
    chosen = made.call(TRAIN, now=0)[0]
    assert isinstance(chosen, Chosen)
    assert chosen.silent == ("worker-1",)


# -- models that do not fit


def test_another_model_is_refused() -> None:
    """Once the job's manifest is known, a worker with another one is refused and changes nothing."""
    made = roster(*names(4))
    made.call(TRAIN, now=0)
    before = state(made)
    (refusal,) = made.enrol("worker-9", Enrolment("zero", "other", moves=True), now=1)
    assert refusal == Refuse("worker-9", "other", "shape")
    assert state(made) == before


def test_the_minority_is_refused_when_the_model_is_chosen() -> None:
    """With the first weights the job's manifest is chosen, and those with another one go, for that reason alone."""
    made = roster(*names(3))
    made.enrol("worker-3", Enrolment("wide", "other", moves=True), now=0)
    actions = made.call(FIRST, now=0)
    assert [action.worker for action in actions if isinstance(action, Refuse)] == ["worker-3"]
    assert [action.dissenters for action in actions if isinstance(action, Chosen)] == [()]
    assert set(made.members) == set(names(3))


# -- leases


def test_a_worker_that_does_not_beat_is_lost() -> None:
    """A lease ends `LEASE_SECONDS` after the last beat; the server hears of it if the worker takes part."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    made.beat("worker-0", steps=0, now=10)
    assert made.wake() == LEASE_SECONDS
    assert made.tick(now=LEASE_SECONDS - 0.1) == ()
    assert made.tick(now=LEASE_SECONDS) == (Lost("worker-1", "no heartbeat"),)
    assert set(made.members) == {"worker-0"}


def test_a_broken_connection_is_forgiven_for_a_moment() -> None:
    """A worker whose connection broke and that is back in time is told its order again, and is not lost."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    made.leave("worker-0", now=1)
    assert made.tick(now=0.9 + RETURN_SECONDS) == ()
    assert made.enrol("worker-0", HONEST, now=0.9 + RETURN_SECONDS) == (Order("worker-0", TRAIN),)
    assert made.tick(now=1 + RETURN_SECONDS) == ()


def test_a_lost_worker_takes_part_again() -> None:
    """Who comes back too late for a round is a candidate of the next one."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    made.leave("worker-0", now=1)
    assert made.tick(now=1 + RETURN_SECONDS) == (Lost("worker-0", "no heartbeat"),)
    assert made.enrol("worker-0", HONEST, now=6) == ()
    assert cohort(made.call(Call("train", 2, 1), now=7)) == ("worker-0", "worker-1")


def test_who_quits_is_not_waited_for() -> None:
    """A worker that goes for good is lost at once, with its reason; a stranger's farewell is nothing."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    assert made.quit("worker-0", reason="the program raised") == (Lost("worker-0", "the program raised"),)
    assert made.quit("worker-0", reason="again") == ()
    assert made.quit("stranger", reason="bye") == ()
    assert set(made.members) == {"worker-1"}


# -- the open call


def test_movement_is_what_grows() -> None:
    """The server hears that a worker of the cohort moves when its count of steps has changed, else nothing."""
    made = roster("worker-0", "worker-1", expected=2)
    assert made.beat("worker-0", steps=1, now=0) == ()
    made.call(TRAIN, now=0)
    assert made.beat("worker-0", steps=1, now=1) == ()
    assert made.beat("worker-0", steps=2, now=2) == (Moved("worker-0"),)
    assert made.beat("stranger", steps=2, now=2) == ()


@pytest.mark.parametrize(
    ("worker", "place"), [("worker-0", (1, 2)), ("worker-0", (2, 1)), ("worker-9", (1, 1))]
)
def test_only_the_cohort_declines_only_the_open_call(worker: str, place: tuple[int, int]) -> None:
    """A decline of another round or attempt, or of a stranger, changes nothing."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    before = state(made)
    assert made.decline(worker, round=place[0], attempt=place[1], reason="empty") == ()
    assert state(made) == before


def test_who_declines_stays_for_the_next_call() -> None:
    """A worker with nothing to hand in is lost to this round and a candidate of the next."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    assert made.decline("worker-0", round=1, attempt=1, reason="no data") == (Lost("worker-0", "no data"),)
    assert made.decline("worker-0", round=1, attempt=1, reason="no data") == ()
    assert cohort(made.call(Call("train", 2, 1), now=1)) == ("worker-0", "worker-1")


def test_who_declined_is_passed_over_in_the_rounds_other_attempts() -> None:
    """With a quorum of others a worker that had nothing to hand in is not asked again, until the next round."""
    made = roster("worker-0", "worker-1", "worker-2", expected=3, per_round=3)
    made.call(TRAIN, now=0)
    made.decline("worker-0", round=1, attempt=1, reason="not a number")
    assert cohort(made.call(Call("train", 1, 2), now=0)) == ("worker-1", "worker-2")
    assert cohort(made.call(Call("train", 2, 1), now=0)) == ("worker-0", "worker-1", "worker-2")


def test_who_declined_is_asked_again_when_nobody_else_comes() -> None:
    """A quorum that needs it waits for those who are absent, and no longer than for a first round's."""
    made = roster("worker-0", "worker-1", expected=3, per_round=3)
    made.call(TRAIN, now=0)
    assert cohort(made.tick(now=10)) == ("worker-0", "worker-1")
    made.decline("worker-0", round=1, attempt=1, reason="not a number")
    assert not any(isinstance(one, Chosen) for one in made.call(Call("train", 1, 2), now=10))
    again = deepcopy(made)
    assert cohort(made.enrol("worker-2", HONEST, now=12)) == ("worker-1", "worker-2")
    assert again.wake() is not None
    for worker in ("worker-0", "worker-1"):
        again.beat(worker, steps=0, now=14)
    assert cohort(again.tick(now=20)) == ("worker-0", "worker-1")


def test_who_declined_is_asked_again_at_once_when_all_are_there() -> None:
    """Nobody else can come, and what was amiss may have been on the way."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    made.decline("worker-0", round=1, attempt=1, reason="refused")
    assert cohort(made.call(Call("train", 1, 2), now=0)) == ("worker-0", "worker-1")


def test_a_new_call_releases_the_last_cohort() -> None:
    """Whoever still works for an earlier call is told to stop before the next order comes."""
    made = roster("worker-0", "worker-1", expected=2)
    made.call(TRAIN, now=0)
    actions = made.call(Call("evaluate", 1, 1, workers=("worker-1", "worker-7")), now=1)
    assert actions[:2] == (Release("worker-0", TRAIN), Release("worker-1", TRAIN))
    assert cohort(actions) == ("worker-1",)
    assert made.close() == (Release("worker-1", Call("evaluate", 1, 1, workers=("worker-1", "worker-7"))),)
    assert made.close() == ()


def test_a_new_roster_waits_for_those_who_train_already() -> None:
    """After the scheduler's restart the cohort of an open round has a lease's time to come back."""
    made, call = roster("worker-0"), Call("rejoin", 3, 1, "model", "shape", names(3))
    assert cohort(made.call(call, now=0)) == names(3)
    assert made.enrol("worker-1", HONEST, now=1) == (Order("worker-1", call),)
    made.beat("worker-0", steps=0, now=1)
    assert made.tick(now=LEASE_SECONDS) == (Lost("worker-2", "no heartbeat"),)


# -- who is told to end


def test_who_is_told_to_end_is_chosen_no_more() -> None:
    """It goes at once where nothing is open, and nobody waits for it: calls count those only who stay."""
    made = roster(*names(4), per_round=3, minimum=3, extra=0)
    made.call(TRAIN, now=0)
    made.close()
    assert made.part("worker-3", round=0, attempt=0) == ()
    assert "worker-3" not in made.members
    for number in range(2, 12):
        assert cohort(made.call(Call("train", number, 1), now=0)) == names(3)


def test_what_is_open_may_still_be_handed_in() -> None:
    """Who is at the open call stays for it and moves; it is lost when it goes, and the next call does not ask it."""
    made = roster(*names(3), expected=3, per_round=3, minimum=2, extra=0)
    made.call(TRAIN, now=0)
    assert made.part("worker-2", round=1, attempt=1) == ()
    assert made.beat("worker-2", steps=4, now=1) == (Moved("worker-2"),)
    assert set(made.live) == set(names(2))
    assert made.part("worker-2", round=0, attempt=0) == (Lost("worker-2", LEFT),)
    assert made.part("worker-2", round=0, attempt=0) == ()
    assert cohort(made.call(Call("train", 1, 2), now=1)) == names(2)


@pytest.mark.parametrize("place", [(1, 2), (2, 1), (0, 0)])
def test_who_is_at_another_call_is_lost_to_this_one(place: tuple[int, int]) -> None:
    """An order that crossed the word of its leaving on the way is waited for by nobody."""
    made = roster(*names(3), expected=3)
    made.call(TRAIN, now=0)
    assert made.part("worker-1", round=place[0], attempt=place[1]) == (Lost("worker-1", LEFT),)
    assert "worker-1" not in made.members


@pytest.mark.parametrize("purpose", ["evaluate", "rejoin"])
def test_of_those_named_who_has_left_is_told(purpose: Any) -> None:
    """A call that names its workers hears of them before it hears who takes part."""
    made = roster(*names(3), expected=3)
    made.call(TRAIN, now=0)
    made.part("worker-1", round=0, attempt=0)
    made.close()
    lost, *rest = made.call(Call(purpose, 1, 1, workers=names(3)), now=1)
    assert lost == Lost("worker-1", LEFT)
    assert cohort(rest) == ("worker-0", "worker-2")


def test_who_has_left_may_come_back() -> None:
    """A pod that is started again, or a scaling up, makes it a candidate like any other."""
    made = roster(*names(2), expected=2)
    made.call(TRAIN, now=0)
    made.part("worker-1", round=1, attempt=1)
    assert made.enrol("worker-1", HONEST, now=1) == (Order("worker-1", TRAIN),)
    assert cohort(made.call(Call("train", 2, 1), now=2)) == names(2)


# -- whatever happens

events = st.lists(
    st.tuples(
        st.sampled_from(
            ["enrol", "enrol", "beat", "leave", "quit", "part", "decline", "call", "close", "tick"]
        ),
        st.sampled_from(names(6)),
        st.integers(0, 12),
        st.sampled_from(["train", "initialise", "evaluate", "rejoin"]),
        st.booleans(),
    ),
    max_size=60,
)


def happen(made: Roster, event: tuple[str, str, int, str, bool], *, now: float) -> tuple[Action, ...]:
    kind, worker, number, purpose, odd = event
    enrolment = Enrolment("zero", "other" if odd else "shape", moves=odd)
    call = Call(purpose, number % 3, 1, workers=names(number % 6))  # type: ignore[arg-type]
    happens: dict[str, Callable[[], tuple[Action, ...] | None]] = {
        "enrol": lambda: made.enrol(worker, enrolment, now=now),
        "beat": lambda: made.beat(worker, steps=number, now=now),
        "leave": lambda: made.leave(worker, now=now),
        "quit": lambda: made.quit(worker, reason="gone"),
        "part": lambda: made.part(worker, round=number % 3, attempt=number % 2),
        "decline": lambda: made.decline(worker, round=number % 3, attempt=1, reason="no data"),
        "call": lambda: made.call(call, now=now),
        "close": made.close,
        "tick": lambda: made.tick(now=now),
    }
    return happens[kind]() or ()


@settings(deadline=None, max_examples=150)
@given(events)
def test_whatever_happens(happened: list[tuple[str, str, int, str, bool]]) -> None:
    """One answer a call, each loss told once and of the cohort only, and time passing always comes to rest."""
    made, now, answered, open_ = Roster(selection(), DRAW, expected=names(4)), 0.0, False, set()
    for event in happened:
        now += event[2] if event[0] == "tick" else 0
        for action in happen(made, event, now=now):
            match action:
                case Release():
                    open_.discard(action.worker)
                case Chosen(workers):
                    assert event[0] in {"call", "enrol", "tick"}
                    assert not answered or event[0] == "call"
                    answered, open_ = True, set(workers)
                case Lost(worker) | Moved(worker) | Order(worker):
                    named = event[0] == "call" and action == Lost(worker, LEFT)  # it had left before
                    assert (worker in open_) is not named
                    open_ -= {worker} if isinstance(action, Lost) else set()
        assert made.count == len(made.live)
        answered = answered and event[0] != "close"
        if event[0] == "call" and not made._answered:
            answered, open_ = False, set()
        elif event[0] == "close":
            open_ = set()
    while (wake := made.wake()) is not None:
        now = max(now, wake)
        made.tick(now=now)
        assert (following := made.wake()) is None or following > now
    assert not made.members


def test_who_was_not_chosen_is_told_in_few_words() -> None:
    """However many attend or are away, a few are named and all are counted; calls that name their workers tell none."""
    many = roster(*names(300), expected=500, join_seconds=0)
    (chosen, *_) = many.call(TRAIN, now=1)
    assert isinstance(chosen, Chosen)
    assert chosen.others is not None
    assert (chosen.others.live, chosen.others.away) == (300, 200)
    assert len(chosen.others.passed_over) == len(chosen.others.absent) == MOST_NAMED
    assert not {*chosen.workers} & {*chosen.others.passed_over}
    assert chosen.others.absent[0] == "worker-300"
    told = many.call(Call("evaluate", 1, 1, workers=chosen.workers), now=2)
    assert [one.others for one in told if isinstance(one, Chosen)] == [None]


def replaying(*workers: str) -> Roster:
    """A roster that follows a record of one round, and has these workers."""
    made = Roster(selection(), DRAW, expected=names(4), replayed={1: ("worker-3", "worker-1")})
    for worker in workers:
        made.enrol(worker, HONEST, now=0)
    return made


def test_a_record_names_the_cohort() -> None:
    """Those of the record are chosen, whoever else attends, and whatever the policy says."""
    chosen, *orders = replaying(*names(4)).call(TRAIN, now=0)
    assert isinstance(chosen, Chosen)
    assert chosen.workers == ("worker-1", "worker-3")
    assert {one.worker for one in orders if isinstance(one, Order)} == {"worker-1", "worker-3"}


def test_the_workers_of_a_record_are_waited_for() -> None:
    """A round begins when all whom the record names are there; those who are not are told."""
    made = replaying("worker-0", "worker-1", "worker-2")
    assert made.call(TRAIN, now=0) == (Waiting(3, 2, ("worker-3",)),)
    chosen, *_ = made.enrol("worker-3", HONEST, now=5)
    assert isinstance(chosen, Chosen)
    assert chosen.workers == ("worker-1", "worker-3")


def test_a_round_beyond_the_record_has_nobody() -> None:
    """The server hears that nobody can be chosen, and why."""
    (failed,) = replaying(*names(4)).call(Call("train", 2, 1), now=0)
    assert failed == Failed("the record that is replayed has no committed round 2")
