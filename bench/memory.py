"""The memory of processes, read from outside in /proc, and the watch that protects the machine."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Self

from bench.cases import GIBIBYTE
from bench.processes import Group

PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.02
SCAN_SECONDS = 1.0
SETTLE_SECONDS = 0.5
TOTAL_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """How much one measurement may take; whoever takes more is stopped and reported."""

    total_bytes: int = 16 * GIBIBYTE
    reserve_bytes: int = 2 * GIBIBYTE
    seconds: float = 600


class Watch(Thread):
    """Samples the server processes' resident memory and sets `breach` when a limit is passed."""

    def __init__(self, group: Group, limits: Limits) -> None:
        super().__init__(daemon=True, name="memory-watch")
        self.breach: str | None = None
        self._group = group
        self._limits = limits
        self._ended = Event()
        self._idle: dict[int, int] | None = None
        self._peak = 0
        self._servers: list[int] = []
        self._deadline = time.monotonic() + limits.seconds

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def settle(self) -> None:
        """Take the servers' present memory as idle: they are up, no client has come, no model is loaded."""
        pids = self._lasting(self._group.members("server"))
        while (later := self._lasting(pids)) != pids:
            pids = later
        for pid in pids:
            forget_peak(pid)
        self._servers, self._peak = pids, 0
        self._idle = {pid: resident(pid) for pid in pids}

    def lost(self) -> bool:
        """Tell whether a server process that was there at idle has ended."""
        return self._idle is not None and not all(resident(pid) for pid in self._idle)

    def peak_beyond_idle(self) -> int | None:
        """Bytes above idle: the highest sampled sum, or one process's exact high-water mark if more."""
        return None if self._idle is None else self._peak

    def run(self) -> None:
        """Sample until the end, looking for new server processes now and then."""
        scan = total = time.monotonic()
        seen: list[int] = []
        while not self._ended.wait(SAMPLE_SECONDS) and self.breach is None:
            now = time.monotonic()
            if now >= scan:
                found, scan = self._group.members("server"), now + SCAN_SECONDS
                # A fork about to run another program is a copy of the server: only one seen twice counts.
                self._servers, seen = [pid for pid in found if pid in seen], found
            self.breach = self._sample(now)
            if self.breach is None and now >= total:
                self.breach, total = self._weigh_all(), now + TOTAL_SECONDS

    def _lasting(self, before: list[int]) -> list[int]:
        """Find which servers are still there later: a short-lived helper must not raise what idle is."""
        time.sleep(SETTLE_SECONDS)
        return [pid for pid in self._group.members("server") if pid in before]

    def _sample(self, now: float) -> str | None:
        held = sum(resident(pid) for pid in self._servers)
        if self._idle is not None:
            single = [high_water(pid) - idle for pid, idle in self._idle.items()]
            self._peak = max(self._peak, held - sum(self._idle.values()), *single)
        if held > self._limits.total_bytes:
            return f"out of memory: the server passed {_gib(self._limits.total_bytes)}"
        if available() < self._limits.reserve_bytes:
            reserve = _gib(self._limits.reserve_bytes)
            return f"stopped: less than {reserve} left on the machine, server {_gib(held)}"
        if now > self._deadline:
            return f"out of time: {self._limits.seconds:g} s"
        return None

    def _weigh_all(self) -> str | None:
        total = sum(proportional(pid) for pid in self._group.members())
        if total <= self._limits.total_bytes:
            return None
        held = sum(resident(pid) for pid in self._servers)
        return f"not affordable here: {_gib(total)} with all clients, server {_gib(held)} of it"


def resident(pid: int) -> int:
    """Bytes of a process in memory now, nothing once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def high_water(pid: int) -> int:
    """Read the most bytes a process ever had in memory: exact where sampling may miss a short peak."""
    return _kibibytes(Path(f"/proc/{pid}/status"), "VmHWM")


def proportional(pid: int) -> int:
    """Bytes of a process with shared pages divided among their users, so that a sum counts them once."""
    return _kibibytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def available() -> int:
    """Bytes the machine can still give before it swaps or kills."""
    return _kibibytes(Path("/proc/meminfo"), "MemAvailable")


def forget_peak(pid: int) -> None:
    """Reset a process's high-water mark, so that the peak of its imports is not taken for one of its work."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        return


def _kibibytes(path: Path, field: str) -> int:
    try:
        match = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def _gib(size: int) -> str:
    return f"{size / GIBIBYTE:.1f} GiB"
