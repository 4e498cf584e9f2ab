"""What a worker's stages remember between rounds, by the round after which they did, in a folder.

It is there before the update that goes with it is handed in, so that a worker that is started again hands in the same
bytes; and where a server goes back to an older round the worker goes back with it. As private as the updates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from safetensors import SafetensorError, safe_open

from fl_core import durable, tensors
from fl_core.durable import PRIVATE
from fl_core.errors import StorageError
from fl_core.plan import Checkpoint, canonical
from fl_core.stages import State
from fl_core.states import apart, together

log = structlog.get_logger()

States = tuple[State, ...]
FILE = re.compile(r"round-(\d+)\.safetensors")


class Remembered:
    """One worker's, of one job; `fresh` is what stages remember that have seen no round.

    What stays is what a round needs that is made again, or the one after a checkpoint to which the server may go back.
    """

    def __init__(self, folder: Path, fresh: States, checkpoint: Checkpoint) -> None:
        self._folder = folder
        self._fresh = fresh
        self._checkpoint = checkpoint
        self._newest: tuple[int, States] = (0, fresh)
        with self._told():
            durable.sweep(folder)

    def before(self, round: int) -> States:
        """What was remembered after the last round before this one; what came later is forgotten."""
        rounds = self._rounds()
        with self._told():
            for later in (number for number in rounds if number >= round):
                self._file(later).unlink()
        last = max((number for number in rounds if number < round), default=0)
        if last != self._newest[0]:
            self._newest = (last, self._read(last) if last else self._fresh)
        return self._newest[1]

    def keep(self, round: int, states: States) -> None:
        """Remember this after the round; stages that remember nothing take no file."""
        if not any(states):
            return
        arrays, rest = apart({str(place): state for place, state in enumerate(states)})
        with self._told():
            durable.folder(self._folder)
            parts = tensors.parts(arrays, {"states": canonical(rest)})
            durable.replace(self._file(round), *parts, mode=PRIVATE)
            there = self._rounds()
            for old in set(there) - self._staying(there):
                self._file(old).unlink()
        self._newest = (round, states)

    def _staying(self, there: list[int]) -> set[int]:
        """The newest, and for each checkpoint that the server keeps the newest that is not younger.

        A round that was skipped has no checkpoint, so that one more may be needed of the newest than the server keeps.
        """
        every = self._checkpoint.every_rounds
        last = (there[-1] - 1) // every * every
        checkpoints = range(last, last - every * self._checkpoint.keep, -every)
        needed = (max((one for one in there if one <= number), default=0) for number in checkpoints)
        return {*there[-self._checkpoint.keep - 1 :], *needed}

    def _rounds(self) -> list[int]:
        found = (FILE.fullmatch(path.name) for path in self._folder.glob("round-*"))
        return sorted(int(named[1]) for named in found if named)

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
