"""The shell of the three processes: their common options, their announcement, their way out."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import click
from prometheus_client import CollectorRegistry

from fl_core import logs
from fl_core.alone import stay_alone
from fl_core.environment import IMAGE
from fl_core.errors import TERMINATED_EXIT_CODE, FLJobError
from fl_core.identity import Credentials, Identity, wall_time
from fl_core.invitation import Invitation
from fl_core.papers import Papers
from fl_core.plan import Plan
from fl_core.serving import Health, serve, tell_expiry
from fl_core.steps import LISTENER

log = logs.logger()

RENEWED = (0.7, 0.8)
"""Between these shares of a certificate's time a pod's process starts again; from half of it on it gets a new one."""

WARNED = 0.9
"""From this share on a site, which nobody starts again, says that it needs another invitation."""
LISTENS_SECONDS = 2.0
"""By then a process hears SIGTERM, however little time its certificate has."""

TERMINATION_LOG = Path("/dev/termination-log")
MOST_LAST_WORDS = 4096
"""Characters; Kubernetes cuts off what is longer than so many bytes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every process is started with."""

    plan: Plan
    identity_folder: Path
    identity: Identity
    listen: str
    metrics: str
    announce_fd: int | None
    enrol: str | None = None
    """The URL of the endpoint that signed this process's certificate."""
    invitation: Invitation | None = None
    """What a site outside the cluster was given."""

    @property
    def image(self) -> str:
        """The image that this process runs in, as whoever started it says; empty where nobody does."""
        return os.environ.get(IMAGE, "")

    @property
    def credentials(self) -> Credentials:
        """What its folder holds."""
        return Credentials.read(self.identity_folder)

    def serve(self, registry: CollectorRegistry, health: Health) -> str:
        """Answer Prometheus and the probes; returns the address."""
        tell_expiry(registry, self.credentials.at(1))
        return serve(self.metrics, registry, health)

    def renew_in_time(self) -> None:
        """End with SIGTERM before the certificate does: a pod's process is started again, and enrols again.

        The moment is spread, so that a job's processes do not all go at once.
        """

        def renew() -> None:
            log.info("starting again for a new certificate")
            os.kill(os.getpid(), signal.SIGTERM)

        self._at(random.uniform(*RENEWED), renew)  # noqa: S311 - spreads load

    def warn_in_time(self) -> None:
        """Say that the certificate ends, where nobody starts the process again for another one."""
        end = self.credentials.at(1).isoformat(timespec="minutes")
        self._at(WARNED, lambda: log.warning("the certificate ends soon; get another invitation", end=end))

    def _at(self, share: float, act: Callable[[], None]) -> None:
        """Act when this share of the certificate's time is over."""
        timer = threading.Timer(seconds_to(self.credentials.at(share), wall_time()), act)
        timer.daemon = True
        timer.start()

    def announce(self, **addresses: str) -> None:
        """Tell whoever started this process where it listens: one JSON line on the inherited descriptor."""
        log.info("listening", **addresses)
        if self.announce_fd is not None:
            with os.fdopen(self.announce_fd, "w") as stream:
                stream.write(json.dumps(addresses) + "\n")


_OPTIONS = (
    click.option(
        "--identity",
        "identity_folder",
        type=click.Path(path_type=Path),
        required=True,
        help="Folder with ca.pem, cert.pem and key.pem; one that enrols fills it.",
    ),
    click.option("--enrol", help="URL of the endpoint that signs this process's certificate (on a cluster)."),
    click.option(
        "--token-file", type=click.Path(path_type=Path), help="The pod's service-account token, for --enrol."
    ),
    click.option(
        "--ca-file", type=click.Path(path_type=Path), help="The authority of the endpoint, for --enrol."
    ),
    click.option(
        "--metrics", default="127.0.0.1:0", show_default=True, help="Address of /metrics and probes."
    ),
    click.option(
        "--announce-fd", type=int, help="Inherited descriptor that gets one line of JSON with addresses."
    ),
    click.option(
        "--chaos-fd",
        type=int,
        hidden=True,
        help="Inherited socket that is told each step.",
    ),
    click.option("--log-format", type=click.Choice(["json", "console"]), default="json", show_default=True),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
    ),
)


def process(command: Callable[..., None]) -> click.Command:
    """A command with the options of every process; it gets `Settings` as `settings`.

    One that has the option `--join` is a worker: it is started with an invitation or with what that stands for, and is
    the only process of its identity from before it has one.
    """
    own_options: list[click.Option] = getattr(command, "__click_params__", [])
    joins = any(option.name == "join" for option in own_options)

    def run(
        *,
        identity_folder: Path,
        metrics: str,
        announce_fd: int | None,
        chaos_fd: int | None,
        log_format: logs.Format,
        log_level: str,
        listen: str = "",
        **own: Any,  # noqa: ANN401 - the command's own options
    ) -> None:
        papers = Papers(**{one.name: own.pop(one.name, None) for one in fields(Papers)})
        papers.check(own)
        logs.configure(style=log_format, level=log_level)
        if chaos_fd is not None:
            LISTENER.connect(chaos_fd)
        try:
            if joins:
                stay_alone(identity_folder)
            plan, invitation = papers.read()
            identity = papers.enrolled(invitation, identity_folder)
            logs.bind(job=plan.job.name, process=identity.name)
            settings = Settings(
                plan, identity_folder, identity, listen, metrics, announce_fd, papers.enrol, invitation
            )
            if papers.enrol:
                settings.renew_in_time()
            if invitation:
                settings.warn_in_time()
            command(settings, **own)
            leave(0)
        except FLJobError as error:
            log.error(str(error), kind=type(error).__name__)  # noqa: TRY400 - users need the sentence
            last_words(error.outside or str(error))
            leave(error.exit_code)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__click_params__ = own_options  # type: ignore[attr-defined]
    file = click.Path(path_type=Path)
    plan_option = click.option("--plan", type=file, required=not joins, help="The plan file.")
    for option in reversed((plan_option, *_OPTIONS)):
        option(run)
    return click.command()(run)


def seconds_to(moment: dt.datetime, now: dt.datetime) -> float:
    """Seconds until then; what is past is put off until the process hears signals."""
    return max((moment - now).total_seconds(), LISTENS_SECONDS)


def last_words(text: str) -> None:
    """Leave what a pod's status shows once its container has ended; elsewhere there is no such file."""
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(text[:MOST_LAST_WORDS])


def leave(code: int) -> NoReturn:
    """End this process now; at a usual exit gRPC waits two seconds for objects that Python never frees."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_until_terminated(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's event loop; SIGTERM cancels it and ends the process with 143."""
    terminated = False

    async def supervised() -> None:
        nonlocal terminated
        task = asyncio.ensure_future(main)

        def stop() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        await task

    try:
        asyncio.run(supervised())
    except asyncio.CancelledError:
        if not terminated:
            raise
    if terminated:
        leave(TERMINATED_EXIT_CODE)
