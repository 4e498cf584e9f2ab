"""One process of a run: started, heard, waited for, ended.

A child has its own session, so Ctrl-C reaches only fl-submit, and dies with fl-submit whatever ends
that: Linux kills it through PR_SET_PDEATHSIG, and `stop` does so everywhere else.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fl_core.errors import PERMANENT_EXIT_CODES, FLJobError
from job_generator.cause import entry_in, error_in
from job_generator.local.disturbance import UNTAPPED, Tap

Command = Callable[[int], Sequence[str]]
"""The command line of a process that announces itself on this file descriptor."""

PR_SET_PDEATHSIG = 1
LAST_WORDS_BYTES = 1 << 18
LAST_WORDS_SECONDS = 2.0
SIGNALLED = 128
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a process listens."""

    address: str = ""
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run or one of its processes ended: who, with which exit code, and its last words."""

    exit_code: int
    culprit: str = ""
    sentence: str = ""
    traceback: str = ""

    @property
    def permanent(self) -> bool:
        """Whether trying again cannot help."""
        return self.exit_code in PERMANENT_EXIT_CODES


class DiedError(FLJobError):
    """A process ended that the run cannot do without."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.culprit}: {outcome.sentence}")
        self.outcome = outcome


class Child:
    """A running process and its log."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, *, announcing: int, log: Path, begin: int
    ) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._begin = begin
        self._announcement = asyncio.create_task(_read_announcement(announcing))

    @classmethod
    async def spawn(
        cls, name: str, command: Command, *, log: Path, environment: Mapping[str, str], tap: Tap = UNTAPPED
    ) -> Child:
        """Start the process; what it writes is appended to its log."""
        reading, writing = os.pipe()
        with ExitStack() as undo, log.open("ab") as output:
            undo.callback(os.close, reading)
            begin = output.tell()
            try:
                process = await asyncio.create_subprocess_exec(
                    *command(writing),
                    *tap.options,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[writing, *tap.descriptors],
                    start_new_session=True,
                    env=dict(environment),
                    preexec_fn=_die_with_parent,
                )
            finally:
                os.close(writing)
            undo.pop_all()
        return cls(name, process, announcing=reading, log=log, begin=begin)

    async def announced(self) -> Announcement:
        """Wait until the process listens; raises its last words when it ends before."""
        announcement = await asyncio.shield(self._announcement)
        if announcement is not None:
            return announcement
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self.wait()
        except TimeoutError:
            await self.stop(grace=LAST_WORDS_SECONDS)
            raise DiedError(Outcome(1, self.name, "it never said where it listens")) from None
        outcome = self.outcome()
        raise DiedError(outcome if outcome.exit_code else replace(outcome, exit_code=1))

    @property
    def over(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Wait for the exit code; like a shell's, it is 128 + n after signal n."""
        code = await self._process.wait()
        return code if code >= 0 else SIGNALLED - code

    async def stop(self, *, grace: float) -> None:
        """SIGTERM; after the grace, SIGKILL to it and to what it started.

        `terminate` would look for the end first, and take the exit code from the event loop, which waits for it.
        """
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()

    def outcome(self) -> Outcome:
        """How the process ended, with the last error line of its log."""
        code = self._process.returncode
        code = 0 if code is None else code if code >= 0 else SIGNALLED - code
        sentence, traceback = last_words(self._log, self._begin)
        return Outcome(code, self.name, sentence or _exit_sentence(code), traceback)


def last_words(log: Path, begin: int = 0) -> tuple[str, str]:
    """Find the last error line of a log and its traceback; without one, the last line that was no JSON."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - LAST_WORDS_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return error_in(lines)


def _exit_sentence(code: int) -> str:
    if code == SIGNALLED + signal.SIGKILL:
        return "it was killed (SIGKILL); when nobody did so, the machine ran out of memory"
    if code - SIGNALLED in set(signal.Signals):
        return f"it was ended by {signal.Signals(code - SIGNALLED).name}"
    return f"it ended with exit code {code} and no error line in its log"


async def _read_announcement(descriptor: int) -> Announcement | None:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb")
    )
    try:
        entry = entry_in((await stream.readline()).decode(errors="replace"))
    finally:
        transport.close()
    if entry is None:
        return None
    return Announcement(str(entry.get("address") or ""), str(entry.get("metrics") or ""))


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
