"""The models that a run left behind, and other files made from them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fl_core.errors import StorageError
from fl_core.weights import Array


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model's arrays, and what the server wrote down beside them."""

    arrays: dict[str, Array]
    facts: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> StoredModel:
        """Read a safetensors file."""
        if not path.exists():
            raise StorageError(
                f"there is no {path}: the run has not ended well, or, for the best model, its program reports "
                "no loss and the job has no target"
            )
        try:
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                sealed = json.loads((file.metadata() or {}).get("fljob", "{}"))
                return cls(arrays, sealed.get("facts", {}))
        except (SafetensorError, ValueError) as error:
            raise StorageError(f"{path} is damaged: {error}") from error

    @property
    def round(self) -> str:
        """The round that made it."""
        return str(self.facts.get("round", "?"))

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(array.size for array in self.arrays.values())


def write_npz(model: StoredModel, target: Path) -> None:
    """Write the arrays under their names for `numpy.load`, whole or not at all."""
    temporary = target.with_name(f".{target.name}.part")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **model.arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}") from error
