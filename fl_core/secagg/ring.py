"""Updates as whole numbers modulo 2^16 or 2^32, so that masks hide them perfectly and sums come out exactly.

An element x of a tensor with the range 2^e becomes floor(x * weight / most_weight * levels / 2^e + u), u uniform in
[0, 1): the expectation is exact whatever u was. `levels` leaves room for the sign, the whole cohort and two bits more.
The dither u is public and follows from seed, round and worker (docs/decisions/0011): it hides nothing, the masks do,
and with it the same cohort gives the same model to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fl_core.errors import SpecError
from fl_core.secagg.encoding import digest
from fl_core.weights import Array, Manifest, Weights

SPARE_BITS = 3
"""The sign, and two bits of room beyond the largest sum."""

LEAST_LEVELS = 16
"""With fewer a worker's update is hardly more than its sign."""

BLOCK = 1 << 16

Doubles = npt.NDArray[np.float64]
Words = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Ring:
    """Whole numbers modulo 2^bits for sums of at most `members` updates of weights up to `most_weight`."""

    bits: Literal[16, 32]
    members: int
    most_weight: int

    def __post_init__(self) -> None:
        """Refuse a cohort that the ring has no room for."""
        if self.levels < LEAST_LEVELS:
            raise SpecError(
                f"spec.secureAggregation.bits: {self.bits} bits leave {self.levels} levels for each of {self.members} "
                f"workers, fewer than {LEAST_LEVELS}; use 32 bits, or a smaller spec.selection.perRound"
            )

    @property
    def levels(self) -> int:
        """The greatest magnitude that one worker's element may take."""
        return int(2 ** (self.bits - SPARE_BITS) // self.members)

    def encode(
        self, update: Weights, exponents: Sequence[int], *, weight: int, dither: np.random.Generator
    ) -> tuple[Words, int]:
        """The elements of all arrays, one after another, and how many of them had to be clipped."""
        manifest = Manifest.of(update)
        words = np.empty(sum(spec.size for spec in manifest), f"<i{self.bits // 8}")
        place = clipped = 0
        for spec, exponent in zip(manifest, exponents, strict=True):
            scale = weight * self.levels / self.most_weight * 2.0**-exponent
            most = -(-weight * self.levels // self.most_weight)
            values = np.ascontiguousarray(update[spec.name]).reshape(-1)
            for start in range(0, spec.size, BLOCK):
                part = values[start : start + BLOCK].astype(np.float64)
                part *= scale
                clipped += int(np.count_nonzero(np.abs(part) > most))
                np.clip(part, -most, most, out=part)
                part += dither.random(part.size)
                np.floor(part, out=part)
                words[place : place + part.size] = part
                place += part.size
        return words.view(f"<u{self.bits // 8}"), clipped

    def decode(
        self, words: Words, manifest: Manifest, exponents: Sequence[int], *, weight: int
    ) -> dict[str, Array]:
        """The weighted mean from a sum: float64 arrays under the manifest's names and shapes."""
        signed = words.view(f"<i{self.bits // 8}")
        mean: dict[str, Array] = {}
        place = 0
        for spec, exponent in zip(manifest, exponents, strict=True):
            step = 2.0**exponent / self.levels * self.most_weight / weight
            mean[spec.name] = (signed[place : place + spec.size] * step).reshape(spec.shape)
            place += spec.size
        return mean


def public_dither(seed: int, *, round: int, worker: int) -> np.random.Generator:
    """The dither of one worker's update in one round; the same in every attempt and every replay."""
    words = np.frombuffer(digest("dither", seed, round, worker), "<u4").tolist()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
