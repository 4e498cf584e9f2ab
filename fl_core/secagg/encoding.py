"""Facts as bytes, so that no two lists of facts look the same: what is signed, hashed and bound into keys.

    version, then for the label and for each part: kind (one byte), length (8 bytes, big-endian), content

The version in front is part of everything that is derived: processes of different versions understand nothing of each
other rather than half of it.
"""

from __future__ import annotations

import hashlib

from fl_core.errors import ProtocolError

VERSION = b"fljob secagg 1"

Part = bytes | str | int


def encode(label: str, *parts: Part) -> bytes:
    """What is said, as bytes: different labels or parts never give the same ones."""
    return VERSION + b"".join(map(field, (label, *parts)))


def digest(label: str, *parts: Part) -> bytes:
    """SHA-256 of `encode(label, *parts)`: 32 bytes."""
    return hashlib.sha256(encode(label, *parts)).digest()


def field(part: Part) -> bytes:
    """One part of an encoding; whole numbers are as short as they can be, and zero is empty."""
    kind, content = _content(part)
    return kind + len(content).to_bytes(8, "big") + content


def _content(part: Part) -> tuple[bytes, bytes]:
    if isinstance(part, bytes):
        return b"b", part
    if isinstance(part, str):
        return b"s", part.encode()
    if isinstance(part, bool):
        raise TypeError("a part of an encoding is bytes, a text or a whole number, not a truth value")
    if part < 0:
        raise ProtocolError(f"the number {part} has no encoding; it must be at least 0")
    return b"i", part.to_bytes(-(-part.bit_length() // 8), "big")
