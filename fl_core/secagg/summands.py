"""What a session's vector means: one class for each purpose, used by both ends to encode, to decode and to name it.

`text` goes into the session's context, so that members who mean different things never sum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from fl_core.errors import MismatchError, UpdateError
from fl_core.metrics import Measurement, Measurements, Metric
from fl_core.secagg import ranges
from fl_core.secagg.masks import Layout, Vector
from fl_core.secagg.ring import Ring
from fl_core.weights import Array, Manifest, Weights

FRACTION_BITS = 20
"""Resolution of metrics: they are summed as multiples of 2^-20."""

METRIC_LIMIT = 2.0**42
"""Of a metric's element over all workers; beyond, its multiples do not fit into 64 bits."""

MOST_ELEMENTS = 1 << 20
"""Of all metrics of a sum together."""


@dataclass(frozen=True)
class Schema:
    """Names, kinds and options of the metrics that the members measured: public, without a value."""

    text: str = "{}"

    @classmethod
    def of(cls, measured: Measurements) -> Schema:
        """Describe these measurements."""
        rows = {name: {**one.to_json(), "vector": []} for name, one in measured.items()}
        return cls(json.dumps(rows, sort_keys=True, separators=(",", ":")))

    @property
    def names(self) -> list[str]:
        """The metrics."""
        return list(self._empty)

    @cached_property
    def length(self) -> int:
        """Number of elements of all vectors together."""
        return sum(one.metric.length for one in self._empty.values())

    def encode(self, measured: Measurements, *, members: int) -> ranges.Counts:
        """All vectors, one after another, as multiples of the resolution."""
        parts = [measured[name].vector for name in self._empty]
        values = np.concatenate([np.zeros(0), *parts])
        if not (np.abs(values) < METRIC_LIMIT / members).all():  # NaN too
            raise UpdateError(
                f"a metric's vector holds a number beyond {METRIC_LIMIT / members:.3g}; no more can be summed"
            )
        return np.rint(values * 2.0**FRACTION_BITS).astype(np.int64)

    def decode(self, total: ranges.Counts) -> dict[str, Measurement]:
        """The summed measurements by name."""
        values = total / 2.0**FRACTION_BITS
        found, place = {}, 0
        for name, one in self._empty.items():
            found[name] = Measurement(one.metric, values[place : place + one.metric.length])
            place += one.metric.length
        return found

    @cached_property
    def _empty(self) -> Mapping[str, Measurement]:
        try:
            rows: dict[str, Any] = json.loads(self.text)
            found = {name: Measurement.zero(row) for name, row in sorted(rows.items())}
            lengths: list[Any] = [one.metric.length for one in found.values()]
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MismatchError(f"metrics are named as a JSON object of kind and options: {error}") from error
        if not all(isinstance(one, int) and one > 0 for one in lengths) or sum(lengths) > MOST_ELEMENTS:
            # To print a length may be an error of its own: a whole number has at most so many digits as text.
            raise MismatchError(
                f"metrics with other vectors than can be summed: of 1 element or more, and {MOST_ELEMENTS} of all"
            )
        for name, one in found.items():
            _check_value(name, one.metric)
        return found


@dataclass(frozen=True)
class RangeSum:
    """In which ranges the arrays of the members' updates lie."""

    tells_ranges: ClassVar[bool] = True

    manifest: Manifest

    @property
    def layout(self) -> Layout:
        """Votes only."""
        return Layout(header=len(self.manifest.arrays) * ranges.BUCKETS, body=0, bits=32)

    @property
    def text(self) -> str:
        """The meaning of the elements."""
        return f"range {self.manifest.digest}"

    def encode(self, update: Weights) -> Vector:
        """One member's votes."""
        return _wide(self.layout, ranges.votes(update))

    def decode(self, total: Vector) -> ranges.Exponents:
        """The exponents that hold everybody's update."""
        return ranges.learned(total.header.view(np.int64))


@dataclass(frozen=True)
class Summed:
    """What an opened sum of updates says; the arrays and numbers are of all members together."""

    weight: int
    examples: int
    clipped: int
    exponents: ranges.Exponents
    metrics: Mapping[str, Measurement]
    update: Mapping[str, Array] = field(repr=False)
    votes: int = 0

    def mean(self) -> Mapping[str, Array]:
        """The weighted mean as float64 arrays under the manifest's names and shapes."""
        return self.update


