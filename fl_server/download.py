"""What a store keeps of a job, on this machine: the newest head, and a folder that is what it names."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeVar

import structlog

from fl_core import durable
from fl_core.errors import UnavailableError, UnusableError
from fl_server.heads import HEADS, OUT, STEP, Head, Part, Parts, decoded, head_name, head_number
from fl_server.objects import Objects, SilentError
from fl_server.sentences import way_out

log = structlog.get_logger()
T = TypeVar("T")

PATIENCE_SECONDS: Final = 60.0
"""How long one call that has failed is tried again before the server ends, to be started again."""
PAUSES: Final = (0.1, 5.0)
"""Seconds before the second try, and at most before each further one."""
REPLACEABLE: Final = ("checkpoints/", "models/")
"""Files that may be damaged: there are others, or they can be made again."""
State = tuple[int, int, int]
"""A file as it lies in a folder: its size, the time of its last change, its number."""


class Patient:
    """A store that is asked again where it does not answer; `told` hears when that begins, and "" when it ends."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.told: Callable[[str], object] = lambda _: None
        self._patience = PATIENCE_SECONDS
        self._is_silent = False

    def call(self, action: Callable[[], T]) -> T:
        """What the action returns; UnavailableError where nobody answers for the patience after its first failure."""
        end, pause = None, PAUSES[0]
        while True:
            try:
                found = action()
            except SilentError as error:
                now, is_first = time.monotonic(), end is None
                end = now + self._patience if end is None else end
                if is_first:
                    self._is_silent = True
                    self.told(f"{error}; it is asked again for {self._patience:g} s")
                if now + pause > end:
                    raise UnavailableError(
                        f"{error}, for {self._patience:g} s; nothing is lost: once it answers, a server that is "
                        "started again goes on from what was kept"
                    ) from error
                log.warning("the store is asked again", seconds=pause, reason=str(error))
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
            else:
                if self._is_silent:
                    self._is_silent = False
                    self.told("")
                    log.info("the store answers again", store=self.objects.uri)
                return found

    def content(self, name: str) -> bytes:
        """A small object's content; FileNotFoundError where there is none."""
        return self.call(lambda: b"".join(self.objects.read(name)))

    def copy(self, name: str, file: IO[bytes]) -> str:
        """Add an object's content to a file; returns its SHA-256. FileNotFoundError where there is none."""
        start = file.tell()

        def copied() -> str:
            file.seek(start)
            file.truncate()
            digest = hashlib.sha256()
            for piece in self.objects.read(name):
                file.write(piece)
                digest.update(piece)
            return digest.hexdigest()

        return self.call(copied)


class Newest(NamedTuple):
    """The head with the highest number; number 0 and no head where there is none."""

    number: int
    head: Head | None


def newest(store: Patient) -> Newest:
    """What was kept last; a head that is named and is not there is asked for again, as a store that does not answer."""
    missed = 0

    def looked() -> Newest | None:
        nonlocal missed
        number = max(map(head_number, store.objects.names(HEADS)), default=0)
        if not number:
            return Newest(0, None)
        name = head_name(number)
        try:
            content = b"".join(store.objects.read(name))
        except FileNotFoundError as error:
            if number == missed:
                raise SilentError(f"{store.objects.uri} names {name} and does not have it") from error
            missed = number  # a server has gone on, and removed it meanwhile
            return None
        return Newest(number, decoded(content, f"{store.objects.uri}/{name}"))

    while (found := store.call(looked)) is None:
        pass
    return found


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it lies in the folder, and its parts in the store."""

    state: State
    parts: Parts

    @property
    def is_whole(self) -> bool:
        """Whether it is as large as its parts: a damaged one is empty."""
        return self.state[0] == sum(part.size for part in self.parts)


def fill(store: Patient, head: Head, folder: Path) -> tuple[dict[str, Known], bool]:
    """Make a folder what a head names; returns its files, and whether all are whole.

    Files that are that already stay. Of those in REPLACEABLE a damaged one becomes an empty one, which whoever reads it
    passes over; any other that is damaged is an UnusableError, and what the folder has of it stays.
    """
    known: dict[str, Known] = {}
    sound = True
    for path, parts in head.files.items():
        target = folder / path
        if not _is(target, parts):
            whole = _fetched(store, path, parts, folder)
            sound = sound and whole
            if not whole:
                log.warning("damaged object", file=path, store=store.objects.uri)
        known[path] = Known(_state(target.stat()), parts)
    for path in sorted(files_of(folder).keys() - known.keys()):
        log.info("a file that was never kept is removed", file=path)
        (folder / path).unlink()
    return known, sound


def _fetched(store: Patient, path: str, parts: Parts, folder: Path) -> bool:
    """Download a file; False where a part is not what it was, and UnusableError where nothing may take its place."""
    target = folder / path
    durable.folder(target.parent)
    with durable.whole(target, mode=durable.PRIVATE) as temporary, temporary.open("r+b") as file:
        damaged = next((part for part in parts if not _added(store, part, file)), None)
        if damaged is not None and not path.startswith(REPLACEABLE):
            raise UnusableError(
                f"{path} in {store.objects.uri} is not what was kept: {damaged.object} should be {damaged.size} "
                f"bytes with the SHA-256 {damaged.sha256[:12]}; {way_out(folder)}"
            )
        if damaged is not None:  # so that whoever reads it sees that, whatever it was made to say
            file.truncate(0)
    return damaged is None


def _added(store: Patient, part: Part, file: IO[bytes]) -> bool:
    try:
        return store.copy(part.object, file) == part.sha256
    except FileNotFoundError:
        return False


def _is(path: Path, parts: Parts) -> bool:
    """Whether a file is made of these parts."""
    if not path.is_file() or path.stat().st_size != sum(part.size for part in parts):
        return False
    with path.open("rb") as file:
        return all(digest_of(file, part.size) == part.sha256 for part in parts)


def digest_of(file: IO[bytes], size: int) -> str:
    """The SHA-256 of the next so many bytes."""
    digest = hashlib.sha256()
    while size and (piece := file.read(min(size, 1 << 20))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def _state(found: os.stat_result) -> State:
    return found.st_size, found.st_mtime_ns, found.st_ino


def files_of(folder: Path) -> dict[str, State]:
    """What of a folder is to be kept; neither what a head cannot name nor what is this machine's alone."""
    named = re.compile(STEP).fullmatch
    found: dict[str, State] = {}
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [one for one in folders if named(one) and (here != folder or f"{one}/" not in OUT)]
        for name in filter(named, names):
            path = here / name
            found[path.relative_to(folder).as_posix()] = _state(path.stat())
    return found
