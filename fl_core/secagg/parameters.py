"""How many shares open a secret, and with how many others each member shares: the numbers that everything rests on.

`cross-silo`: everybody shares with everybody. With 2t > n + c any two sets of t members have more than c in common, so
an honest one, who agrees to one sum only: two sums of the same vectors cannot both open, whatever the server says.

`cross-device`: everybody shares with `degree` others on a ring of random order, against a server that follows the
protocol and looks at everything, together with c members. What can go wrong then depends on the order alone:

- *security*: some member has `threshold` corrupt neighbours, or the members that are neither corrupt nor gone fall
  into two parts, which would be summed apart;
- *correctness*: fewer than `threshold` neighbours of some member stay to the end.

The bounds are those of Bell, Bonawitz, Gascon, Lepoint and Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", 2020 (https://eprint.iacr.org/2020/704), section 3, with hypergeometric tails in place of
estimates of them, as in Google's federated-compute. All of it is computed in whole numbers, without any rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, comb, prod
from typing import Literal

from fl_core.errors import ProtocolError, SpecError
from fl_core.secagg.shamir import LEAST_THRESHOLD

Profile = Literal["cross-silo", "cross-device"]

SECURITY_BITS = 40
CORRECTNESS_BITS = 30

FEWEST = 3
"""With two members, each knows the other's vector from the sum."""

