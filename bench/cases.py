"""What is measured: a case goes in, a result comes out; every system under test is such a runner."""

import re
from dataclasses import dataclass
from statistics import median
from typing import Protocol, Self

MEGABYTE = 10**6
MEBIBYTE = 2**20
GIBIBYTE = 2**30
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Case:
    """One federation: how many clients exchange how large a float32 model, and how often."""

    clients: int
    megabytes: float
    rounds: int = 6

    @classmethod
    def parse(cls, text: str, *, rounds: int = 6) -> Self:
        """Read `10x25` as 10 clients with a model of 25 MB (10^6 bytes)."""
        match = re.fullmatch(r"(\d+)x(\d+(?:\.\d+)?)", text)
        if match is None or int(match[1]) < 1 or float(match[2]) <= 0:
            raise ValueError(f"case: {text!r} found, CLIENTSxMEGABYTES expected, such as 10x25")
        return cls(int(match[1]), float(match[2]), rounds)

    @property
    def name(self) -> str:
        """The case as it is written on the command line."""
        return f"{self.clients}x{self.megabytes:g}"

    @property
    def elements(self) -> int:
        """Float32 values in the model; they are split evenly over ten tensors."""
        return max(10, int(self.megabytes * MEGABYTE / FLOAT32_BYTES) // 10 * 10)


@dataclass(frozen=True)
class Result:
    """What one runner showed in one case; a figure not measured is None and the note says why."""

    round_seconds: float | None
    peak_bytes_beyond_idle: int | None
    note: str = ""
    durations: tuple[float, ...] = ()

    @classmethod
    def of(cls, durations: list[float], peak: int | None, *, note: str = "") -> Self:
        """Take the median over the rounds, because one slow round on a shared machine says nothing."""
        seconds = median(durations) if durations else None
        return cls(seconds, peak, note, tuple(durations))


class Runner(Protocol):
    """A system under test, started anew for each case."""

    @property
    def name(self) -> str:
        """The name in the table; `ours` is the one all others are divided by."""

    def measure(self, case: Case) -> Result:
        """Run the case once and never raise for what the system itself did wrong."""

    def versions(self) -> dict[str, str]:
        """Name the packages whose versions the figures depend on."""
