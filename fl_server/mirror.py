"""A job's folder and its copy in a store of objects: what the newest head there names, and nothing else, was kept.

The server works in the folder. After each change it puts what has changed into the store, and then makes the next head,
which only one server can (`docs/decisions/0019-*` has the argument). A server that starts makes a head of the next
epoch, and its folder what that head names.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from fl_core.errors import FencedError, FLJobError, MismatchError, StorageError, UnusableError
from fl_server.download import Known, Patient, State, digest_of, files_of, fill, newest
from fl_server.fence import Fence, Owner
from fl_server.heads import HEADS, HOLDERS, OBJECTS, Head, Part, Parts, head_name, head_number, object_name
from fl_server.objects import DeniedError, SilentError

log = structlog.get_logger()

MOST_PARTS: Final = 64
"""Of a file to which lines are added: then it becomes one part again."""
KEPT: Final = 8
"""Heads before the newest whose objects stay, for those who are reading them."""


class Mirror:
    """One server's claim to a store."""

    def __init__(self, store: Patient, folder: Path, owner: Owner, *, holder: str = "") -> None:
        """Claim the store with a head of the next epoch; what the folder holds is left as it is until `restore`.

        Raises MismatchError for another job's store, FencedError in a pod that was replaced by another one.
        """
        self._store = store
        self._folder = folder
        self._known: dict[str, Known] = {}
        self._made = 0
        self._token = secrets.token_hex(16)
        while True:
            self._number, head = newest(store)
            self._head = self._claimed(head, owner, holder)
            try:
                self._advance(self._head)
            except FencedError:  # somebody else was quicker
                continue
            break
        self._check_exclusive()
        self._recent = deque([(self._number, self._head.objects)])
        self._tidied()

    def _claimed(self, before: Head | None, owner: Owner, holder: str) -> Head:
        """The head of the next epoch."""
        uri = self._store.objects.uri
        if before is None:
            if files_of(self._folder):
                raise MismatchError(
                    f"spec.server.storage.uri: nothing was kept in {uri} yet, but {self._folder} holds the storage of "
                    "a job; name the store that it was begun with, or, to begin anew, move the folder away"
                )
            return Head(epoch=1, server=self._token, owner=owner, holders=_with((), holder))
        owner.check(before.owner, uri)
        if holder in before.holders[:-1]:
            raise FencedError(
                f"{uri} was claimed from this pod ({holder}) and then from another ({before.holders[-1]}), which has "
                "replaced it; this server commits nothing and ends; nothing is to be done"
            )
        update = {
            "epoch": before.epoch + 1,
            "server": self._token,
            "holders": _with(before.holders, holder),
        }
        return before.model_copy(update=update)

    def _check_exclusive(self) -> None:
        """Refuse a store that makes an object again that is there: it would keep nobody out."""
        name, content = head_name(self._number), self._head.encoded()
        if self._store.call(lambda: self._store.objects.create(name, content)):
            self.check()  # newer servers have removed it meanwhile
            raise UnusableError(
                f"{self._store.objects.uri}: this store overwrites what it was told to make only if it is not there "
                "(If-None-Match), so two servers could overwrite one another's work; use another store"
            )

    @property
    def epoch(self) -> int:
        """This server's number among those that have claimed the store."""
        return self._head.epoch

    def restore(self) -> None:
        """Make the folder what was kept; FencedError where a newer server has removed of that what it replaced."""
        try:
            self._known, is_sound = fill(self._store, self._head, self._folder)
        except UnusableError:
            self.check()
            raise
        if not is_sound:
            self.check()
        log.info("the storage is as it was kept", store=self._store.objects.uri, files=len(self._known))

    def publish(self) -> None:
        """Keep the folder as it is now: the objects, then the head that names them.

        Raises FencedError where a newer server has claimed the store; nothing of this one counts then.
        """
        now = {path: self._uploaded(path, state) for path, state in files_of(self._folder).items()}
        files = {path: known.parts for path, known in sorted(now.items())}
        if files != self._head.files:
            self._advance(self._head.naming(files))
            self._recent.append((self._number, self._head.objects))
            self._let_go()
        self._known = now

    def check(self) -> None:
        """FencedError where another server has claimed the store since, StorageError where its own head is gone."""
        self._look(self._number)

    def _look(self, *numbers: int) -> None:
        """Demand that no head is higher than these, which must be there: else it is another store, or not mounted.

        0 is the number of none.
        """
        own, after = {one for one in numbers if one}, head_name(max(min(numbers) - 1, 0))
        # Where the first list misses one that was removed just then, the second has a higher one.
        for _ in range(2):
            names = self._store.call(lambda: self._store.objects.names(HEADS, after=after))
            found = set(map(head_number, names))
            if max(found, default=0) > max(numbers):
                raise self._fenced()
            if own <= found:
                return
        gone = " and ".join(head_name(one) for one in sorted(own - found))
        raise StorageError(
            f"{self._store.objects.uri} does not hold {gone} any more, which this server has found there; "
            "mount what was mounted there, or put a copy back"
        )

    def _uploaded(self, path: str, state: State) -> Known:
        """A file, and its parts in the store, of which the last is new where lines were added to it."""
        known = self._known.get(path)
        if known is not None and known.state == state:
            return known
        grown = known is not None and state[2] == known.state[2] and state[0] > known.state[0]
        before: Parts = ()
        if known is not None and grown and path.endswith(".jsonl") and len(known.parts) < MOST_PARTS:
            before = known.parts
        self._made += 1
        start = sum(part.size for part in before)
        part = self._put(object_name(self._head.epoch, self._made), self._folder / path, start, state[0])
        return Known(state, (*before, part))

    def _put(self, name: str, path: Path, start: int, size: int) -> Part:
        with path.open("rb") as file:
            file.seek(start)
            content: bytes | Path = file.read(size - start) if start else path
            file.seek(start)
            digest = digest_of(file, size - start)
        self._store.call(lambda: self._store.objects.put(name, content))
        return Part(object=name, size=size - start, sha256=digest)

    def _advance(self, head: Head) -> None:
        """Make the next head. One that cannot tell whether it has made it looks what is there."""
        number, content = self._number + 1, head.encoded()
        name = head_name(number)
        while not self._store.call(lambda: self._store.objects.create(name, content)):
            try:
                if self._store.content(name) != content:
                    raise self._fenced()
                break
            except FileNotFoundError:  # it was about to be made, or a newer server has removed it already
                self.check()
        # A server that slept may make a head where others were removed since: theirs are higher.
        self._look(self._number, number)
        self._number, self._head = number, head

    def _fenced(self) -> FencedError:
        return FencedError(
            f"{self._store.objects.uri} was claimed by a newer server of this job (this one has epoch "
            f"{self._head.epoch}); this one commits nothing more and ends; nothing is to be done"
        )

    # -- what nobody reads any more

    def _let_go(self) -> None:
        """Remove old heads, and the objects that only they name."""
        if len(self._recent) < 2 * KEPT:
            return
        gone = [self._recent.popleft() for _ in range(KEPT)]
        named = frozenset[str]().union(*(objects for _, objects in self._recent))
        unnamed = frozenset[str]().union(*(objects for _, objects in gone)) - named
        self._remove([*(head_name(number) for number, _ in gone), *sorted(unnamed)])

    def _tidied(self) -> None:
        """Remove what earlier servers have left: heads before the last, and objects that it does not name."""
        with suppress(SilentError):
            heads = [one for one in self._store.objects.names(HEADS) if head_number(one) < self._number - 1]
            own = f"{OBJECTS}/{self._head.epoch:010d}/"
            left = [
                one
                for one in self._store.objects.names(OBJECTS)
                if one not in self._head.objects and one < own
            ]
            self._remove([*heads, *left])
            self._store.objects.sweep(OBJECTS, before=own)

    def _remove(self, names: list[str]) -> None:
        """What is not removed now is when the next server claims the store."""
        try:
            if names:
                self._store.objects.remove(names)
        except StorageError as error:
            log.warning("old objects stay", count=len(names), reason=str(error))


