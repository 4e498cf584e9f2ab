"""The command lines of a job's processes: one scheduler, one server, one process per worker.

Pure: what differs from place to place (a cluster's pods, this machine) comes in as arguments. The
control plane knows these lines and the exit codes, never the processes' modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["scheduler", "server", "worker"]
ROLES: tuple[Role, ...] = ("scheduler", "server", "worker")
MODULES: dict[Role, tuple[str, ...]] = {
    "scheduler": ("fl_scheduler",),
    "server": ("fl_server",),
    "worker": ("fl_worker", "train"),
}
COMMANDS: dict[Role, tuple[str, ...]] = {
    "scheduler": ("fl-scheduler",),
    "server": ("fl-server",),
    "worker": ("fl-worker", "train"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one process runs: files, addresses to listen on and to dial; None leaves an option out.

    `replicas` is how many workers are there at first, for a scheduler that should not wait for all there may be.
    """

    plan: str
    identity: str
    metrics: str
    listen: str | None = None
    scheduler: str | None = None
    server: str | None = None
    storage: str | None = None
    store: str | None = None
    initial_model: str | None = None
    relay: str | None = None
    replicas: str | None = None
    replay: str | None = None
    authorities: str | None = None
    index: str | None = None
    program: str | None = None
    data: str | None = None
    states: str | None = None
    log_level: str | None = None
    enrol: str | None = None
    token_file: str | None = None
    ca_file: str | None = None


ALL = ("plan", "identity", "metrics", "log_level", "enrol", "token_file", "ca_file")
TAKEN: dict[Role, tuple[str, ...]] = {
    "scheduler": (*ALL, "listen", "replicas", "replay"),
    "server": (
        *ALL,
        *("listen", "scheduler", "storage", "store", "initial_model", "relay", "replay", "authorities"),
    ),
    "worker": (*ALL, "index", "scheduler", "server", "program", "data", "states"),
}
"""The options of each role."""


def arguments(role: Role, place: Place) -> list[str]:
    """The options of a process of this role in this place."""
    given = ((name, getattr(place, name)) for name in TAKEN[role])
    return [part for name, value in given if value is not None for part in (_flag(name), value)]


def installed(role: Role, place: Place) -> list[str]:
    """The whole line, by the name of the installed command."""
    return [*COMMANDS[role], *arguments(role, place)]


def of_this_python(role: Role, place: Place, *, executable: str) -> list[str]:
    """The whole line, by module, so that the process runs in the same environment."""
    return [executable, "-m", *MODULES[role], *arguments(role, place)]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
