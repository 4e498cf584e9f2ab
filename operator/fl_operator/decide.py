"""What to do about one FLJob: from what is seen to actions, the next status, and when to look again.

Pure, and of the present only: it asks neither what happened nor what was done before, but what is there and
what should be. So it may be called at any time, any number of times, by any operator.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from fl_operator import conditions as c
from fl_operator.actions import (
    NOTHING,
    Action,
    Apply,
    Create,
    Decision,
    Delete,
    Finish,
    Note,
    Place,
    Seen,
    changed,
    place_of,
)
from fl_operator.afterwards import afterwards
from fl_operator.attempt import Attempt, is_of_another
from fl_operator.choice import chosen, gone, taken
from fl_operator.cluster.resources import CLAIMS, Object
from fl_operator.drift import differs
from fl_operator.ends import end_of
from fl_operator.findings import (
    EXHAUSTED,
    Finding,
    has_done,
    is_ready,
    job_of,
    of_events,
    of_pods,
    pods_of,
    shown,
    soon,
    summary,
)
from fl_operator.headcount import restarts_of, workers_of
from fl_operator.renewal import pod_due, renewal
from fl_operator.status import (
    NO_ANSWER,
    PATIENCE,
    SILENT,
    LastWords,
    attendance,
    last_words,
    next_look,
    quorum_outside,
    selection_ends,
    told,
)
from job_generator.settings import Settings

PRE_RUNNING_SECONDS: Final = 900
"""The default of `preRunningDeadlineSeconds`; the API server fills it in."""
IMMUTABLE: Final = "ImmutableFieldChanged"
CHANGED: Final = (
    "a field was changed that cannot change while a job runs; change it back, or make another job. Pod templates can "
    "change while the job is suspended: suspend it, and resume it when Suspended is True. The attempt goes on as it was"
)
HELD: Final = {True: "Suspended", False: "NotSuspended"}
"""The reason for which a job is, or is not, without pods, once that is so."""
SOON: Final = 0.1
"""Seconds until what was just made is in the copies."""


def decide(seen: Seen, *, settings: Settings, now: dt.datetime) -> Decision:
    """Decide about a job."""
    job = seen.job
    if job["metadata"].get("deletionTimestamp") or not c.is_ours(job):
        return NOTHING
    if c.is_over(job):
        return afterwards(seen, now)
    return _Visit(seen, settings, now).decision()


class _Visit:
    """One look at a job that is not over."""

    def __init__(self, seen: Seen, settings: Settings, now: dt.datetime) -> None:
        self.seen, self.settings, self.now = seen, settings, now
        self.job, self.spec = seen.job, seen.job["spec"]
        self.before: Object = self.job.get("status", {})
        self.status: Object = {**self.before, "observedGeneration": self.job["metadata"]["generation"]}
        self.conditions = c.Conditions(
            self.before.get("conditions", ()),
            generation=self.status["observedGeneration"],
            now=now,
        )
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self.wakes: list[dt.datetime] = []
        self._restarts = restarts_of(self.spec)

    def decision(self) -> Decision:
        """Compile, create, watch, end."""
        choice = chosen(self.seen, self.settings)
        if choice.create is not None:
            self.actions.append(choice.create)
        if choice.refused is not None:
            self._refuse(*choice.refused)
        elif choice.attempt is None:
            return Decision(tuple(self.actions), again=SOON)
        else:
            self._judge(choice.attempt, is_changed=choice.is_changed)
            self._run(choice.attempt)
        self.status["conditions"] = self.conditions.listed
        self.status["display"] = told(self.status, self.spec)
        changed = self.status if differs(self.status, self.before) else None
        again = min(((wake - self.now).total_seconds() for wake in self.wakes), default=None)
        again = None if again is None else max(again, SOON)
        actions, notes = tuple(self.actions), tuple(self.notes)
        return Decision(actions, changed, notes, again, choice.trials, choice.unclassed)

    # -- from the spec to the children

    def _judge(self, attempt: Attempt, *, is_changed: bool) -> None:
        """Whether the attempt is what the spec says; where not, it goes on as it was."""
        if is_changed:
            self.conditions.set(c.COMPILED, "False", IMMUTABLE, CHANGED)
            self._note_if_new(c.COMPILED, IMMUTABLE, CHANGED, status="False")
        else:
            self._compiled(attempt)

    def _compiled(self, attempt: Attempt) -> None:
        self.conditions.set(c.COMPILED, "True", "Compiled", f"plan {attempt.plan.digest[:12]}")
        self.status |= {
            "attempt": attempt.number,
            "planDigest": attempt.plan.digest,
            "images": attempt.images,
        }

    def _refuse(self, reason: str, message: str) -> None:
        """Nothing is created for a job that cannot be compiled; one that was compiled before stands as it stood."""
        for kind in (c.SUSPENDED, c.SERVER_READY, c.READY, c.DEGRADED, c.COMPLETE, c.FAILED):
            self.conditions.set(kind, "False", "NotCompiled")
            if "attempt" in self.before:
                self.conditions.leave(kind)
        self.conditions.set(c.COMPILED, "False", reason, message)
        self.conditions.set(c.STALLED, "True", reason, message)
        self._note_if_new(c.COMPILED, reason, message, status="False")

    def _run(self, attempt: Attempt) -> None:
        self.conditions.set(c.COMPLETE, "False", "NotComplete")
        self.conditions.set(c.FAILED, "False", "NotFailed")
        self.conditions.set(c.STALLED, "False", "NotStalled")
        suspended = self._suspended()
        started = any(kind == "Job" for kind, _ in self.seen.children)
        if started or not suspended:
            self._children(attempt, suspended=suspended)
        if not suspended and not self.status.get("startTime"):
            self.status["startTime"] = c.time_of(self.now)
            self.notes.append(Note("Started", f"created the children of attempt {attempt.number}"))
        self._watch(attempt, suspended=suspended)

    def _children(self, attempt: Attempt, *, suspended: bool) -> None:
        for frozen in attempt.wanted(self.spec, suspended=suspended):
            place = place_of(frozen)
            live = self.seen.children.get(place)
            wanted = _as_left(frozen, live)
            if place in self.seen.taken:
                self.conditions.set(c.STALLED, "True", "NameTaken", taken(place))
                self._note_if_new(c.STALLED, "NameTaken", taken(place))
            elif live is None:
                self.actions.append(Create(wanted, gone(place) if place in self.seen.held else None))
                self._refusal(place)
            elif live["metadata"].get("deletionTimestamp"):
                continue  # its end is awaited, then it is made again
            elif wanted["kind"] == "Job" and is_of_another(wanted, live):
                self.actions.append(Delete(live))  # what its pods are made from cannot be changed
            elif (note := renewal(live, self.seen.pods)) and self._passed(pod_due(self.status, self.now)):
                self.actions.append(Delete(live, note))
            elif differs(wanted, live):
                self.actions.append(Apply(wanted, self._repair(wanted, live)))
                self._refusal(place)

    def _refusal(self, place: Place) -> None:
        """What the API server did not take last time; it is tried again all the same."""
        if (said := self.seen.refused.get(place)) is not None:
            self.conditions.set(c.STALLED, "True", "ChildRefused", said)
            self._note_if_new(c.STALLED, "ChildRefused", said)

    def _repair(self, wanted: Object, live: Object) -> Note | None:
        """An event, where it was more than told to stop, to go on, to have more or fewer pods, or what another attempt
        has otherwise.
        """
        if wanted["kind"] == "Job":
            scaled = self.before.get("workers", {}).get("replicas") != self.spec["workers"]["replicas"]
            settled = self.conditions.was(c.SUSPENDED, HELD[wanted["spec"]["suspend"]])
            told = [*([] if settled else ["suspend"]), *(["completions", "parallelism"] if scaled else [])]
            own = {name: live["spec"].get(name, False) for name in told}
            wanted = {**wanted, "spec": {**wanted["spec"], **own}}
        if is_of_another(wanted, live) or place_of(wanted) in self.seen.refused or not differs(wanted, live):
            return None
        return changed(place_of(wanted))

    # -- suspension

    def _suspended(self) -> bool:
        """Whether there should be no pods; an open round is given time to end."""
        if not self.spec.get("suspend"):
            self.conditions.set(c.SUSPENDED, "False", HELD[False])
            if self.conditions.became(c.SUSPENDED, "False") and self.status.get("startTime"):
                self.status["startTime"] = c.time_of(self.now)  # suspended time does not count
            return False
        running = any(
            kind == "Job" and not child["spec"].get("suspend", False)
            for (kind, _), child in self.seen.children.items()
        )
        if not running:
            self.conditions.set(c.SUSPENDED, "True", HELD[True], "resume it with spec.suspend: false")
            self._note_if_new(c.SUSPENDED, "Suspended", "the job has no pods now", warning=False)
            return True
        self.conditions.set(c.SUSPENDED, "Unknown", "Suspending", "the open round may end first")
        asked = self.conditions.since(c.SUSPENDED)
        end = asked + dt.timedelta(seconds=self.spec.get("suspendGraceSeconds", 30))
        if self._is_between_rounds(asked) or self.now >= end:
            return True
        self.wakes.append(end)
        return False

    def _is_between_rounds(self, asked: dt.datetime) -> bool:
        """Whether a round was closed since suspension was asked for; one that serves unheard may be in a round."""
        if (report := self.seen.report) is None:
            return not self._serves()
        return report.closed_at is not None and report.closed_at >= asked

    # -- what the pods say

    def _watch(self, attempt: Attempt, *, suspended: bool) -> None:
        self.wakes += filter(None, [soon(self.seen.pods, now=self.now)])
        workers = self.status["workers"] = workers_of(self.seen, self.spec, restarts=self._restarts)
        self._training(attempt)
        self._server(suspended=suspended)
        self._readiness(attempt, workers, suspended=suspended)
        stale = self.conditions.is_true(c.READY)  # events of a job that is ready tell of what is mended
        troubles = of_pods(self.seen.pods, now=self.now, restarts=self._restarts)
        findings = [*troubles, *(() if stale else of_events(self.seen.events))]
        self._degraded(findings, workers)
        if self._complete():
            return
        if failure := end_of(attempt.plan, findings, workers):
            self._fail(*failure)
        elif not suspended:
            self._deadlines()
            self._stop_early()

    def _server(self, *, suspended: bool) -> None:
        """Whether the server is there; one that never answers may be at work, and nobody sees it."""
        since = self.seen.silent_since
        if not self._serves():
            self.conditions.set(c.SERVER_READY, "False", "Suspended" if suspended else "NotReady")
        elif since and (self.conditions.was(c.SERVER_READY, SILENT) or self._passed(since + PATIENCE)):
            self.conditions.set(c.SERVER_READY, "Unknown", SILENT, NO_ANSWER)
            self._note_if_new(c.SERVER_READY, SILENT, NO_ANSWER, status="Unknown")
        else:
            self.conditions.set(c.SERVER_READY, "True", "Ready")

    def _serves(self) -> bool:
        return any(map(is_ready, pods_of(self.seen.pods, "server")))

    def _training(self, attempt: Attempt) -> None:
        """A server that waits and knows of no round may not have read its storage yet."""
        if (report := self.seen.report) and (report.closed or report.standing.phase != "Waiting"):
            self.status["training"] = report.training(attempt.plan.rounds, done=attempt.plan.done)
        else:
            self.status.setdefault("training", {"round": attempt.plan.done, "rounds": attempt.plan.rounds})

    def _readiness(self, attempt: Attempt, workers: Object, *, suspended: bool) -> None:
        report, plan, ready = self.seen.report, attempt.plan, workers["ready"]
        short = ready < (minimum := plan.selection.minimum)
        outside = short and quorum_outside(report, plan, self.before, now=self.now)
        told = attendance(ready, plan, outside=outside)
        if suspended:
            self.conditions.set(c.READY, "False", "Suspended")
        elif self._serves() and (outside or not short):
            self.conditions.set(c.READY, "True", "Quorum", f"{told}, {minimum} are needed")
            self._note_if_new(c.READY, "Ready", told, warning=False)
            self.wakes += selection_ends(report, plan) if outside else []
        elif any(map(has_done, self.seen.pods)):
            self.conditions.leave(c.READY)  # they go home one by one
        else:
            reason = "QuorumLost" if self._was_ready() else "NoQuorum"
            self.conditions.set(c.READY, "False", reason, f"{told}, {minimum} are needed")
            self.wakes.append(next_look(self.conditions.since(c.READY), now=self.now))

    def _degraded(self, findings: Sequence[Finding], workers: Object) -> None:
        if findings:
            message = summary(findings)
            self.conditions.set(c.DEGRADED, "True", findings[0].reason, message)
            self._note_if_new(c.DEGRADED, findings[0].reason, message)
            self._given_up(findings)
        elif workers["lost"]:
            self.conditions.set(
                c.DEGRADED, "True", "WorkersLost", f"{workers['lost']} workers are lost for good"
            )
        else:
            self.conditions.set(c.DEGRADED, "False", "AllWell")

    def _given_up(self, findings: Sequence[Finding]) -> None:
        """An event for workers started no more that the condition did not show before, whatever they died of since."""
        for sentence in shown(findings):
            names, exhausted, _ = sentence.partition(f": {EXHAUSTED}")
            known = self.conditions.became(c.DEGRADED) or self.conditions.said(c.DEGRADED, names + exhausted)
            if exhausted and not known:
                self.notes.append(Note(EXHAUSTED, sentence, "Warning"))

    # -- the ends

    def _complete(self) -> bool:
        server = job_of(self.seen.children.values(), "server")
        if server is None or not server.get("status", {}).get("succeeded"):
            return False
        words = next(filter(None, map(last_words, pods_of(self.seen.pods, "server"))), None) or LastWords()
        self.status["training"] = {**self.status["training"], **words.training}
        self._end(c.COMPLETE, words.reason, words.sentence)
        self.conditions.set(c.READY, "True", "Complete")
        self.conditions.set(c.DEGRADED, "False", "AllWell")
        self.notes.append(Note("Complete", words.sentence))
        return True

    def _fail(self, reason: str, message: str) -> None:
        self._end(c.FAILED, reason, message)
        self.conditions.set(c.STALLED, "True", reason, message)
        self.conditions.set(c.READY, "False", "Failed")
        self.notes.append(Note(reason, message, "Warning"))

    def _end(self, kind: str, reason: str, message: str) -> None:
        self.status["completionTime"] = c.time_of(self.now)
        self.conditions.set(kind, "True", reason, message)
        self.wakes = [self.now + dt.timedelta(seconds=1)]

    def _deadlines(self) -> None:
        if "startTime" not in self.status:
            return
        start = c.read_time(self.status["startTime"])
        ready = start + dt.timedelta(seconds=self.spec.get("preRunningDeadlineSeconds", PRE_RUNNING_SECONDS))
        begun = self._was_ready() or c.holds(self.conditions.listed, c.READY)
        if not begun and self._passed(ready):
            message = self._blocked() or "the workers that are needed did not come in time"
            self._fail("PreRunningDeadlineExceeded", f"not ready within {ready - start}: {message}")
            return
        if (seconds := self.spec.get("activeDeadlineSeconds")) is not None:
            end = start + dt.timedelta(seconds=seconds)
            if self._passed(end):
                self._fail("DeadlineExceeded", f"not complete within spec.activeDeadlineSeconds ({seconds})")

    def _was_ready(self) -> bool:
        """Whether the job has been ready since it was started."""
        ready = next((one for one in self.before.get("conditions", ()) if one["type"] == c.READY), None)
        return ready is not None and (ready["status"] == "True" or ready["reason"] == "QuorumLost")

    def _blocked(self) -> str:
        degraded = next(one for one in self.conditions.listed if one["type"] == c.DEGRADED)
        return str(degraded["message"]) if degraded["status"] == "True" else ""

    def _passed(self, moment: dt.datetime) -> bool:
        if self.now >= moment:
            return True
        self.wakes.append(moment)
        return False

    def _stop_early(self) -> None:
        """A server that does not know of a lower `rounds` yet is told, however far away that round is."""
        report, last = self.seen.report, self.spec["rounds"]
        if report is not None and report.standing.rounds > last:
            self.actions.append(Finish(last))

    def _note_if_new(
        self, kind: str, reason: str, note: str, *, status: c.Truth = "True", warning: bool = True
    ) -> None:
        if self.conditions.became(kind, status):
            self.notes.append(Note(reason, note, "Warning" if warning else "Normal"))


def _as_left(wanted: Object, live: Object | None) -> Object:
    """The claim without its owner, once that was taken from it so that it outlives the job: nobody gives it back."""
    if live is None or wanted["kind"] != CLAIMS.kind or live["metadata"].get("ownerReferences"):
        return wanted
    metadata = {name: value for name, value in wanted["metadata"].items() if name != "ownerReferences"}
    return {**wanted, "metadata": metadata}
