"""How a container ended, in words: its exit code, who ended it, and what it said of that."""

from __future__ import annotations

from collections.abc import Mapping
from signal import Signals
from typing import Any, Final

from fl_core.errors import PERMANENT_EXIT_CODES, FencedError, FLJobError, RetryError, StorageError
from job_generator.cause import cause_in, cause_told

OWN_WORDS: Final = frozenset(
    {*PERMANENT_EXIT_CODES, *(kind.exit_code for kind in (FLJobError, RetryError, StorageError, FencedError))}
)
"""Exit codes of errors raised on purpose: the process has left a sentence, and the kubelet need not read its log."""
SIGNALLED: Final = 128
NO_CAUSE: Final = "it did not say why"
MOST_DETAIL: Final = 400


def ended_of(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a container ended, or did before it was started again."""
    found = (container.get(name, {}).get("terminated") for name in ("state", "lastState"))
    return next(filter(None, found), {})


def death_of(ended: Mapping[str, Any]) -> str:
    """Who ended a process, where that is known, and its exit code."""
    reason, code = ended.get("reason") or "Error", int(ended.get("exitCode") or 0)
    return exit_of(code) if reason == "Error" else f"{reason}, exit code {code}"


def exit_of(code: int) -> str:
    """An exit code, with the signal that it stands for."""
    number = code - SIGNALLED
    return f"exit code {code}" + (f", {Signals(number).name}" if number in set(Signals) else "")


def cause_of(ended: Mapping[str, Any]) -> str:
    """What a process said of its end: a sentence of its own, or the last error in its log."""
    said = ended.get("message") or ""
    return short(cause_told(said) if ended.get("exitCode") in OWN_WORDS else cause_in(said))


def short(text: str) -> str:
    """The first line, in no more characters than a reader wants."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= MOST_DETAIL else f"{line[: MOST_DETAIL - 1]}…"
