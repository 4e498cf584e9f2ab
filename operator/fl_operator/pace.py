"""How fast is fast enough: token buckets and back-off, without a clock of their own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """At most `burst` at once and `rate` per second in the long run; a rate of 0 sets no limit."""

    rate: float
    burst: int
    tokens: float = field(init=False)
    refilled: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self.tokens = float(self.burst)

    def reserve(self, now: float) -> float:
        """Take a token and return the seconds until it may be used, 0 if at once."""
        if self.rate <= 0:
            return 0.0
        self._refill(now)
        self.tokens -= 1
        return max(0.0, -self.tokens / self.rate)

    def taken(self, now: float) -> bool:
        """Take a token if there is one, and say whether there was."""
        if self.rate <= 0:
            return True
        self._refill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self.refilled)
        self.tokens = min(float(self.burst), self.tokens + passed * self.rate)
        self.refilled = max(self.refilled, now)


def exponential(failures: int, *, first: float, most: float) -> float:
    """Seconds to wait after so many failures in a row: `first`, doubled for each further one, up to `most`."""
    return min(most, first * 2.0 ** min(failures - 1, 60)) if failures > 0 else 0.0


@dataclass(slots=True)
class FullJitter:
    """Seconds to wait after each failure in a row, drawn from 0 up to an exponentially growing bound.

    Spreads many clients that lost the same server at the same moment
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    random: random.Random
    first: float = 0.8
    most: float = 30.0
    failures: int = 0

    def next(self) -> float:
        """Count a failure and draw the wait after it."""
        self.failures += 1
        return self.random.uniform(0.0, exponential(self.failures, first=self.first, most=self.most))

    def reset(self) -> None:
        """Forget the failures: something went well."""
        self.failures = 0
