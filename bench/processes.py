"""The processes of one measurement: started together, found by a mark they inherit, and never left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

MARK = "FLJOB_BENCH_GROUP"
KILL_SECONDS = 10


class Group:
    """All processes of one measurement, grandchildren too, each marked with its role in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid4().hex
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self,
        command: Sequence[str | Path],
        *,
        role: str,
        environment: Mapping[str, str],
        inherit: tuple[int, ...] = (),
    ) -> None:
        """Start one process with its output in a file, first in line for the kernel when memory runs out."""
        marked = {**environment, MARK: f"{self._mark}:{role}"}
        with self._log(len(self._started)).open("wb") as log:
            process = subprocess.Popen(
                command,
                env=marked,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherit,
            )
        with suppress(OSError):
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        self._started.append((role, process))

    def members(self, role: str = "") -> list[int]:
        """Find the living processes of a role (of all roles by default), whoever started them."""
        wanted = f"{MARK}={self._mark}:{role}".encode()
        return [pid for pid in _pids() if any(entry.startswith(wanted) for entry in _environment(pid))]

    def failure(self) -> str | None:
        """Say which process of ours ended with an error, in its own last words."""
        for number, (role, process) in enumerate(self._started):
            if process.poll():
                return f"{role} exited with {process.returncode}: {self._last_line(number)}"
        return None

    def stop(self) -> None:
        """Kill every member by pid until none is left: after a measurement nobody needs a farewell."""
        deadline = time.monotonic() + KILL_SECONDS
        while (pids := self.members()) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for _, process in self._started:
                process.poll()
            time.sleep(0.05)
        for _, process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)

    def _log(self, number: int) -> Path:
        return self.folder / f"process-{number}.log"

    def _last_line(self, number: int) -> str:
        lines = self._log(number).read_text(errors="replace").split("\n")
        spoken = [line.strip() for line in lines if line.strip()]
        return spoken[-1][:160] if spoken else "no output"


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
