"""How a process learns which job it works for, and gets its certificate: from its options, or from an invitation.

A process of a run or a pod has `--plan`, and a pod shows its service-account token at `--enrol`. A site outside the
cluster has `--join`, one file for all of it.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from fl_core.enrolment import Office
from fl_core.errors import TERMINATED_EXIT_CODE, MismatchError, StorageError
from fl_core.identity import Credentials, Identity
from fl_core.invitation import Invitation
from fl_core.plan import Plan

ADDRESSES: Final = ("index", "scheduler", "server")
"""Options of a worker for which an invitation stands too."""


@dataclass(frozen=True, slots=True)
class Papers:
    """The options as they were given."""

    plan: Path | None
    join: Path | None
    enrol: str | None
    token_file: Path | None
    ca_file: Path | None

    def check(self, others: Mapping[str, Any]) -> None:
        """Refuse wrong usage before a token is shown: an option beside the invitation that stands for it, or none."""
        needed = {"plan": self.plan, **{name: others[name] for name in ADDRESSES if name in others}}
        office = {"enrol": self.enrol, "token_file": self.token_file, "ca_file": self.ca_file}
        if self.join is not None:
            if given := [_flag(name) for name, value in (needed | office).items() if value is not None]:
                raise click.UsageError(f"--join stands for {', '.join(given)}; leave out one or the other.")
        elif missing := [_flag(name) for name, value in needed.items() if value is None]:
            raise click.UsageError(f"Missing {', '.join(missing)}; only --join FILE stands for them.")
        elif self.enrol is not None and None in office.values():
            raise click.UsageError("--enrol needs --token-file and --ca-file.")

    def read(self) -> tuple[Plan, Invitation | None]:
        """The Plan, and the invitation that it came in."""
        if self.join is not None:
            invitation = Invitation.read(self.join)
            return invitation.plan, invitation
        if self.plan is None:
            raise MismatchError("there is neither a plan nor an invitation")
        return Plan.read(self.plan), None

    def enrolled(self, invitation: Invitation | None, folder: Path) -> Identity:
        """Who this process is, by the certificate in its folder; it is asked for where there is an office.

        Raises MismatchError where it is refused, or is that of somebody else than the invitation is for.
        """
        if invitation is not None:
            _enrol_site(invitation, folder)
        elif self.enrol and self.token_file and self.ca_file:
            office = Office(url=self.enrol, token=self.token_file.read_text, authority=self.ca_file.read_text)
            _enrol(office, folder)
        identity = Credentials.read(folder).identity
        if invitation is not None:
            invitation.check(identity)
        return identity


def _enrol_site(invitation: Invitation, folder: Path) -> None:
    """A site's certificate is used to its end, as its token is good for no other key."""
    office = Office(
        url=invitation.enrolment,
        token=lambda: invitation.token,
        authority=lambda: invitation.authority,
        address=invitation.address,
        share=1.0,
    )
    try:
        _enrol(office, folder)
    except MismatchError as error:
        job = invitation.plan.job
        again = f"fl-submit site token {job.name} {invitation.site} -n {job.namespace}"
        raise MismatchError(f"{error}; a new invitation comes from: {again}") from error


def _enrol(office: Office, folder: Path) -> None:
    """The first process of a container hears SIGTERM only where it listens for it."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        office.enrol(folder)
    except OSError as error:
        raise StorageError(f"--identity {folder} cannot be written: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED_EXIT_CODE)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
