"""Sealed texts: shares on their way through the server, which can neither read nor alter them. AES-256-GCM.

The nonce is always zero, because **each key seals one text only**: it is derived for one sender, one receiver and one
session, and a member speaks once to each. A key used for a second text would give away the XOR of both.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fl_core.errors import ProtocolError

KEY_BYTES = 32
NONCE = bytes(12)
TAG_BYTES = 16
"""By so much a sealed text is longer than the text."""


def seal(key: bytes, text: bytes, *, about: bytes) -> bytes:
    """Encrypt and authenticate the text, and authenticate what it is `about`; of each key the only use."""
    return _cipher(key).encrypt(NONCE, text, about)


def unseal(key: bytes, sealed: bytes, *, about: bytes) -> bytes:
    """The text; refuses one that was altered, cut, sealed under another key, or about something else."""
    try:
        return _cipher(key).decrypt(NONCE, sealed, about)
    except InvalidTag as error:
        raise ProtocolError(
            f"a sealed text of {len(sealed)} bytes does not open: it was altered, or sealed under another key "
            "or about something else"
        ) from error


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ProtocolError(f"a sealing key has {len(key)} bytes; it must have {KEY_BYTES}")
    return AESGCM(key)
