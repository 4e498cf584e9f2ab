"""Stores of objects by their URI: a bucket, through obstore, or a folder that is mounted.

An object is given its content once, by a name that nobody else gives. Credentials come from the environment, and
are in no message: of what a store answers only its code is told.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from fl_core import durable
from fl_core.errors import MismatchError, StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for a store that is not Amazon's, "
    "AWS_ENDPOINT_URL_S3",
    "gs": "GOOGLE_SERVICE_ACCOUNT_KEY or GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""What of the environment the credentials of each scheme are in."""

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
LONGEST, STALLED = "24h", "60s"
"""For one request, and for one that does not move."""
PIECE = 5 << 20
"""Bytes of a large object that go at once."""
TRIES, PAUSE = 8, timedelta(seconds=2)
"""How often one of them is sent again, and after what pause at most, before the whole transfer has failed."""
STATUS = re.compile(r"status code: (\d{3})")
CODE = re.compile(r"<Code>(\w+)</Code>")
BUSY = "409"
"""Another one is about to make or remove the same object."""
PLACES = ("Bucket", "ContainerNotFound")
NO_ENTRY = {"401", "403"}
OUTDATED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
"""Codes of 400 about credentials that were good once, and are renewed."""
LATE = {"RequestTimeout", "IncompleteBody"}
"""Codes of 400 for a request that broke off."""
ASKED = ("169.254.169.254", "/latest/api/token", "/latest/meta-data")
"""Where a client looks for credentials that the environment does not hold."""
WRONG = {"301", "307", "400", "404", "405", "501"}
"""What a store answers to whoever will be answered the same again."""


class SilentError(StorageError):
    """The store does not answer, or not now: what was asked of it may have happened or not."""


class DeniedError(StorageError):
    """The store refuses whoever asks, or is not there: that stays so until a person mends it."""


class Objects(Protocol):
    """A store; every call may raise SilentError, and DeniedError or StorageError where trying again does not help."""

    uri: str

    def put(self, name: str, content: bytes | Path) -> None:
        """Give an object its content."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Make an object; False where there is one of this name."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """An object's content in pieces; FileNotFoundError where there is none."""
        ...

    def names(self, prefix: str, *, after: str = "") -> list[str]:
        """The names in the folder `prefix`, sorted; those that come after one of them."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, whether they are there or not."""
        ...

    def sweep(self, prefix: str, *, before: str) -> None:
        """Remove what killed processes have not finished, in the folders in `prefix` that come before one of them."""
        ...


def opened(uri: str) -> Objects:
    """The store of this URI; no connection is made yet."""
    scheme, host, path, *_ = urlsplit(uri)
    if scheme == "file" and not host:
        return Folder(uri, Path(unquote(path)))
    if scheme in VARIABLES and host:
        return Bucket(uri, scheme)
    words = ", ".join(f"{one}://" for one in (*VARIABLES, "file"))
    raise MismatchError(f"spec.server.storage.uri: {uri} is no store that is known; expected one of {words}")


