"""Whether a record can be believed: its chain, its signature, its plan, and the models that lie beside it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_core import attestation
from fl_core.digests import file_digest
from fl_core.errors import MismatchError, StorageError
from fl_core.images import used
from fl_core.models import StoredModel, checkpoints
from fl_core.plan import Plan
from fl_core.record import (
    LINES,
    SIGNATURE,
    Finding,
    Head,
    Record,
    Row,
    against,
    made,
    read,
    resealed,
    standing,
)
from fl_core.seals import broken

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a record: what is wrong, and what a reader should know besides."""

    record: Record
    rounds: Sequence[Row]
    """Of each round that stands what its place in the record hangs on."""
    signed: Json | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def document(self) -> Json:
        """Everything a program wants to know."""
        return {
            "whole": not self.findings,
            "lines": self.record.head.lines,
            "rounds": len(self.rounds),
            "signed": self.signed is not None,
            "findings": [
                {"line": one.line, "round": one.round, "sentence": one.sentence} for one in self.findings
            ],
            "notes": list(self.notes),
        }


def verify(storage: Path, plan: Plan, *, authorities: Sequence[bytes], over: bool) -> Verdict:
    """Look through a job's storage; `over` says that the job has ended and so must be signed.

    Without an authority (PEM) the signature is held against the one that came with it, and a note says so.
    """
    record = record_in(storage, plan)
    findings, notes = list(record.findings), []
    if record.torn:
        notes.append("an unfinished line follows, as a crash leaves it; it is no part of the record")
    signed, more, said = _signature(storage, plan, record, authorities=authorities, over=over)
    findings += more
    notes += said
    if not record.findings:
        findings += broken(record, job=plan.job.uid, authorities=authorities)
    rounds = [record.links[place] for place in standing(record.links)]
    if not record.findings:
        last = rounds[-1]["round"] if rounds else plan.done
        findings += _models(storage, record, done=plan.done, last=last, over=over)
    return Verdict(record, rounds, signed, tuple(findings), tuple(notes))


def record_in(storage: Path, plan: Plan) -> Record:
    """The lines in a job's storage; none where there is no file."""
    path = storage / LINES
    try:
        return read(path.read_bytes() if path.exists() else b"", plan.digest)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def envelope_in(storage: Path) -> Json | None:
    """What the server signed, unread; None where it has signed nothing."""
    path = storage / SIGNATURE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MismatchError(f"{path} is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def unsigned(verdict: Verdict, plan: Plan, storage: Path, *, state: str) -> Json:
    """The statement that a server would sign now; nobody has."""
    made = next((row for row in reversed(verdict.rounds) if row.get("model")), None)
    now = dt.datetime.now(dt.UTC)
    ending = attestation.Ending(state, now, made["model"] if made else "", made["round"] if made else 0)
    last = storage / "models" / "last.safetensors"
    files = {LINES: storage / LINES} | ({"models/last.safetensors": last} if last.exists() else {})
    try:
        digests = {name: file_digest(path, missing_ok=True) for name, path in files.items()}
    except OSError as error:
        raise StorageError(f"{storage} cannot be read: {error.strerror}") from error
    record = verdict.record
    return attestation.statement(plan, record.head, ending, files=digests, images=used(record.rows()))


def _signature(
    storage: Path, plan: Plan, record: Record, *, authorities: Sequence[bytes], over: bool
) -> tuple[Json | None, list[Finding], list[str]]:
    """The signed statement, if there is one; what is wrong with it; what else is to be said."""
    try:
        content = _content(storage, plan, authorities)
    except MismatchError as error:
        return None, [Finding(f"{SIGNATURE}: {error}")], []
    if content is None:
        sentence = f"there is no {SIGNATURE}: nobody has signed where the record ends"
        return None, [Finding(sentence)] if over else [], [] if over else [sentence]
    said = content["predicate"]
    notes = [] if authorities else [f"{SIGNATURE}: nobody vouches for its authority; give --ca FILE"]
    findings = [] if said["plan"] == plan.digest else [Finding(f"{SIGNATURE} is of another plan")]
    head = Head(said["record"]["lines"], said["record"]["last"])
    if end := against(record, head):
        findings.append(end)
    elif (later := record.head.lines - head.lines) > 0 and not record.findings:
        notes.append(f"line {head.lines} is the last that is signed; {later} came since")
    notes += _absent(storage, content)
    return content, findings + _files(storage, content), notes


def _content(storage: Path, plan: Plan, authorities: Sequence[bytes]) -> Json | None:
    """What was signed; None where nobody has signed, MismatchError for a signature that does not hold."""
    envelope = envelope_in(storage)
    if envelope is None:
        return None
    content = attestation.content_of(envelope)
    trusted = authorities or [attestation.authority_in(envelope)]
    attestation.check(envelope, job=plan.job.uid, authorities=trusted)
    return content


def _files(storage: Path, content: Json) -> list[Finding]:
    """Files that are not those that were signed; a record may have gone on, and has a chain to show it."""
    found = []
    for one in content["subject"]:
        path = storage / str(one["name"])
        if one["name"] == LINES or not path.is_file():
            continue
        if file_digest(path) != one["digest"]["sha256"]:
            found.append(Finding(f"{one['name']} is not the file that was signed"))
    return found


def _absent(storage: Path, content: Json) -> list[str]:
    """Files that were signed and are not here, which is no fault: a run may be given away without its models."""
    names = [str(one["name"]) for one in content["subject"] if one["name"] != LINES]
    absent = [name for name in names if not (storage / name).exists()]
    return [f"{name} was signed and is not here, so nothing is said of it" for name in absent]


def _models(storage: Path, record: Record, *, done: int, last: int, over: bool) -> Iterable[Finding]:
    """Models and checkpoints that no round of the record made, one that was given up or not.

    A fork's best may be of a round `done` before it; one that goes on may have committed the round after the `last`.
    """
    of_round = made(record.links)
    kept = checkpoints(storage / "checkpoints").values()
    paths = [*storage.glob("models/*.safetensors"), *kept]
    for path in sorted(paths):
        try:
            stored = StoredModel.read(path)
        except StorageError as error:
            yield Finding(str(error))
            continue
        known = of_round.get(stored.round, [])
        inherited = (path.stem == "best" and stored.round < done) or (stored.round == done and not known)
        sentence = "" if inherited else _stray(stored, known, last=last, over=over)
        if sentence := sentence or (resealed(record, stored.claim) if path in kept else ""):
            yield Finding(f"{path.parent.name}/{path.name} {sentence}")


def _stray(stored: StoredModel, known: Sequence[str], *, last: int, over: bool) -> str:
    """Why a model is not one of the `known` ones of its round; empty where it is, or may yet be."""
    number, digest = stored.round, str(stored.facts.get("digest", ""))
    if digest in known:
        return ""
    if known and number <= last:
        return f"is the model {digest[:12]}, while round {number} made {known[-1][:12]}"
    if over or number != last + 1:
        return f"is of round {number}, of which the record has no line"
    return ""
