"""Whether a record can be believed: its chain, its signature, its plan, and the models that lie beside it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
    Claim,
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

    Without an authority (PEM) the signature is held against the one that came with it, and a note says so. The lines
    are read last, so that those of a job that goes on are not behind what they are held against.
    """
    signed, false = _signed(storage, plan, authorities)
    models = list(_models(storage))
    record = record_in(storage, plan)
    findings, notes = [*record.findings, *false], []
    if record.torn:
        notes.append("an unfinished line follows, as a crash leaves it; it is no part of the record")
    if signed is not None:
        more, said = _signature(storage, plan, record, signed)
        findings += more
        notes += said + (
            [] if authorities else [f"{SIGNATURE}: nobody vouches for its authority; give --ca FILE"]
        )
    elif not false:
        sentence = f"there is no {SIGNATURE}: nobody has signed where the record ends"
        findings += [Finding(sentence)] if over else []
        notes += [] if over else [sentence]
    if not record.findings:
        findings += broken(record, job=plan.job.uid, authorities=authorities)
    rounds = [record.links[place] for place in standing(record.links)]
    if not record.findings:
        findings += _strays(models, record, done=plan.done, over=over)
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


def _signed(storage: Path, plan: Plan, authorities: Sequence[bytes]) -> tuple[Json | None, list[Finding]]:
    """What was signed, None where nobody has signed; what is wrong with a signature that does not hold."""
    try:
        envelope = envelope_in(storage)
        if envelope is None:
            return None, []
        content = attestation.content_of(envelope)
        trusted = authorities or [attestation.authority_in(envelope)]
        attestation.check(envelope, job=plan.job.uid, authorities=trusted)
    except MismatchError as error:
        return None, [Finding(f"{SIGNATURE}: {error}")]
    return content, []


def _signature(storage: Path, plan: Plan, record: Record, content: Json) -> tuple[list[Finding], list[str]]:
    """What is not as it was signed; what else is to be said of that."""
    said = content["predicate"]
    findings = [] if said["plan"] == plan.digest else [Finding(f"{SIGNATURE} is of another plan")]
    notes = []
    head = Head(said["record"]["lines"], said["record"]["last"])
    if end := against(record, head):
        findings.append(end)
    elif (later := record.head.lines - head.lines) > 0 and not record.findings:
        notes.append(f"line {head.lines} is the last that is signed; {later} came since")
    return findings + _files(storage, content), notes + _absent(storage, content)


def _files(storage: Path, content: Json) -> list[Finding]:
    """Files that are not those that were signed; a record may have gone on, and has a chain to show it.

    So has a model of a later round, which a run that was resumed writes before it signs anew: it is held against that.
    """
    found = []
    for one in content["subject"]:
        path = storage / str(one["name"])
        if one["name"] == LINES or not path.is_file() or file_digest(path) == one["digest"]["sha256"]:
            continue
        if not _is_later(path, content["predicate"]["round"]):
            found.append(Finding(f"{one['name']} is not the file that was signed"))
    return found


def _is_later(path: Path, signed: int) -> bool:
    with suppress(StorageError):
        return StoredModel.read(path).round > signed
    return False


def _absent(storage: Path, content: Json) -> list[str]:
    """Files that were signed and are not here, which is no fault: a run may be given away without its models."""
    names = [str(one["name"]) for one in content["subject"] if one["name"] != LINES]
    absent = [name for name in names if not (storage / name).exists()]
    return [f"{name} was signed and is not here, so nothing is said of it" for name in absent]


@dataclass(frozen=True, slots=True)
class _Model:
    """A model's file in a storage, by its place there, and what it says that it is."""

    place: Path
    claim: Claim


def _models(storage: Path) -> Iterator[_Model | str]:
    """Models and checkpoints; of one that is damaged, a sentence. The server may let go of one meanwhile."""
    for path in sorted(
        [*storage.glob("models/*.safetensors"), *checkpoints(storage / "checkpoints").values()]
    ):
        try:
            claim, place = StoredModel.read(path).claim, path.relative_to(storage)
            yield (
                _Model(place, claim)
                if claim.seal
                else f"{place} has no seal, which all that a server keeps has"
            )
        except StorageError as error:
            if path.exists():
                yield str(error)


def _strays(models: Iterable[_Model | str], record: Record, *, done: int, over: bool) -> Iterator[Finding]:
    """Models that no round of the record made, one that was given up or not, and what is damaged.

    A fork's best may be of a round `done` before it; one that goes on may have committed the round after the last.
    """
    of_round, last = made(record.links), record.last or done
    for one in models:
        if isinstance(one, str):
            yield Finding(one)
            continue
        claim, place = one.claim, one.place
        known = of_round.get(claim.round, [])
        inherited = (place.stem == "best" and claim.round < done) or (claim.round == done and not known)
        sentence = "" if inherited else _stray(claim, known, last=last, over=over)
        if not sentence and place.parent.name == "checkpoints":
            sentence = resealed(record, claim)
        if sentence:
            yield Finding(f"{place} {sentence}")


def _stray(claim: Claim, known: Sequence[str], *, last: int, over: bool) -> str:
    """Why a model is not one of the `known` ones of its round; empty where it is, or may yet be."""
    number, digest = claim.round, claim.model
    if digest in known:
        return ""
    if known and number <= last:
        return f"is the model {digest[:12]}, while round {number} made {known[-1][:12]}"
    if over or number != last + 1:
        return f"is of round {number}, of which the record has no line"
    return ""
