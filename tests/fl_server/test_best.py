"""The best model is that of the target's metric, or of the loss."""

from __future__ import annotations

import math

import pytest

from fl_core.errors import SpecError
from fl_core.plan import EarlyStopping, Target
from fl_server.best import NO_PROGRESS, Best

HIGHER = Target(metric="accuracy", at_least=0.9)
LOWER = Target(metric="error", at_most=0.1)


@pytest.mark.parametrize(
    ("target", "name", "course", "improved"),
    [
        (HIGHER, "accuracy", [0.5, 0.4, 0.5, 0.7], [True, False, False, True]),
        (LOWER, "error", [0.5, 0.4, 0.4, 0.7], [True, True, False, False]),
        (None, "loss", [2.0, 1.0, 3.0], [True, True, False]),
    ],
)
def test_only_what_is_better_than_all_before_counts(
    target: Target | None, name: str, course: list[float], improved: list[bool]
) -> None:
    """A tie is no improvement, and other metrics do not matter."""
    best = Best(target)
    assert [best.improved({name: value, "other": -value}) for value in course] == improved


def test_a_round_without_its_metric_is_not_the_best() -> None:
    """Nothing was measured, or something else."""
    best = Best(HIGHER)
    assert not best.improved({})
    assert not best.improved({"loss": 0.0})
    assert best.improved({"accuracy": 0.1})


def test_the_target_is_reached_or_missing() -> None:
    """At the bound it is reached; a program that does not measure it is told which metrics there are."""
    assert Best(HIGHER).reached({"accuracy": 0.9})
    assert not Best(HIGHER).reached({"accuracy": 0.89})
    assert not Best(HIGHER).reached({})
    assert not Best(None).reached({"accuracy": 1.0})
    assert Best(LOWER).ending({}) == ""
    with pytest.raises(SpecError, match="'error' is not among the program's metrics, loss"):
        Best(LOWER).ending({"loss": 0.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("target", [HIGHER, LOWER])
def test_what_has_no_finite_value_is_measured_all_the_same(target: Target, value: float) -> None:
    """It is no target, not the best and no progress; the job goes on, also where it is the first that is heard."""
    best, values = Best(target, EarlyStopping(patience=2, min_delta=0)), {target.metric: value, "loss": 1.0}
    assert (best.improved(values), best.ending(values), best.reached(values)) == (False, "", False)
    assert best.ending(values) == NO_PROGRESS


def test_what_a_line_says_had_no_value_counts_after_a_restart() -> None:
    """A server that starts counts such rounds as the one before did, and goes on with the last of them."""
    rows = {number: {"metrics": {"loss": 2.0}, "notFinite": ["accuracy"]} for number in (1, 2)}
    best = Best(HIGHER, EarlyStopping(patience=2, min_delta=0))
    best.restore(rows, {})
    assert best.over({"loss": 2.0}) == NO_PROGRESS


@pytest.mark.parametrize(
    ("target", "name", "delta", "course", "ends"),
    [
        (None, "loss", 0.0, [3, 2, 2, 2], 4),
        (None, "loss", 0.0, [3, 2, 2, 1, 1, 1], 6),
        (None, "loss", 0.5, [3, 2.6, 2.4, 2.2, 2.0], 5),
        (None, "loss", 0.5, [3, 2.4, 1.8, 1.2, 0.6], None),
        (HIGHER, "accuracy", 0.0, [0.1, 0.2, 0.1, 0.2], 4),
        (LOWER, "error", 0.0, [0.9, 0.8, 0.9, 0.9], 4),
    ],
)
def test_rounds_without_progress_end_the_job(
    target: Target | None, name: str, delta: float, course: list[float], ends: int | None
) -> None:
    """Two measured rounds in a row that are not better by more than delta; rounds that measure nothing do not count."""
    best, over = Best(target, EarlyStopping(patience=2, min_delta=delta)), None
    for number, value in enumerate(course, 1):
        assert best.ending({}) == ""
        if over is None and best.ending({name: value}) == NO_PROGRESS:
            over = number
    assert over == ends


def test_an_earlier_process_has_counted() -> None:
    """What was recorded counts as if it had been heard, and a job that was over stays so."""
    rows = {number: {"metrics": {"loss": value}} for number, value in ((1, 3.0), (2, 1.0), (3, 2.0))}
    best = Best(None, EarlyStopping(patience=2, min_delta=0))
    best.restore(dict(reversed(rows.items())), {"loss": 1.0})
    assert best.over({"loss": 2.0}) == ""
    assert best.ending({"loss": 1.5}) == NO_PROGRESS
    assert best.farewell(NO_PROGRESS) == "loss was not better than 1 in 2 measured rounds"
    again = Best(None, EarlyStopping(patience=2, min_delta=0))
    again.restore({**rows, 4: {"metrics": {"loss": 1.5}}}, {"loss": 1.0})
    assert again.over({"loss": 1.5}) == NO_PROGRESS
    assert again.farewell("TargetReached") == ""


@pytest.mark.parametrize("restarted", [False, True])
def test_a_metric_that_was_measured_once_is_the_programs(*, restarted: bool) -> None:
    """A round in which nobody but one worker measured, and something else, ends no job: the others may do so again."""
    best = Best(HIGHER, EarlyStopping(patience=2, min_delta=0))
    if restarted:
        best.restore({1: {"metrics": {"accuracy": 0.5}}}, {})
    else:
        assert best.ending({"accuracy": 0.5}) == ""
    assert best.ending({"odd": 1.0}) == ""
    assert best.ending({"accuracy": 0.6}) == ""
    assert [best.ending({"odd": 1.0}) for _ in range(2)] == ["", NO_PROGRESS]


def test_progress_needs_its_metric() -> None:
    """A program that never measures it is told so; a loss that is no finite number any more is no progress."""
    best = Best(None, EarlyStopping(patience=1, min_delta=0))
    with pytest.raises(
        SpecError, match="spec.earlyStopping: 'loss' is not among the program's metrics, accuracy"
    ):
        best.ending({"accuracy": 0.5})
    assert best.ending({"loss": 1.0, "accuracy": 0.5}) == ""
    assert best.ending({"loss": math.nan, "accuracy": 0.5}) == NO_PROGRESS


def test_a_target_comes_first() -> None:
    """A job that has reached its target has not ended for lack of progress."""
    best = Best(HIGHER, EarlyStopping(patience=1, min_delta=0))
    assert [best.ending({"accuracy": 0.95}) for _ in range(2)] == ["TargetReached"] * 2
