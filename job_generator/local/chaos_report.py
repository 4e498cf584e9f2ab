"""What was done to a run, and what the run did: `chaos.json` in its folder, and a table in the terminal."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fl_core.plan import Plan
from fl_core.record import RESTORED
from fl_core.shortfall import REFUSED, kind_of
from job_generator.local.chaos import Story
from job_generator.local.folder import RunFolder, write_atomically
from job_generator.local.record import ClosedRound

FILE = "chaos.json"
MOST_ROWS = 40
"""Faults that the terminal shows; the file has them all."""


def report(story: Story, folder: RunFolder, *, seed: int) -> dict[str, Any]:
    """The report as a document: seconds since the run began, unless a name says otherwise."""
    rounds = folder.rounds()
    lost = seconds_lost(story)
    done = [
        {**asdict(deed), "round_seconds_lost": lost.get(deed.round) if lost else None} for deed in story.deeds
    ]
    return {
        "seed": seed,
        "seconds": story.ended,
        "done": done,
        "not_done": story.missed,
        "job": {
            "rounds": len(rounds),
            "rounds_lost": len(missing(rounds, done=Plan.read(folder.plan).done)),
            "rounds_counted_twice": twice(folder.record),
            "rounds_skipped": sum(not closed.committed for closed in rounds),
            "attempts": sum(closed.attempt for closed in rounds),
            "dropouts": dict(
                Counter(map(_word, (why for closed in rounds for why in closed.dropouts.values())))
            ),
            "restarts": {name: count - 1 for name, count in sorted(story.starts.items()) if count > 1},
            "seconds_lost": round(sum(lost.values()), 3) if lost else None,
        },
    }


def _word(reason: str) -> str:
    """A reason without what was wrong with an update that was refused."""
    return REFUSED if kind_of(reason) == REFUSED else reason


def missing(rounds: Sequence[ClosedRound], *, done: int) -> list[int]:
    """The rounds after those `done` before the job that the record lacks, though it has a later one."""
    there = {closed.round for closed in rounds}
    return [number for number in range(done + 1, max(there, default=0)) if number not in there]


def twice(record: Path) -> int:
    """How many rounds the record has more than once, where no line says that the server gave them up in between."""
    text = record.read_text(encoding="utf-8") if record.exists() else ""
    counted = Counter[int]()
    for row in map(json.loads, text[: text.rfind("\n") + 1].splitlines()):
        if row.get("result") == RESTORED:
            counted = Counter({number: times for number, times in counted.items() if number <= row["round"]})
        elif "round" in row:
            counted[row["round"]] += 1
    return sum(count > 1 for count in counted.values())


def seconds_lost(story: Story) -> dict[int, float]:
    """By how much each round with a fault took longer than the middle one of those without; empty if all have one."""
    first = {number: times[0] for number, times in sorted(story.opened.items())}
    numbers = list(first)
    ends = [*list(first.values())[1:], story.ended]
    took = {number: end - first[number] for number, end in zip(numbers, ends, strict=True)}
    disturbed = {deed.round for deed in story.deeds}
    quiet = [seconds for number, seconds in took.items() if number not in disturbed]
    if not quiet:
        return {}
    usual = statistics.median(quiet)
    return {number: round(max(took[number] - usual, 0.0), 3) for number in disturbed if number in took}


def write(document: dict[str, Any], folder: RunFolder) -> None:
    """Keep the report in the run's folder."""
    write_atomically(folder.path / FILE, json.dumps(document, indent=2) + "\n")


def read(folder: RunFolder) -> dict[str, Any] | None:
    """The report of the run that was last here; None where its processes never all started."""
    path = folder.path / FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def page(document: dict[str, Any]) -> RenderableType:
    """Draw the report."""
    table = Table(title="Faults", title_justify="left", box=None, pad_edge=False)
    seconds = ("back after", "trains after", "round lost")
    for heading in ("at", "fault", "who", "round", "step", *seconds):
        table.add_column(heading, justify="right" if heading in {"at", *seconds} else "left")
    for deed in document["done"][:MOST_ROWS]:
        round_ = f"{deed['round']}" + (f" ({deed['attempt']})" if deed["attempt"] > 1 else "")
        took = [_seconds(deed[name]) for name in ("back_after", "training_after", "round_seconds_lost")]
        table.add_row(_seconds(deed["at"]), deed["fault"], deed["who"], round_, deed["step"], *took)
    more = len(document["done"]) - MOST_ROWS
    notes = [Text(f"and {more} more")] if more > 0 else []
    notes += [Text(f"not done: {sentence}", style="dim") for sentence in document["not_done"][:MOST_ROWS]]
    return Group(Text(""), table, *notes, Text(""), Text(sentence(document["job"]), style="bold"))


def sentence(job: dict[str, Any]) -> str:
    """What the job did, in one line."""
    reasons = ", ".join(f"{reason}: {count}" for reason, count in job["dropouts"].items())
    dropouts = f"{sum(job['dropouts'].values())} ({reasons})" if reasons else "none"
    restarts = ", ".join(f"{count} of {name}" for name, count in job["restarts"].items()) or "none"
    lost = "unknown" if job["seconds_lost"] is None else f"{job['seconds_lost']:.1f} s"
    return (
        f"{job['rounds']} rounds in {job['attempts']} attempts: {job['rounds_lost']} lost, "
        f"{job['rounds_counted_twice']} counted twice, {job['rounds_skipped']} skipped; "
        f"dropouts: {dropouts}; restarts: {restarts}; time lost: {lost}."
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
