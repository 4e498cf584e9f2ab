"""Masked vectors against AES block by block and sums in whole numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError, SpecError
from fl_core.secagg.masks import CHUNK_BYTES, Layout, Mask, Vector, apply, chunks
from tests.fl_core.secagg.slow import keystream

KEYS = [hashlib.sha256(bytes([number])).digest() for number in range(8)]
SMALL = Layout(header=3, body=5, bits=16)

layouts = some.builds(
    Layout, header=some.integers(0, 20), body=some.integers(0, 300), bits=some.sampled_from([16, 32])
)
masks = some.lists(some.builds(Mask, some.sampled_from(KEYS), some.sampled_from([1, -1])), max_size=4)


def vector_of(layout: Layout, seed: int = 0) -> Vector:
    random = np.random.default_rng(seed)
    header = random.integers(0, 2**64, layout.header, "u8", endpoint=False)
    return Vector.of(layout, header, random.integers(0, 2**layout.bits, layout.body, layout.dtype))


def numbers(vector: Vector) -> tuple[list[int], list[int], list[int]]:
    return vector.header.tolist(), vector.body.tolist(), vector.sentinels.tolist()


def masked_by_hand(vector: Vector, masks: Sequence[Mask], layout: Layout) -> tuple[list[int], ...]:
    """The same in whole numbers, chunk by chunk."""
    header, body, sentinels = numbers(vector)
    per_chunk = CHUNK_BYTES * 8 // layout.bits
    pieces = [header, *(body[place : place + per_chunk] for place in range(0, len(body), per_chunk))]
    for key, sign in masks:
        for chunk, piece in enumerate(pieces):
            width = 8 if chunk == 0 else layout.bits // 8
            stream = keystream(key, chunk, len(piece) * width + 8)
            for place, one in enumerate(piece):
                drawn = int.from_bytes(stream[place * width : (place + 1) * width], "little")
                piece[place] = (one + sign * drawn) % 2 ** (8 * width)
            sentinels[chunk] = (sentinels[chunk] + sign * int.from_bytes(stream[-8:], "little")) % 2**64
    return pieces[0], [one for piece in pieces[1:] for one in piece], sentinels


@settings(deadline=None)
@given(layout=layouts, masks=masks)
def test_masks_are_those_of_single_blocks(layout: Layout, masks: list[Mask]) -> None:
    """Any small layout, odd lengths and empty parts among them, is masked as by hand."""
    vector = vector_of(layout)
    by_hand = masked_by_hand(vector, masks, layout)
    apply(vector, masks, layout=layout)
    assert numbers(vector) == by_hand


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("more", [-1, 0, 1, 5])
def test_chunks_have_keystreams_of_their_own(bits: Any, more: int) -> None:
    """Around the end of a chunk, whatever the last one's length, masks are those by hand."""
    layout = Layout(header=2, body=CHUNK_BYTES * 8 // bits + more, bits=bits)
    vector, used = vector_of(layout), [Mask(KEYS[0], 1), Mask(KEYS[1], -1)]
    by_hand = masked_by_hand(vector, used, layout)
    apply(vector, used, layout=layout)
    assert numbers(vector) == by_hand
    assert len(by_hand[2]) == layout.chunks + 1 == 2 + (more > 0)


def test_a_header_may_be_longer_than_a_chunk() -> None:
    """The header is one chunk, however long it is."""
    layout = Layout(header=CHUNK_BYTES // 8 + 3, body=1, bits=32)
    vector = vector_of(layout)
    by_hand = masked_by_hand(vector, [Mask(KEYS[0], 1)], layout)
    apply(vector, [Mask(KEYS[0], 1)], layout=layout)
    assert numbers(vector) == by_hand


@pytest.mark.parametrize("chunk", [0, 1, 2**32, 2**64 - 1])
def test_the_keystream_is_that_of_counter_mode(chunk: int) -> None:
    """What is built by hand here is AES-256-CTR from the block nonce || 00000002."""
    start = bytes(4) + chunk.to_bytes(8, "big") + (2).to_bytes(4, "big")
    counter = Cipher(AES256(KEYS[0]), CTR(start)).encryptor()
    assert keystream(KEYS[0], chunk, CHUNK_BYTES + 8) == counter.update(bytes(CHUNK_BYTES + 8))


def test_the_format_is_fixed() -> None:
    """A change of the format would be seen here."""
    vector = Vector.of(SMALL, np.arange(3, dtype="<u8"), np.arange(5, dtype="<u2"))
    apply(vector, [Mask(bytes(range(32)), 1)], layout=SMALL)
    assert vector.header.tobytes().hex() == "0ebcb5deb52c83bd09a8a935182c9199d44356532881602f"
    assert vector.body.tobytes().hex() == "15d6c0fc46f4331e122e"
    assert vector.sentinels.tobytes().hex() == "819eb383c5ff5d565239eca63af7159f"


@settings(deadline=None)
@given(layout=layouts, used=masks, seed=some.integers(0, 99))
def test_a_mask_comes_off(layout: Layout, used: list[Mask], seed: int) -> None:
    """The opposite signs, in any order, give the plain vector back."""
    vector = vector_of(layout, seed)
    plain = numbers(vector)
    apply(vector, used, layout=layout)
    apply(vector, [Mask(key, 1 if sign < 0 else -1) for key, sign in reversed(used)], layout=layout)
    assert numbers(vector) == plain


@pytest.mark.parametrize("bits", [16, 32])
def test_every_value_of_the_ring_survives(bits: Any) -> None:
    """All values of 16 bits, and the ends of each ring, come back from under a mask."""
    body = np.concatenate([np.arange(2**16), 2**bits - 1 - np.arange(2**16)]).astype(f"<u{bits // 8}")
    layout = Layout(header=4, body=len(body), bits=bits)
    header = np.array([0, 1, 2**63, 2**64 - 1], "<u8")
    vector = Vector.of(layout, header.copy(), body.copy())
    apply(vector, [Mask(KEYS[0], 1), Mask(KEYS[1], -1)], layout=layout)
    assert (vector.body != body).mean() > 0.99
    apply(vector, [Mask(KEYS[1], 1), Mask(KEYS[0], -1)], layout=layout)
    assert np.array_equal(vector.body, body)
    assert np.array_equal(vector.header, header)


def test_the_masks_of_pairs_cancel() -> None:
    """In the sum of all members each pair's mask is once added and once taken off, and sentinels count the members."""
    layout, members = Layout(header=2, body=100, bits=32), range(4)
    keys = dict(zip(combinations(members, 2), KEYS, strict=False))
    total, plain = Vector.zeros(layout), Vector.zeros(layout)
    for member in members:
        vector = vector_of(layout, member)
        plain.add(vector)
        apply(
            vector,
            [Mask(key, 1 if member == pair[0] else -1) for pair, key in keys.items() if member in pair],
            layout=layout,
        )
        total.add(vector)
    assert numbers(total) == numbers(plain)
    assert total.sentinels.tolist() == [4, 4]


def test_a_mask_that_stays_shows_in_every_chunk() -> None:
    """If one mask is forgotten no sentinel counts the members, not even that of an empty header."""
    layout = Layout(header=0, body=CHUNK_BYTES, bits=16)
    vector = vector_of(layout)
    apply(vector, [Mask(KEYS[0], 1)], layout=layout)
    assert len(vector.sentinels) == 3
    assert (vector.sentinels != 1).all()


def test_sums_wrap_around() -> None:
    """Each part is added in its own ring, sentinels included."""
    layout = Layout(header=1, body=1, bits=16)
    one = Vector(np.array([2**64 - 1], "<u8"), np.array([2**16 - 1], "<u2"), np.array([2**64 - 1, 1], "<u8"))
    total = Vector.of(layout, np.array([3], "<u8"), np.array([3], "<u2"))
    total.add(one)
    assert numbers(total) == ([2], [2], [0, 2])


def test_a_plain_vector_is_masked_where_it_lies() -> None:
    """`of` takes the arrays as they are, so no second copy of a model is made."""
    header, body = np.zeros(3, "<u8"), np.zeros(5, "<u2")
    vector = Vector.of(SMALL, header, body)
    apply(vector, [Mask(KEYS[0], 1)], layout=SMALL)
    assert header.any()
    assert body.any()


@settings(deadline=None)
@given(layout=layouts)
def test_a_layout_tells_the_bytes(layout: Layout) -> None:
    """Its number of bytes is that of the vector's parts, and its chunks are the vector's."""
    vector = Vector.zeros(layout)
    assert layout.nbytes == vector.header.nbytes + vector.body.nbytes + vector.sentinels.nbytes
    assert len(list(chunks(vector, layout))) == layout.chunks + 1 == len(vector.sentinels)


@pytest.mark.parametrize(("header", "body", "bits"), [(-1, 0, 16), (0, -1, 16), (0, 0, 8), (0, 0, 64)])
def test_layouts_of_no_vector_are_refused(header: int, body: int, bits: Any) -> None:
    """Negative lengths and other rings have no vectors."""
    with pytest.raises(SpecError, match=f"{header} \\+ {body} elements of {bits} bits"):
        Layout(header, body, bits)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("header", np.zeros(4, "<u8")),
        ("header", np.zeros(3, "<i8")),
        ("body", np.zeros(4, "<u2")),
        ("body", np.zeros(5, "<u4")),
        ("body", np.zeros((5, 1), "<u2")),
        ("sentinels", np.zeros(1, "<u8")),
        ("sentinels", np.zeros(3, "<u8")),
    ],
)
def test_vectors_of_another_layout_are_refused(part: str, wrong: Any) -> None:
    """Neither masked nor added, and nothing changes: the message names the part, what it is and what it must be."""
    parts = {"header": np.zeros(3, "<u8"), "body": np.zeros(5, "<u2"), "sentinels": np.ones(2, "<u8")}
    vector, total = Vector(**{**parts, part: wrong}), Vector.zeros(SMALL)
    with pytest.raises(ProtocolError, match=f"the {part} of a vector: .* it must be"):
        apply(vector, [Mask(KEYS[0], 1)], layout=SMALL)
    with pytest.raises(ProtocolError, match="cannot be added to"):
        total.add(vector)
    assert not vector.header.any()
    assert numbers(total) == numbers(Vector.zeros(SMALL))


@pytest.mark.parametrize(("size", "sign"), [(16, 1), (31, 1), (33, -1), (32, 0), (32, 2)])
def test_wrong_masks_are_refused(size: int, sign: Any) -> None:
    """Short keys and other signs are refused before anything is masked, even as the last of several."""
    vector = Vector.zeros(SMALL)
    with pytest.raises(ProtocolError, match=f"a key of {size} bytes and the sign {sign}"):
        apply(vector, [Mask(KEYS[0], 1), Mask(bytes(size), sign)], layout=SMALL)
    assert numbers(vector) == numbers(Vector.zeros(SMALL))


def test_a_key_is_never_printed() -> None:
    """The text of a mask shows its sign only."""
    assert repr(Mask(KEYS[0], -1)) == "Mask(sign=-1)"
