"""Where a job begins that begins with a model's file, or goes on from another job's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from fl_core.digests import file_digest
from fl_core.errors import JobError, MismatchError, StorageError, UnusableError, UpdateError
from fl_core.lineage import begun_anew, check_fork
from fl_core.models import INDEX, astray, checkpoints, read_model
from fl_core.plan import Plan
from fl_core.privacy.chain import Head, check_reaches
from fl_core.privacy.ledger import looked_at
from fl_core.states import States
from fl_core.weights import Manifest, Weights, check_finite
from fl_server.checkpoints import Saved, legible, read
from fl_server.model import Model
from fl_server.privacy import LEDGER

log = structlog.get_logger()

FIELD = "spec.initialModel"


@dataclass(frozen=True, slots=True)
class Start:
    """The model before the first round, how many rounds are done, what its makers remember, the best so far."""

    model: Model
    round: int = 0
    states: States = field(default_factory=dict)
    best: Saved | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that the plan speaks of, in its place; all that is wrong with it is MismatchError."""

    plan: Plan
    path: Path

    @classmethod
    def of(cls, plan: Plan, path: Path | None) -> Origin | None:
        """The plan's; None for a job that begins with a worker's weights."""
        if (plan.initial_model is None) != (path is None):
            raise MismatchError(
                f"{FIELD}: the plan has {'none' if path else 'one'}, and --initial-model is "
                f"{path or 'missing'}; expected both or neither"
            )
        return cls(plan, path) if path is not None else None

    @property
    def ledgers(self) -> tuple[Path, ...]:
        """The parent's privacy ledger, which lies in its storage beside the folder of its checkpoints."""
        ledger = self._storage / LEDGER
        return (ledger,) if self._round is not None and ledger.exists() else ()

    def check(self) -> None:
        """Refuse a file that is not the one that is meant."""
        wanted = self.plan.initial_model.sha256 if self.plan.initial_model else None
        try:
            found = file_digest(self.path)
        except OSError as error:
            raise MismatchError(
                f"{FIELD}: {self.path} cannot be read: {error.strerror}{self._others()}"
            ) from error
        if wanted not in {None, found}:
            raise MismatchError(
                f"{FIELD}.sha256: {wanted} is not the digest of {self.path}, which is {found}; put the right file "
                "there, or start a new job with this one"
            )

    def check_ledgers(self, given: Sequence[Path]) -> None:
        """Refuse a fork to which these ledgers do not tell all that its parent had spent by the checkpoint."""
        if self._round is None:
            return
        self.check()
        facts = self._read().facts
        before = facts["makers"]["job"]
        found = {path: looked_at(path) for path in given}
        path = next((one for one, (opening, *_) in found.items() if opening.job == before), None)
        if path is None:
            there = (
                " and ".join(f"{one} of job {opening.job}" for one, (opening, *_) in found.items()) or "none"
            )
            raise MismatchError(
                f"{FIELD}: {self.path} was made by job {before}, but what lies there is {there}; "
                f"put {LEDGER} and {LEDGER}.head of {before} there, from its storage; nothing was changed"
            )
        with legible(f"what {self.path} knows of its job's privacy ledger"):
            head = Head(int(facts["ledger"]["entries"]), str(facts["ledger"]["digest"]))
        try:
            check_reaches(path, found[path][2], head)
        except JobError as error:
            raise MismatchError(
                f"{FIELD}: what its parent spent up to round {self._round} is not known: {error}; the newest "
                f"is {LEDGER}, with {LEDGER}.head, in the storage of job {before}; nothing was changed"
            ) from error

    def start(self, given: Model) -> Start:
        """What the file gives, in the order of the arrays of the worker's model; refuses other arrays."""
        found = self._read()
        before = found.facts.get("makers", {})
        start = Start(self._fitting(found.weights, given.manifest, clip=found.facts.get("clip", 0.0)))
        if self._round is None:
            log.info("begun with a model", path=str(self.path), model=start.model.digest)
            return start
        anew = begun_anew(before, self.plan)
        log.info("forked", parent=before.get("job"), after=self._round, anew=anew)
        model = replace(start.model, clip=0.0) if "privacy" in anew else start.model
        best = None if "score" in anew else self._best()
        return Start(model, self._round, _kept(found.states, anew), best)

    @property
    def _round(self) -> int | None:
        return self.plan.initial_model.round if self.plan.initial_model else None

    @property
    def _storage(self) -> Path:
        return self.path.parent.parent

    def _read(self) -> Saved:
        """The file's arrays, and all that a checkpoint knows."""
        try:
            if self._round is None:
                return Saved(read_model(self.path).arrays, {})
            found = read(self.path)
        except (StorageError, UnusableError) as error:
            raise MismatchError(f"{FIELD}: {error}") from error
        if (there := found.facts.get("round")) != self._round:
            raise MismatchError(
                f"{FIELD}.round: {self.path} is the checkpoint of round {there}, not of {self._round}"
            )
        if sentence := astray(self._storage, found.claim):
            raise MismatchError(
                f"{FIELD}: {self.path} {sentence}; put a copy of it back, or take another round"
            )
        before: Mapping[str, Any] = found.facts.get("makers", {})
        check_fork(before, self.plan)
        if before.get("privacy") is not None and not self.ledgers:
            raise MismatchError(
                f"{FIELD}: what the parent spent of its privacy is not known: there is no {self._storage / LEDGER}; "
                "put it there, from the parent's storage"
            )
        return found

    def _fitting(self, weights: Weights, wanted: Manifest, *, clip: float) -> Model:
        ordered = wanted.ordered(weights)
        try:
            check_finite(ordered, whose=str(self.path))
            different = wanted.difference(Manifest.of(ordered))
        except (MismatchError, UpdateError) as error:
            raise MismatchError(f"{FIELD}: {error}") from error
        if different:
            raise MismatchError(f"{FIELD}: {self.path} does not fit the workers' program: {different}")
        return Model.of(ordered, clip=clip)

    def _best(self) -> Saved | None:
        """The best model, where it was made before the fork and is kept."""
        path = self._storage / "models" / "best.safetensors"
        try:
            best = read(path) if path.exists() else None
        except (StorageError, UnusableError) as error:
            log.warning("the parent's best model is passed over", reason=str(error))
            return None
        return best if best is not None and best.facts["round"] <= (self._round or 0) else None

    def _others(self) -> str:
        """Which checkpoints there are, where one was meant that is no more."""
        if self._round is None:
            return ""
        index = self._storage / INDEX
        listed = index.read_text(encoding="utf-8") if index.is_file() else ""
        named = (Path(line).name for line in listed.splitlines() if line.startswith("checkpoints/"))
        kept = sorted({*named, *(path.name for path in checkpoints(self.path.parent).values())})
        return f"; there are {', '.join(kept)}, as its spec.server.checkpoint.keep says" if kept else ""


def _kept(states: States, anew: tuple[str, ...]) -> States:
    """Without the memories of what is another one now; stages go by numbers."""
    owner = {"strategy": "strategy", "sums": "secure_aggregation"}
    return {name: state for name, state in states.items() if owner.get(name, "compression") not in anew}
