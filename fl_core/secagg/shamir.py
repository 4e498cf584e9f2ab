"""Shamir's secret sharing: any `threshold` shares give a secret, fewer say nothing about it (Shamir 1979).

Over the field of 2^31 - 1. A secret is cut into limbs of 30 bits, least significant first, and each limb is the
value at zero of a random polynomial of degree threshold - 1; a share is the values of all polynomials at one point,
as big-endian words of 32 bits. Evaluating and interpolating are matrix products in float64, exact because one factor
is cut into parts so short that no sum reaches 2^53.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fl_core.errors import ProtocolError
from fl_core.secagg.randomness import Random

LEAST_THRESHOLD = 2
"""With one, a share would be the secret itself."""

PRIME = 2**31 - 1
LIMB_BITS = 30
WORD = np.dtype(">u4")

FEW_TERMS = 64
"""Up to so many products of 31 by 16 bits are exact in one sum of float64; of 31 by 11 bits, 2,048."""

AT_ONCE = 1 << 20
"""Elements of one intermediate matrix, so that memory does not grow with members times threshold."""

Elements = npt.NDArray[np.uint64]


def split(secrets: Sequence[bytes], *, threshold: int, points: Sequence[int], random: Random) -> list[bytes]:
    """For each point one share of all the secrets together: their shares one after the other, 36 bytes each.

    A secret has 32 bytes as a rule; `share_bytes` tells how long shares of others are.
    """
    _check_points(points)
    if not LEAST_THRESHOLD <= threshold <= len(points):
        raise ProtocolError(
            f"a secret for {len(points)} members has the threshold {threshold}; "
            f"it must be from {LEAST_THRESHOLD} to all of them"
        )
    constants = [limb for secret in secrets for limb in _limbs(secret)]
    rest = _uniform((threshold - 1) * len(constants), random).reshape(threshold - 1, len(constants))
    coefficients = np.concatenate([np.array([constants], np.uint64), rest])
    return [row.tobytes() for rows in _evaluated(points, coefficients) for row in rows.astype(WORD)]


def combine(shares: Mapping[int, bytes], *, threshold: int, length: int = 32) -> bytes:
    """One secret of `length` bytes from the shares at the `threshold` lowest of the given points.

    Refuses too few shares, damaged ones, and those that lie on no polynomial of a secret. What it gives for shares that
    are wrong and well formed is wrong: compare it with what is known of the secret.
    """
    [secret] = combine_many([shares], threshold=threshold, length=length)
    if secret is None:
        raise ProtocolError(f"the shares are of no secret of {length} bytes: at least one of them is false")
    return secret


def combine_many(
    many: Sequence[Mapping[int, bytes]], *, threshold: int, length: int = 32
) -> list[bytes | None]:
    """`combine` for many secrets, those with the same points in one product; None for one whose shares are false."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, shares in enumerate(many):
        groups.setdefault(_lowest(shares, threshold), []).append(number)
    secrets: list[bytes | None] = [None] * len(many)
    for points, numbers in groups.items():
        values = _values([many[number][point] for number in numbers for point in points], length)
        limbs = values.reshape(len(numbers), len(points), -1).transpose(0, 2, 1).reshape(-1, len(points))
        found = _product(limbs, _at_zero(points)[:, None]).reshape(len(numbers), -1)
        for number, row in zip(numbers, found.tolist(), strict=True):
            secrets[number] = _secret(row, length)
    return secrets


def check(*shares: bytes, length: int = 32) -> None:
    """Refuse what cannot be shares of one secret each: another length, or words outside of the field."""
    _values(shares, length)


