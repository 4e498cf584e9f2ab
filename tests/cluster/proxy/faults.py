"""What goes wrong on the way to the API server, drawn from a seed or ordered by a test; no I/O."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What happens to a request."""

    NONE = "none"
    CONFLICT = "409"
    GONE = "410"
    TOO_MANY = "429"
    FAILURE = "500"
    CUT_BEFORE = "cut before"
    """The connection breaks, and the API server never heard of the request."""
    CUT_AFTER = "cut after"
    """The API server did as asked, and the answer is lost."""
    DELAY = "delay"
    STALL = "stall"
    """No answer at all, on a connection that stays open."""
    SLOW = "slow body"


class Upset(StrEnum):
    """What happens to an event of a watch."""

    NONE = "none"
    DELAY = "delay"
    TWICE = "twice"
    LATE = "late"
    """It comes after the next one."""
    CUT = "cut"
    """The connection breaks in the middle of the line."""
    END = "end"
    """The watch ends in order."""
    STALL = "stall"
    """Nothing more comes, on a connection that stays open."""
    GONE = "410"


WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
ALWAYS = (Fault.TOO_MANY, Fault.FAILURE, Fault.CUT_BEFORE, Fault.DELAY, Fault.STALL)
ON_WRITES = (*ALWAYS, Fault.CUT_AFTER, Fault.CONFLICT, Fault.SLOW)
ON_READS = (*ALWAYS, Fault.SLOW)
ON_WATCHES = (*ALWAYS, Fault.GONE)

ROUGH: Mapping[Upset, float] = {upset: 0.02 for upset in Upset if upset is not Upset.NONE}


@dataclass(frozen=True, slots=True)
class Order:
    """A fault for the next request of this method whose path contains this."""

    method: str
    path: str
    fault: Fault


@dataclass(slots=True)
class Faults:
    """Decides, for each request and event, what happens to it; the same seed draws the same."""

    seed: int = 0
    requests: float = 0.0
    """The share of requests that something happens to."""
    only: frozenset[Fault] = frozenset(Fault)
    """What may happen to a request."""
    events: Mapping[Upset, float] = field(default_factory=dict)
    """The share of events that each upset happens to."""
    orders: list[Order] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def calm(self) -> None:
        """Let everything through from now on."""
        self.requests, self.events, self.orders = 0.0, {}, []

    def on_request(self, method: str, path: str, *, watch: bool) -> Fault:
        """What happens to a request."""
        fault = self._ordered(method, path) or self._drawn(method, watch=watch)
        if fault is not Fault.NONE:
            self.happened[f"{'WATCH' if watch else method} {fault}"] += 1
        return fault

    def on_event(self) -> Upset:
        """What happens to an event."""
        dice = self._random.random()
        for upset, share in self.events.items():
            dice -= share
            if dice < 0:
                self.happened[f"event {upset}"] += 1
                return upset
        return Upset.NONE

    def pause(self, most: float) -> float:
        """Seconds for a delay."""
        return self._random.uniform(0.0, most)

    def _ordered(self, method: str, path: str) -> Fault | None:
        for order in self.orders:
            if order.method == method and order.path in path:
                self.orders.remove(order)
                return order.fault
        return None

    def _drawn(self, method: str, *, watch: bool) -> Fault:
        if self._random.random() >= self.requests:
            return Fault.NONE
        table = ON_WATCHES if watch else ON_WRITES if method in WRITES else ON_READS
        possible = [fault for fault in table if fault in self.only]
        return self._random.choice(possible) if possible else Fault.NONE
