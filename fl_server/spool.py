"""Where an update waits until its last chunk has been verified: in memory up to a budget, else in a file."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from fl_core.errors import StorageError
from fl_core.wire.arrays import CHUNK

Slab = npt.NDArray[np.uint8]

MEMORY_BUDGET = 64 << 20
"""Bytes of unfinished updates that a server keeps in memory, whatever the cohort; one update, if that is more."""

PATIENCE_SECONDS = 2.0
"""How long the budget may stand still before an update that waits for it goes to a file instead."""


class Spool:
    """One update on its way in, until `close` or the end of a `with` block forgets it."""

    def __init__(self, place: Slab | IO[bytes], close: Callable[[], None]) -> None:
        self._place = place
        self.close = close

    def take(self, offset: int, data: bytes) -> None:
        """Keep a verified chunk; they come in order, without gaps."""
        if isinstance(self._place, np.ndarray):
            self._place.data[offset : offset + len(data)] = data
        else:
            left = memoryview(data)
            with _on_disk():
                while left:
                    written = os.pwrite(self._place.fileno(), left, offset)
                    left, offset = left[written:], offset + written

    def chunks(self) -> Iterator[tuple[int, memoryview]]:
        """All that came: at once from memory, a piece at a time from a file."""
        if isinstance(self._place, np.ndarray):
            yield 0, self._place.data.toreadonly()
            return
        offset = 0
        while data := self._read(self._place, offset):
            yield offset, memoryview(data)
            offset += len(data)

    def _read(self, file: IO[bytes], offset: int) -> bytes:
        with _on_disk("read back from", mending="look after it"):
            return os.pread(file.fileno(), CHUNK, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Spools:
    """All spools of a server, and the memory they share.

    An update waits for its turn while others move on, unread: flow control holds its sender back. That costs
    no time where the server is what all wait for. Where slow senders hold the budget, it goes to a file.
    """

    def __init__(self, folder: Path, *, patience: float, budget: int = MEMORY_BUDGET) -> None:
        self.left = budget
        self._folder = folder
        self._patience = patience
        self._budget = budget
        self._slabs: list[Slab] = []
        self._freed = asyncio.Event()

    async def admit(self, nbytes: int, *, waited: Callable[[], None]) -> Spool:
        """A place for so many bytes; `waited` is called after each wait, so that nobody seems to have stalled."""
        while not self._fits(nbytes):
            try:
                async with asyncio.timeout(self._patience):
                    await self._freed.wait()
            except TimeoutError:
                with _on_disk():
                    file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - the spool closes it
                return Spool(file, file.close)
            finally:
                waited()
        slab = self._slab(nbytes)
        return Spool(slab, lambda: self._release(slab))

    def _fits(self, nbytes: int) -> bool:
        return nbytes <= self.left or self.left == self._budget

    def _slab(self, nbytes: int) -> Slab:
        """Memory for one update: that of an earlier one, whose pages the kernel need not clear again."""
        self.left -= nbytes
        fitting = [number for number, slab in enumerate(self._slabs) if slab.size == nbytes]
        return self._slabs.pop(fitting[0]) if fitting else np.empty(nbytes, np.uint8)

    def _release(self, slab: Slab) -> None:
        """Keep the memory while other updates come in, and give it back after the last."""
        self.left += slab.size
        self._slabs.append(slab)
        if self.left == self._budget:
            self._slabs.clear()
        self._freed.set()
        self._freed.clear()


@contextmanager
def _on_disk(what: str = "kept on", *, mending: str = "make room") -> Iterator[None]:
    """A full or broken disk is nobody's fault who sends: the transfer may be tried again."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"an update cannot be {what} disk: {error.strerror}; {mending}") from error
