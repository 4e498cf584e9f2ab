"""The folder of a run: where its job, plan, logs, models and state lie, and who holds it.

    <name>-<time>/job.yaml plan.json run.json authorities.pem logs/<process>.log
                  states/<worker> storage/{metrics.jsonl,record.sig.json,models,checkpoints}

`run.json` is written by `fl-submit run` alone, atomically. While a run goes on it holds a lock on its
folder, so a run that was killed is told from one that is alive without trusting process numbers.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fl_core import durable
from fl_core.errors import JobError, MismatchError, StorageError, UnavailableError
from fl_core.plan import Plan
from fl_core.record import LINES, SIGNATURE
from job_generator.local.record import ClosedRound, read_lines, read_record

RUNS = "fl-runs"

State = Literal["Running", "Complete", "Stopped", "Suspended", "Failed", "Interrupted"]


class Parent(BaseModel):
    """The run that another one was forked from: its job's uid, its folder, and the round after which."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: str
    folder: str
    round: int


class RunState(BaseModel):
    """What `run.json` holds; times are ISO 8601 in UTC, `files`, `program`, `data` and `initial_model`
    are as on this machine; `store` is the URI of what keeps its storage, if it is not the folder alone.

    `replicas` is how many workers of the pool there are now, where that may change.
    `words` are what a fork was typed with besides its parent and its round.
    `threads` is how many each process has for its sums, where that is not a share of the machine's cores.
    `grace` is how many seconds an open round has to end when the run is suspended. One that was resumed has run
    for `earlier_seconds` before.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: str
    state: State = "Running"
    started: dt.datetime
    resumed: dt.datetime | None = None
    earlier_seconds: float = 0.0
    ended: dt.datetime | None = None
    files: tuple[str, ...] = ()
    program: str
    data: str | None = None
    initial_model: str | None = None
    store: str | None = None
    parent: Parent | None = None
    words: tuple[str, ...] = ()
    restarts: int
    replicas: int | None = None
    grace: float = 30.0
    threads: int | None = None
    pids: dict[str, int] = Field(default_factory=dict)
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    recurs: bool = False
    """Whether to resume it as it is would end the same way."""

    @property
    def seconds(self) -> float | None:
        """How long the run took, first to last process, over all times that it was resumed; None before its end."""
        if self.ended is None:
            return None
        return self.earlier_seconds + (self.ended - (self.resumed or self.started)).total_seconds()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths in one run's folder, and its state."""

    path: Path

    @property
    def job(self) -> Path:
        """The job as it was merged from its files."""
        return self.path / "job.yaml"

    @property
    def plan(self) -> Path:
        """The plan that every process reads."""
        return self.path / "plan.json"

    @property
    def logs(self) -> Path:
        """One file of JSON lines per process."""
        return self.path / "logs"

    @property
    def states(self) -> Path:
        """What the workers' stages remember."""
        return self.path / "states"

    @property
    def storage(self) -> Path:
        """What the server keeps."""
        return self.path / "storage"

    @property
    def record(self) -> Path:
        """One JSON line per round."""
        return self.storage / LINES

    @property
    def signature(self) -> Path:
        """What the server signed when the job ended."""
        return self.storage / SIGNATURE

    @property
    def authorities(self) -> Path:
        """The certificates of those who said who is who in this run: one each time that it was begun or resumed."""
        return self.path / "authorities.pem"

    @property
    def replay(self) -> Path:
        """The rounds of the record that this run follows; there is none where it follows none."""
        return self.path / "replay.jsonl"

    @property
    def wanted(self) -> Path:
        """How many workers somebody wishes for; there is none before anybody does."""
        return self.path / "replicas"

    @property
    def last_model(self) -> Path:
        """The model of the newest committed round."""
        return self.storage / "models" / "last.safetensors"

    @property
    def best_model(self) -> Path:
        """The model that scored best."""
        return self.storage / "models" / "best.safetensors"

    @property
    def is_run(self) -> bool:
        """Whether a run was begun in this folder."""
        return (self.path / "run.json").is_file()

    @property
    def occupied(self) -> str:
        """Why no new run can begin here: the folder holds something; else nothing."""
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return ""
        onward = f", or go on with the run in it: fl-submit run --resume {self.path}" if self.is_run else ""
        return f"{self.path} is not empty; choose another --folder{onward}"

    def prepare(self, *, job: str, plan: Plan) -> None:
        """Make the folder of a new run; refuses one that holds something."""
        if occupied := self.occupied:
            raise StorageError(occupied)
        for folder in (self.logs, self.storage):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{self.path} cannot be written: {error.strerror}") from error
        self.write_job(job)
        write_atomically(self.plan, plan.to_json())

    def write_job(self, job: str) -> None:
        """Replace `job.yaml`."""
        write_atomically(self.job, job)

    def state(self) -> RunState:
        """Read `run.json`; a run that says it is running but that nobody holds was interrupted."""
        path = self.path / "run.json"
        try:
            state = RunState.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MismatchError(
                f"{self.path} is no run folder: it has no readable run.json; `fl-submit list` shows the runs"
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise StorageError(f"{path} is damaged: {f'{field}: ' if field else ''}{first['msg']}") from error
        if state.state == "Running" and not self.held():
            return state.model_copy(update={"state": "Interrupted"})
        return state

    def write(self, state: RunState) -> None:
        """Replace `run.json`."""
        write_atomically(self.path / "run.json", state.model_dump_json(indent=2, exclude_none=True) + "\n")

    def trust(self, authority: bytes) -> None:
        """Keep the certificate (PEM) of a run's authority, whose key nobody keeps, beside those before it."""
        earlier = self.authorities.read_text() if self.authorities.exists() else ""
        write_atomically(self.authorities, earlier + authority.decode())

    def wish(self) -> int | None:
        """How many workers somebody wishes for; None before anybody does."""
        try:
            return int(self.wanted.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def rounds(self) -> list[ClosedRound]:
        """Read the rounds that are closed."""
        return read_record(self.record)

    def lines(self) -> list[ClosedRound]:
        """Read what a server tells who watches it: the rounds as they were closed, and where it went back."""
        return read_lines(self.record)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder for the life of a run; refused while another run holds it."""
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._busy() from None
            lock.truncate(0)
            lock.write(f"{os.getpid()} {socket.gethostname()}\n")
            lock.flush()
            yield

    def holder(self) -> int:
        """The number of the process that holds the folder; refused where none does, or one of another machine."""
        state = self.state()
        if not self.held():
            raise JobError(f"{self.path} is {state.state}; only a run that goes on can be steered")
        pid, _, host = (self.path / "lock").read_text(encoding="utf-8").strip().partition(" ")
        if host != socket.gethostname() or not pid.isdigit():
            raise UnavailableError(
                f"{self.path} is held by a process of {host or 'nobody knows whom'}; steer it there"
            )
        return int(pid)

    def check_free(self) -> None:
        """Refuse a folder that a run holds now."""
        if self.held():
            raise self._busy()

    def _busy(self) -> UnavailableError:
        return UnavailableError(
            f"{self.path} is running now; stop that run first, or watch it with `fl-submit status {self.path}`"
        )

    def held(self) -> bool:
        """Whether a living process holds the folder."""
        try:
            with (self.path / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def new_folder(name: str, *, now: dt.datetime, runs: Path = Path(RUNS)) -> RunFolder:
    """Choose the folder of a run that starts now; a second run within the second gets a number."""
    base = runs / f"{name}-{now:%Y%m%d-%H%M%S}"
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return RunFolder(path)


def run_folders(runs: Path = Path(RUNS)) -> list[RunFolder]:
    """List the runs under a folder, newest first."""
    found = [path.parent for path in runs.glob("*/run.json")]
    return [RunFolder(path) for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def write_atomically(path: Path, text: str) -> None:
    """Write the whole text, or leave the file as it was."""
    try:
        durable.replace(path, text.encode(), mode=durable.PRIVATE)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
