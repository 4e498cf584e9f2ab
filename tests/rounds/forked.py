"""Processes of jobs that need not import everything again: each is forked from one that has, and does nothing else.

What a process imports takes most of its life in a short job. `fl-submit run`, pods and whatever else tests start by a
command line begin as users' do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Final

IMPORTED: Final = ["fl_scheduler.service", "fl_server.service", "fl_worker.backends.numpy", "fl_worker.train"]
CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(IMPORTED)


class Forked:
    """A process that runs a module as `python -m MODULE WORD...` does, with what of `subprocess.Popen` tests need."""

    def __init__(self, line: Sequence[str], *, announce: int, log: Path, path: str) -> None:
        """`announce` is a descriptor that the process gets too, as its option `--announce-fd`; `path` comes first in
        its search path.
        """
        given = (list(line), _Descriptor(announce), str(log), path, _environment(path))
        self._process = CONTEXT.Process(target=_be, args=given, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Its exit code, once it is over."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it is over; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired([str(self._process.pid)], timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def executed(line: Sequence[str], *, announce: int, log: Path, path: str) -> subprocess.Popen[bytes]:
    """The same as a process that imports everything anew, for tests that change what is imported."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *line, "--announce-fd", str(announce)],
            pass_fds=[announce],
            stderr=said,
            stdin=subprocess.DEVNULL,
            env=_environment(path),
        )


def _environment(path: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"}


@dataclass(frozen=True)
class _Descriptor:
    """A descriptor that means the same file in the new process, whatever its number is there."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _there, (DupFd(self.number),)


def _there(copied: Any) -> _Descriptor:
    return _Descriptor(copied.detach())


def _be(line: list[str], announce: _Descriptor, log: str, path: str, environment: dict[str, str]) -> None:
    """In the new process: be what the line says."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    sys.path.insert(0, path)
    module, *words = line
    sys.argv = [module, *words, "--announce-fd", str(announce.number)]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
