"""The lines of a privacy ledger: what each says, and how each vouches for those before it.

A line is canonical JSON of an entry and of a SHA-256 over the entry and the digest of its predecessor, so a line that
was changed, lost or moved shows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fl_core.errors import UnusableError
from fl_core.extensions import Extension
from fl_core.privacy.costs import Cost, Neighbours, Unit

FORMAT = "fljob privacy ledger 1"
WAY_OUT = (
    "nothing may be released until it is known what was; restore the file from a copy that is not older, "
    "or start another job"
)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Parent(_Entry):
    """A job that this one was forked from, by way of others perhaps: whose releases count here too."""

    job: Annotated[str, Field(min_length=1)]
    adversary: str
    """Against whom the epsilon of its own releases holds."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the last line that its ledger had at the fork, and so of all of it."""

    charges: Annotated[int, Field(ge=0)]
    """How many of the charges below are its own."""


class Opening(_Entry):
    """The first line: what an epsilon of this ledger is about."""

    kind: Literal["opening"] = "opening"
    format: Literal["fljob privacy ledger 1"] = "fljob privacy ledger 1"
    job: Annotated[str, Field(min_length=1)]
    """The uid of the job."""

    unit: Unit
    neighbours: Neighbours
    adversary: str
    delta: Annotated[float, Field(gt=0, lt=1)]
    parents: tuple[Parent, ...] = ()
    """The jobs whose charges stand below before any of its own."""


class Charge(_Entry):
    """One release that is about to happen."""

    kind: Literal["charge"] = "charge"
    job: Annotated[str, Field(min_length=1)]
    round: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=0)]
    released: Annotated[str, Field(min_length=1)]
    """What: the update, with the votes on the clip norm where there are any; measurements are not charged."""

    mechanism: Extension
    costs: Annotated[tuple[Cost, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Head:
    """How many entries there are, and the digest of the last, which stands for all."""

    entries: int
    digest: str


Entry = Annotated[Opening | Charge, Field(discriminator="kind")]
_ENTRY: TypeAdapter[Opening | Charge] = TypeAdapter(Entry)


def sorted_out(entries: Sequence[Opening | Charge], path: Path) -> tuple[Opening, tuple[Charge, ...]]:
    """The opening, which comes first and once, and the charges."""
    opening, *rest = entries
    charges = tuple(one for one in rest if isinstance(one, Charge))
    if not isinstance(opening, Opening) or len(charges) < len(rest):
        raise UnusableError(f"{path} is damaged: an opening and then charges are expected; {WAY_OUT}")
    others = Counter(one.job for one in charges if one.job != opening.job)
    if others != {one.job: one.charges for one in opening.parents if one.charges}:
        raise UnusableError(
            f"{path} is damaged: it has charges of {dict(others) or 'no other job'}, its opening names "
            f"{ {one.job: one.charges for one in opening.parents} or 'none' }; {WAY_OUT}"
        )
    return opening, charges


def line(entry: Opening | Charge, before: str) -> tuple[str, str]:
    """The line of an entry that follows the digest `before`, and its own digest."""
    body = canonical(entry.model_dump(mode="json"))
    digest = hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()
    return f'{{"digest":"{digest}","entry":{body}}}\n', digest


def chained(entries: Iterable[Opening | Charge]) -> tuple[list[str], Head]:
    """The lines of a whole ledger, and its head."""
    lines, digest = [], FORMAT
    for entry in entries:
        text, digest = line(entry, digest)
        lines.append(text)
    return lines, Head(len(lines), digest)


def parsed(content: bytes, path: Path) -> tuple[list[Opening | Charge], list[str]]:
    """The entries and the digest of each; refuses what was not written by a ledger to the last byte."""
    if not content.endswith(b"\n"):
        raise UnusableError(f"{path} is damaged: its last line is torn; {WAY_OUT}")
    entries: list[Opening | Charge] = []
    digests: list[str] = []
    for number, text in enumerate(content.decode(errors="replace").splitlines(keepends=True), start=1):
        try:
            entry = _ENTRY.validate_python(json.loads(text)["entry"])
            again, digest = line(entry, digests[-1] if digests else FORMAT)
        except (ValueError, KeyError, TypeError, ValidationError, RecursionError) as error:
            raise UnusableError(f"{path}:{number} is damaged: {error}; {WAY_OUT}") from error
        if again != text:
            raise UnusableError(
                f"{path}:{number} is damaged: the entry or one before it is not what its digest says; {WAY_OUT}"
            )
        entries.append(entry)
        digests.append(digest)
    return entries, digests


def check_reaches(path: Path, digests: Sequence[str], known: Head) -> None:
    """Refuse a ledger that was shortened, or is another, since its head was `known`."""
    if len(digests) < known.entries:
        raise UnusableError(
            f"{path} was shortened: it had {known.entries} entries and has {len(digests)}; {WAY_OUT}"
        )
    if known.entries < 1 or digests[known.entries - 1] != known.digest:
        raise UnusableError(
            f"{path} is another ledger: its entry {known.entries} is not the one that was seen; {WAY_OUT}"
        )


def canonical(value: Any) -> str:  # noqa: ANN401 - what JSON can say
    """The one spelling of a value that is digested."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
