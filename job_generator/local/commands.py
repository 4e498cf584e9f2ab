"""The command lines of a local run's processes: loopback addresses, this Python, this run's folders."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from job_generator.local.child import Command
from job_generator.local.preflight import data_path
from job_generator.local.session import Run

ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class LocalCommands:
    """The command lines for one run with the certificates under `keys`."""

    run: Run
    keys: Path

    def scheduler(self) -> Command:
        """Give the scheduler's."""
        return self._command("fl_scheduler", "--listen", ANY_PORT, keys="scheduler")

    def server(self, scheduler: str) -> Command:
        """Give the server's, which dials the scheduler."""
        storage = str(self.run.folder.storage.absolute())
        return self._command(
            "fl_server", "--listen", ANY_PORT, "--scheduler", scheduler, "--storage", storage, keys="server"
        )

    def worker(self, index: int, *, scheduler: str, server: str) -> Command:
        """Give one worker's, which dials both."""
        where = ["--index", str(index), "--scheduler", scheduler, "--server", server]
        program = ["--program", str(self.run.program.absolute())]
        data = ["--data", str(data_path(self.run.data, index))] if self.run.data else []
        return self._command("fl_worker", "train", *where, *program, *data, keys=f"worker-{index}")

    def _command(self, module: str, *arguments: str, keys: str) -> Command:
        """Put what all have in common after the module and its subcommand."""
        verb = [arguments[0]] if arguments[0] == "train" else []
        rest = arguments[len(verb) :]
        common = ["--plan", str(self.run.folder.plan.absolute()), "--identity", str(self.keys / keys)]
        start = [sys.executable, "-m", module, *verb, *common, *rest, "--metrics", ANY_PORT]
        return lambda announce: [*start, "--announce-fd", str(announce)]
