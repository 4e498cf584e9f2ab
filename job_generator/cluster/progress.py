"""A job on a cluster in the pictures of a local run, from its FLJob's status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from fl_core.errors import UnavailableError
from fl_core.plan import Plan
from fl_core.record import RESTORED
from job_generator.cluster.connection import Object
from job_generator.cluster.jobs import conditions, display, exit_code, training, typed
from job_generator.compiler import compile_job
from job_generator.local.live import Display
from job_generator.local.observer import Ending, Observation, Standing
from job_generator.local.record import ClosedRound, Spent

PHASES: Final = {"Running": "Training", "Complete": "Finished"}
"""Of a state; in any other the job waits for workers."""
TROUBLES: Final = (("Compiled", "False"), ("Stalled", "True"), ("Degraded", "True"))
"""Conditions that a job can go on with, and their status then."""


def plan_of(job: Object) -> Plan:
    """The Plan, compiled here as the operator compiles it."""
    return compile_job(typed(job, "namespace", "uid"))


def observation(job: Object) -> Observation:
    """What the status says. It tells how many took part in a round, not who; bytes are in the metrics only."""
    told, counts = training(job), job.get("status", {}).get("workers") or {}
    state = display(job)["state"]
    standing = Standing(
        round=told["round"] + 1,
        rounds=told["rounds"],
        phase=PHASES.get(state, "Waiting"),
        live=counts.get("ready", 0),
        expected=counts.get("replicas", 0),
    )
    return Observation(standing, _closed(told), _ending(job))


def numbered(jobs: Iterable[Object]) -> Iterator[tuple[Object, Observation]]:
    """Each job with what its status says, numbered as the lines of a record are.

    A status whose round is an older one than before is that of a server that went back.
    """
    line, last = 0, 0
    for job in jobs:
        one, number = observation(job), training(job)["round"]
        line += number != last
        told = (ClosedRound(round=number, result=RESTORED),) if number < last else one.closed
        last = number
        yield job, replace(one, closed=tuple(each.model_copy(update={"line": line}) for each in told))


def _closed(told: Object) -> tuple[ClosedRound, ...]:
    """The last round; the ones before it are known to whoever watched them."""
    if not told["round"] or "selected" not in told:
        return ()
    asked, reported = int(told["selected"]), int(told["reported"])
    return (
        ClosedRound(
            round=told["round"],
            cohort=tuple(map(str, range(asked))),
            reporters=tuple(map(str, range(reported))),
            metrics=told.get("metrics") or {},
            seconds={"total": told.get("lastRoundSeconds") or 0.0},
            privacy=_spent(told),
        ),
    )


def _spent(told: Object) -> Spent | None:
    if told.get("epsilon") is None:
        return None
    about = {name: told.get(f"epsilon{name.capitalize()}", "") for name in ("neighbours", "adversary")}
    return Spent.model_validate({**told, **about})


def _ending(job: Object) -> Ending | None:
    code = exit_code(job)
    if code is None:
        return None
    reason, message = conclusion(job)
    return Ending(complete=code == 0, reason=reason, message=message, model="")


def conclusion(job: Object) -> tuple[str, str]:
    """Why the job is where it is: reason and message of the condition that decides."""
    said = conditions(job)
    for kind, status in (
        ("Complete", "True"),
        ("Failed", "True"),
        ("Compiled", "False"),
        ("Stalled", "True"),
    ):
        if said.get(kind, {}).get("status") == status:
            return str(said[kind]["reason"]), str(said[kind].get("message", ""))
    return display(job).get("reason", ""), ""


def show(jobs: Iterable[Object], shown: Display) -> Object:
    """Show the job as it changes until it is over; the job as it was then."""
    before: list[str] = []
    seen: set[int] = set()
    for job, one in numbered(jobs):
        shown.show(one)
        seen |= {closed.round for closed in one.closed}
        now = list(_notes(job))
        for note in now:
            if note not in before:
                shown.say(note)
        if exit_code(job) is not None:
            behind = (job["spec"].get("initialModel") or {}).get("round") or 0
            if (unseen := training(job)["round"] - behind - len(seen)) > 0:
                name = job["metadata"]["name"]
                shown.say(f"{unseen} more rounds are on the record: fl-submit record show {name}")
            return job
        before = now
    raise UnavailableError("nothing more is heard of the job")


def _notes(job: Object) -> Iterator[str]:
    """That the job is held, and what troubles it without ending it."""
    name = job["metadata"]["name"]
    if display(job)["state"] == "Suspended":
        yield f"{name} is suspended; to go on: fl-submit resume {name}"
    told = conditions(job)
    if exit_code(job) is None:
        yield from dict.fromkeys(
            f"{told[kind]['reason']}: {told[kind].get('message', '')}"
            for kind, bad in TROUBLES
            if told.get(kind, {}).get("status") == bad
        )
