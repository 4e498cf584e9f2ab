"""What `chaos.yaml` may hold: faults, whom they befall, in which rounds, at which step, how probably.

Everything that is left open is drawn from the file's seed, so the same file does the same again, but for how late each
piece on a connection is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from fl_core.steps import Step
from job_generator.part import Part

MOST_FAULTS = 1_000
LONGEST_SECONDS = 3_600.0

Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
Who = Annotated[str, StringConstraints(pattern=r"^(server|scheduler|worker|workers|worker-[0-9]{1,4}|any)$")]
Worker = Annotated[str, StringConstraints(pattern=r"^(worker|workers|worker-[0-9]{1,4})$")]
RoundNumber = Annotated[int, Field(ge=1, le=1_000_000)]
RoundRange = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}-([1-9][0-9]{0,5})?$")]

DRAWN: tuple[Step, ...] = ("open", "select", "train", "upload", "commit", "record")
"""Of these a step is drawn where none is given: every round of every job has them."""


class Fault(Part):
    """What all faults have in common."""

    own_step: ClassVar[Step | None] = None
    """The only step at which this fault makes sense."""
    whom: ClassVar[str] = "server, scheduler, worker (one of them, drawn), workers (each), worker-3, or any"
    """What `who` may be, in words."""

    round: RoundNumber | RoundRange = "1-"
    """A round, `2-10`, or `4-` for all from the fourth on."""
    every: Annotated[int, Field(ge=1)] = 1
    """Only each so many-th round of the range, from its first on."""
    step: Step | None = None
    """When in the round: once the first process comes there, or the worker that it befalls; drawn if left out."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """In each of the rounds."""

    @property
    def span(self) -> tuple[int, int | None]:
        """The first round that is meant, and the last one, if there is a last one."""
        first, _, last = str(self.round).partition("-")
        begin = int(first)
        return begin, int(last) if last else None if isinstance(self.round, str) else begin

    def falls_in(self, number: int) -> bool:
        """Whether this round is one of them."""
        begin, end = self.span
        return number >= begin and (end is None or number <= end) and (number - begin) % self.every == 0


class Kill(Fault):
    """SIGKILL."""

    fault: Literal["kill"]
    who: Who


class Stop(Fault):
    """SIGSTOP, and SIGCONT after so many seconds."""

    fault: Literal["stop"]
    who: Who
    seconds: Seconds


class Slow(Fault):
    """Its connections get slow for so many seconds: in bandwidth, or each piece is late, or both."""

    fault: Literal["slow"]
    who: Who
    seconds: Seconds
    kilobytes_per_second: Annotated[float, Field(gt=0)] | None = None
    delay_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0


class Reorder(Fault):
    """For so many seconds each piece on its connections waits a time of its own, drawn up to `delay_seconds`.

    Pieces of one connection stay in their order, as TCP's do; those of several overtake each other.
    """

    fault: Literal["reorder"]
    who: Who
    seconds: Seconds
    delay_seconds: Annotated[float, Field(gt=0, le=60)]


class Cut(Fault):
    """Its connections break, and no new one is made for so many seconds; `silent` ones stay and carry nothing."""

    fault: Literal["cut"]
    who: Who
    seconds: Seconds
    silent: bool = False


class Spoilt(Fault):
    """What all faults of a worker's update have in common."""

    whom = "worker (one of them, drawn), workers (each) or worker-3"


class Corrupt(Spoilt):
    """A byte is changed: of the worker's update after its checksum was made, or on the wire below TLS."""

    own_step = "upload"
    fault: Literal["corrupt"]
    who: Worker = "worker"
    what: Literal["update", "connection"] = "update"


class Nan(Spoilt):
    """The worker's program gives an update of not-a-numbers."""

    own_step = "train"
    fault: Literal["nan"]
    who: Worker = "worker"


class SignFlip(Spoilt):
    """The worker's update has the opposite sign: a hostile update that needs no knowledge of labels."""

    own_step = "train"
    fault: Literal["sign_flip"]
    who: Worker = "worker"


class LabelFlip(Spoilt):
    """The worker trains on flipped labels: of the classes 0 to c - 1 each label l becomes c - 1 - l."""

    own_step = "train"
    fault: Literal["label_flip"]
    who: Worker = "worker"


class FullDisk(Fault):
    """The server finds no space left in its storage (ENOSPC) for so many seconds."""

    whom = "server, as it alone has a storage, or no who"
    fault: Literal["full_disk"]
    who: Literal["server"] = "server"
    seconds: Seconds


AnyFault = Kill | Stop | Slow | Reorder | Cut | Corrupt | Nan | SignFlip | LabelFlip | FullDisk
KINDS: dict[str, type[Fault]] = {
    "kill": Kill,
    "stop": Stop,
    "slow": Slow,
    "reorder": Reorder,
    "cut": Cut,
    "corrupt": Corrupt,
    "nan": Nan,
    "sign_flip": SignFlip,
    "label_flip": LabelFlip,
    "full_disk": FullDisk,
}


class Faults(Part):
    """A whole file."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    faults: Annotated[
        tuple[Annotated[AnyFault, Field(discriminator="fault")], ...],
        Field(max_length=MOST_FAULTS),
    ]

    def planned(self, number: int, workers: int) -> list[Planned]:
        """What is to happen in a round, all draws made."""
        return [one for place in range(len(self.faults)) for one in self._drawn(place, number, workers)]

    def _drawn(self, place: int, number: int, workers: int) -> Iterator[Planned]:
        fault = self.faults[place]
        if not fault.falls_in(number):
            return
        for who in _everybody(fault.who, workers):
            dice = Random(f"{self.seed}/{place}/{number}/{who}")  # noqa: S311 - replayed, not secret
            if dice.random() < fault.probability:
                found = _one_of(who, workers, dice)
                yield Planned(place, fault, found, fault.own_step or fault.step or dice.choice(DRAWN))


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault in one round: which of the file's, whom it befalls, at which step."""

    place: int
    fault: AnyFault
    who: str
    step: str


def _everybody(who: str, workers: int) -> Sequence[str]:
    return [f"worker-{index}" for index in range(workers)] if who == "workers" else [who]


def _one_of(who: str, workers: int, dice: Random) -> str:
    """The process that is meant by a role."""
    several = [f"worker-{index}" for index in range(workers)]
    among = {"worker": several, "any": ["server", "scheduler", *several]}
    return dice.choice(among[who]) if who in among else who
