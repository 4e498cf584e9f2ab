"""What is known of a running job, folded from observations; and the words for its figures."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace

from fl_core.plan import Plan
from job_generator.local.observer import Ending, Observation, Standing
from job_generator.local.record import ClosedRound, latest

ETA_WINDOW = 5
UNITS = ("B", "kB", "MB", "GB", "TB")
THOUSAND = 1000.0
DAY = 86400


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan, the closed rounds, the open one, the ending, and the last things that were said."""

    plan: Plan
    rounds: tuple[ClosedRound, ...] = ()
    standing: Standing = field(default_factory=Standing)
    ending: Ending | None = None
    notes: tuple[str, ...] = ()
    line: int = 0
    """The last line of the record that was told."""

    def news(self, observation: Observation) -> tuple[ClosedRound, ...]:
        """What an observation tells of rounds that is not known yet: a server begins with all that it knows of."""
        known = max([self.line, *(closed.line for closed in self.rounds)])
        return tuple(
            closed
            for closed in observation.closed
            if (closed.line > known if closed.line else closed.round > self.done)
        )

    def observed(self, observation: Observation) -> Picture:
        """Take in one observation."""
        rounds = self.rounds
        if observation.closed:
            rounds = tuple(latest((*rounds, *observation.closed)))
        return replace(
            self,
            rounds=rounds,
            standing=observation.standing,
            ending=observation.ending or self.ending,
            line=max([self.line, *(closed.line for closed in observation.closed)]),
        )

    def noted(self, note: str, *, keep: int = 4) -> Picture:
        """Take in a sentence."""
        return replace(self, notes=(*self.notes, note)[-keep:])

    @property
    def done(self) -> int:
        """How many rounds are closed."""
        return self.rounds[-1].round if self.rounds else self.plan.done

    @property
    def scores(self) -> list[str]:
        """The names of the metrics besides the loss; the target's first."""
        names = dict.fromkeys(name for closed in self.rounds for name in closed.scores)
        target = self.plan.target.metric if self.plan.target else ""
        return sorted(names, key=lambda name: name != target)

    @property
    def eta_seconds(self) -> float | None:
        """How long the rounds that remain take at the pace of the last ones."""
        recent = [closed.total_seconds for closed in self.rounds[-ETA_WINDOW:]]
        if not recent:
            return None
        return (self.plan.rounds - self.done) * sum(recent) / len(recent)

    @property
    def activity(self) -> str:
        """What the open round is doing, and for whom it waits."""
        now = self.standing
        if self.ending is not None:
            return f"{self.ending.reason}: {self.ending.message}".rstrip(": ")
        if now.phase == "Waiting":
            return f"waiting for workers: {now.live} of {now.expected or self.plan.workers} are here"
        if now.phase == "Initialising":
            return "taking the initial weights from a worker"
        if now.phase == "Finished":
            return "finishing"
        again = f", attempt {now.attempt}" if now.attempt > 1 else ""
        return f"round {now.round}{again}: {now.phase.lower()}{_awaited(now)}"


def _awaited(now: Standing) -> str:
    if now.phase not in {"Training", "Evaluating"} or not now.selected:
        return ""
    lost = f", {len(now.dropped)} lost" if now.dropped else ""
    missing = f", waiting for {names(now.missing)}" if now.missing else ""
    return f", {len(now.reported)}/{len(now.selected)} have answered{lost}{missing}"


def names(several: tuple[str, ...], *, most: int = 6) -> str:
    """List names, `worker-1 3 7`, cutting a long list."""
    shown = [several[0], *(name.rpartition("-")[2] for name in several[1:most])] if several else []
    return " ".join(shown) + (f" and {len(several) - most} more" if len(several) > most else "")


def short(name: str, *, most: int = 16) -> str:
    """Cut a metric's name to what a column has room for."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def figure(value: float | None) -> str:
    """Write a metric with four significant places."""
    return "-" if value is None else f"{value:.4f}" if abs(value) < THOUSAND else f"{value:.4g}"


def epsilon(closed: ClosedRound) -> str:
    """Write the privacy that was spent by the end of a round."""
    return "-" if closed.privacy is None else f"{closed.privacy.epsilon:.3g}"


def volume(number: int) -> str:
    """Write a number of bytes as people say it."""
    value, unit = float(number), 0
    while value >= THOUSAND and unit < len(UNITS) - 1:
        value, unit = value / THOUSAND, unit + 1
    return f"{number} B" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """Write a time span: `0.42 s`, `12.3 s`, `4:07`, `1:02:03`, `2 d 7 h`."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - two digits
    if seconds >= DAY:
        return f"{seconds // DAY:.0f} d {seconds % DAY // 3600:.0f} h"
    text = str(dt.timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0")


def turnout(closed: ClosedRound) -> str:
    """Write how many of the cohort reported: `8/10`."""
    return f"{len(closed.reporters)}/{len(closed.cohort)}"


def traffic(closed: ClosedRound) -> str:
    """Write what went down to the workers and came up from them, where that is known."""
    if not closed.bytes:
        return "-"
    return f"↓{volume(closed.bytes.get('down', 0))} ↑{volume(closed.bytes.get('up', 0))}"