WHERE = "spec.secureAggregation"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of `n` members with `degree` neighbours each: `threshold` shares open a secret, up to `corrupt` are curious."""

    profile: Profile
    n: int
    threshold: int
    degree: int
    corrupt: int

    def __post_init__(self) -> None:
        """Refuse what protects nobody."""
        if self.n < FEWEST:
            raise SpecError(f"{WHERE}: {self.n} members; secure aggregation needs at least {FEWEST}")
        _check_corrupt(self.n, self.corrupt)
        if self.profile == "cross-silo":
            self._check_cross_silo()
        else:
            self._check_cross_device()

    def _check_cross_silo(self) -> None:
        n, t, c = self.n, self.threshold, self.corrupt
        if self.degree != n - 1:
            raise SpecError(
                f"{WHERE}: in cross-silo each of {n} members shares with all others, not with {self.degree}"
            )
        if not n + c < 2 * t <= 2 * n:
            raise SpecError(
                f"{WHERE}: the threshold {t} of {n} members with {c} corrupt; it must be from {(n + c) // 2 + 1}, "
                f"so that no two sums can open (2t > n + c), to {n}"
            )

    def _check_cross_device(self) -> None:
        if not LEAST_THRESHOLD <= self.degree < self.n or self.n * self.degree % 2:
            raise SpecError(
                f"{WHERE}: {self.degree} neighbours for each of {self.n} members; "
                f"it must be from {LEAST_THRESHOLD} to n - 1, and even where n is odd"
            )
        if not LEAST_THRESHOLD <= self.threshold <= self.degree:
            raise SpecError(
                f"{WHERE}: the threshold {self.threshold} of {self.degree} neighbours; "
                f"it must be from {LEAST_THRESHOLD} to all of them"
            )


@cache
def cross_silo(n: int, *, tolerate: int | None = None, corrupt: int = 0) -> Parameters:
    """Everybody with everybody, and a threshold of floor(2n/3) + 1 or, if it is given, n - `tolerate`.

    `corrupt` members may look over the server's shoulder, or vote twice with it; 2t > n + corrupt must hold.
    """
    threshold = 2 * n // 3 + 1 if tolerate is None else n - tolerate
    most = n - (n + corrupt) // 2 - 1
    if tolerate is not None and not 0 <= tolerate <= most:
        raise SpecError(
            f"{WHERE}.tolerate is {tolerate}, so that {max(threshold, 0)} of {n} workers can open a sum; "
            f"at least {(n + corrupt) // 2 + 1} are needed, so that no two sums can open: it can be from 0 to {most} "
            f"(2t > n + c, with the threshold t = {threshold}, n = {n} workers, c = {corrupt} with the server)"
        )
    return Parameters("cross-silo", n=n, threshold=threshold, degree=n - 1, corrupt=corrupt)


@cache
def cross_device(
    n: int,
    *,
    corrupt_share: float,
    dropout: float,
    cohort: int = 0,
    security_bits: int = SECURITY_BITS,
    correctness_bits: int = CORRECTNESS_BITS,
) -> Parameters:
    """The fewest neighbours, an even number, and a threshold, for which the bounds hold (see this module's text).

    Security fails with probability 2^-`security_bits` at most, half of it for either event, and correctness with
    2^-`correctness_bits`, for n * `dropout` members that leave and any `corrupt_share` of the `cohort` of whom the n
    are left (n itself where that is more), both rounded up, who are chosen without knowing the order: of a cohort the
    honest may all be late, and the corrupt never are. More who are asked than the cohort are not counted. Everybody
    with everybody where no fewer will do. Of the thresholds that are correct it is the highest.
    """
    corrupt, gone = part_of(max(cohort, n), corrupt_share), part_of(n, dropout)
    _check_corrupt(n, corrupt)
    exposed = _quantiles(n, corrupt, security_bits + 1)
    left = _quantiles(n, gone, correctness_bits)
    for degree, (secure, lost) in enumerate(zip(exposed, left, strict=True)):
        threshold = degree + 1 - lost  # fewer than `lost` leave, so that at least degree - (lost - 1) stay
        possible = degree == n - 1 or degree % 2 == 0
        if (
            possible
            and threshold >= max(secure, LEAST_THRESHOLD)
            and _connected(n, degree, corrupt + gone, security_bits + 1)
        ):
            return Parameters("cross-device", n=n, threshold=threshold, degree=degree, corrupt=corrupt)
    raise SpecError(
        f"{WHERE}: {corrupt} corrupt and {gone} leaving of {n} members: no number of neighbours makes that safe; "
        "take more workers, or allow for fewer losses"
    )


def verify(parameters: Parameters, *, corrupt: int, dropout: int, security_bits: int = SECURITY_BITS) -> None:
    """Refuse parameters that are weaker than a worker insists on, by its own count of corrupt and leaving members.

    For shares of the members instead of counts there is `part_of`. `dropout` does not matter in cross-silo.
    """
    n, t, k = parameters.n, parameters.threshold, parameters.degree
    if not 0 <= corrupt <= n - 2:
        raise ProtocolError(f"{n} members, of which {corrupt} may be corrupt: at least two must be honest")
    if parameters.profile == "cross-silo":
        if 2 * t <= n + corrupt:
            raise ProtocolError(
                f"the threshold is {t} of {n}; with {corrupt} corrupt it must be at least {(n + corrupt) // 2 + 1}"
            )
        return
    if n * _tail(n - 1, corrupt, k, t) * 2 ** (security_bits + 1) > 1:
        raise ProtocolError(
            f"{n} members, {k} neighbours, threshold {t}: with {corrupt} corrupt, "
            f"someone has {t} corrupt neighbours with a probability of more than 2^-{security_bits + 1}"
        )
    if not _connected(n, k, corrupt + dropout, security_bits + 1):
        raise ProtocolError(
            f"{n} members, {k} neighbours: with {corrupt} corrupt and {dropout} gone, "
            f"the others fall apart with a probability of more than 2^-{security_bits + 1}"
        )


@cache
def part_of(n: int, share: float) -> int:
    """So many of n members are this share of them, rounded up; the share is taken as it is written."""
    if not 0 <= share < 1:
        raise SpecError(f"{WHERE}: a share of the members is {share}; it must be from 0 to below 1")
    return ceil(n * Fraction(str(share)))


def _check_corrupt(n: int, corrupt: int) -> None:
    if not 0 <= corrupt <= n - 2:
        raise SpecError(
            f"{WHERE}: {corrupt} corrupt of {n} members; at least two must be honest, or a sum hides nothing"
        )


# -- probabilities over a random order of the ring --


def _quantiles(n: int, marked: int, bits: int) -> Iterator[int]:
    """For each degree from 0 to n - 1 the least count with: probably nobody has so many marked neighbours.

    Probably: by the union over n members, with at most 2^-bits. A member's neighbours are any of the n - 1 others with
    equal chances. Of their C(n - 1, degree) sets, `several` hold at least `count` marked ones, which goes from one
    degree to the next by an exact recurrence: a set gains its marked member number `count` where it had one fewer.
    """
    others, several, count = n - 1, 0, 1
    for degree in range(n):
        while several * n << bits > comb(others, degree):
            several -= _sets(others, marked, degree, count)
            count += 1
        yield count
        gaining = _sets(others, marked, degree, count - 1) * (marked - count + 1)
        several = (several * (others - degree) + gaining) // (degree + 1)


def _sets(others: int, marked: int, degree: int, count: int) -> int:
    """How many sets of `degree` others have exactly `count` marked ones."""
    return comb(marked, count) * comb(others - marked, degree - count) if 0 <= count <= degree else 0


@cache
def _tail(others: int, marked: int, degree: int, count: int) -> Fraction:
    """The probability that at least `count` of `degree` others, drawn without replacement, are marked."""
    several = sum(_sets(others, marked, degree, exactly) for exactly in range(count, min(degree, marked) + 1))
    return Fraction(several, comb(others, degree))


def _connected(n: int, degree: int, removed: int, bits: int) -> bool:
    """Whether a ring without `removed` members hangs together, except with probability 2^-bits at most.

    To cut it, two runs of degree / 2 must go, with somebody left on either side: n(n - degree - 1)/2 pairs of
    runs, each gone with the probability that `degree` given members are all among those removed.
    """
    if degree == n - 1 or degree > removed:
        return True
    pairs = n * (n - degree - 1)
    gone = prod(range(removed - degree + 1, removed + 1))
    return pairs * gone << bits <= 2 * prod(range(n - degree + 1, n + 1))
