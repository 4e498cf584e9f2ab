"""Keys: pairs that live for one session, what two of them agree on, and what is derived from that.

X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869). A key is derived for one use, under the name of that use, and used for
nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fl_core.errors import ProtocolError
from fl_core.secagg.encoding import Part, digest, encode
from fl_core.secagg.randomness import Random

KEY_BYTES = 32

KEPT = 1 << 12
"""Peers' keys that are kept loaded, of some hundred bytes each."""

FIELD = 2**255 - 19
"""Coordinates of Curve25519 are below this; a key may be written in other ways, none of which an honest worker uses."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 key pair, 32 bytes each; what is printed never shows the private half."""

    private: bytes = field(repr=False)
    public: bytes
    _loaded: X25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls, random: Random) -> KeyPair:
        """A fresh pair."""
        return cls.of(random(KEY_BYTES))

    @classmethod
    def of(cls, private: bytes) -> KeyPair:
        """The pair of a private key: what the server compares after it put one together from shares."""
        _check_length("private", private)
        loaded = X25519PrivateKey.from_private_bytes(private)
        return cls(private, loaded.public_key().public_bytes_raw(), loaded)

    def agree(self, public: bytes) -> bytes:
        """The 32 bytes that the holders of two pairs share, to be given to `derive` and to nothing else.

        Refuses a peer's key that is not 32 bytes, of low order (the secret would be known to all), or not in canonical
        form (the same key, written twice, would look like two).
        """
        try:
            return self._loaded.exchange(_loaded(public))
        except ValueError as error:
            raise ProtocolError(
                f"the public key {public.hex()} is of low order; nothing secret follows from it"
            ) from error


@lru_cache(maxsize=KEPT)
def _loaded(public: bytes) -> X25519PublicKey:
    """A peer's key, if it is well formed; whoever takes masks off agrees with the same peers many times."""
    _check_length("public", public)
    if int.from_bytes(public, "little") >= FIELD:
        raise ProtocolError(f"the public key {public.hex()} is not in canonical form (below 2^255 - 19)")
    return X25519PublicKey.from_public_bytes(public)


def derive(secret: bytes, label: str, *about: Part) -> bytes:
    """A key of 32 bytes for one use, which the label names, between those and in that session that `about` names."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=encode(label, *about)).derive(secret)


def commit(seed: bytes) -> bytes:
    """What a worker publishes of a seed of 32 random bytes: it hides the seed, and no other seed fits it."""
    return digest("commitment", seed)


def _check_length(kind: str, key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ProtocolError(f"a {kind} key has {len(key)} bytes; it must have {KEY_BYTES}")
