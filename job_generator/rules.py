"""What a schema cannot say: the fields of a job that must fit each other.

Each rule looks at a few fields, the first of which is the one to blame, and is asked only when none
of them is wrong by itself. It takes their values, and says what is wrong with them, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from job_generator.problems import Problem
from job_generator.schema import Path, node


@dataclass(frozen=True, slots=True)
class Rule:
    """A sentence about the values of some fields."""

    fields: tuple[str, ...]
    complaint: Callable[..., str | None]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The fields as paths."""
        return tuple(tuple(field.split(".")) for field in self.fields)


def broken(document: Any, *, wrong: Collection[Path] = ()) -> Iterator[Problem]:  # noqa: ANN401 - any JSON value
    """The rules that a document breaks, but for those about fields that are `wrong` already."""
    for rule in RULES:
        if any(path[: len(other)] == other for path in rule.paths for other in wrong):
            continue
        complaint = rule.complaint(*(_value(document, path) for path in rule.paths))
        if complaint:
            yield Problem(rule.paths[0], complaint)


def _value(document: Any, path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """What stands at the path, or its default."""
    for step in path:
        if not isinstance(document, dict) or step not in document:
            return (node(path, {}) or {}).get("default")
        document = document[step]
    return document


def _cohort(per_round: int | None, replicas: int) -> str | None:
    if per_round is None or per_round <= replicas:
        return None
    return f"{per_round} is more than spec.workers.replicas, {replicas}; expected 1 to {replicas}"


def _spare(extra: int, per_round: int | None, replicas: int) -> str | None:
    asked = (per_round or replicas) + extra
    if not extra or asked <= replicas or (per_round or 0) > replicas:
        return None
    spare = max(0, replicas - (per_round or replicas))
    return (
        f"{extra} more than the cohort of {per_round or replicas} makes {asked}, but spec.workers.replicas "
        f"is {replicas}; expected 0 to {spare}"
    )


def _quorum(minimum: int | None, per_round: int | None, replicas: int) -> str | None:
    cohort = per_round or replicas
    if minimum is None or minimum <= cohort:
        return None
    name = "spec.selection.perRound" if per_round else "the cohort, all of spec.workers.replicas"
    return f"{minimum} is more than {name}, {cohort}; expected 1 to {cohort}"


def _times(stall: float | None, deadline: float) -> str | None:
    if stall is None or stall <= deadline:
        return None
    return f"{stall:g} is longer than spec.selection.deadlineSeconds, {deadline:g}; expected at most that"


def _one_side(target: dict[str, Any] | None) -> str | None:
    if target is None:
        return None
    sides = [side for side in ("atLeast", "atMost") if target.get(side) is not None]
    if len(sides) == 1:
        return None
    return f"names {'both' if sides else 'neither'} of atLeast and atMost; expected one of them"


REPLICAS = "spec.workers.replicas"
PER_ROUND = "spec.selection.perRound"

RULES = (
    Rule((PER_ROUND, REPLICAS), _cohort),
    Rule(("spec.selection.extra", PER_ROUND, REPLICAS), _spare),
    Rule(("spec.selection.minimum", PER_ROUND, REPLICAS), _quorum),
    Rule(("spec.selection.stallSeconds", "spec.selection.deadlineSeconds"), _times),
    Rule(("spec.target",), _one_side),
)
