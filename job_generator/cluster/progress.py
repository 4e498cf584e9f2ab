"""A job on a cluster in the pictures of a local run, from its FLJob's status and events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fl_core.errors import UnavailableError
from fl_core.plan import Plan
from job_generator.cluster.connection import Cluster, Object
from job_generator.cluster.jobs import conditions, display, events, exit_code, read, training
from job_generator.compiler import compile_job
from job_generator.local.live import Display
from job_generator.local.observer import Ending, Observation, Standing
from job_generator.local.record import ClosedRound
from job_generator.spec import FLJob

LOOK_SECONDS: Final = 1.0
PHASES: Final = {"Running": "Training", "Complete": "Finished"}
"""Of a state; in any other the job waits for workers."""


def plan_of(job: Object) -> Plan:
    """The Plan, compiled here as the operator compiles it."""
    metadata = {key: job["metadata"][key] for key in ("name", "namespace", "uid")}
    shown = {key: job[key] for key in ("apiVersion", "kind", "spec")}
    return compile_job(FLJob.model_validate({**shown, "metadata": metadata}))


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
        ),
    )


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


@dataclass(slots=True)
class Watch:
    """Looks at a job again and again until it is over, and shows what is new."""

    cluster: Cluster
    name: str
    sleep: Callable[[float], None] = time.sleep
    _told: set[str] = field(default_factory=set)

    def until_over(self, shown: Display, first: Object) -> Object:
        """Show the job until it ends; the job as it was then."""
        job, silent = first, False
        while True:
            try:
                shown.show(observation(job))
                self._notes(shown, job)
                if exit_code(job) is not None:
                    return job
                self.sleep(LOOK_SECONDS)
                job, silent = read(self.cluster, self.name), False
            except UnavailableError as error:
                if not silent:
                    shown.say(str(error))
                silent = True
                self.sleep(LOOK_SECONDS)

    def _notes(self, shown: Display, job: Object) -> None:
        """Warnings, and that the job is held."""
        if display(job)["state"] == "Suspended" and "Suspended" not in self._told:
            self._told.add("Suspended")
            shown.say(f"{self.name} is suspended; to go on: fl-submit resume {self.name}")
        for event in events(self.cluster, job):
            note = str(event.get("message") or event.get("note") or "")
            if event.get("type") == "Warning" and note not in self._told:
                self._told.add(note)
                shown.say(f"{event.get('reason', '')}: {note}")
