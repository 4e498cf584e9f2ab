"""Every derived value of a session once more, slowly, with nothing but hashes, single blocks and whole numbers.

The formulas are those that docstrings of `fl_core.secagg` name, and of RFC 5869, 6962 and 7748; no code of it is used.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator, Sequence
from itertools import combinations, count
from math import comb

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

FIELD = 2**255 - 19
Point = tuple[int, int]


def said(*parts: bytes | str | int) -> bytes:
    """The version, then of each part its kind, its length in eight bytes and its content."""
    text = b"fljob secagg 1"
    for part in parts:
        kind, content = b"b", part
        if isinstance(part, str):
            kind, content = b"s", part.encode("utf-8")
        elif isinstance(part, int):
            digits = f"{part:x}" if part else ""
            kind, content = b"i", bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))
        assert isinstance(content, bytes)
        text += kind + struct.pack(">Q", len(content)) + content
    return text


def hashed(*parts: bytes | str | int) -> bytes:
    """SHA-256 of what is said."""
    return hashlib.sha256(said(*parts)).digest()


def terms(profile: str, minimum: int, tolerate: str, corrupt: int, shares: str, cohort: int) -> bytes:
    """What a job fixes; `shares` are those of the corrupt and of dropouts."""
    return said("terms", profile, minimum, tolerate, corrupt, shares, cohort)


def context(job: str, plan: str, place: Sequence[int | str], model: str, shape: str, agreed: bytes) -> bytes:
    """Which sum this is: `place` is round, attempt, purpose, bucket and buckets."""
    return hashed("context", job, plan, *place, model, shape, agreed)


def statement(about: bytes, worker: int, keys: Sequence[bytes]) -> bytes:
    """What an advertisement signs."""
    return said("advertise", about, worker, *keys)


def leaf(worker: int, keys: Sequence[bytes], papers: Sequence[bytes]) -> bytes:
    """An entry of the roster; `papers` are certificate, signature and both halves of an endorsement."""
    return hashed("entry", worker, *keys, *papers)


def root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + root(leaves[:half]) + root(leaves[half:])).digest()


def session(
    about: bytes, candidates: Sequence[int], members: Sequence[int], *, t: int, degree: int, top: bytes
) -> bytes:
    """The session's id."""
    return hashed(
        "session", about, hashed("candidates", *candidates), hashed("members", *members), t, degree, top
    )


def survivors(named: bytes, workers: Sequence[int]) -> bytes:
    """What survivors sign."""
    return said("survivors", named, hashed("survivors", *workers))


def candidacy(candidates: Sequence[int], *t: int) -> bytes:
    """Among whom a sum is sought, and in cross-silo with which threshold."""
    return hashed("candidacy", hashed("candidates", *candidates), *t)


def derived(secret: bytes, *about: bytes | str | int) -> bytes:
    """RFC 5869 with SHA-256, no salt and 32 bytes."""
    extracted = hmac.new(bytes(32), secret, "sha256").digest()
    return hmac.new(extracted, said(*about) + b"\x01", "sha256").digest()


def keystream(key: bytes, chunk: int, size: int) -> bytes:
    """AES of the counters from 2 on behind the nonce, as the description says."""
    nonce = bytes(4) + chunk.to_bytes(8, "big")
    counters = b"".join(nonce + (2 + place).to_bytes(4, "big") for place in range(-(-size // 16)))
    cipher = Cipher(AES256(key), ECB())  # noqa: S305 - single blocks, to build the mode by hand
    return cipher.encryptor().update(counters)[:size]


def agreed(private: bytes, public: bytes = (9).to_bytes(32, "little")) -> bytes:
    """X25519 as in RFC 7748, section 5; with the base point, a public key."""
    scalar = int.from_bytes(private, "little") & ~7 & (1 << 254) - 1 | 1 << 254
    start = int.from_bytes(public, "little") & (1 << 255) - 1
    (x2, z2), (x3, z3) = (1, 0), (start, 1)
    for bit in reversed(range(255)):
        if scalar >> bit & 1:
            (x3, z3), (x2, z2) = _ladder((x3, z3), (x2, z2), start)
        else:
            (x2, z2), (x3, z3) = _ladder((x2, z2), (x3, z3), start)
    return (x2 * pow(z2, FIELD - 2, FIELD) % FIELD).to_bytes(32, "little")


def _ladder(one: Point, other: Point, start: int) -> tuple[Point, Point]:
    """The first point twice, and both together."""
    (x2, z2), (x3, z3) = one, other
    a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
    e = a * a - b * b
    twice = (a * a * b * b % FIELD, e * (a * a + 121665 * e) % FIELD)
    return twice, ((d * a + c * b) ** 2 % FIELD, start * (d * a - c * b) ** 2 % FIELD)


def order(count: int, *about: bytes | str | int) -> list[int]:
    """The numbers below `count` by the hash of what is said of each."""
    return sorted(range(count), key=lambda number: hashed(*about, number))


def subsets(holders: Sequence[int], t: int) -> Iterator[frozenset[int]]:
    """In which order sets of `t` holders are tried for a secret."""
    if comb(len(holders), t) <= 500:
        yield from map(frozenset, combinations(holders, t))
        return
    yield frozenset(holders[:t])
    for number in count():
        yield frozenset(sorted(holders, key=lambda one: hashed("subset", number, one))[:t])


# -- numpy's SeedSequence and Philox, after M. E. O'Neill, and Salmon et al. 2011 --

WORD, DOUBLE = 2**32, 2**64


def dither(seed: int, round: int, worker: int, size: int) -> list[float]:
    """The first numbers of a worker's public dither."""
    low, high = _philox_key(struct.unpack("<8I", hashed("dither", seed, round, worker)))
    words = [word for block in range(1, -(-size // 4) + 1) for word in _philox(block, low, high)]
    return [(word >> 11) / 2**53 for word in words[:size]]


def _philox_key(entropy: Sequence[int]) -> tuple[int, int]:
    factor = 0x43B0D7E5

    def mixed_in(word: int) -> int:
        nonlocal factor
        word ^= factor
        factor = factor * 0x931E8875 % WORD
        word = word * factor % WORD
        return word ^ word >> 16

    def mixed(one: int, other: int) -> int:
        found = (0xCA01F9DD * one - 0x4973F715 * other) % WORD
        return found ^ found >> 16

    pool = [mixed_in(word) for word in entropy[:4]]
    for source in range(4):
        for place in range(4):
            if source != place:
                pool[place] = mixed(pool[place], mixed_in(pool[source]))
    for word in entropy[4:]:
        pool = [mixed(one, mixed_in(word)) for one in pool]
    words, factor = [], 0x8B51F9DD
    for entry in pool:
        following = factor * 0x58F38DED % WORD
        word = (entry ^ factor) * following % WORD
        words.append(word ^ word >> 16)
        factor = following
    return words[0] | words[1] << 32, words[2] | words[3] << 32


def _philox(block: int, low: int, high: int) -> tuple[int, int, int, int]:
    a, b, c, d = block, 0, 0, 0
    for _ in range(10):
        first, second = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = second >> 64 ^ b ^ low, second % DOUBLE, first >> 64 ^ d ^ high, first % DOUBLE
        low, high = (low + 0x9E3779B97F4A7C15) % DOUBLE, (high + 0xBB67AE8584CAA73B) % DOUBLE
    return a, b, c, d
