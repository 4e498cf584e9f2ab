"""Shamir's shares against whole numbers of Python, and what fewer than the threshold know."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg import shamir
from fl_core.secagg.shamir import PRIME, combine, combine_many, split

SECRET = bytes(range(224, 256))

ONE = "3cfdff0423e7ebf40f5f6f843c7cbd022deeeff527abafb81e6e7e9338b8f93e0000e0e6"
SEVEN = "3cfdff2223e7ec120f5f6fa23c7cbd202deef01327abafd61e6e7eb138b8f95c0000e104"
"""Shares of SECRET at the points 1 and 7, with the slope 5 throughout."""


class Stream:
    """A source that gives the same bytes in every run."""

    def __init__(self, seed: int = 0) -> None:
        self.asked: list[int] = []
        self._seed = seed

    def __call__(self, count: int) -> bytes:
        self.asked.append(count)
        return hashlib.shake_256(f"{self._seed} {len(self.asked)}".encode()).digest(count)


def limbs(secret: bytes) -> list[int]:
    number, found = int.from_bytes(secret, "big"), []
    for _ in range(-(-len(secret) * 8 // 30)):
        number, limb = divmod(number, 2**30)
        found.append(limb)
    return found


def words(text: bytes) -> list[int]:
    return [int.from_bytes(text[place : place + 4], "big") for place in range(0, len(text), 4)]


def joined(numbers: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def split_by_hand(secrets: Sequence[bytes], threshold: int, point: int, random: bytes) -> bytes:
    """One point's share, by Horner's rule, from coefficients as they come out of the source."""
    constants = [limb for secret in secrets for limb in limbs(secret)]
    drawn = [word % 2**31 for word in words(random)]
    rows = [
        constants,
        *(drawn[place : place + len(constants)] for place in range(0, len(drawn), len(constants))),
    ]
    assert len(rows) == threshold
    values = [0] * len(constants)
    for row in reversed(rows):
        values = [(value * point + one) % PRIME for value, one in zip(values, row, strict=True)]
    return joined(values)


def at(place: int, known: Mapping[int, int]) -> int:
    """The value, at one place, of the polynomial through these points (Lagrange)."""
    total = 0
    for x, y in known.items():
        above = below = 1
        for other in known:
            if other != x:
                above, below = above * (place - other) % PRIME, below * (x - other) % PRIME
        total += y * above * pow(below, -1, PRIME)
    return total % PRIME


def subsets(points: Sequence[int], least: int) -> Iterator[tuple[int, ...]]:
    for size in range(least, len(points) + 1):
        yield from combinations(points, size)


@pytest.mark.parametrize(
    ("threshold", "n"), [(2, 2), (3, 5), (63, 70), (64, 70), (65, 70), (67, 100), (2049, 2050), (4097, 4100)]
)
def test_shares_are_those_of_whole_numbers(threshold: int, n: int) -> None:
    """Below and above each limit of the exact product, shares are what Horner's rule gives, and combine."""
    source, secrets = Stream(), [SECRET, bytes(32)]
    shares = split(secrets, threshold=threshold, points=range(1, n + 1), random=source)
    drawn = Stream()(source.asked[0])
    for point in {1, 2, n // 2, n}:
        assert shares[point - 1] == split_by_hand(secrets, threshold, point, drawn)
    held = {point: share[:36] for point, share in enumerate(shares, 1)}
    assert combine(held, threshold=threshold) == SECRET


@pytest.mark.parametrize(("threshold", "n"), [(64, 64), (65, 65), (2048, 2048), (2050, 2050)])
def test_the_largest_numbers_are_exact(threshold: int, n: int) -> None:
    """With all coefficients, limbs and points as large as they can be, nothing is rounded."""
    points = range(PRIME - n, PRIME)
    secret, largest = b"\xff" * 32, joined([PRIME - 1])
    shares = split([secret], threshold=threshold, points=points, random=lambda count: largest * (count // 4))
    for place in (0, n - 1):
        by_hand = split_by_hand([secret], threshold, points[place], largest * 9 * (threshold - 1))
        assert shares[place] == by_hand
    assert combine(dict(zip(points, shares, strict=True)), threshold=threshold) == secret


@pytest.mark.parametrize("terms", [1, 63, 64, 65, 2047, 2048, 2049, 5000, 40_000])
def test_no_sum_is_rounded(terms: int) -> None:
    """Of odd numbers near the prime, whose sum would lose its last bit beyond 2^53, the product is exact."""
    largest = np.full((1, terms), PRIME - 2, np.uint64)
    assert shamir._product(largest, largest.T).tolist() == [[terms * (PRIME - 2) ** 2 % PRIME]]


def test_the_format_is_fixed() -> None:
    """A change of the format would be seen here."""
    shares = split(
        [SECRET], threshold=2, points=[1, 7], random=lambda count: b"\x80\x00\x00\x05" * (count // 4)
    )
    assert [share.hex() for share in shares] == [ONE, SEVEN]
    assert limbs(SECRET)[0] + 5 == words(shares[0])[0]


@settings(deadline=None)
@given(
    secrets=some.lists(some.binary(min_size=32, max_size=32), min_size=1, max_size=3),
    points=some.lists(some.integers(1, PRIME - 1), min_size=2, max_size=8, unique=True),
    data=some.data(),
)
def test_any_threshold_of_shares_gives_the_secret(
    secrets: list[bytes], points: list[int], data: some.DataObject
) -> None:
    """Any points, any subset that is large enough."""
    threshold = data.draw(some.integers(2, len(points)))
    shares = split(secrets, threshold=threshold, points=points, random=Stream(1))
    held = dict(zip(points, shares, strict=True))
    chosen = data.draw(some.lists(some.sampled_from(points), min_size=threshold, unique=True))
    for number, secret in enumerate(secrets):
        one = {point: held[point][36 * number : 36 * (number + 1)] for point in chosen}
        assert combine(one, threshold=threshold) == secret


@pytest.mark.parametrize("threshold", [2, 3, 4, 5])
def test_every_subset_gives_the_secret(threshold: int) -> None:
    """Of five shares all subsets of at least the threshold, and none below it."""
    shares = dict(enumerate(split([SECRET], threshold=threshold, points=range(1, 6), random=Stream()), 1))
    for chosen in subsets(range(1, 6), 1):
        some_of_them = {point: shares[point] for point in chosen}
        if len(chosen) >= threshold:
            assert combine(some_of_them, threshold=threshold) == SECRET
        else:
            with pytest.raises(ProtocolError, match=f"{len(chosen)} shares .* the threshold {threshold}"):
                combine(some_of_them, threshold=threshold)


@settings(deadline=None)
@given(other=some.binary(min_size=32, max_size=32), spare=some.integers(0, 4))
def test_one_share_too_few_says_nothing(other: bytes, spare: int) -> None:
    """With all but one of the needed shares every secret is possible: one more share can make it any."""
    shares = dict(enumerate(split([SECRET], threshold=5, points=range(1, 6), random=Stream()), 1))
    del shares[spare + 1]
    known = {point: words(share) for point, share in shares.items()}
    makes = [
        at(spare + 1, {0: limb, **{point: row[place] for point, row in known.items()}})
        for place, limb in enumerate(limbs(other))
    ]
    assert combine({**shares, spare + 1: joined(makes)}, threshold=5) == other


@settings(deadline=None)
@given(size=some.integers(1, 70), seed=some.integers(0, 9))
def test_secrets_may_have_any_length(size: int, seed: int) -> None:
    """A secret of any length comes back, its zeros included."""
    secret = bytes(size // 2) + Stream(seed)(size - size // 2)
    shares = split([secret], threshold=3, points=[4, 2, 9], random=Stream(seed))
    assert {len(share) for share in shares} == {shamir.share_bytes(size)}
    assert combine(dict(zip([4, 2, 9], shares, strict=True)), threshold=3, length=size) == secret


def test_coefficients_are_uniform_by_rejection() -> None:
    """A word that is the prime is drawn again, whatever its top bit; all others are taken as they are."""
    drawn = iter([joined([PRIME, 5, 2**32 - 1, 2**31 + 6, 0, 1, 2, 3, 4]), joined([PRIME, 8]), joined([9])])
    [first, _] = split([bytes(32)], threshold=2, points=[1, 2], random=lambda _: next(drawn))
    assert words(first) == [9, 5, 8, 6, 0, 1, 2, 3, 4]
    assert next(drawn, None) is None


def test_shares_spread_over_the_whole_field() -> None:
    """Of many shares of one secret, each sixteenth of the field holds its part (within six deviations)."""
    shares = split([bytes(32)] * 2000, threshold=2, points=[1, 2], random=Stream())
    counts = np.bincount(np.frombuffer(shares[0], ">u4") >> 27, minlength=16)
    assert counts.sum() == 18_000
    assert np.abs(counts - 1125).max() < 6 * 1125**0.5


def test_the_lowest_points_are_used() -> None:
    """Shares beyond the threshold are not looked at, so a false one among them does no harm."""
    shares = dict(enumerate(split([SECRET], threshold=3, points=range(1, 6), random=Stream()), 1))
    assert combine({5: b"", 4: bytes(36), **shares, 9: b"\xff" * 36}, threshold=3) == SECRET


def test_many_secrets_are_those_of_one_at_a_time() -> None:
    """Secrets with different points, thresholds reached by different holders, keep their order."""
    secrets = [bytes([number]) * 32 for number in range(6)]
    held = []
    for number, secret in enumerate(secrets):
        points = [1, 2, 3, 4] if number % 2 else [2, 3 + number, 90]
        held.append(
            dict(zip(points, split([secret], threshold=3, points=points, random=Stream(number)), strict=True))
        )
    assert combine_many(held, threshold=3) == secrets == [combine(one, threshold=3) for one in held]
    assert combine_many([], threshold=3) == []


def test_a_false_share_spoils_one_secret_only() -> None:
    """Among many, the secret whose shares are false is None; alone, it is refused."""
    shares = dict(enumerate(split([SECRET], threshold=2, points=[1, 2], random=Stream()), 1))
    false = {1: shares[1], 2: joined([(words(shares[2])[0] - 2**30) % PRIME, *words(shares[2])[1:]])}
    assert combine_many([shares, false, shares], threshold=2) == [SECRET, None, SECRET]
    with pytest.raises(ProtocolError, match="no secret of 32 bytes: at least one of them is false"):
        combine(false, threshold=2)


@pytest.mark.parametrize(("limb", "most"), [(0, 2**30 - 1), (7, 2**30 - 1), (8, 2**16 - 1)])
def test_limbs_outside_of_a_secret_are_refused(limb: int, most: int) -> None:
    """Limbs have 30 bits and the last one 16, as 32 bytes have: one more belongs to no secret."""
    for value, fits in ((most, True), (most + 1, False), (PRIME - 1, False)):
        row = joined([value if place == limb else 0 for place in range(9)])
        [secret] = combine_many([{1: row, 2: row}], threshold=2)
        assert secret == ((value << 30 * limb).to_bytes(32, "big") if fits else None)


@pytest.mark.parametrize(
    ("share", "reason"),
    [
        (b"", "has 0 bytes; it must have 36"),
        (bytes(35), "has 35 bytes; it must have 36"),
        (bytes(72), "has 72 bytes; it must have 36"),
        (bytes(32) + joined([PRIME]), "outside of the field"),
        (b"\xff" * 4 + bytes(32), "outside of the field"),
    ],
)
def test_damaged_shares_are_refused(share: bytes, reason: str) -> None:
    """Wrong lengths and words outside of the field are refused wherever they stand."""
    for held in ({1: share, 2: bytes(36)}, {1: bytes(36), 2: share}):
        with pytest.raises(ProtocolError, match=reason):
            combine(held, threshold=2)
    with pytest.raises(ProtocolError, match=reason):
        shamir.check(share)


@pytest.mark.parametrize("points", [[0, 1], [1, -1], [1, PRIME], [1, PRIME + 1], [2, 2]])
def test_points_are_distinct_and_not_zero(points: list[int]) -> None:
    """At zero lies the secret itself, and PRIME is zero again."""
    with pytest.raises(ProtocolError, match="from 1 to 2\\^31 - 2, each once"):
        split([SECRET], threshold=2, points=points, random=Stream())
    if len(set(points)) == 2:
        with pytest.raises(ProtocolError, match="from 1 to 2\\^31 - 2, each once"):
            combine(dict.fromkeys(points, bytes(36)), threshold=2)


@pytest.mark.parametrize("threshold", [-1, 0, 1, 4])
def test_thresholds_are_from_two_to_all(threshold: int) -> None:
    """One share must not be the secret, and all shares must be enough."""
    with pytest.raises(ProtocolError, match=f"for 3 members has the threshold {threshold}"):
        split([SECRET], threshold=threshold, points=[1, 2, 3], random=Stream())