@contextmanager
def final_at_first(folder: Path, *, holder: str) -> Iterator[None]:
    """UnusableError where a store refuses a server with an empty folder; one that was let in before may be again.

    A pod's folder is empty on each new node, and its credentials are read anew at each start: it asks again.
    """
    try:
        yield
    except DeniedError as error:
        if holder or files_of(folder):
            raise
        raise UnusableError(str(error)) from error


def _with(holders: tuple[str, ...], holder: str) -> tuple[str, ...]:
    """The pods that have claimed the store, this one last."""
    if not holder:
        return holders
    return (*(one for one in holders if one != holder), holder)[-HOLDERS:]


class MirroredFence:
    """The fence of a folder that has a copy in a store: what was changed within it is kept there when it is left."""

    look_seconds = 15.0
    """How often an idle server looks: each time is a request."""

    def __init__(self, fence: Fence, mirror: Mirror) -> None:
        self.epoch = mirror.epoch
        self._fence = fence
        self._mirror = mirror
        self._lock = threading.Lock()
        self._failed: FLJobError | None = None
        self._here = threading.local()
        with self._on_this_machine(), fence.held():
            mirror.restore()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other server on this machine changes the folder meanwhile; FencedError where another has claimed it.

        Once something could not be kept nothing is any more: the next server begins with what was.
        """
        with self._fence.held():
            if self._failed is not None:
                raise self._failed
            yield
            if getattr(self._here, "waits", False):
                return
            try:
                with self._lock, self._on_this_machine():
                    self._mirror.publish()
            except FLJobError as error:
                self._failed = error
                raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread changes meanwhile is kept by one head when this is left; nobody may be told before."""
        self._here.waits = True
        try:
            yield
        finally:
            self._here.waits = False
        with self.held():
            pass

    def check(self) -> None:
        """FencedError where another server has claimed the folder or the store since."""
        if self._failed is not None:
            raise self._failed
        self._fence.check()
        with self._lock:
            self._mirror.check()

    @staticmethod
    @contextmanager
    def _on_this_machine() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}") from error