class Folder:
    """Objects as files below a folder, which whoever names it has made: one that is not there may not be mounted."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self._root = root

    def put(self, name: str, content: bytes | Path) -> None:
        """Give an object its content."""
        with self._written(name) as path:
            if isinstance(content, bytes):
                durable.replace(path, content, mode=durable.PRIVATE)
                return
            with durable.whole(path, mode=durable.PRIVATE) as temporary:
                shutil.copyfile(content, temporary)

    def create(self, name: str, content: bytes) -> bool:
        """Make an object; False where there is one of this name."""
        with self._written(name) as path, suppress(FileExistsError):
            durable.create(path, content)
            return True
        return False

    def read(self, name: str) -> Iterator[bytes]:
        """An object's content in pieces; FileNotFoundError where there is none."""
        with self._translated(), (self._root / name).open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece

    def names(self, prefix: str, *, after: str = "") -> list[str]:
        """The names in the folder `prefix`, sorted; those that come after one of them."""
        with self._translated():
            found = (path for path in (self._root / prefix).rglob("[!.]*") if path.is_file())
            named = sorted(path.relative_to(self._root).as_posix() for path in found)
        return [name for name in named if name > after]

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, whether they are there or not."""
        with self._translated():
            for name in names:
                (self._root / name).unlink(missing_ok=True)

    def sweep(self, prefix: str, *, before: str) -> None:
        """Remove what killed processes have not finished, in the folders in `prefix` that come before one of them."""
        with self._translated():
            for folder in (self._root / prefix).glob("*/"):
                if f"{prefix}/{folder.name}/" < before:
                    with suppress(FileNotFoundError):
                        durable.sweep(folder)

    @contextmanager
    def _written(self, name: str) -> Iterator[Path]:
        """The place of an object, whose folder is there; what a newer server sweeps meanwhile is written again."""
        with self._translated():
            durable.folder((self._root / name).parent)
            try:
                yield self._root / name
            except FileNotFoundError as error:
                raise SilentError(f"{self.uri}: {name} was removed before it was whole") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if not self._root.is_dir():
            raise DeniedError(
                f"{self.uri}: {self._root} is no folder; mount what it is on, or make it, or mend "
                "spec.server.storage.uri"
            )
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SilentError(f"{self.uri}: {error.strerror}") from error


class Bucket:
    """Objects below a folder of a bucket."""

    def __init__(self, uri: str, scheme: str) -> None:
        self.uri = uri
        self._variables = VARIABLES[scheme]
        self._store = self._connected(tries=0)
        self._in_pieces = self._connected(tries=TRIES)

    def _connected(self, *, tries: int) -> ObjectStore:
        """A client; one that tries nothing again by itself lets what is tried again be told."""
        try:
            from obstore import store  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MismatchError(
                f"spec.server.storage.uri: {self.uri} needs the extra `store`: pip install 'fljob[store]'"
            ) from error
        plain = any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)
        try:
            return store.from_url(
                self.uri,
                client_options={"allow_http": plain, "timeout": LONGEST, "read_timeout": STALLED},
                retry_config={"max_retries": tries, "backoff": {"max_backoff": PAUSE}},
            )
        except Exception as error:  # not of one class
            raise DeniedError(f"{self.uri} cannot be opened ({_brief(error)}); {self._advice}") from error

    def put(self, name: str, content: bytes | Path) -> None:
        """Give an object its content; of a large one only the pieces that were not taken go again."""
        import obstore  # noqa: PLC0415 - an extra

        is_large = isinstance(content, Path) and content.stat().st_size > PIECE
        store = self._in_pieces if is_large else self._store
        with self._translated():
            obstore.put(store, name, content, chunk_size=PIECE, max_concurrency=4)

    def create(self, name: str, content: bytes) -> bool:
        """Make an object (If-None-Match); False where there is one of this name."""
        import obstore  # noqa: PLC0415 - an extra
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415 - an extra

        with self._translated():
            try:
                obstore.put(self._store, name, content, mode="create")
            except (AlreadyExistsError, PreconditionError) as error:
                if (status := STATUS.search(str(error))) and status.group(1) == BUSY:
                    raise
                return False
        return True

    def read(self, name: str) -> Iterator[bytes]:
        """An object's content in pieces; FileNotFoundError where there is none."""
        import obstore  # noqa: PLC0415 - an extra

        with self._translated():
            for piece in obstore.get(self._store, name).stream():
                yield bytes(piece)

    def names(self, prefix: str, *, after: str = "") -> list[str]:
        """The names in the folder `prefix`, sorted; those that come after one of them."""
        import obstore  # noqa: PLC0415 - an extra

        with self._translated():
            pages = obstore.list(self._store, prefix, offset=after or None)
            return sorted(one["path"] for page in pages for one in page)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, whether they are there or not."""
        import obstore  # noqa: PLC0415 - an extra

        with self._translated():
            try:
                obstore.delete(self._store, list(names))
            except (
                FileNotFoundError
            ):  # where each is a request of its own the first one that is gone ends them
                for name in names:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, name)

    def sweep(self, prefix: str, *, before: str) -> None:
        """Nothing: what was not finished is no object, and goes by the bucket's own rules."""

    @property
    def _advice(self) -> str:
        return (
            f"look at spec.server.storage.uri and at {self._variables}, in the Secret of storage.secretName"
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What obstore raises, as what this module says; of several classes, some of them Python's own."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra

        try:
            yield
        except (BaseError, FileNotFoundError, OSError, ValueError) as error:
            text = str(error)
            status, code = STATUS.search(text), CODE.search(text)
            number, word = status.group(1) if status else "", code.group(1) if code else ""
            if isinstance(error, FileNotFoundError) and not word.endswith(PLACES):
                raise
            told = " ".join(filter(None, (number, word))) or _brief(error)
            if number in NO_ENTRY or word in OUTDATED or any(place in text for place in ASKED):
                kind = StorageError if word in OUTDATED else DeniedError
                raise kind(
                    f"{self.uri}: its credentials are refused, or there are none ({told}); "
                    f"{self._advice}, or of the environment of a run on this machine"
                ) from error
            if number in WRONG and word not in LATE:
                raise DeniedError(
                    f"{self.uri} cannot be used ({told}); the bucket must be there, and make objects "
                    f"only where there are none (If-None-Match): {self._advice}"
                ) from error
            raise SilentError(f"{self.uri} does not answer ({told})") from error


def _brief(error: Exception) -> str:
    """The first line of an error, without what it was caused by, and without what may be secret in an address."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"\?\S+|(?<=//)[^/\s]*@", "", line)[:300]
