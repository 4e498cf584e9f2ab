"""Named arrays: their manifest, their one flat buffer, their digest.

A model or an update is a mapping from names to numpy arrays. On the wire and in the accumulator
it is one flat buffer: the arrays' little-endian bytes in the manifest's order, without gaps where
the dtype stays the same and aligned to 8 bytes where it changes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import MismatchError, UpdateError

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]

DTYPES = ("float16", "float32", "float64")
"""What a model may consist of; whole numbers (counters, class labels) stay with the worker."""

ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Name, dtype and shape of one array."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of the flat buffer with one dtype: `offset` in bytes, `size` in elements."""

    dtype: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte after the stretch."""
        return self.offset + self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Manifest:
    """The names, dtypes and shapes of a model, in order; equal manifests mean interchangeable models."""

    arrays: tuple[ArraySpec, ...]

    def __post_init__(self) -> None:
        """Refuse what no process could exchange."""
        names = [spec.name for spec in self.arrays]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise MismatchError(f"the array names {twice} occur twice; each array needs its own name")
        for spec in self.arrays:
            if spec.dtype not in DTYPES:
                raise MismatchError(
                    f"array {spec.name!r} has dtype {spec.dtype!r}; a model consists of {', '.join(DTYPES)}"
                )
            if any(length < 0 for length in spec.shape):
                raise MismatchError(f"array {spec.name!r} has the shape {list(spec.shape)}")

    @classmethod
    def of(cls, weights: Weights) -> Manifest:
        """Describe these weights."""
        return cls(
            tuple(ArraySpec(name, array.dtype.name, tuple(array.shape)) for name, array in weights.items())
        )

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote; refuses anything else, another spelling of the same manifest included."""
        try:
            rows = json.loads(text)
            manifest = cls(
                tuple(ArraySpec(str(name), str(dtype), tuple(map(int, shape))) for name, dtype, shape in rows)
            )
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise MismatchError(f"a manifest is a list of [name, dtype, shape]: {error}") from error
        if manifest.to_json() != text:
            raise MismatchError(
                "a manifest is canonical JSON of [name, dtype, shape]: a text, a text, whole numbers"
            )
        return manifest

    def ordered(self, weights: Weights) -> Weights:
        """The same arrays, in this manifest's order; those that it does not name come last."""
        return {one.name: weights[one.name] for one in self.arrays if one.name in weights} | dict(weights)

    def to_json(self) -> str:
        """One line of canonical JSON."""
        return json.dumps([[a.name, a.dtype, list(a.shape)] for a in self.arrays], separators=(",", ":"))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each array starts in the flat buffer, in bytes."""
        offsets, position, previous = [], 0, ""
        for spec in self.arrays:
            if spec.dtype != previous:
                position = -(-position // ALIGNMENT) * ALIGNMENT
            offsets.append(position)
            position += spec.nbytes
            previous = spec.dtype
        return tuple(offsets)

    @cached_property
    def size(self) -> int:
        """Number of elements of all arrays."""
        return sum(spec.size for spec in self.arrays)

    @cached_property
    def nbytes(self) -> int:
        """Length of the flat buffer in bytes."""
        return self.offsets[-1] + self.arrays[-1].nbytes if self.arrays else 0

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The flat buffer as stretches of one dtype each."""
        runs: list[Run] = []
        for spec, offset in zip(self.arrays, self.offsets, strict=True):
            if runs and runs[-1].dtype == spec.dtype:
                runs[-1] = Run(spec.dtype, runs[-1].offset, runs[-1].size + spec.size)
            else:
                runs.append(Run(spec.dtype, offset, spec.size))
        return tuple(runs)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """For each array the number of its run, and where in the run it starts, in elements."""
        places: list[tuple[int, int]] = []
        number = 0
        for spec, offset in zip(self.arrays, self.offsets, strict=True):
            if spec.dtype != self.runs[number].dtype:
                number += 1
            places.append((number, (offset - self.runs[number].offset) // np.dtype(spec.dtype).itemsize))
        return tuple(places)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest, as hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def difference(self, other: Manifest) -> str | None:
        """Say in words where `other` first departs from this manifest; None when they are equal."""
        mine = {spec.name: spec for spec in self.arrays}
        theirs = {spec.name: spec for spec in other.arrays}
        for spec in other.arrays:
            if spec.name not in mine:
                return f"array {spec.name!r} is not in the model"
            if spec != mine[spec.name]:
                return f"array {spec} should be {mine[spec.name]}"
        if missing := [name for name in mine if name not in theirs]:
            return f"array {missing[0]!r} is missing"
        return None if self == other else "the arrays are in another order"

    def views(self, buffer: memoryview | bytes | bytearray) -> dict[str, Array]:
        """The arrays inside a flat buffer of `nbytes` bytes, without copying."""
        return {
            spec.name: np.frombuffer(buffer, little_endian(spec.dtype), spec.size, offset).reshape(spec.shape)
            for spec, offset in zip(self.arrays, self.offsets, strict=True)
        }

    def __iter__(self) -> Iterator[ArraySpec]:
        return iter(self.arrays)


def little_endian(dtype: str) -> np.dtype[Any]:
    """The dtype as it travels."""
    return np.dtype(dtype).newbyteorder("<")


def pack(weights: Weights) -> memoryview:
    """Copy the arrays into one new flat buffer, in the order of `Manifest.of(weights)`."""
    manifest = Manifest.of(weights)
    buffer = np.zeros(manifest.nbytes, np.uint8).data
    for name, view in manifest.views(buffer).items():
        view[...] = weights[name]
    return buffer


def digest(weights: Weights) -> str:
    """SHA-256 over the manifest and the flat buffer, as hex: equal digests mean equal models, bit for bit."""
    manifest = Manifest.of(weights)
    state, position = hashlib.sha256(manifest.to_json().encode()), 0
    for spec, offset in zip(manifest, manifest.offsets, strict=True):
        state.update(bytes(offset - position))
        state.update(np.ascontiguousarray(weights[spec.name], little_endian(spec.dtype)).reshape(-1).data)
        position = offset + spec.nbytes
    return state.hexdigest()


def flat_digest(manifest: Manifest, buffer: bytes | bytearray | memoryview) -> str:
    """`digest` for a model that is already flat."""
    state = hashlib.sha256(manifest.to_json().encode())
    state.update(buffer)
    return state.hexdigest()


def add(model: Weights, change: Weights) -> dict[str, Array]:
    """`model + change`, array by array, in the model's dtypes; the sum is rounded once."""
    return {name: _sum(array, change[name]) for name, array in model.items()}


def _sum(one: Array, other: Array) -> Array:
    """Add in the wider dtype and round to the first one's, piece by piece, without a wide array in between."""
    return np.add(one, other, out=np.empty_like(one), dtype=np.result_type(one, other), casting="same_kind")


def difference(new: Weights, old: Weights) -> dict[str, Array]:
    """`new - old`, array by array: what a worker hands in."""
    return {name: np.subtract(new[name], old[name], dtype=old[name].dtype) for name in old}


def check_finite(weights: Weights, *, whose: str) -> None:
    """Refuse NaN and infinite values, naming the first array that has them."""
    for name, array in weights.items():
        with np.errstate(over="ignore", invalid="ignore"):
            total = array.sum(dtype=np.float64)
        if not np.isfinite(total) and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise UpdateError(
                f"{whose}: array {name!r} holds {bad} values that are not finite numbers (NaN or infinite); "
                "lower the learning rate or check the data"
            )