@dataclass(frozen=True)
class UpdateSum:
    """The updates themselves, with their weights, examples, metrics, and what the next ranges follow from.

    Where the ranges were just voted for nothing of theirs is counted: votes and counts of other lists of members would
    give away the difference.
    """

    ring: Ring
    manifest: Manifest
    exponents: ranges.Exponents
    schema: Schema
    counted: bool = True

    @property
    def tells_ranges(self) -> bool:
        """Whether more than the updates' sum is told of the ranges in which they lie."""
        return self.counted

    @cached_property
    def layout(self) -> Layout:
        """Three counts, two for each array, the metrics; then the elements of all arrays."""
        header = _COUNTS + 2 * len(self.manifest.arrays) + self.schema.length
        return Layout(header=header, body=sum(spec.size for spec in self.manifest), bits=self.ring.bits)

    @property
    def text(self) -> str:
        """The meaning of the elements."""
        ring = f"{self.ring.bits} {self.ring.members} {self.ring.most_weight}"
        counted = "" if self.counted else " uncounted"
        return f"update {self.manifest.digest} {ring} {list(self.exponents)}{counted} {self.schema.text}"

    def encode(
        self,
        update: Weights,
        *,
        weight: int,
        examples: int,
        metrics: Measurements,
        dither: np.random.Generator,
    ) -> Vector:
        """One member's update; `weight` is cut at the ring's greatest."""
        _check(update, self.manifest)
        strain = ranges.strain(update, self.exponents)  # refuses what no range holds
        weight = min(weight, self.ring.most_weight)
        words, clipped = self.ring.encode(update, self.exponents, weight=weight, dither=dither)
        values = self.schema.encode(metrics, members=self.ring.members)
        if not self.counted:
            strain, clipped = np.zeros_like(strain), 0
        header = np.concatenate([np.array([weight, examples, clipped], np.int64), strain, values])
        return Vector.of(self.layout, header.view(np.uint64), words)

    def decode(self, total: Vector, *, members: int) -> Summed:
        """What so many members have in sum; counts that cannot be, which one member can make, are the nearest that can.

        Raises UpdateError where the weight cannot be, without which there is no mean.
        """
        header = total.header.view(np.int64)
        weight, examples, clipped = header[:_COUNTS].tolist()
        if not 0 < weight <= members * self.ring.most_weight:
            raise UpdateError(
                f"{members} workers sum up to the weight {weight}; expected 1 to {members * self.ring.most_weight}"
            )
        arrays = 2 * len(self.manifest.arrays)
        strain, values = header[_COUNTS : _COUNTS + arrays], header[_COUNTS + arrays :]
        return Summed(
            weight=weight,
            examples=max(examples, 0),
            clipped=min(max(clipped, 0), members * self.layout.body) if self.counted else 0,
            exponents=ranges.moved(self.exponents, strain, members=members)
            if self.counted
            else self.exponents,
            metrics=self.schema.decode(values),
            update=self.ring.decode(total.body, self.manifest, self.exponents, weight=weight),
        )


@dataclass(frozen=True)
class WholeSum:
    """Updates that are whole numbers already, as a mechanism of differential privacy made them.

    Each weighs 1. Neither examples nor metrics go with them, for those have no noise. `release` says what a unit is.
    Where the clip norm moves, `votes` on it are counted in the same sum, and with the mechanism's noise too.
    """

    tells_ranges: ClassVar[bool] = False

    bits: Literal[16, 32]
    manifest: Manifest
    release: str
    votes: bool = False

    @cached_property
    def layout(self) -> Layout:
        """The votes, if there are any; then the elements of all arrays."""
        return Layout(header=int(self.votes), body=self.manifest.size, bits=self.bits)

    @property
    def text(self) -> str:
        """The meaning of the elements."""
        return f"whole {self.manifest.digest} {self.bits} {self.release}{' votes' if self.votes else ''}"

    def encode(self, update: Weights, *, vote: int = 0) -> Vector:
        """One member's update and vote, modulo the ring: noise may be larger than any sum that is right."""
        flat = [update[spec.name].reshape(-1).astype(np.int64, casting="same_kind") for spec in self.manifest]
        words = np.concatenate([np.empty(0, np.int64), *flat]).astype(self.layout.dtype)
        header = np.array([vote] if self.votes else [], np.int64)
        return Vector.of(self.layout, header.view(np.uint64), words)

    def decode(self, total: Vector, *, members: int) -> Summed:
        """What so many members have in sum; their mean."""
        signed = total.body.view(f"<i{self.bits // 8}")
        mean: dict[str, Array] = {}
        place = 0
        for spec in self.manifest:
            mean[spec.name] = (signed[place : place + spec.size] / members).reshape(spec.shape)
            place += spec.size
        votes = int(total.header.view(np.int64).sum())
        return Summed(
            weight=members, examples=0, clipped=0, exponents=(), metrics={}, update=mean, votes=votes
        )


@dataclass(frozen=True)
class MeasureSum:
    """Measurements of the new model by so many members at most."""

    tells_ranges: ClassVar[bool] = False

    schema: Schema
    members: int

    @property
    def layout(self) -> Layout:
        """The metrics only."""
        return Layout(header=self.schema.length, body=0, bits=32)

    @property
    def text(self) -> str:
        """The meaning of the elements."""
        return f"measure {self.members} {self.schema.text}"

    def encode(self, metrics: Measurements) -> Vector:
        """One member's measurements."""
        return _wide(self.layout, self.schema.encode(metrics, members=self.members))

    def decode(self, total: Vector) -> dict[str, Measurement]:
        """The global measurements."""
        return self.schema.decode(total.header.view(np.int64))


Summand = RangeSum | UpdateSum | WholeSum | MeasureSum

_COUNTS = 3


def _check(update: Weights, manifest: Manifest) -> None:
    """Refuse an update whose elements would be added to those of other arrays."""
    given, expected = ([(one.name, one.shape) for one in each] for each in (Manifest.of(update), manifest))
    if given != expected:
        raise UpdateError(f"the update has the arrays {given}; expected {expected}")


def _check_value(name: str, metric: Metric) -> None:
    """Refuse a metric whose options let no sum have a value."""
    try:
        metric.value(np.zeros(metric.length))
    except (ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise MismatchError(f"the metric {name!r} has no value with the options {metric}: {error}") from error


def _wide(layout: Layout, header: ranges.Counts) -> Vector:
    """A vector without a body."""
    return Vector.of(layout, header.view(np.uint64), np.empty(0, layout.dtype))
