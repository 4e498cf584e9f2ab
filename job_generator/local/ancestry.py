"""What a fork takes from the folder of the run that it goes on from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fl_core import durable
from fl_core.errors import JobError, StorageError
from fl_core.models import StoredModel, astray, checkpoint_name, checkpoints
from fl_core.plan import Plan
from job_generator.amend import not_kept
from job_generator.local.folder import Parent, RunFolder

FOLDER = "parent"
"""In a fork's folder: what it was given, laid as in the parent's storage."""
BESIDE = ("privacy.jsonl.head", "privacy.jsonl", "models/best.safetensors")
"""A parent that still trains writes the ledger first and then its head, so it is read the other way round."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run, the round that a fork of it goes on from, and the plan that it has."""

    run: RunFolder
    round: int
    plan: Plan

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the round."""
        return _checkpoint(self.run.storage, self.round)

    @property
    def told(self) -> Parent:
        """What `run.json` says of it."""
        return Parent(uid=self.plan.job.uid, folder=str(self.run.path.absolute()), round=self.round)

    def stored(self) -> StoredModel:
        """The model to go on from; refuses a round whose checkpoint is not there, naming those that are, and one that
        the parent's record does not have.
        """
        if not self.checkpoint.exists():
            raise JobError(self._missing())
        stored = StoredModel.read(self.checkpoint)
        if (there := stored.facts.get("round", self.round)) != self.round:
            raise StorageError(
                f"{self.checkpoint} is the checkpoint of round {there}; expected that of round {self.round}: fork from "
                "another round, or put a copy of it back"
            )
        if sentence := astray(self.run.storage, stored.claim):
            raise StorageError(
                f"{self.checkpoint} {sentence}; fork from another round, or put a copy of it back"
            )
        return stored

    def hand_over(self, folder: RunFolder) -> Path:
        """Copy what a fork in this folder needs, as the parent may train on; returns the checkpoint's place there."""
        given = folder.path / FOLDER
        target = _checkpoint(given, self.round)
        try:
            _copy(self.checkpoint, target)
            for name in BESIDE:
                if (self.run.storage / name).exists():
                    _copy(self.run.storage / name, given / name)
        except FileNotFoundError:
            raise JobError(self._missing()) from None
        except OSError as error:
            raise StorageError(f"{given} cannot be written: {error.strerror}") from error
        return target.absolute()

    def _missing(self) -> str:
        there = sorted(checkpoints(self.run.storage / "checkpoints"))
        kept = self.plan.checkpoint
        return not_kept(str(self.run.path), self.round, there, every=kept.every_rounds, keep=kept.keep)


def _copy(source: Path, target: Path) -> None:
    """A copy that a power cut does not take."""
    durable.folder(target.parent)
    with durable.whole(target) as temporary:
        shutil.copyfile(source, temporary)


def _checkpoint(storage: Path, number: int) -> Path:
    return storage / "checkpoints" / checkpoint_name(number)
