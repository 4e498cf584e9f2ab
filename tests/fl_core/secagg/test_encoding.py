"""What is hashed and signed says one thing only."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg.encoding import VERSION, Part, digest, encode

parts = some.lists(some.binary(max_size=20) | some.text(max_size=10) | some.integers(0, 2**80), max_size=6)


def decoded(text: bytes) -> list[Part]:
    """Read an encoding back, as its description says."""
    assert text.startswith(VERSION)
    found: list[Part] = []
    place = len(VERSION)
    while place < len(text):
        kind, size = text[place : place + 1], int.from_bytes(text[place + 1 : place + 9], "big")
        content = text[place + 9 : place + 9 + size]
        assert len(content) == size
        found.append(
            {b"b": bytes, b"s": bytes.decode, b"i": lambda one: int.from_bytes(one, "big")}[kind](content)
        )
        place += 9 + size
    return found


@example(label="", parts=["ü" * 600, 600, "ü" * 600])  # too long to be kept
@given(label=some.text(max_size=10), parts=parts)
def test_an_encoding_can_be_read_back(label: str, parts: list[Part]) -> None:
    """Label and parts follow from the bytes, so no two lists have the same ones."""
    assert decoded(encode(label, *parts)) == [label, *parts]


def test_the_format_is_fixed() -> None:
    """A change of the format would be seen here."""
    assert encode("seal", b"\x00\xff", "ü", 0, 255, 256).hex() == (
        "666c6a6f62207365636167672031"
        "73" "0000000000000004" "7365616c"
        "62" "0000000000000002" "00ff"
        "73" "0000000000000002" "c3bc"
        "69" "0000000000000000"
        "69" "0000000000000001" "ff"
        "69" "0000000000000002" "0100"
    )  # fmt: skip


def test_a_digest_is_the_hash_of_the_encoding() -> None:
    """SHA-256 over the version, the label and the parts."""
    text = b"fljob secagg 1" + b"s" + bytes(7) + b"\x01" + b"a" + b"i" + bytes(7) + b"\x01" + b"\x07"
    assert digest("a", 7) == hashlib.sha256(text).digest()


def test_numbers_are_as_short_as_they_can_be() -> None:
    """At every change of length a number takes the bytes that it needs and no more."""
    for bits in range(1, 130):
        for number in (2**bits - 1, 2**bits):
            assert len(encode("", number)) - len(encode("", 0)) == -(-number.bit_length() // 8)


@pytest.mark.parametrize("number", [-1, -256, -(2**64)])
def test_negative_numbers_are_refused(number: int) -> None:
    """They have no encoding, and the message says which number it was."""
    with pytest.raises(ProtocolError, match=f"{number} has no encoding; it must be at least 0"):
        encode("a", number)


def test_truth_values_are_refused() -> None:
    """True would look like 1, whether or not that was encoded before."""
    encode("a", 1)
    with pytest.raises(TypeError, match="not a truth value"):
        encode("a", True)
