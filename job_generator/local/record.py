"""The rounds of a run, as the server's `metrics.jsonl` and its observations tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fl_core.errors import StorageError
from fl_core.images import OTHERS, Used, digest_of
from fl_core.record import COMMITTED, RESTORED, standing

if TYPE_CHECKING:
    from rich.table import Table


class Spent(BaseModel):
    """The privacy that was spent: epsilon, with what it depends on as far as that was told."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    epsilon: float
    delta: float | None = None
    budget: float | None = None
    unit: str = "worker"
    neighbours: str = ""
    adversary: str = ""
    epsilon_covers: str = "everything"

    def __str__(self) -> str:
        of = f" of {self.budget:g}" if self.budget is not None else ""
        return f"epsilon {self.epsilon:.3g}{of}{self.meaning}"

    @property
    def meaning(self) -> str:
        """What is said behind every epsilon, as far as it was told."""
        at = f" at delta {self.delta:g}" if self.delta is not None else ""
        about = f", for one {self.unit}" + (f" ({self.neighbours})" if self.neighbours else "")
        against = f", against {self.adversary}" if self.adversary else ""
        covers = "; the measurements are not covered" if self.epsilon_covers == "modelOnly" else ""
        return f"{at}{about}{against}{covers}"


class ClosedRound(BaseModel):
    """One round that is over, or the word that later ones are given up; seconds and bytes by what took them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    round: int
    line: int = 0
    """Its number in the record, from 1."""
    attempt: int = 1
    result: str = COMMITTED
    reason: str = ""
    model: str = ""
    cohort: tuple[str, ...] = ()
    reporters: tuple[str, ...] = ()
    dropouts: dict[str, str] = Field(default_factory=dict)
    examples: int = 0
    metrics: dict[str, float | None] = Field(default_factory=dict)
    train: dict[str, float | None] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    bytes: dict[str, int] = Field(default_factory=dict)
    privacy: Spent | None = None
    selection: dict[str, Any] = Field(default_factory=dict)
    earlier: tuple[dict[str, Any], ...] = ()
    """The attempts that were given up."""

    @property
    def losses(self) -> dict[str, str]:
        """Who dropped out of any attempt, and why it did last."""
        return {worker: why for dropouts in self.dropouts_by_attempt for worker, why in dropouts.items()}

    @property
    def dropouts_by_attempt(self) -> Sequence[Mapping[str, str]]:
        """Who dropped out of each attempt, and why: one that is late in the first may be lost in the second."""
        return [*(attempt["dropouts"] for attempt in self.earlier), self.dropouts]

    @property
    def refused(self) -> dict[str, str]:
        """Who was there and not let in, and why."""
        return dict(self.selection.get("refused", {}))

    @property
    def committed(self) -> bool:
        """Whether the round made a new model."""
        return self.result == COMMITTED

    @property
    def restored(self) -> bool:
        """Whether this is no round that is over: the server went back to this one's model."""
        return self.result == RESTORED

    @property
    def why_skipped(self) -> str:
        """Why nothing came of the round, without its number; or else who dropped out of it."""
        said = self.reason.removeprefix(f"round {self.round}").lstrip(":, ")
        return said or "; ".join(f"{name}: {reason}" for name, reason in self.dropouts.items())

    @property
    def total_seconds(self) -> float:
        """How long the round took."""
        return self.seconds.get("total", 0.0)

    @property
    def loss(self) -> float | None:
        """The evaluated loss, or else that of the training."""
        evaluated = self.metrics.get("loss")
        return self.train.get("loss") if evaluated is None else evaluated

    @property
    def scores(self) -> dict[str, float]:
        """The evaluated metrics other than the loss."""
        return {name: value for name, value in self.metrics.items() if name != "loss" and value is not None}

    @classmethod
    def from_json(cls, line: str) -> ClosedRound:
        """Read one line of the record."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise StorageError(f"this is not a line of a run's record: {line[:80]!r}") from error


def read_record(path: Path) -> list[ClosedRound]:
    """Read the rounds in order; a round that was replayed counts once, an unfinished last line not at all."""
    return latest(read_lines(path))


def read_lines(path: Path) -> list[ClosedRound]:
    """Read all whole lines in order, with those that the server gave up and those that say so."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [ClosedRound.from_json(line) for line in text[: text.rfind("\n") + 1].splitlines() if line]


def latest(rounds: Iterable[ClosedRound]) -> list[ClosedRound]:
    """Each round as it was closed last, in order; those that a server gave up, for it went back, are left out."""
    told = list(rounds)
    return [told[place] for place in standing([{"round": one.round, "result": one.result} for one in told])]


def record_table(rounds: list[ClosedRound]) -> Table:
    """Draw all rounds: who took part, the metrics, the privacy spent, the seconds, and which model came of it."""
    from rich import box  # noqa: PLC0415 - the operator reads rounds and draws none
    from rich.table import Table  # noqa: PLC0415

    columns = list(_columns(rounds))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2))
    for title, _ in columns[:-1]:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(columns[-1][0], no_wrap=True)
    for closed in rounds:
        table.add_row(*(cell(closed) for _, cell in columns), style="" if closed.committed else "yellow")
    return table


def images_table(images: Iterable[Used]) -> Table:
    """Draw which images servers and workers said they ran in, whether a digest pins each, and in how many rounds."""
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2))
    table.add_column("ROLE")
    table.add_column("ROUNDS", justify="right")
    table.add_column("NAMED BY")
    table.add_column("IMAGE, AS THE PROCESS WAS TOLD", overflow="fold")
    for one in images:
        by = "digest" if digest_of(one.reference) else "-" if one.reference == OTHERS else "tag"
        table.add_row(one.role, str(one.rounds), by, one.reference)
    return table


def _columns(rounds: list[ClosedRound]) -> Iterator[tuple[str, Callable[[ClosedRound], str]]]:
    """Each column's title, and what it says of a round; metrics and privacy only where some round has them."""
    yield "ROUND", lambda closed: str(closed.round)
    yield "TRY", lambda closed: str(closed.attempt)
    yield "RESULT", lambda closed: closed.result
    yield "COHORT", lambda closed: f"{len(closed.reporters)}/{len(closed.cohort)}"
    yield "LOST", lambda closed: str(len(closed.dropouts))
    yield "LOSS", lambda closed: _figure(closed.loss, 4)
    for name in dict.fromkeys(name for closed in rounds for name in closed.scores):
        yield name.upper(), partial(_score, name)
    if any(closed.privacy for closed in rounds):
        yield "EPSILON", lambda closed: _figure(closed.privacy.epsilon if closed.privacy else None, 3)
    yield "SECONDS", lambda closed: f"{closed.total_seconds:.2f}"
    yield "MODEL", lambda closed: closed.model[:12] or f"- {closed.reason}".rstrip()


def _score(name: str, closed: ClosedRound) -> str:
    return _figure(closed.scores.get(name), 4)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def last_evaluated(rounds: list[ClosedRound]) -> ClosedRound | None:
    """Find the newest round that was evaluated."""
    return next((closed for closed in reversed(rounds) if closed.metrics), None)
