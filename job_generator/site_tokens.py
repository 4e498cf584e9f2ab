"""What a token for an external site looks like: `fl-submit site token` asks for such a one, the operator reads it."""

from __future__ import annotations

from typing import Final

SERVICE_ACCOUNT: Final = "default"
"""Whose tokens they are, in the job's namespace: each namespace has it, and it needs no rights."""

PREFIX: Final = "fljob:site:"


def audience(uid: str, site: str) -> str:
    """Whom the token is for: the enrolment of this site of this job, and nobody else."""
    return f"{PREFIX}{uid}:{site}"


def read_audience(text: str) -> tuple[str, str] | None:
    """The job's uid and the site's name; None where it is no such audience."""
    uid, colon, site = text.removeprefix(PREFIX).partition(":")
    return (uid, site) if text.startswith(PREFIX) and uid and colon and site else None
