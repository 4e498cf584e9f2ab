"""The exact weighted sum of a round's updates.

Every product weight * value is taken in float64 and rounded once to a multiple of 2^-40; from there on
the sum is one of whole numbers, so it does not depend, to the bit, on the order in which updates come.
Products too large for one 64-bit limb are split, by their value alone, into a high and a low part; the
high limb exists only where such a product has been seen. Memory: 8 bytes per element, 16 with a high limb.
See docs/decisions/0003.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fl_core.errors import UpdateError
from fl_core.weights import Array, Manifest, Run, little_endian

FRACTION_BITS = 40
"""Resolution of the sum: products are rounded to multiples of 2^-40."""

MOST_WEIGHT = 2**40
"""The largest weight of one update."""

BLOCK = 1 << 15
"""Elements per step: the float64 scratch of one step stays in the processor's cache."""

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Chunks = Iterable[tuple[int, memoryview]]
"""Stretches of a flat buffer as (offset in bytes, data), cut at whole elements."""


class ExactSum:
    """Sum of weight * update over at most `capacity` updates of one manifest."""

    def __init__(self, manifest: Manifest, *, capacity: int) -> None:
        self.manifest = manifest
        self.weight = 0
        self.count = 0
        self._capacity = capacity
        head_room = capacity.bit_length()
        self._unit = 2.0 ** (62 - FRACTION_BITS - head_room)
        self.limit = self._unit * 2.0 ** (62 - head_room)
        self._low = [np.zeros(run.size, np.int64) for run in manifest.runs]
        self._high: list[Integers | None] = [None] * len(manifest.runs)

    def check(self, *, weight: int, largest: float) -> None:
        """Refuse an update that this sum cannot take: `largest` is the greatest magnitude in it."""
        if self.count >= self._capacity:
            raise UpdateError(f"this round takes at most {self._capacity} updates")
        if not 0 < weight <= MOST_WEIGHT:
            raise UpdateError(
                f"an update's weight is {weight}; it must be from 1 to {MOST_WEIGHT}",
                short="its number of examples gives no weight",
            )
        if not largest * weight < self.limit:  # NaN too
            raise UpdateError(
                f"an update holds values up to {largest:.3g}, more than {self.limit / weight:.3g}: "
                "training has diverged; lower the learning rate",
                short="it holds values above the bound",
            )

    def add(self, chunks: Chunks, *, weight: int, largest: float = math.inf) -> None:
        """Add one whole update that `check` and `magnitude` have let pass: nothing can fail half way.

        `largest`, as `check` was told, spares the search for products too large for the low limb.
        """
        small = largest * weight < self._unit / 4
        for offset, data in chunks:
            for number, run in enumerate(self.manifest.runs):
                place, values = stretch(run, offset, data)
                if values.size:
                    self._add_values(number, place, values, weight=weight, small=small)
        self.weight += weight
        self.count += 1

    def mean(self) -> dict[str, Array]:
        """The weighted mean as float64 arrays under the manifest's names and shapes."""
        if not self.count:
            raise UpdateError("a mean needs at least one update")
        means = [self._mean_of(number) for number in range(len(self.manifest.runs))]
        result = {}
        for spec, (run, place) in zip(self.manifest.arrays, self.manifest.places, strict=True):
            result[spec.name] = means[run][place : place + spec.size].reshape(spec.shape)
        return result

    def _mean_of(self, number: int) -> Doubles:
        high = self._high[number]
        if high is None:  # the same to the bit as below: to scale by a power of two rounds nothing
            return np.divide(self._low[number], self.weight * 2.0**FRACTION_BITS)
        total = self._low[number].astype(np.float64)
        total *= 2.0**-FRACTION_BITS
        total += high.astype(np.float64) * self._unit
        total /= self.weight
        return total

    def _add_values(self, number: int, place: int, values: Array, *, weight: int, small: bool) -> None:
        scale, unit = weight * 2.0**FRACTION_BITS, self._unit * 2.0**FRACTION_BITS
        scaled, whole = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.int64)
        for start in range(0, values.size, BLOCK):
            part = values[start : start + BLOCK]
            product, integers = scaled[: part.size], whole[: part.size]
            here = slice(place + start, place + start + part.size)
            np.multiply(part, scale, out=product, dtype=np.float64)
            if not small and (product.max() >= unit / 2 or product.min() <= -unit / 2):
                self._split(number, here, product)
            np.rint(product, out=product)
            np.copyto(integers, product, casting="unsafe")
            low = self._low[number][here]
            np.add(low, integers, out=low)

    def _split(self, number: int, here: slice, product: Doubles) -> None:
        """Move the multiples of the unit into the high limb; what each element gives depends on it alone."""
        high = self._high[number]
        if high is None:
            high = self._high[number] = np.zeros_like(self._low[number])
        unit = self._unit * 2.0**FRACTION_BITS
        units = np.rint(product / unit)
        high[here] += units.astype(np.int64)
        product -= units * unit


def stretch(run: Run, offset: int, data: memoryview) -> tuple[int, Array]:
    """What a chunk of the flat buffer holds of a run: where in the run it starts, and the elements."""
    dtype = little_endian(run.dtype)
    start, end = max(run.offset, offset), min(run.end, offset + len(data))
    if end <= start:
        return 0, np.empty(0, dtype)
    values = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, start - offset)
    return (start - run.offset) // dtype.itemsize, values


def magnitude(manifest: Manifest, offset: int, data: memoryview) -> float:
    """The greatest magnitude in a chunk of a flat buffer; refuses NaN and infinite values."""
    largest = 0.0
    for run in manifest.runs:
        _, values = stretch(run, offset, data)
        if values.size:
            largest = float(np.maximum(largest, np.maximum(values.max(), -values.min())))
    if not np.isfinite(largest):
        raise UpdateError(
            f"an update holds values that are not finite numbers (NaN or infinite) between byte {offset} and "
            f"{offset + len(data)}; lower the learning rate or check the data",
            short="it holds values that are not finite numbers (NaN or infinite)",
        )
    return largest
