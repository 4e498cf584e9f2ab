"""Checkpoints on disk: whole or not there, checked when read, kept `keep` deep.

A checkpoint is one safetensors file: the arrays of the model and of what strategy and stages remember, and
in its metadata the round, the attempt, the plan's digest and a SHA-256 over all of it. It is written under
another name, synced, and renamed.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from safetensors import SafetensorError, safe_open

from fl_core import durable, tensors
from fl_core.durable import Guard
from fl_core.errors import MismatchError, StorageError, UnusableError
from fl_core.models import STATES, base_of, checkpoint_name, checkpoints, seal
from fl_core.plan import canonical
from fl_core.record import Claim
from fl_core.states import States, apart, together
from fl_core.weights import Weights, digest

log = structlog.get_logger()

SPARE_BYTES = 1 << 20
"""What a commit writes besides checkpoint and model: lines of the record, of the sessions, of the ledger."""


class FullError(StorageError):
    """There is no room for a file now."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A model, what is known of it (round, attempt, plan, metrics), and what its makers remember.

    Whoever knows the digest of the weights already gives it, and spares finding it again.
    """

    weights: Weights
    facts: dict[str, Any]
    states: States = field(default_factory=dict)
    digest: str = field(default="", compare=False)
    seal: str = field(default="", compare=False)
    """What all of it hashes to, once it was read."""

    @property
    def claim(self) -> Claim:
        """What it says that it is, to be held against the record."""
        return Claim(self.facts["round"], self.digest, base_of(self.facts), self.seal)


def unwritten(error: OSError) -> type[StorageError]:
    """Which error it is that something could not be written."""
    return FullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else StorageError


def write(path: Path, saved: Saved, *, within: Guard = nullcontext) -> str:
    """Write one file atomically, which takes its name `within` a fence; FullError leaves what was there.

    Gives the seal: what all of it hashes to.
    """
    arrays, _ = apart(saved.states)
    remembered = {f"{STATES}{name}": array for name, array in arrays.items()}
    sealed = _sealed(saved)
    parts = tensors.parts({**saved.weights, **remembered}, {"fljob": canonical(sealed)})
    try:
        durable.folder(path.parent)
        durable.replace(path, *parts, within=within)
    except OSError as error:
        # A newer server sweeps away what its forerunner has not finished: that is said first.
        with suppress(StorageError), within():
            pass
        raise unwritten(error)(
            f"{path} cannot be written: {error.strerror}; earlier checkpoints are whole"
        ) from error
    return str(sealed["sha256"])


def read(path: Path) -> Saved:
    """Read what `write` wrote; UnusableError for a file that is damaged, StorageError for one that cannot be read."""
    try:
        with safe_open(path, "np") as stream:
            sealed = json.loads((stream.metadata() or {})["fljob"])
            weights = {name: stream.get_tensor(name) for name in sealed["arrays"]}
            names = [name for name in stream.keys() if name.startswith(STATES)]  # noqa: SIM118 - no mapping
            arrays = {name.removeprefix(STATES): stream.get_tensor(name) for name in names}
            states = together(arrays, sealed["states"])
            saved = Saved(weights, sealed["facts"], states, digest=digest(weights))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableError(f"{path} is damaged: {error}") from error
    if sealed != _sealed(saved):
        raise UnusableError(f"{path} is damaged: its contents do not have the digest it was written with")
    return replace(saved, seal=sealed["sha256"])


@contextmanager
def legible(what: str) -> Iterator[None]:
    """MismatchError, with what is to be done, where something was kept that this version of FLJob would not write."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise MismatchError(
            f"{what} is damaged, or was written by another version of FLJob ({type(error).__name__}: {error}); nothing "
            "was changed: put a copy back, go on with that version, or start another job from this one's model"
        ) from error


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one job in one folder; a fork has so many rounds `done` at its first.

    `keep` of those stay whose rounds are multiples of `every`, and the newest two of all, or one if `keep` is one.
    """

    folder: Path
    plan: str
    keep: int
    within: Guard = nullcontext
    done: int = 0
    together: Guard = nullcontext
    """What several changes happen within that may become durable at once."""
    every: int = 1

    def save(self, saved: Saved) -> str:
        """Add a checkpoint, then let go of those that need not stay; gives its seal."""
        number = saved.facts["round"]
        with self.together():
            sealed = write(self.folder / checkpoint_name(number), saved, within=self.within)
            with self.within():
                there = checkpoints(self.folder)
                for old in there.keys() - self._staying(there, number):
                    there[old].unlink(missing_ok=True)
        return sealed

    def rounds(self) -> tuple[int, ...]:
        """The rounds of those that there are, newest first."""
        return tuple(checkpoints(self.folder))

    def _staying(self, there: Collection[int], number: int) -> set[int]:
        """Which rounds of those that are `there`, newest first, stay once the one of this number is."""
        milestones = [one for one in there if one % self.every == 0]
        newest = [one for one in there if one <= number]
        return {*milestones[: self.keep], *newest[: min(self.keep, 2)]}

    def check_room(self) -> None:
        """StorageError unless there is room for another checkpoint and for the best model, each whole beside the old.

        They are taken to be as large as the largest checkpoint that is kept.
        """
        try:
            largest = max((path.stat().st_size for path in checkpoints(self.folder).values()), default=0)
            durable.folder(self.folder)
            durable.probe(self.folder, 2 * largest + SPARE_BYTES)
        except OSError as error:
            raise StorageError(
                f"{self.folder} has no room for the next checkpoint: {error.strerror}; earlier checkpoints are whole, "
                "and the round is made again once there is room"
            ) from error

    def newest(
        self,
        told: Callable[[str], object] = lambda _: None,
        stray: Callable[[Saved], str] = lambda _: "",
    ) -> Saved | None:
        """The newest whole checkpoint; damaged ones are passed over, loudly, and `told` hears of each.

        `stray` says of one why the job never had its model, or gave it up, if so: such a one is passed over, too, and
        so is one that has the name of another round.
        Raises UnusableError where a round was committed and no checkpoint is whole: beginning anew is not for a
        program to decide. One that cannot be read now is StorageError: what can be read later is not given up.
        """
        damaged: list[Path] = []
        for number, path in checkpoints(self.folder).items():
            try:
                saved = read(path)
            except StorageError as error:
                raise self._unread(error) from error
            except UnusableError as error:
                log.warning("damaged checkpoint passed over", path=str(path), reason=str(error))
                told(f"{path.name} is damaged and was passed over")
                damaged.append(path)
                continue
            if saved.facts.get("plan") != self.plan:
                raise MismatchError(
                    f"{path} was kept by another job, or under another plan or program; nothing was changed: give "
                    "this job a storage of its own, or go on with the job that this storage was begun with"
                )
            if sentence := _misnamed(saved, number) or stray(saved):
                log.warning("checkpoint passed over", path=str(path), reason=sentence)
                told(f"{path.name} {sentence}, and was passed over")
                damaged.append(path)
                continue
            return saved
        if damaged and damaged[0].name != checkpoint_name(self.done):
            raise UnusableError(
                f"no checkpoint in {self.folder} is whole ({', '.join(one.name for one in damaged)}); put a copy of "
                "one back from a backup, with which `fl-submit run --resume` goes on, or begin anew in another job"
            )
        return None

    def _unread(self, error: StorageError) -> StorageError:
        # A newer server lets go of what an older one is about to read: that is said first.
        with suppress(StorageError), self.within():
            pass
        return StorageError(
            f"{error}; nothing was changed: without it rounds might be given up, so start again once it can be read, "
            "or take it away to go on from an older one"
        )


def _misnamed(saved: Saved, number: int) -> str:
    """Why this is not what a file of this round's name holds; empty where it is."""
    there = saved.facts["round"]
    return "" if there == number else f"is the checkpoint of round {there}"


def _sealed(saved: Saved) -> dict[str, Any]:
    """One text field, because the format keeps several in no order, and the same model is the same file."""
    arrays, states = apart(saved.states)
    content = {"facts": saved.facts, "arrays": list(saved.weights), "states": states}
    return {**content, "sha256": seal(content, saved.digest or digest(saved.weights), arrays)}
