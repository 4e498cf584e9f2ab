"""The command lines of a local run's processes: loopback addresses, this Python, this run's folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from job_generator.local.child import Command
from job_generator.local.preflight import data_path
from job_generator.local.session import Run
from job_generator.local.supervisor import ANY_PORT
from job_generator.processes import Place, Role, of_this_python


@dataclass(frozen=True, slots=True)
class LocalCommands:
    """The command lines for one run with the certificates under `keys`."""

    run: Run
    keys: Path

    def scheduler(self, *, listen: str) -> Command:
        """Give the scheduler's, which waits for those who are wished for when it is started."""
        place = replace(self._place("scheduler"), listen=listen, replay=self._replay)

        def line(announce: int) -> Sequence[str]:
            return _command("scheduler", replace(place, replicas=self._replicas))(announce)

        return line

    def server(self, *, listen: str, scheduler: str) -> Command:
        """Give the server's, which dials the scheduler."""
        storage = str(self.run.folder.storage.absolute())
        model = self.run.initial_model
        place = replace(
            self._place("server"),
            listen=listen,
            scheduler=scheduler,
            storage=storage,
            store=self.run.store,
            initial_model=model,
            replay=self._replay,
            authorities=str(self.run.folder.authorities.absolute()),
        )
        return _command("server", place)

    def worker(self, index: int, *, scheduler: str, server: str) -> Command:
        """Give one worker's, which dials both."""
        place = replace(
            self._place(f"worker-{index}"),
            scheduler=scheduler,
            server=server,
            index=str(index),
            program=str(self.run.program.absolute()),
            data=str(data_path(self.run.data, index)) if self.run.data else None,
            states=str(self.run.folder.states.absolute() / f"worker-{index}"),
        )
        return _command("worker", place)

    @property
    def _replicas(self) -> str | None:
        """How many workers of the pool a scheduler that starts now should wait for; None for all that there may be."""
        if self.run.replicas is None:
            return None
        return str(self.run.folder.wish() or self.run.replicas)

    @property
    def _replay(self) -> str | None:
        """The rounds that the run follows, if it follows a record."""
        replay = self.run.folder.replay
        return str(replay.absolute()) if replay.exists() else None

    def _place(self, keys: str) -> Place:
        """What all have in common."""
        return Place(
            plan=str(self.run.folder.plan.absolute()),
            identity=str(self.keys / keys),
            metrics=ANY_PORT,
            log_level=self.run.log_level,
        )


def _command(role: Role, place: Place) -> Command:
    start = of_this_python(role, place, executable=sys.executable)
    return lambda announce: [*start, "--announce-fd", str(announce)]
