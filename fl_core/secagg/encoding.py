"""Facts as bytes, so that no two lists of facts look the same: what is signed, hashed and bound into keys.

    version, then for the label and for each part: kind (one byte), length (8 bytes, big-endian), content

The version in front is part of everything that is derived: processes of different versions understand nothing of each
other rather than half of it.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

from fl_core.errors import ProtocolError

VERSION = b"fljob secagg 1"

Part = bytes | str | int

KEPT = 1 << 12
"""Encoded texts and numbers that are kept, as most come again for each member; bytes, which may be secret, are not."""
MOST_CHARACTERS = 512
"""A longer text is not kept: others may have chosen its length."""

_head = struct.Struct(">cQ").pack


def encode(label: str, *parts: Part) -> bytes:
    """What is said, as bytes: different labels or parts never give the same ones."""
    return VERSION + b"".join(map(field, (label, *parts)))


def digest(label: str, *parts: Part) -> bytes:
    """SHA-256 of `encode(label, *parts)`: 32 bytes."""
    return hashlib.sha256(encode(label, *parts)).digest()


def field(part: Part) -> bytes:
    """One part of an encoding; whole numbers are as short as they can be, and zero is empty."""
    if isinstance(part, bytes):
        return _head(b"b", len(part)) + part
    is_long = isinstance(part, str) and len(part) > MOST_CHARACTERS
    return _open.__wrapped__(part) if is_long else _open(part)


@lru_cache(maxsize=KEPT, typed=True)  # True would be found as 1
def _open(part: str | int) -> bytes:
    """A part that is a text or a whole number."""
    if isinstance(part, str):
        content = part.encode()
        return _head(b"s", len(content)) + content
    if isinstance(part, bool):
        raise TypeError("a part of an encoding is bytes, a text or a whole number, not a truth value")
    if part < 0:
        raise ProtocolError(f"the number {part} has no encoding; it must be at least 0")
    content = part.to_bytes(-(-part.bit_length() // 8), "big")
    return _head(b"i", len(content)) + content
