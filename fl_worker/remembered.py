"""What a worker's stages remember between rounds, by the round after which they did, in a folder.

It is there before the update that goes with it is handed in, so that a worker that is started again hands in the same
bytes. It goes on from the last update that is in the model, as the server says with each order: what was handed in and
came to nothing leaves no trace, and where a server goes back to an older round the worker goes back with it. As private
as the updates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from safetensors import SafetensorError, safe_open

from fl_core import durable, tensors
from fl_core.durable import PRIVATE
from fl_core.errors import StorageError
from fl_core.plan import canonical
from fl_core.stages import State
from fl_core.states import apart, together

log = structlog.get_logger()

States = tuple[State, ...]
FILE = re.compile(r"round-(\d+)\.safetensors")


class Remembered:
    """One worker's, of one job; `fresh` is what stages remember that have seen no round."""

    def __init__(self, folder: Path, fresh: States) -> None:
        self._folder = folder
        self._fresh = fresh
        self._newest: tuple[int, States] = (0, fresh)
        with self._told():
            durable.sweep(folder)

    def before(self, round: int, counted: Collection[int]) -> States:
        """What was remembered after the last of these earlier rounds, all of which may be asked for again.

        What is of other rounds is let go, but for this one's: its update may be in the sum by now.
        """
        there = self._rounds()
        with self._told():
            for other in there - {*counted, round}:
                self._file(other).unlink()
        last = max(counted, default=0)
        if last != self._newest[0]:
            self._newest = (last, self._read(last) if last in there else self._anew(last))
        return self._newest[1]

    def keep(self, round: int, states: States) -> None:
        """Remember this after the round; without stages there is no file."""
        if not states:
            return
        arrays, rest = apart({str(place): state for place, state in enumerate(states)})
        with self._told():
            durable.folder(self._folder)
            parts = tensors.parts(arrays, {"states": canonical(rest)})
            durable.replace(self._file(round), *parts, mode=PRIVATE)
        self._newest = (round, states)

    def _anew(self, last: int) -> States:
        """Nothing is there of a round that counts, as where a pod took its disk with it: sound, and told."""
        if last:
            path = str(self._file(last))
            log.warning("what stages remembered is gone; they begin anew", file=path)
        return self._fresh

    def _rounds(self) -> set[int]:
        found = (FILE.fullmatch(path.name) for path in self._folder.glob("round-*"))
        return {int(named[1]) for named in found if named}

    def _read(self, round: int) -> States:
        """From the disk; a file that is damaged counts as none, which is sound, and told."""
        path = self._file(round)
        try:
            with safe_open(path, "np") as stream:
                arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
                states = together(arrays, json.loads((stream.metadata() or {})["states"]))
            return tuple(states[str(place)] for place in range(len(self._fresh)))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "what stages remembered is damaged; they begin anew", file=str(path), reason=str(error)
            )
            return self._fresh

    def _file(self, round: int) -> Path:
        return self._folder / f"round-{round:08}.safetensors"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._folder} cannot be written: {error.strerror}; make room, or give --states another"
            ) from error
