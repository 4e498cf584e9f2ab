"""A masked vector as the bytes that travel: header, sentinels, body, so that each element is aligned to its size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fl_core.errors import ProtocolError
from fl_core.secagg.masks import Layout, Vector

ALIGNMENT = 8
"""Chunks of the bytes start at multiples of this, so that no element is cut."""


def pack(vector: Vector) -> memoryview:
    """All bytes of a vector."""
    parts = (vector.header, vector.sentinels, vector.body)
    return np.concatenate([part.view(np.uint8) for part in parts]).data


def add(total: Vector, layout: Layout, pieces: Iterable[tuple[int, memoryview]]) -> None:
    """Add a whole vector to the total, in its rings; the pieces are (offset in bytes, bytes), cut at `ALIGNMENT`."""
    parts = (total.header, total.sentinels, total.body)
    starts = np.cumsum([0, *(part.nbytes for part in parts)]).tolist()
    for offset, data in pieces:
        end = offset + len(data)
        if offset % ALIGNMENT or end > layout.nbytes or (end % ALIGNMENT and end < layout.nbytes):
            raise ProtocolError(
                f"{len(data)} bytes at byte {offset} are no piece of a vector of {layout.nbytes} bytes"
            )
        for part, start in zip(parts, starts, strict=False):
            first, last = max(start, offset), min(start + part.nbytes, offset + len(data))
            if first < last:
                values = np.frombuffer(data, part.dtype, (last - first) // part.itemsize, first - offset)
                here = part[(first - start) // part.itemsize :][: values.size]
                np.add(here, values, out=here)
