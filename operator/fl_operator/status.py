"""What the server of a job last said, and how the status shows it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fl_core.plan import Plan
from fl_operator.cluster.resources import Object
from fl_operator.conditions import COMPLETE, FAILED, READY, STALLED, SUSPENDED, holds
from fl_operator.findings import termination_message
from job_generator.local.observer import Standing
from job_generator.local.record import ClosedRound, Spent
from job_generator.names import PORT
from job_generator.status import MOST_ADVERSARY

AT_WORK = frozenset({"Training", "Committing", "Evaluating", "Concluding"})
"""Phases that a server gets to with a quorum only."""
SELECTING = "Selecting"
SELECTION = dt.timedelta(seconds=10)
"""A server that has chosen no cohort for so long, and for the time that late workers are given, has no quorum."""
PATIENCE = dt.timedelta(minutes=2)
"""A server whose pod is ready may say nothing for so long."""
SILENT = "Silent"
NO_ANSWER = (
    f"the server's pod is ready, but has not answered the operator for {PATIENCE.seconds} seconds or more: its rounds "
    f"are not shown here; see that the operator may reach port {PORT} of the job's pods"
)
SOONEST_LOOK = dt.timedelta(seconds=15)
LATEST_LOOK = dt.timedelta(minutes=5)
"""A job that is not ready is looked at again after a quarter of the time that it has waited, within these bounds:
what holds it back may show in Events only, which nobody watches."""
MOST_METRICS = 16
"""A status holds no more."""
EPSILON_PLACES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The last thing that a job's server said, and the newest round that it closed."""

    standing: Standing
    closed: ClosedRound | None = None
    evaluated: ClosedRound | None = None
    """The newest round that was measured."""
    closed_at: dt.datetime | None = None
    """When this operator last heard a round close; what a server begins with, its whole record, says not when."""
    selecting_since: dt.datetime | None = None
    """Since when this operator knows that the server chooses a cohort; None while it does not."""

    @property
    def at_work(self) -> bool:
        """Whether the server has got to where it gets with a quorum only."""
        return self.standing.phase in AT_WORK

    def standing_at(self, standing: Standing, now: dt.datetime) -> Report:
        """The report with a newer standing."""
        same = (standing.round, standing.attempt) == (self.standing.round, self.standing.attempt)
        since = (self.selecting_since if same else None) or now
        return replace(
            self, standing=standing, selecting_since=since if standing.phase == SELECTING else None
        )

    def training(self, rounds: int, *, done: int = 0) -> dict[str, Any]:
        """The status of the training; `round` is the last one that is over, a fork's is `done` before its first."""
        told: dict[str, Any] = {"round": max(self.standing.round - 1, done), "rounds": rounds}
        if (closed := self.closed) is not None:
            told |= {
                "round": closed.round,
                "selected": len(closed.cohort),
                "reported": len(closed.reporters),
                "dropped": len(closed.dropouts),
                "lastRoundSeconds": round(closed.total_seconds, 3),
            }
        if (measured := self.evaluated) is not None:
            values = {name: value for name, value in measured.metrics.items() if value is not None}
            told["metrics"] = dict(sorted(values.items())[:MOST_METRICS])
        return told | spending(self.standing.privacy)


@dataclass(frozen=True, slots=True)
class LastWords:
    """What the server wrote down when the job was complete; `message` says more than the reason where it must."""

    reason: str = "RoundsDone"
    training: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""

    @property
    def sentence(self) -> str:
        """For the condition and the event."""
        done = f" after round {self.training['round']}" if "round" in self.training else ""
        why = f"{self.message}; " if self.message else ""
        return f"{why}the final model is written{done}; fetch it with `fl-submit model`"


