"""Sealed texts open only whole, under their key, about their matter."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg.sealing import TAG_BYTES, seal, unseal

KEY = bytes(range(32))
texts = some.binary(max_size=100)


def times(one: int, other: int) -> int:
    """Product in the field of GCM (NIST SP 800-38D, section 6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (0xE1 << 120 if other & 1 else 0)
    return product


def padded(text: bytes) -> bytes:
    return text + bytes(-len(text) % 16)


def sealed_by_hand(key: bytes, text: bytes, about: bytes) -> bytes:
    """AES-GCM under the nonce zero, from single blocks of AES."""

    def block(count: int) -> int:
        cipher = Cipher(AES256(key), ECB())  # noqa: S305 - one block, to build the mode by hand
        return int.from_bytes(cipher.encryptor().update(count.to_bytes(16, "big")), "big")

    stream = b"".join(block(2 + place).to_bytes(16, "big") for place in range(-(-len(text) // 16)))
    hidden = bytes(one ^ other for one, other in zip(text, stream, strict=False))
    lengths = (len(about) * 8).to_bytes(8, "big") + (len(hidden) * 8).to_bytes(8, "big")
    hashed, whole = 0, padded(about) + padded(hidden) + lengths
    for start in range(0, len(whole), 16):
        hashed = times(hashed ^ int.from_bytes(whole[start : start + 16], "big"), block(0))
    return hidden + (hashed ^ block(1)).to_bytes(16, "big")


@settings(deadline=None)
@given(key=some.binary(min_size=32, max_size=32), text=texts, about=texts)
def test_a_sealed_text_is_that_of_the_standard(key: bytes, text: bytes, about: bytes) -> None:
    """It is what AES-GCM by hand gives, and it opens."""
    sealed = seal(key, text, about=about)
    assert sealed == sealed_by_hand(key, text, about)
    assert len(sealed) == len(text) + TAG_BYTES
    assert unseal(key, sealed, about=about) == text


def test_the_format_is_fixed() -> None:
    """A change of the format would be seen here."""
    assert seal(KEY, b"a share", about=b"session").hex() == "6f9cc6b6d45ee679f767ca1dd604098cce663550059b64"


@settings(deadline=None)
@given(text=texts, bit=some.integers(min_value=0))
def test_any_altered_bit_is_seen(text: bytes, bit: int) -> None:
    """A text with one bit changed does not open."""
    sealed = bytearray(seal(KEY, text, about=b"session"))
    bit %= len(sealed) * 8
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError, match=f"text of {len(sealed)} bytes does not open"):
        unseal(KEY, bytes(sealed), about=b"session")


@settings(deadline=None)
@given(text=texts, size=some.integers(min_value=0, max_value=115))
def test_a_cut_text_does_not_open(text: bytes, size: int) -> None:
    """Neither does one of which the end is missing, down to nothing."""
    sealed = seal(KEY, text, about=b"")
    with pytest.raises(ProtocolError, match="does not open"):
        unseal(KEY, sealed[: min(size, len(sealed) - 1)], about=b"")


def test_a_text_belongs_to_its_key_and_its_matter() -> None:
    """Under another key, or about something else, it does not open."""
    sealed = seal(KEY, b"a share", about=b"session")
    with pytest.raises(ProtocolError, match="under another key"):
        unseal(bytes(32), sealed, about=b"session")
    with pytest.raises(ProtocolError, match="about something else"):
        unseal(KEY, sealed, about=b"another session")


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_keys_have_32_bytes(size: int) -> None:
    """Weaker variants of AES are refused."""
    for use in (seal, unseal):
        with pytest.raises(ProtocolError, match=f"has {size} bytes; it must have 32"):
            use(bytes(size), bytes(16), about=b"")
