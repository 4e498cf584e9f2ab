"""Masked vectors as bytes: however they are cut, the sum is that of whole vectors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg.flat import ALIGNMENT, add, pack
from fl_core.secagg.masks import CHUNK_BYTES, Layout, Vector
from tests.fl_core.secagg.cast import plain, same, total_of

layouts = some.builds(
    Layout, header=some.integers(0, 9), body=some.integers(0, 99), bits=some.sampled_from([16, 32])
)


@settings(deadline=None)
@given(layout=layouts, data=some.data())
def test_pieces_add_up_to_the_vector(layout: Layout, data: Any) -> None:
    """Cut anywhere at the alignment, in any order, over the ends of header, sentinels and body."""
    vectors = [plain(layout, seed) for seed in range(3)]
    total = Vector.zeros(layout)
    for vector in vectors:
        packed = pack(vector)
        assert len(packed) == layout.nbytes
        places = data.draw(some.sets(some.integers(0, len(packed) // ALIGNMENT)))
        cuts = sorted({0, len(packed), *(ALIGNMENT * place for place in places)})
        pieces = [(start, packed[start:end]) for start, end in pairwise(cuts)]
        add(total, layout, data.draw(some.permutations(pieces)))
    assert same(total, total_of(layout, vectors))


@pytest.mark.parametrize("bits", [16, 32])
def test_a_vector_of_several_chunks_adds_up(bits: Any) -> None:
    """Pieces of a file's size, which fit no chunk of the masks."""
    layout = Layout(header=7, body=3 * CHUNK_BYTES * 8 // bits + 5, bits=bits)
    vector, total = plain(layout), Vector.zeros(layout)
    packed, size = pack(vector), 100_000
    add(total, layout, ((start, packed[start : start + size]) for start in range(0, len(packed), size)))
    assert same(total, vector)


@pytest.mark.parametrize(
    ("offset", "size"), [(4, 8), (1, 1), (0, 4), (8, 12), (0, 100), (64, 8), (2**40, 8)], ids=str
)
def test_pieces_that_no_vector_has_are_refused(offset: int, size: int) -> None:
    """Off the alignment, cut inside an element, or beyond the end: nothing is added."""
    layout = Layout(header=3, body=5, bits=32)  # 3 * 8 + 2 * 8 + 5 * 4 = 60 bytes
    total = Vector.zeros(layout)
    with pytest.raises(ProtocolError, match=f"{size} bytes at byte {offset} are no piece of a vector of 60"):
        add(total, layout, [(offset, memoryview(bytes([255]) * size))])
    assert same(total, Vector.zeros(layout))


def test_the_last_piece_may_be_short() -> None:
    """A body of odd length ends where it ends."""
    layout = Layout(header=0, body=3, bits=16)
    vector, total = plain(layout), Vector.zeros(layout)
    packed = pack(vector)
    add(total, layout, [(0, packed[:16]), (16, packed[16:])])
    assert same(total, vector)


def test_nothing_is_copied_wrong_at_the_ends_of_the_rings() -> None:
    """The greatest numbers wrap around as whole vectors do."""
    layout = Layout(header=2, body=4, bits=16)
    ones = Vector.of(layout, np.full(2, 2**64 - 1, "<u8"), np.full(4, 2**16 - 1, "<u2"))
    total = Vector.zeros(layout)
    for _ in range(3):
        add(total, layout, [(0, pack(ones))])
    assert set(total.header.tolist()) == {2**64 - 3}
    assert set(total.body.tolist()) == {2**16 - 3}
