"""A run of a job, followed from outside: what its processes take of the processor a round, by role, read in /proc."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import click

from fl_core.record import LINES

POLL_SECONDS = 0.01
TICK = 1 / os.sysconf("SC_CLK_TCK")
ROLES = ("server", "scheduler", "worker")


@dataclass
class Followed:
    """A run of so many rounds in a folder; `seen` has the processor's seconds by role when so many had closed.

    Those of the warm-up do not count, nor does the last round, after which the processes end.
    """

    folder: Path
    rounds: int
    warm_up: int
    seen: dict[int, dict[str, float]] = field(default_factory=dict)

    def run(self, command: Sequence[str | Path]) -> None:
        """Run the job; CalledProcessError where it fails."""
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                self._look()
                time.sleep(POLL_SECONDS)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, list(map(str, command)))

    @property
    def spent(self) -> dict[str, float]:
        """Seconds of the processor a round, by role; of the workers their mean."""
        if len(self.seen) < 2:  # noqa: PLR2004 - a first and a last one
            raise click.ClickException("the rounds are too few or too short to be followed")
        first, last = min(self.seen), max(self.seen)
        return {role: (self.seen[last][role] - self.seen[first][role]) / (last - first) for role in ROLES}

    def _look(self) -> None:
        lines = self.folder / "storage" / LINES
        closed = lines.read_bytes().count(b"\n") if lines.exists() else 0
        if self.warm_up <= closed < self.rounds and closed not in self.seen:
            spent = _spent(self.folder)
            if spent.keys() == set(ROLES):  # else the last round has closed meanwhile, and they end
                self.seen[closed] = spent


def _spent(folder: Path) -> dict[str, float]:
    """Seconds of the processor that the run's processes have taken so far, by role."""
    found: dict[str, list[float]] = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text().split("\0") if entry.name.isdigit() else []
            role = next((role for role in ROLES if f"fl_{role}" in words), None)
            if role is not None and str(folder) in "\0".join(words):
                counts = (entry / "stat").read_text().rpartition(")")[2].split()
                found.setdefault(role, []).append(TICK * (int(counts[11]) + int(counts[12])))
        except OSError:  # it has ended meanwhile
            continue
    return {role: mean(seconds) for role, seconds in found.items()}