def share_bytes(length: int) -> int:
    """Bytes of a share of a secret of `length` bytes."""
    return -(-length * 8 // LIMB_BITS) * WORD.itemsize


# -- secrets and shares as elements of the field --


def _limbs(secret: bytes) -> list[int]:
    value, count = int.from_bytes(secret, "big"), share_bytes(len(secret)) // WORD.itemsize
    return [value >> LIMB_BITS * place & (1 << LIMB_BITS) - 1 for place in range(count)]


def _secret(limbs: Sequence[int], length: int) -> bytes | None:
    value = sum(limb << LIMB_BITS * place for place, limb in enumerate(limbs))
    fits = all(limb >> LIMB_BITS == 0 for limb in limbs) and value >> length * 8 == 0
    return value.to_bytes(length, "big") if fits else None


def _values(shares: Sequence[bytes], length: int) -> Elements:
    """The words of shares, one after the other; refuses those that are not well formed."""
    for share in shares:
        if len(share) != share_bytes(length):
            raise ProtocolError(f"a share has {len(share)} bytes; it must have {share_bytes(length)}")
    values = np.frombuffer(b"".join(shares), WORD)
    if int(values.max(initial=0)) >= PRIME:
        raise ProtocolError("a share holds a word outside of the field of 2^31 - 1")
    return values.astype(np.uint64)


def _uniform(count: int, random: Random) -> Elements:
    """Elements of the field, all equally likely: words of 31 bits, drawn again where one is the prime itself."""
    drawn = _words(count, random)
    while (again := np.flatnonzero(drawn == PRIME)).size:
        drawn[again] = _words(again.size, random)
    return drawn


def _words(count: int, random: Random) -> Elements:
    """Random words of 31 bits."""
    return np.frombuffer(random(WORD.itemsize * count), WORD, count).astype(np.uint64) & np.uint64(PRIME)


# -- points --


def _check_points(points: Sequence[int]) -> None:
    if len(set(points)) < len(points) or not all(0 < point < PRIME for point in points):
        raise ProtocolError("the points of shares are whole numbers from 1 to 2^31 - 2, each once")


def _lowest(shares: Mapping[int, bytes], threshold: int) -> tuple[int, ...]:
    if len(shares) < threshold:
        raise ProtocolError(f"{len(shares)} shares of a secret do not reach the threshold {threshold}")
    points = sorted(shares)[:threshold]
    _check_points(points)
    return tuple(points)


# -- polynomials --


def _evaluated(points: Sequence[int], coefficients: Elements) -> Iterator[Elements]:
    """The polynomials' values, some points at a time: a row for each point, a column for each polynomial."""
    step = max(1, AT_ONCE // len(coefficients))
    for start in range(0, len(points), step):
        yield _product(_powers(points[start : start + step], len(coefficients)), coefficients)


def _powers(points: Sequence[int], count: int) -> Elements:
    """For each point its powers from 0 to count - 1."""
    base, powers = np.array(points, np.uint64), np.ones((len(points), count), np.uint64)
    known = 1
    while known < count:
        more = min(known, count - known)
        factor = powers[:, known - 1] * base % PRIME
        powers[:, known : known + more] = powers[:, :more] * factor[:, None] % PRIME
        known += more
    return powers


def _at_zero(points: Sequence[int]) -> Elements:
    """Lagrange's weights: the value at zero is their sum with the values at the points."""
    every, step = np.array(points, np.uint64), max(1, AT_ONCE // len(points))
    below: list[int] = []
    for start in range(0, len(points), step):
        some = every[start : start + step]
        apart = (every + PRIME - some[:, None]) % PRIME
        apart[np.arange(len(some)), np.arange(start, start + len(some))] = some
        below += _products(apart).tolist()
    above = int(_products(every[None])[0])
    return np.array([above * pow(each, -1, PRIME) % PRIME for each in below], np.uint64)


def _products(rows: Elements) -> Elements:
    """The product of each row."""
    while (width := rows.shape[1]) > 1:
        half = width // 2
        pairs = rows[:, :half] * rows[:, half : 2 * half] % PRIME
        rows = np.concatenate([pairs, rows[:, 2 * half :]], axis=1)
    return rows[:, 0]


def _product(left: Elements, right: Elements) -> Elements:
    """The matrix product in the field, exact: 31 + bits + the logarithm of the terms in a sum is at most 53."""
    bits = 16 if len(right) <= FEW_TERMS else 11
    terms = 1 << 53 - 31 - bits
    total = np.zeros((len(left), right.shape[1]), np.uint64)
    for start in range(0, len(right), terms):
        here = left[:, start : start + terms].astype(np.float64)
        rest = right[start : start + terms]
        for shift in range(0, 31, bits):
            part = (rest >> shift & (1 << bits) - 1).astype(np.float64)
            total += ((here @ part).astype(np.uint64) % PRIME << shift) % PRIME
    return total % PRIME
