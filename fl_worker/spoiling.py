"""A worker whose work comes out wrong, for trying what a job does about it; `fl_core.steps` says who can ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fl_core.weights import Array
from fl_worker.backends import Trained


def _nan(array: Array) -> Array:
    return array + array.dtype.type("nan") if array.dtype.kind == "f" else array


SPOILT: dict[str, Callable[[Array], Array]] = {"nan": _nan, "sign_flip": np.negative}


def spoilt(trained: Trained, word: str) -> Trained:
    """What the program made, with not-a-numbers or the opposite sign in each array, before anybody checks it."""
    if word not in SPOILT:
        return trained
    return replace(trained, update={name: SPOILT[word](array) for name, array in trained.update.items()})


def corrupted(frame: bytes, word: str) -> bytes:
    """A frame of a transfer with a byte in its middle changed, after its checksum was made."""
    if word != "corrupt":
        return frame
    middle = len(frame) // 2
    return frame[:middle] + bytes([frame[middle] ^ 0xFF]) + frame[middle + 1 :]
