"""The logs of a run's processes, merged by time."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMON = {"process", "timestamp", "level", "event", "round", "worker", "job", "role", "logger", "attempt"}
FOLLOW_SECONDS = 0.3


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One line of one process's log; a line that is no JSON has the time of the one before it."""

    time: str
    process: str
    number: int
    level: str = field(compare=False, default="")
    event: str = field(compare=False, default="")
    round: int | None = field(compare=False, default=None)
    worker: str = field(compare=False, default="")
    rest: dict[str, object] = field(compare=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are wanted: of processes (`server`, `worker-3`, `worker` for all), and of a round."""

    role: str | None = None
    round: int | None = None

    def process(self, name: str) -> bool:
        """Tell whether this process's log is wanted."""
        return self.role is None or name == self.role or name.startswith(f"{self.role}-")

    def entry(self, entry: Entry) -> bool:
        """Tell whether this line is wanted."""
        return self.round is None or entry.round == self.round


class LogFile:
    """One process's log, read on from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self.process = path.stem
        self._path = path
        self._offset = 0
        self._number = 0
        self._time = ""

    def entries(self) -> Iterator[Entry]:
        """Read the whole lines that are new."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._number += 1
                text = line.decode(errors="replace").rstrip("\n")
                entry = entry_of(text, process=self.process, number=self._number, time=self._time)
                self._time = entry.time
                yield entry


def entry_of(line: str, *, process: str, number: int, time: str) -> Entry:
    """Read a line; `time` is that of a line which does not say its own."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return Entry(time, process, number, event=line)
    closed = fields.get("round")
    return Entry(
        str(fields.get("timestamp") or time),
        process,
        number,
        level=str(fields.get("level", "")),
        event=str(fields.get("event", "")),
        round=closed if isinstance(closed, int) else None,
        worker=str(fields.get("worker", "")),
        rest={name: value for name, value in fields.items() if name not in COMMON},
    )


class Logs:
    """All the logs in a folder, as far as they are wanted."""

    def __init__(self, folder: Path, wanted: Filter) -> None:
        self._folder = folder
        self._wanted = wanted
        self._files: dict[Path, LogFile] = {}

    def entries(self) -> Iterable[Entry]:
        """Merge what is new by time."""
        for path in sorted(self._folder.glob("*.log")):
            if path not in self._files and self._wanted.process(path.stem):
                self._files[path] = LogFile(path)
        merged = heapq.merge(*(file.entries() for file in self._files.values()))
        return filter(self._wanted.entry, merged)

    def follow(self, alive: Callable[[], bool]) -> Iterator[Entry]:
        """Go on with what is written until the run is over; files do not tell that they grew."""
        while True:
            last_time = not alive()
            yield from self.entries()
            if last_time:
                return
            time.sleep(FOLLOW_SECONDS)
