"""Where a run can be disturbed on purpose: as its processes start, and on the ways between them.

A run without faults has `PEACE`, which does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tap:
    """What a process is started with so that it tells its steps: more options, and a descriptor to inherit."""

    options: Sequence[str] = ()
    descriptors: Sequence[int] = ()


UNTAPPED = Tap()


class Disturbance(Protocol):
    """Whom the supervisor asks."""

    def tap(self, name: str) -> AbstractContextManager[Tap]:
        """Listen to a process that is about to start; left once it has."""

    def started(self, name: str, pid: int) -> None:
        """A process has this number now."""

    async def way(self, client: str, peer: str, address: str) -> str:
        """Where this client is to dial for the peer that listens at this address."""

    def killed(self, name: str) -> bool:
        """Whether the last death of this process was made here; asked once for each death."""


class Peace:
    """No faults."""

    @contextmanager
    def tap(self, name: str) -> Iterator[Tap]:  # noqa: ARG002 - nobody listens
        """Nothing to add."""
        yield UNTAPPED

    def started(self, name: str, pid: int) -> None:
        """Nobody asks."""

    async def way(self, client: str, peer: str, address: str) -> str:  # noqa: ARG002 - the same for all
        """The address itself."""
        return address

    def killed(self, name: str) -> bool:  # noqa: ARG002 - none is
        """Nobody is."""
        return False


PEACE = Peace()
