"""Losses in rounds become Events that name who and why, and repeat word for word when they happen again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fl_operator.losses import losses_in
from job_generator.local.record import ClosedRound


def closed(number: int = 7, **facts: Any) -> ClosedRound:
    told = {"cohort": ("worker-0", "worker-1", "worker-2", "worker-3"), "reporters": ("worker-0",), **facts}
    return ClosedRound(round=number, **told)


def test_each_kind_of_loss_is_an_event_with_its_workers(plan_of: Callable[..., Any]) -> None:
    """Late, lost and declined are three reasons, each with a sentence for each cause."""
    dropouts = {
        "worker-1": "stalled",
        "worker-2": "no heartbeat",
        "worker-3": "its update has values that are not finite.",
    }
    notes = {note.reason: note for note in losses_in(closed(dropouts=dropouts), plan_of())}
    assert notes.keys() == {"WorkersLate", "WorkersLost", "WorkersDeclined"}
    assert notes["WorkersLate"].note.startswith("worker-1: late: it had not moved for")
    assert notes["WorkersLost"].note.startswith("worker-2: lost: it was not heard for")
    assert (
        notes["WorkersDeclined"].note
        == "worker-3: it had nothing to hand in: its update has values that are not finite"
    )
    assert {note.type for note in notes.values()} == {"Warning"}


def test_who_left_is_no_warning_and_who_was_refused_is(plan_of: Callable[..., Any]) -> None:
    """A scaling down is somebody's wish; an update that the server does not take is trouble."""
    dropouts = {"worker-1": "left", "worker-2": "refused: it holds values above the bound"}
    left, refused = losses_in(closed(dropouts=dropouts), plan_of())
    assert (left.reason, left.type) == ("WorkersLeft", "Normal")
    assert left.note.startswith("worker-1: left: it was told to end")
    assert (refused.reason, refused.type) == ("UpdatesRefused", "Warning")
    assert refused.note == "worker-2: refused: it holds values above the bound"


def test_who_was_lost_in_an_attempt_that_was_given_up_is_told(plan_of: Callable[..., Any]) -> None:
    """The attempt that committed may have lost nobody."""
    earlier = ({"attempt": 1, "dropouts": {"worker-2": "gone"}},)
    assert [note.reason for note in losses_in(closed(attempt=2, earlier=earlier), plan_of())] == [
        "WorkersLost"
    ]


def test_who_is_late_in_one_attempt_and_lost_in_the_next_is_told_as_both(plan_of: Callable[..., Any]) -> None:
    """A worker that stands still is late at first; whoever looks for the one finds the one, and so the other."""
    earlier = (
        {"attempt": 1, "dropouts": {"worker-1": "deadline"}},
        {"attempt": 2, "dropouts": {"worker-1": "gone"}},
    )
    late, lost = losses_in(closed(attempt=3, earlier=earlier), plan_of())
    assert (late.reason, lost.reason) == ("WorkersLate", "WorkersLost")
    assert late.note.startswith("worker-1: late: nothing whole had come after")
    assert lost.note.startswith("worker-1: lost: it was gone")


def test_the_same_loss_in_another_round_is_the_same_event(plan_of: Callable[..., Any]) -> None:
    """So that Kubernetes counts it in a series."""
    first, second = (list(losses_in(closed(n, dropouts={"worker-1": "gone"}), plan_of())) for n in (7, 8))
    assert first == second != []


def test_a_round_without_losses_says_nothing(plan_of: Callable[..., Any]) -> None:
    """Who was not chosen, or not needed, is no trouble."""
    assert not list(losses_in(closed(selection={"passedOver": ["worker-4"], "away": 0}), plan_of()))


def test_who_was_not_let_in_and_a_round_for_nothing_are_told(plan_of: Callable[..., Any]) -> None:
    """Both have their reason."""
    refused = {"worker-4": "its first model has other shapes"}
    skipped = closed(result="Skipped", reason="1 of 3 reported", selection={"refused": refused})
    told = [(note.reason, note.note) for note in losses_in(skipped, plan_of())]
    assert told == [
        ("WorkersRefused", "worker-4: refused; its first model has other shapes"),
        ("RoundSkipped", "1 of 3 reported"),
    ]
