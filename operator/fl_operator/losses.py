"""What Events say of a round that is over: who was lost in it, late, left or refused, and that nothing came of it.

They name no round, so that the same loss in the next one is counted and not written again; `fl-submit explain --round`
tells the rounds apart. That somebody was not chosen is no trouble: `fl_round_workers` counts it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fl_core.plan import Plan
from fl_core.shortfall import DECLINED, LATE, LEFT, LOST, REFUSED, kind_of
from fl_operator.actions import Note
from job_generator.local.record import ClosedRound
from job_generator.local.rounds import losses, refusals

REASONS = {
    **dict.fromkeys(LATE, "WorkersLate"),
    **dict.fromkeys(LOST, "WorkersLost"),
    LEFT: "WorkersLeft",
    REFUSED: "UpdatesRefused",
    DECLINED: "WorkersDeclined",
}
"""By the kind of a loss; those have declined who gave a reason of their own, such as a program that raised."""


def losses_in(closed: ClosedRound, plan: Plan) -> Iterable[Note]:
    """A note for each reason that there was in any of the round's attempts, with the workers whom it concerns."""
    by_reason: dict[str, dict[str, str]] = {}
    for dropouts in closed.dropouts_by_attempt:
        for worker, why in dropouts.items():
            by_reason.setdefault(REASONS[kind_of(why)], {})[worker] = why
    for reason, concerned in by_reason.items():
        sentences = "; ".join(losses(concerned, plan))
        yield Note(reason, sentences) if reason == REASONS[LEFT] else Note(reason, sentences, "Warning")
    if closed.refused:
        yield Note("WorkersRefused", "; ".join(refusals(closed.refused)), "Warning")
    if not closed.committed:
        yield Note("RoundSkipped", closed.reason or "too few workers reported", "Warning")
