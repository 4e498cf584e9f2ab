"""Masks: a vector of whole numbers, in rings of 2^16, 2^32 and 2^64, and keystreams added to it.

A vector has a header of 64-bit numbers, a body of 16 or 32 bits, and a sentinel of 64 bits for each chunk: chunk 0 is
the header, chunks 1 and up are the body's, 256 KiB each. A plain sentinel is 1, and sums like everything else: if the
sum of n vectors does not have n in a chunk's sentinel, then that chunk's masks did not come off.

A mask is the keystream of AES-256 in counter mode, for each chunk from a start of its own, so that any chunk can be
masked alone: first the chunk's bytes, then its sentinel's. It goes into the same memory for each mask in turn, which
stays in the processor's cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fl_core.errors import ProtocolError, SpecError
from fl_core.secagg.keystream import SLACK, quickest

KEY_BYTES = 32
CHUNK_BYTES = 256 * 1024
WIDE = np.dtype("<u8")
"""The ring of the header and of the sentinels."""

Numbers = npt.NDArray[np.unsignedinteger[Any]]
Wide = npt.NDArray[np.uint64]


class Mask(NamedTuple):
    """A key of 32 bytes, used for the vectors of one session only, and whether its keystream is added or taken off."""

    key: bytes
    sign: Literal[1, -1]

    def __repr__(self) -> str:
        return f"Mask(sign={self.sign:+d})"


@dataclass(frozen=True)
class Layout:
    """How long a vector's parts are: `header` and `body` in elements, `bits` of one element of the body."""

    header: int
    body: int
    bits: Literal[16, 32]

    def __post_init__(self) -> None:
        """Refuse what no vector has."""
        if self.header < 0 or self.body < 0 or self.bits not in {16, 32}:
            raise SpecError(
                f"no vector has {self.header} + {self.body} elements of {self.bits} bits (16 or 32)"
            )

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The body's, little-endian as it travels."""
        return np.dtype(f"<u{self.bits // 8}")

    @property
    def chunk(self) -> int:
        """Elements of a whole chunk of the body; the last one may be shorter."""
        return CHUNK_BYTES // self.dtype.itemsize

    @property
    def chunks(self) -> int:
        """Chunks of the body; with the header there is one more, and so many sentinels."""
        return -(-self.body // self.chunk)

    @property
    def nbytes(self) -> int:
        """Bytes of a vector, sentinels included."""
        return (self.header + self.chunks + 1) * WIDE.itemsize + self.body * self.dtype.itemsize

    @cached_property
    def _sizes(self) -> tuple[tuple[str, np.dtype[Any], int], ...]:
        return (
            ("header", WIDE, self.header),
            ("body", self.dtype, self.body),
            ("sentinels", WIDE, self.chunks + 1),
        )

    def check(self, vector: Vector) -> None:
        """Refuse a vector of another layout."""
        for name, dtype, size in self._sizes:
            array = getattr(vector, name)
            if array.dtype != dtype or array.shape != (size,):
                raise ProtocolError(
                    f"the {name} of a vector: {array.dtype.name}{list(array.shape)}; "
                    f"it must be {dtype.name}{[size]}"
                )


@dataclass(frozen=True, eq=False, slots=True)
class Vector:
    """What is masked and summed, in place: `header`, `body`, and a sentinel for each chunk."""

    header: Wide
    body: Numbers
    sentinels: Wide

    @classmethod
    def zeros(cls, layout: Layout) -> Vector:
        """The sum of no vectors."""
        sentinels = np.zeros(layout.chunks + 1, WIDE)
        return cls(np.zeros(layout.header, WIDE), np.zeros(layout.body, layout.dtype), sentinels)

    @classmethod
    def of(cls, layout: Layout, header: Wide, body: Numbers) -> Vector:
        """A plain vector; it takes the arrays as they are, so masking it masks them."""
        vector = cls(header, body, np.ones(layout.chunks + 1, WIDE))
        layout.check(vector)
        return vector

    def add(self, other: Vector) -> None:
        """Add another vector of the same layout, in the rings, in place."""
        for mine, its in zip(self._parts, other._parts, strict=True):
            if mine.dtype != its.dtype or mine.shape != its.shape:
                raise ProtocolError(
                    f"{its.dtype.name}{list(its.shape)} cannot be added to {mine.dtype.name}{list(mine.shape)}"
                )
        for mine, its in zip(self._parts, other._parts, strict=True):
            np.add(mine, its, out=mine)

    @property
    def digest(self) -> bytes:
        """SHA-256 of its numbers as they travel: 32 bytes, which are as secret as the vector where few are possible."""
        hashed = hashlib.sha256()
        for part in self._parts:
            hashed.update(part.data)
        return hashed.digest()

    @property
    def _parts(self) -> tuple[Numbers, ...]:
        return self.header, self.body, self.sentinels


def chunks(vector: Vector, layout: Layout) -> Iterator[Numbers]:
    """Views of the header and of each chunk of the body, in the order of their sentinels."""
    yield vector.header
    for start in range(0, layout.body, layout.chunk):
        yield vector.body[start : start + layout.chunk]


def apply(vector: Vector, masks: Sequence[Mask], *, layout: Layout) -> None:
    """Add the keystreams of all masks to a vector, or take them off, in place; lets other threads run."""
    layout.check(vector)
    _check(masks)
    engine, longest = quickest(), max(map(_length, chunks(vector, layout)))
    streams = [(engine(key), np.add if sign > 0 else np.subtract, sign) for key, sign in masks]
    zeros, stream = memoryview(bytes(longest)), memoryview(bytearray(longest + SLACK))
    for number, chunk in enumerate(chunks(vector, layout)):
        size, sentinel = _length(chunk), int(vector.sentinels[number])
        last = slice(size - WIDE.itemsize, size)
        numbers = np.frombuffer(stream, chunk.dtype, chunk.size)
        for keystream, combine, sign in streams:
            keystream.fill(number, zeros[:size], stream)
            combine(chunk, numbers, out=chunk)
            sentinel += sign * int.from_bytes(stream[last], "little")
        vector.sentinels[number] = sentinel % 2**64


def _length(chunk: Numbers) -> int:
    """Bytes of keystream for a chunk and its sentinel."""
    return chunk.nbytes + WIDE.itemsize


def _check(masks: Sequence[Mask]) -> None:
    for key, sign in masks:
        if len(key) != KEY_BYTES or sign not in {1, -1}:
            raise ProtocolError(
                f"a mask has a key of {len(key)} bytes and the sign {sign}; it must have {KEY_BYTES} and 1 or -1"
            )
