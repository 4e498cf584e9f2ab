"""The Plan: what the job generator writes and every process reads.

It is JSON, immutable, has a digest, holds no mutable field of the job and does not grow with the
number of workers. Every message on the wire carries its digest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fl_core.errors import MismatchError, SpecError
from fl_core.extensions import Extension

VERSION: Final = 1
LATER: Final = ("initial_model", "early_stopping")
"""Fields that plans did not always have: left out where they say nothing, so that an older plan keeps its digest."""


class Part(BaseModel):
    """A piece of the Plan: frozen, closed to unknown fields, and JSON can say all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Job(Part):
    """Which job this is."""

    name: str
    namespace: str
    uid: str


class Program(Part):
    """The user's code: where it starts, what drives it, its digest (None for an installed module)."""

    entrypoint: str
    framework: str
    sha256: str | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return self.entrypoint.partition(":")[0]

    @property
    def function(self) -> str:
        """The name of the function in it."""
        return self.entrypoint.partition(":")[2]


class InitialModel(Part):
    """The file that the training begins with: its SHA-256, where that is known.

    With a `round` it is another job's checkpoint of that round, and the next one is the first that is trained.
    """

    sha256: str | None = None
    round: int | None = None


class Target(Part):
    """The metric that ends the job early, and the side it must reach."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        """Tell whether this value is good enough."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def check(self, measured: Collection[str]) -> None:
        """Refuse a program that measures other metrics than the target's; nothing measured says nothing."""
        if measured and self.metric not in measured:
            raise SpecError(
                f"spec.target.metric: {self.metric!r} is not among the program's metrics, "
                f"{', '.join(sorted(measured))}; name one of them, or let the program measure it"
            )


class EarlyStopping(Part):
    """After so many measured rounds in a row that were not better by more than `min_delta` the job ends."""

    patience: int
    min_delta: float


class Shortfall(Part):
    """What happens to a round that too few workers finished; `attempts` counts the first one."""

    action: Literal["Retry", "Skip", "Fail"]
    attempts: int


class Selection(Part):
    """Who takes part in a round, and how long the round waits for them; times in seconds."""

    policy: Extension
    per_round: int
    extra: int
    minimum: int
    join_seconds: float
    stall_seconds: float
    deadline_seconds: float
    on_shortfall: Shortfall

    @property
    def asked(self) -> int:
        """How many workers a round asks: those it needs and the spare ones."""
        return self.per_round + self.extra


class SecureAggregation(Part):
    """How updates are summed so that nobody sees a single one; an update counts as `max_examples` at most.

    Each of the `buckets` is a sum of its own; with one, all workers are in it.
    """

    profile: Literal["cross-silo", "cross-device"]
    tolerate: int | None
    bits: Literal[16, 32]
    max_examples: int
    buckets: int = 1


class AdaptiveClip(Part):
    """How the clip norm follows a quantile of the updates' norms, by counts with noise of deviation `count_noise`."""

    quantile: float
    learning_rate: float
    count_noise: float


class Privacy(Part):
    """What bounds how much the models tell of one worker, or of one example.

    `epsilon` is the budget. Of a round's workers `corrupt` may tell the server all they know; the noise of the others
    suffices. Where measurements are `measured`, they are released without noise, and epsilon covers the models only.
    """

    unit: Literal["worker", "example"]
    mechanism: Extension
    adaptive_clip: AdaptiveClip | None = None
    epsilon: float
    delta: float
    corrupt: Annotated[int, Field(ge=0)]
    measured: bool


class Site(Part):
    """A worker with a place of its own; its number comes after those of the pool."""

    name: str
    index: int
    external: bool


class Checkpoint(Part):
    """How often the server saves, and how many checkpoints it keeps."""

    every_rounds: int
    keep: int


class Plan(Part):
    """One compiled job; `workers` are all there may ever be, the sites included.

    With an `evaluation_every` of 0 nobody ever measures the global model.
    """

    version: Literal[1] = VERSION
    job: Job
    seed: int
    rounds: int
    initial_model: InitialModel | None = None
    target: Target | None
    early_stopping: EarlyStopping | None = None
    program: Program
    strategy: Extension
    aggregation: Extension
    compression: tuple[Extension, ...]
    secure_aggregation: SecureAggregation | None = None
    privacy: Privacy | None = None
    selection: Selection
    evaluation_every: int
    checkpoint: Checkpoint
    workers: int
    sites: tuple[Site, ...] = ()
    ready_seconds: float

    @property
    def pool(self) -> int:
        """How many workers there may be that are no sites; theirs are the first numbers."""
        return self.workers - len(self.sites)

    @property
    def done(self) -> int:
        """How many rounds lie behind this job before its first: those of the job that it was forked from."""
        return (self.initial_model and self.initial_model.round) or 0

    def called(self, index: int) -> str:
        """The name of a worker: its site's, or `worker-3`."""
        return self.sites[index - self.pool].name if index >= self.pool else f"worker-{index}"

    def to_json(self) -> str:
        """The canonical text: the same plan gives the same bytes."""
        unset = {name for name in LATER if getattr(self, name) is None}
        return canonical(self.model_dump(mode="json", exclude=unset))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote; refuses what another version of FLJob wrote, and numbers that are not finite."""
        try:
            plan = cls.model_validate_json(text)
        except ValidationError as error:
            raise MismatchError(f"this is not a plan of version {VERSION}: {error}") from error
        for place, number in _not_finite(plan.model_dump(), "plan"):
            raise MismatchError(f"{place} is {number}; expected a finite number")
        return plan

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan file."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MismatchError(f"the plan {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise MismatchError(f"the plan {path} is not UTF-8 text: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical text, as hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def canonical(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with sorted keys and `1.0` written as `1`, because the Kubernetes API server does so too."""
    return json.dumps(
        _whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _not_finite(value: Any, path: str) -> Iterator[tuple[str, float]]:  # noqa: ANN401 - any JSON value
    """Where numbers are that JSON has not: pydantic reads them in a program's config and in options."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    parts = value.items() if isinstance(value, dict) else ()
    for name, part in enumerate(value) if isinstance(value, list | tuple) else parts:
        yield from _not_finite(part, f"{path}.{name}")


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value
