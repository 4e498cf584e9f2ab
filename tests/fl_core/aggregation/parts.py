"""Parts of a round, of which some may be anything, for rules that compare them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, permutations

import numpy as np
from hypothesis import strategies as st

from fl_core.aggregation import Robust
from fl_core.weights import Weights

ORDERS = 24
"""Orders that are tried of one list."""

VALUES = st.sampled_from((0.0, -0.0, 1.0, -1.0)) | st.floats(-1e6, 1e6, width=32)


def part(*values: float) -> Weights:
    """An update of two arrays, the second without a dimension."""
    return {"w": np.array(values[:-1], "f4").reshape(1, -1), "b": np.float32(values[-1]).reshape(())}


@st.composite
def parts(draw: st.DrawFn, *, least: int, most: int = 7) -> list[Weights]:
    """Updates of three elements each, ties and zeros of both signs among them."""
    rows = st.lists(VALUES, min_size=3, max_size=3)
    return [part(*row) for row in draw(st.lists(rows, min_size=least, max_size=most))]


def columns(given: Sequence[Weights]) -> list[list[float]]:
    """For each element its values over all parts."""
    return [list(map(float, column)) for column in zip(*map(flat, given), strict=True)]


def flat(one: Weights) -> list[float]:
    """All elements of an update."""
    return [float(value) for array in one.values() for value in np.asarray(array).reshape(-1)]


def results(rule: Robust, given: Sequence[Weights]) -> set[bytes]:
    """What the rule makes of many orders of the same parts, as bytes."""
    orders = islice(permutations(given), ORDERS)
    found = [rule.reduce(order) for order in (*orders, given[::-1])]
    return {b"".join(np.asarray(array, "f8").tobytes() for array in one.values()) for one in found}