def last_words(pod: Object) -> LastWords | None:
    """What the server's pod says since it has ended; None where it says nothing of ours."""
    try:
        said = json.loads(termination_message(pod))
        reason, facts = str(said["reason"]), {"round": int(said["round"])}
        facts |= {name: int(said[name]) for name in ("selected", "reported", "dropped") if name in said}
        metrics = {str(name): float(value) for name, value in said["metrics"].items()}
        spent = Spent.model_validate(said["privacy"]) if "privacy" in said else None
        message = str(said.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    shown = {"metrics": dict(sorted(metrics.items())[:MOST_METRICS])} if metrics else {}
    return LastWords(reason, {**facts, **shown, **spending(spent)}, message)


def spending(spent: Spent | None) -> dict[str, Any]:
    """The status of the privacy that was spent; nothing where the job has none."""
    if spent is None:
        return {}
    about = {"epsilonNeighbours": spent.neighbours, "epsilonAdversary": spent.adversary[:MOST_ADVERSARY]}
    return {
        "epsilon": round(spent.epsilon, EPSILON_PLACES),
        "epsilonCovers": spent.epsilon_covers,
        **{name: word for name, word in about.items() if word},
    }


def quorum_outside(report: Report | None, plan: Plan, before: Mapping[str, Any], *, now: dt.datetime) -> bool:
    """Whether a server goes on with sites outside the cluster, which are no pods that could be counted; where it
    does not say, it is as it was before.
    """
    if not _has_outside(plan):
        return False
    if report is not None and (report.at_work or report.standing.phase == "Waiting"):
        return report.at_work
    ended = any(end <= now for end in selection_ends(report, plan))
    return not ended and holds(before.get("conditions", ()), READY)


def selection_ends(report: Report | None, plan: Plan) -> list[dt.datetime]:
    """When a server that chooses a cohort will have done so for too long; nothing where it does not choose."""
    if report is None or report.selecting_since is None:
        return []
    return [report.selecting_since + SELECTION + dt.timedelta(seconds=plan.selection.join_seconds)]


def next_look(since: dt.datetime, *, now: dt.datetime) -> dt.datetime:
    """When to look again at a job that is not ready since then."""
    return now + min(max((now - since) / 4, SOONEST_LOOK), LATEST_LOOK)


def attendance(ready: int, plan: Plan, *, outside: bool) -> str:
    """Who is there, for people; `outside` says whether sites outside the cluster complete the quorum."""
    told = f"{ready} workers are ready"
    if ready >= plan.selection.minimum or not _has_outside(plan):
        return told
    return f"{told}, and sites outside" if outside else f"{told}, and too few sites outside"


def _has_outside(plan: Plan) -> bool:
    return any(site.external for site in plan.sites)


def told(status: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the columns."""
    conditions, training = status["conditions"], status.get("training") or {}
    shown = {"state": _state(status), "reason": _reason(conditions)}
    if training.get("rounds"):
        shown["round"] = f"{training['round']}/{training['rounds']}"
    if "selected" in training:
        shown["cohort"] = f"{training['reported']}/{training['selected']}"
    if metrics := training.get("metrics"):
        name = _metric(metrics, spec)
        shown["metric"] = f"{name}={metrics[name]:.4g}"
    if (spent := training.get("epsilon")) is not None:
        shown["epsilon"] = f"{spent:.3g}"
    return shown


def _state(status: Mapping[str, Any]) -> str:
    conditions = status["conditions"]
    for kind, word in ((COMPLETE, "Complete"), (FAILED, "Failed"), (SUSPENDED, "Suspended")):
        if holds(conditions, kind):
            return word
    if holds(conditions, READY):
        return "Running"
    return "Starting" if status.get("startTime") else "Pending"


def _reason(conditions: list[dict[str, Any]]) -> str:
    """Why it is in this state: of the conditions that say trouble the first, else that of being ready."""
    by_kind = {condition["type"]: condition for condition in conditions}
    for kind in (COMPLETE, FAILED, STALLED, SUSPENDED):
        if by_kind[kind]["status"] == "True":
            return str(by_kind[kind]["reason"])
    return str(by_kind[READY]["reason"])


def _metric(metrics: Mapping[str, float], spec: Mapping[str, Any]) -> str:
    """The target's, or the first that is not the loss."""
    target = (spec.get("target") or {}).get("metric")
    if target in metrics:
        return str(target)
    return next((name for name in metrics if name != "loss"), next(iter(metrics)))
