"""The server's storage: checkpoints, the best and the last model, and a JSON line for each round."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import structlog

from fl_core import durable
from fl_core.attestation import Ending
from fl_core.durable import Guard
from fl_core.errors import StorageError, UnusableError
from fl_core.identity import Credentials
from fl_core.plan import Plan, canonical
from fl_core.record import LINES
from fl_core.replay import Replay
from fl_core.seals import Seal
from fl_core.steps import reached
from fl_server.checkpoints import Checkpoints, Saved, read, unwritten, write
from fl_server.download import Patient
from fl_server.fence import Fence, Owner
from fl_server.mirror import Mirror, MirroredFence, final_at_first
from fl_server.objects import opened
from fl_server.record import Resumed, RoundRecord
from fl_server.sentences import way_out

log = structlog.get_logger()


class Lines:
    """A file of JSON lines to which whole ones are added `within` a fence, each on the disk before `add` returns."""

    def __init__(self, path: Path, within: Guard = nullcontext) -> None:
        self.path = path
        self._within = within

    def add(self, row: dict[str, Any]) -> str:
        """Append one line, and return it."""
        line = canonical(row)
        try:
            with self._within():
                durable.append(self.path, f"{line}\n".encode())
        except OSError as error:
            raise unwritten(error)(f"{self.path} cannot be written: {error.strerror}") from error
        return line

    def whole(self) -> bytes:
        """All whole lines; a last one that a crash left unfinished is cut off."""
        try:
            text = self.path.read_bytes() if self.path.exists() else b""
            if text.endswith(b"\n") or not text:
                return text
            with self._within():  # what seems unfinished may be what a newer server is writing
                whole = _finished(self.path.read_bytes())
                os.truncate(self.path, len(whole))
                durable.sync(self.path)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror}") from error
        return whole

    def read(self) -> list[dict[str, Any]]:
        """The rows of all whole lines."""
        try:
            return [json.loads(line) for line in self.whole().splitlines()]
        except ValueError as error:
            raise UnusableError(
                f"{self.path} is damaged: {error}; nothing was changed: {way_out(self.path.parent)}"
            ) from error


def _finished(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


class Storage:
    """One folder that belongs to one job, and to one server of it: the newest that has made one of these.

    `parents` are the privacy ledgers of the jobs that it was forked from, `holder` this server's pod, if any.
    `replay` is the record that the job follows, if it follows one. With the URI of a `store` what is kept is what is
    there: the folder becomes that at first. The record's lines are signed with the `seal`.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        store: str | None = None,
        parents: Sequence[Path] = (),
        replay: Replay | None = None,
        holder: str = "",
        seal: Seal | None = None,
    ) -> None:
        self.folder = folder
        self.parents = parents
        self.replay = replay
        self.spool = folder / "spool"
        with final_at_first(folder, holder=holder):
            self._objects = Patient(opened(store)) if store else None
        self.fence = self._fenced(Owner.of(plan), holder)
        for made in (self.spool, folder / "checkpoints", folder / "models"):
            durable.folder(made)
            durable.sweep(made)
            durable.settle(made)
        durable.sweep(folder)
        durable.settle(folder)
        within, path = self.fence.held, folder / LINES
        self._record = RoundRecord(Lines(path, within), path, plan, within, seal=seal)
        self.sessions = Lines(folder / "sessions.jsonl", within)
        self.attempts = Lines(folder / "attempts.jsonl", within)
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            plan.digest,
            plan.checkpoint.keep,
            within,
            plan.done,
            together=self.fence.together,
            every=plan.checkpoint.every_rounds if plan.secure_aggregation else 1,
        )

    def _fenced(self, owner: Owner, holder: str) -> Fence | MirroredFence:
        fence = Fence(self.folder, owner, holder=holder)
        if self._objects is None:
            return fence
        with final_at_first(self.folder, holder=holder):
            mirror = Mirror(self._objects, self.folder, owner, holder=holder)
        return MirroredFence(fence, mirror)

    def tell(self, told: Callable[[str], object]) -> None:
        """Let `told` hear that the store does not answer, and, with no word, that it does again."""
        if self._objects is not None:
            self._objects.told = told

    def keep_model(self, kind: str, saved: Saved) -> None:
        """Write models/<kind>.safetensors, where kind is `best` or `last`; the same model gives the same bytes."""
        if kind == "last":
            reached("finish", saved.facts["round"])
        facts = {name: fact for name, fact in saved.facts.items() if name != "plan"}
        write(
            self.folder / "models" / f"{kind}.safetensors",
            Saved(saved.weights, facts),
            within=self.fence.held,
        )

    def model(self, kind: str) -> Saved | None:
        """Read models/<kind>.safetensors; None when there is none, or none that is whole."""
        path = self.folder / "models" / f"{kind}.safetensors"
        try:
            return read(path) if path.exists() else None
        except (StorageError, UnusableError) as error:
            log.warning("damaged model passed over", path=str(path), reason=str(error))
            return None

    def record(self, row: dict[str, Any], *, best: Saved | None = None) -> str:
        """Append one round's line to metrics.jsonl, and return it; a model that is the `best` is kept before."""
        with self.fence.together():
            if best is not None:
                self.keep_model("best", best)
            reached("record", row["round"])
            return self._record.add(row)

    def newest(self, told: Callable[[str], object] = lambda _: None) -> Saved | None:
        """The newest checkpoint that is whole and has the model that the record has after its round."""
        return self.checkpoints.newest(told, self._record.compared())

    def resumed(self, number: int, *, model: str, made: bool) -> Resumed:
        """How the job goes on from this round's model, which the round `made` unless it is the first."""
        return self._record.resumed(number, model=model, made=made)

    def sign(self, ending: Ending, credentials: Credentials) -> None:
        """Write record.sig.json: what the job came to, signed with the server's key."""
        last = self.folder / "models" / "last.safetensors"
        files = {"models/last.safetensors": last} if last.exists() else {}
        self._record.sign(ending, credentials, files=files)
