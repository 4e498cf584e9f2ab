"""One measurement from start to end: servers up, clients on, rounds followed, everything killed."""

import json
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from bench.cases import Case, Result
from bench.memory import Limits, Watch
from bench.processes import Group

POLL_SECONDS = 0.05


class Deployment(Protocol):
    """How a system is started; it writes a JSON line when its servers are ready and at each round's end."""

    def start_servers(self, group: Group, case: Case, events: Path) -> None:
        """Start what serves; it must write `ready` before it loads the model and wait for all clients."""

    def start_clients(self, group: Group, case: Case) -> None:
        """Start the no-op clients."""

    def remark(self, case: Case, rounds: list[dict[str, Any]]) -> str:
        """Say what belongs beside the figures, such as whether the system encrypts."""


class Stopped(Exception):  # noqa: N818  # an outcome, not an error
    """The run ended early; the message is the note of its result."""


@dataclass(frozen=True)
class _Run:
    """What is known about a run in progress."""

    group: Group
    watch: Watch
    events: Path

    def wait_for(self, event: str, *, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many lines of an event stand in the file, or say why they never will."""
        while len(found := self.read(event)) < count:
            if self.watch.breach is not None:
                raise Stopped(f"{self.watch.breach} ({len(found)} of {count} {event} lines)")
            failure = self.group.failure() or ("a server process ended early" if self.watch.lost() else None)
            if failure is not None and len(self.read(event)) < count:
                raise Stopped(failure)
            time.sleep(POLL_SECONDS)
        return found

    def read(self, event: str) -> list[dict[str, Any]]:
        """Read the whole lines of one event so far."""
        whole = self.events.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.split("\n") if line]
        return [line for line in lines if line["event"] == event]


def measure(deployment: Deployment, case: Case, limits: Limits) -> Result:
    """Run one case in a folder of its own; a system that dies or outgrows its limits yields a note."""
    with (
        TemporaryDirectory(prefix="bench-") as name,
        Group(Path(name)) as group,
        Watch(group, limits) as watch,
    ):
        run = _Run(group, watch, Path(name) / "events.jsonl")
        run.events.touch()
        note = ""
        try:
            _drive(deployment, case, run)
        except Stopped as stopped:
            note = str(stopped)
        rounds = run.read("round")[: case.rounds]  # one that runs on may have closed another since
        note = note or _shortfall(rounds, case) or deployment.remark(case, rounds)
        return Result.of(durations(rounds), watch.peak_beyond_idle(), note=note)


def durations(rounds: list[dict[str, Any]]) -> list[float]:
    """Take the seconds from one round's end to the next: all that a round costs, the first one dropped."""
    ends = [float(line["monotonic"]) for line in rounds]
    return [after - before for before, after in pairwise(ends)]


def _drive(deployment: Deployment, case: Case, run: _Run) -> None:
    deployment.start_servers(run.group, case, run.events)
    run.wait_for("ready")
    run.watch.settle()
    deployment.start_clients(run.group, case)
    run.wait_for("round", count=case.rounds)


def _shortfall(rounds: list[dict[str, Any]], case: Case) -> str:
    counts = [int(line["replies"]) for line in rounds]
    return "" if all(count == case.clients for count in counts) else f"replies per round: {counts}"
