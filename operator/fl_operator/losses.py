"""What Events say of a round that is over: who was lost in it, was late or was refused, and that nothing came of it.

They name no round, so that the same loss in the next one is counted and not written again; `fl-submit explain --round`
tells the rounds apart. That somebody was not chosen is no trouble: `fl_round_workers` counts it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.plan import Plan
from fl_core.shortfall import LATE, LOST
from fl_operator.actions import Note
from job_generator.local.record import ClosedRound
from job_generator.local.rounds import losses, refusals

REASONS = {**dict.fromkeys(LATE, "WorkersLate"), **dict.fromkeys(LOST, "WorkersLost")}
DECLINED = "WorkersDeclined"
"""The reason for all who gave one of their own, such as a program that raised."""


def losses_in(closed: ClosedRound, plan: Plan) -> Iterable[Note]:
    """A note for each reason, with the workers whom it concerns."""
    by_reason: dict[str, dict[str, str]] = {}
    for worker, why in closed.losses.items():
        by_reason.setdefault(REASONS.get(why, DECLINED), {})[worker] = why
    for reason, dropouts in by_reason.items():
        yield _warning(reason, losses(dropouts, plan))
    if closed.refused:
        yield _warning("WorkersRefused", refusals(closed.refused))
    if not closed.committed:
        yield Note("RoundSkipped", closed.reason or "too few workers reported", "Warning")


def _warning(reason: str, sentences: Iterable[str]) -> Note:
    return Note(reason, "; ".join(sentences), "Warning")
