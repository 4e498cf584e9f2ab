"""Models as files: those that the server left in a job's storage, and other formats made from them."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fl_core import durable
from fl_core.errors import MismatchError, StorageError
from fl_core.plan import canonical
from fl_core.record import LINES, Claim, Record, read, strayed
from fl_core.weights import Array, digest

ZIP = b"PK\x03\x04"
"""How an npz file begins."""

HEAD = 8
"""Bytes of a safetensors file before its map of JSON, which say how long that is."""

CHECKPOINT = r"round-(\d+)\.safetensors"
"""What checkpoints are called in their folder, as a regular expression with the round as its group."""


STATES = "fljob.state/"
"""In a checkpoint, before the names of arrays that are not the model's."""

BEYOND = (RecursionError, OverflowError)
"""What JSON can hold and nobody writes: lists within lists without end, numbers beyond all others."""

INDEX = "kept.txt"
"""The file in a copy of some of a storage's files that names all of them, one in a line."""


def checkpoint_name(number: int) -> str:
    """What the checkpoint of this round is called in its folder."""
    return f"round-{number:07d}.safetensors"


def base_of(facts: Mapping[str, Any]) -> str:
    """The model that a checkpoint's round began with, by its digest; empty where its facts hold no line of a round."""
    return str(facts.get("row", {}).get("base", ""))


def seal(content: Mapping[str, Any], model: str, remembered: Mapping[str, Array]) -> str:
    """SHA-256 over all that a checkpoint holds, as hex: its texts, its model's digest, its other arrays by name."""
    found = hashlib.sha256(f"{canonical(content)}\n{model}\n".encode())
    for name, array in sorted(remembered.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by their rounds, newest first; whether they are whole is not looked at."""
    found = ((re.fullmatch(CHECKPOINT, path.name), path) for path in folder.glob("round-*"))
    numbered = {int(named[1]): path for named, path in found if named}
    return dict(sorted(numbered.items(), reverse=True))


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model's arrays by name, what the server wrote down of it, and the file that it was read from.

    `metadata` is the file's own where it holds nothing else; a checkpoint may hold what its makers remember,
    too. A job that goes on soon removes a checkpoint, so nothing is read twice.
    """

    path: Path
    arrays: dict[str, Array]
    facts: dict[str, Any]
    metadata: dict[str, str]
    seal: str = ""
    """What all that the file holds hashes to; empty in a file that says nothing of it."""

    @classmethod
    def read(cls, path: Path) -> StoredModel:
        """Read a safetensors file; raises StorageError for one that is damaged, or not there."""
        try:
            with safe_open(path, framework="np") as file:
                there, metadata = list(file.keys()), file.metadata() or {}
                sealed = json.loads(metadata.get("fljob", "{}"))
                arrays = {name: file.get_tensor(name) for name in sealed.get("arrays", there)}
                others = {
                    name.removeprefix(STATES): file.get_tensor(name) for name in there if name not in arrays
                }
            facts, model, sealing = (
                dict(sealed.get("facts", {})),
                digest(arrays),
                str(sealed.pop("sha256", "")),
            )
            found = seal(sealed, model, others) if sealing else ""
            if len(arrays) < len(there):
                metadata = {"fljob": canonical({"arrays": list(arrays), "facts": facts})}
            stored = cls(path, arrays, facts, metadata, sealing)
            stored.claim  # noqa: B018 - what is no claim is found here
        except (SafetensorError, OSError, ValueError, TypeError, AttributeError, *BEYOND) as error:
            raise StorageError(f"{path} is no safetensors file that can be read: {error}") from error
        if facts.get("digest", "") not in ("", model):
            raise StorageError(f"{path} is damaged: its arrays do not have the digest it was written with")
        if sealing != found:
            raise StorageError(f"{path} is damaged: its contents do not have the digest it was written with")
        return stored

    @property
    def round(self) -> int:
        """The round that made it; 0 where nobody wrote that down."""
        return int(self.facts.get("round", 0))

    @property
    def claim(self) -> Claim:
        """What it says that it is, to be held against the record."""
        return Claim(self.round, self.digest, base_of(self.facts), self.seal)

    @property
    def digest(self) -> str:
        """The digest of its arrays, which was compared when it was read if it is written down."""
        return str(self.facts.get("digest") or digest(self.arrays))

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(array.size for array in self.arrays.values())


def astray(storage: Path, claim: Claim) -> str:
    """Why a checkpoint is none to go on from, by the record in this storage; empty where it is one.

    Where there is no record, or one whose chain does not hold, nothing is said.
    """
    record = _chain(storage)
    return "" if record is None else strayed(record, claim)


def _chain(storage: Path) -> Record | None:
    """The record in this storage, if there is one whose chain holds."""
    try:
        content = (storage / LINES).read_bytes()
        record = read(content, str(from_json(content.partition(b"\n")[0])["plan"]))
    except (OSError, ValueError, KeyError, TypeError, MismatchError):
        return None
    return None if record.findings else record


def sound(storage: Path, *, after: int = 0) -> Iterator[StoredModel]:
    """The checkpoints of rounds `after` this one that are whole and not strayed from the record, newest first."""
    record = _chain(storage)
    for number, path in checkpoints(storage / "checkpoints").items():
        if number <= after:
            return
        with suppress(StorageError):
            found = StoredModel.read(path)
            if found.round == number and (record is None or not strayed(record, found.claim)):
                yield found


def best_model(storage: Path) -> StoredModel:
    """The model that scored best in a job with this storage."""
    path = storage / "models" / "best.safetensors"
    if not path.exists():
        raise StorageError(
            f"there is no {path}: no round was evaluated, or its program reports no loss and the job has no target"
        )
    return StoredModel.read(path)


def newest_model(storage: Path) -> StoredModel:
    """The final model; of a job that has none, or has gone on since, the newest whole checkpoint of its record."""
    path = storage / "models" / "last.safetensors"
    final = StoredModel.read(path) if path.exists() else None
    newest = next(sound(storage, after=final.round if final else 0), final)
    if newest is None:
        raise StorageError(f"there is no model in {storage}: no round has been committed and saved yet")
    return newest


def read_model(path: Path) -> StoredModel:
    """Read a model's file of either format that `fl-submit model` writes, told apart by how it begins.

    Raises StorageError for one that is damaged, or not there.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(HEAD + 1)
        if not begins.startswith(ZIP):
            if begins[HEAD:] != b"{":
                raise StorageError(f"{path} is neither safetensors nor npz: it begins with {begins!r}")
            return StoredModel.read(path)
        with np.load(path, allow_pickle=False) as archive:
            return StoredModel(path, {name: archive[name] for name in archive.files}, {}, {})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path} is no model that can be read: {error}") from error


def write_npz(model: StoredModel, target: Path) -> None:
    """Write the arrays under their names for `numpy.load`, whole or not at all.

    `numpy.savez` takes an array called `file` for its own argument.
    """
    with whole(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in model.arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_safetensors(model: StoredModel, target: Path) -> None:
    """Write the arrays and what is known of them, whole or not at all."""
    with whole(target) as temporary:
        temporary.write_bytes(save(model.arrays, model.metadata))


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes `target` once all went well; StorageError when the disk refuses."""
    try:
        with durable.whole(target) as temporary:
            yield temporary
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}") from error
