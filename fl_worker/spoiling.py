"""A worker whose work comes out wrong, for trying what a job does about it; `fl_core.steps` says who can ask for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol, cast

import numpy as np

from fl_core.errors import UpdateError
from fl_core.weights import Array
from fl_worker.backends import Backend, Trained


def _nan(array: Array) -> Array:
    return array + array.dtype.type("nan") if array.dtype.kind == "f" else array


LABEL_FLIP = "label_flip"
Flip = Callable[[Array, int], Array]
"""Other labels for these, of so many classes."""

SPOILT: dict[str, Callable[[Array], Array]] = {"nan": _nan, "sign_flip": np.negative}


def spoilt(trained: Trained, word: str) -> Trained:
    """What the program made, with not-a-numbers or the opposite sign in each array, before anybody checks it."""
    if word not in SPOILT:
        return trained
    return replace(trained, update={name: SPOILT[word](array) for name, array in trained.update.items()})


class Labelled(Protocol):
    """What a backend offers beside the rest where it knows the labels of its examples."""

    def mislabelled(self, flip: Flip) -> AbstractContextManager[None]:
        """While this is open `train` sees other labels; refuses labels that are no whole numbers."""
        ...


def flipped(labels: Array, classes: int) -> Array:
    """Each label l as `classes` - 1 - l: of whole numbers from 0 the last class becomes the first.

    Fang, Cao, Jia and Gong, Local Model Poisoning Attacks to Byzantine-Robust Federated Learning, USENIX Security 2020
    (https://arxiv.org/abs/1911.11815), section 4: the label flipping attack.
    """
    if labels.dtype.kind not in "iu":
        raise UpdateError(f"label_flip: labels are {labels.dtype}; only whole numbers can be flipped")
    return classes - 1 - labels


def mislabelled(backend: Backend, word: str) -> AbstractContextManager[None]:
    """Flip the labels that this backend trains on, if that is the word; refuses one that knows no labels."""
    if word != LABEL_FLIP:
        return nullcontext()
    if not hasattr(backend, "mislabelled"):
        raise UpdateError(
            f"{LABEL_FLIP}: this program keeps its labels to itself; expected one of paddle or sklearn, or sign_flip"
        )
    return cast("Labelled", backend).mislabelled(flipped)


def corrupted(frame: bytes, word: str) -> bytes:
    """A frame of a transfer with a byte in its middle changed, after its checksum was made."""
    if word != "corrupt":
        return frame
    middle = len(frame) // 2
    return frame[:middle] + bytes([frame[middle] ^ 0xFF]) + frame[middle + 1 :]
