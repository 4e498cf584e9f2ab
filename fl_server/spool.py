"""Where chunks wait until the last one has been verified: in memory up to a budget, then in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

MEMORY_BUDGET = 128 << 20
"""Bytes of unfinished updates that one server keeps in memory, whatever the cohort."""


@dataclass(slots=True)
class Budget:
    """Memory shared by all spools of a server, in bytes."""

    left: int = MEMORY_BUDGET

    def take(self, nbytes: int) -> bool:
        """Reserve so much, or say no."""
        if nbytes > self.left:
            return False
        self.left -= nbytes
        return True


class Spool:
    """One update on its way in; leaving the `with` block forgets it."""

    def __init__(self, folder: Path, budget: Budget) -> None:
        self._folder = folder
        self._budget = budget
        self._memory: list[tuple[int, bytes]] = []
        self._stored: list[tuple[int, int]] = []
        self._file: IO[bytes] | None = None

    def take(self, offset: int, data: bytes) -> None:
        """Keep a verified chunk."""
        if self._budget.take(len(data)):
            self._memory.append((offset, data))
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed in __exit__
        self._file.write(data)
        self._stored.append((offset, len(data)))

    def chunks(self) -> Iterator[tuple[int, memoryview]]:
        """All chunks, one at a time."""
        for offset, data in self._memory:
            yield offset, memoryview(data)
        if self._file is not None:
            self._file.seek(0)
            for offset, length in self._stored:
                yield offset, memoryview(self._file.read(length))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.left += sum(len(data) for _, data in self._memory)
        self._memory.clear()
        if self._file is not None:
            self._file.close()
