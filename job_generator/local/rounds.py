"""Who took part in a round and who did not, and why, in sentences made from the record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fl_core.errors import MismatchError
from fl_core.plan import Plan
from fl_core.record import COMMITTED, RESTORED, SKIPPED, Record, Row
from fl_core.roster import LEASE_SECONDS
from fl_core.shortfall import BEGUN, DEADLINE, GONE, LEFT, REFUSED, SILENT, STALLED, kind_of
from job_generator.local.record import ClosedRound

MOST = 12
"""How many workers are named in one sentence."""


def story(record: Record, number: int, plan: Plan) -> list[str]:
    """The round's sentences; raises MismatchError where the record has no such round."""
    row = next((row for row in record.rows() if row["round"] == number), None)
    if row is None:
        raise MismatchError(
            f"the record of {plan.job.name} has no round {number}; it has {_extent(record.last)}, and the job "
            f"has {plan.rounds}; a round has a line once it is over"
        )
    return [
        _headline(row),
        *_given_up(record, number, again=row["result"] != SKIPPED),
        *_earlier(row, plan),
        *_of_cohort(row, plan),
        *_of_others(row),
    ]


def went_back(closed: ClosedRound) -> str:
    """Say that what came after a round is given up."""
    return f"The server lost a newer model and went back to that of round {closed.round}; later rounds are given up."


def _headline(row: Row) -> str:
    number, attempt = row["round"], row["attempt"]
    if row["result"] != COMMITTED:
        return f"Round {number} was skipped in attempt {attempt}: {row.get('reason', 'nobody said why')}."
    took = f"{len(row['reporters'])} of {len(row['cohort'])} workers that were asked"
    return (
        f"Round {number} was committed in attempt {attempt}: the updates of {took} made the model "
        f"{row['model'][:12]} from {row.get('base', '')[:12]}."
    )


def _given_up(record: Record, number: int, *, again: bool) -> Iterable[str]:
    """What the same round came to before the server went back."""
    lines = [place for place, link in enumerate(record.links) if link.get("round") == number]
    earlier = [place for place in lines if record.links[place].get("result") != RESTORED][:-1]
    came = "so the round was made again" if again else "and no other model came of the round"
    for place in earlier:
        yield (
            f"It had been over before (line {place + 1} of the record); the server lost that model and went "
            f"back to an older checkpoint, {came}."
        )


def _earlier(row: Row, plan: Plan) -> Iterable[str]:
    for one in row.get("earlier", ()):
        lost = "; ".join(losses(one["dropouts"], plan)) or one.get("reason", "nobody was lost in it")
        yield f"Attempt {one['attempt']} was given up: {lost}."


def _of_cohort(row: Row, plan: Plan) -> Iterable[str]:
    reporters, dropouts = row["reporters"], row["dropouts"]
    if reporters:
        yield f"{_names(reporters)}: chosen; {_their(reporters)} in the model."
    yield from (f"{sentence}." for sentence in losses(dropouts, plan, chosen=True))
    rest = [name for name in row["cohort"] if name not in {*reporters, *dropouts}]
    left_out = row.get("leftOut", {})
    if rest and row["result"] == COMMITTED:
        why = " or its bucket had no sum," if left_out else ""
        yield f"{_names(rest)}: chosen, and not needed: enough others had reported,{why} so nothing was taken."
    elif rest:
        yield f"{_names(rest)}: chosen; the round came to nothing, for the reason above."
    for bucket, why in sorted(left_out.items(), key=lambda item: int(item[0])):
        yield f"Bucket {bucket} has no sum in this round: {why}."


def _of_others(row: Row) -> Iterable[str]:
    others: Mapping[str, Any] = row.get("selection", {})
    live, asked = others.get("live", 0), len(row["cohort"])
    passed = others.get("passedOver", [])
    if passed:
        yield f"{_names(passed, live - asked)}: not chosen; the round asked {asked} of the {live} that were there."
    if away := others.get("away", 0):
        yield f"{_names(others.get('absent', []), away)}: not there when the cohort was chosen."
    yield from (f"{sentence}." for sentence in refusals(others.get("refused", {})))


def refusals(refused: Mapping[str, str]) -> Iterable[str]:
    """A sentence for each worker that was not let in, without its full stop."""
    return (f"{worker}: refused; {why.rstrip('.')}" for worker, why in refused.items())


def losses(dropouts: Mapping[str, str], plan: Plan, *, chosen: bool = False) -> Iterable[str]:
    """A sentence for each reason, without its full stop."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for worker, reason in dropouts.items():
        by_reason[reason].append(worker)
    for reason, workers in by_reason.items():
        yield f"{_names(workers)}: {'chosen, and ' if chosen else ''}{why(reason, plan)}"


def why(reason: str, plan: Plan) -> str:
    """The server's word for a reason, in a sentence."""
    waits = plan.selection
    told = {
        DEADLINE: f"late: nothing whole had come after {waits.deadline_seconds:g} s (selection.deadlineSeconds)",
        STALLED: f"late: it had not moved for {waits.stall_seconds:g} s (selection.stallSeconds)",
        BEGUN: "late: the round's secure sum had been begun without it",
        SILENT: f"lost: it was not heard for {LEASE_SECONDS:g} s, or did not come back",
        GONE: "lost: it was gone when the scheduler was asked again",
        LEFT: "left: it was told to end, as those are who are scaled down or whose node is drained",
    }
    if kind_of(reason) == REFUSED:
        return reason.rstrip(".")
    return told.get(reason, f"it had nothing to hand in: {reason.rstrip('.')}")


def _their(workers: Sequence[str]) -> str:
    return "its update is" if len(workers) == 1 else "their updates are"


def _names(workers: Collection[str], count: int | None = None) -> str:
    """Some by name, the others as a number."""
    shown = list(workers)[:MOST]
    more = (len(workers) if count is None else max(count, len(workers))) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 and shown else str(more) if more > 0 else "")


def _extent(last: int) -> str:
    return "none yet" if last == 0 else "round 1" if last == 1 else f"rounds 1 to {last}"
