"""The best model is that of the target's metric, or of the loss."""

from __future__ import annotations

import pytest

from fl_core.errors import SpecError
from fl_core.plan import Target
from fl_server.best import Best

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
    with pytest.raises(SpecError, match="'error' is not among the program's metrics, loss"):
        Best(LOWER).reached({"loss": 0.0})
