"""The record of a job: a JSON line for each round, each bound to the one before it, the first one to the plan.

    line 1   previous = SHA-256("fljob record 1\\n" + the plan's digest)
    line n   previous = SHA-256(the bytes of line n-1, without its newline)

The plan's digest stands for the job's uid, the program's digest, the seed and all else that was compiled. Whoever
knows the last line's digest therefore knows whether any byte of any line is another (a hash chain: Haber and Stornetta,
"How to time-stamp a digital document", 1991). A line also holds its own number, so that what is missing can be named.

A server that goes back to an older checkpoint does not take lines away. It adds one that says so, and those of later
rounds do not stand any more: `standing`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from fl_core.errors import MismatchError
from fl_core.plan import canonical

LINES: Final = "metrics.jsonl"
"""The file of a record in its job's storage."""
SIGNATURE: Final = "record.sig.json"
"""What the server signed when the job ended, beside it."""

BEGINNING: Final = b"fljob record 1\n"
COMMITTED: Final = "Committed"
SKIPPED: Final = "Skipped"
RESTORED: Final = "Restored"
"""The results of a line: a new model; none; the server went back to the model of this round."""

Row = dict[str, Any]

GIVEN_UP: Final = "was given up when the server went back"
"""What is said of a checkpoint whose round has no line that stands any more."""

LINK: Final = (
    *("round", "result", "line", "previous", "plan", "base", "model", "refused"),
    *("checkpoint", "attempt", "signer", "certificate"),
)
"""What a line's place in the record hangs on."""

EARLIER: Final = (
    "was written by a version of FLJob whose record was no chain: its lines have no `previous`; "
    "let that version finish the job, or run the job anew"
)

UNSIGNED: Final = (
    "has no signed line: a version of FLJob wrote it that signed none, or somebody else changed it; "
    "let that version finish the job, or run the job anew"
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a record ends: how many lines it has, and the digest of the last one."""

    lines: int
    digest: str

    @classmethod
    def of(cls, plan: str) -> Head:
        """The head of a record without lines, by the plan's digest."""
        return cls(0, hashlib.sha256(BEGINNING + plan.encode()).hexdigest())

    def bound(self, row: Mapping[str, Any]) -> Row:
        """The row as the next line holds it."""
        return {**row, "line": self.lines + 1, "previous": self.digest}

    def after(self, line: bytes) -> Head:
        """The head once this line has been added."""
        return Head(self.lines + 1, digest(line))


@dataclass(frozen=True, slots=True)
class Claim:
    """What a checkpoint says that it is; `base` is the model its round began with, `seal` what all of it hashes to.

    The last two are empty where nobody wrote them down.
    """

    round: int
    model: str
    base: str = ""
    seal: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a record: in which line (from 1) and round, as far as it is in one."""

    sentence: str
    line: int | None = None
    round: int | None = None
    gone: int = 0
    """How many lines are missing here."""

    def __str__(self) -> str:
        about = f" (round {self.round})" if self.round is not None else ""
        return f"line {self.line}{about}: {self.sentence}" if self.line is not None else self.sentence


@dataclass(frozen=True)
class Record:
    """A record as it was read: its whole lines, and what is wrong with them."""

    lines: Sequence[bytes]
    links: Sequence[Row]
    """Of each line what the chain and the models hang on: `LINK`; empty where the line is none."""
    head: Head
    findings: tuple[Finding, ...]
    torn: bool = False
    """Whether a line without an end follows, as a crash leaves it; it is no part of the record."""

    @property
    def last(self) -> int:
        """The last round that stands; 0 without any."""
        places = standing(self.links)
        return int(self.links[places[-1]]["round"]) if places else 0

    def rows(self) -> list[Row]:
        """All that the lines that stand say, in order."""
        return [from_json(self.lines[place]) for place in standing(self.links)]


def digest(line: bytes) -> str:
    """SHA-256 of a line, without its newline, as hex."""
    return hashlib.sha256(line).hexdigest()


def read(content: bytes, plan: str) -> Record:
    """Read a record's bytes and follow its chain; MismatchError for one of an earlier version.

    All that is wrong is in the findings, in the order of the lines. Reading costs little more than hashing the bytes.
    """
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.split(b"\n")[:-1]
    links = [_link(line) for line in lines]
    if links and links[0] and not any("previous" in link or "line" in link for link in links):
        raise MismatchError(f"the record {EARLIER}")
    digests = [digest(line) for line in lines]
    head = Head(len(lines), digests[-1]) if digests else Head.of(plan)
    findings = tuple(_broken(lines, links, [Head.of(plan).digest, *digests]))
    return Record(lines, links, head, findings or tuple(_contradictions(links, plan)), whole != content)


def standing(rows: Sequence[Row]) -> list[int]:
    """The places of the lines that count, one for each round, in order: who goes back gives up what came after."""
    kept: list[int] = []
    for place, row in enumerate(rows):
        if "round" not in row:
            continue
        back = row.get("result") == RESTORED
        while kept and rows[kept[-1]]["round"] > row["round"] - (not back):
            kept.pop()
        if not back:
            kept.append(place)
    return kept


def made(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[str]]:
    """Of each round the models that there were after it, the newest last: skipped ones leave the one before."""
    found: dict[int, list[str]] = {}
    model = ""
    for row in rows:
        if base := row.get("base"):
            found.setdefault(row["round"] - 1, []).append(str(base))
        model = str(row.get("model", base or model))
        if model:
            found.setdefault(row["round"], []).append(model)
    return found


def strayed(record: Record, claim: Claim) -> str:
    """Why a checkpoint is none to go on from, by the record; empty where it is one, or where no line says."""
    return stray(record, claim) or resealed(record, claim) or given_up(record, claim)


def stray(record: Record, claim: Claim) -> str:
    """Why its model is not the one after its round, by the lines that stand; empty where it is, or where none says.

    A model that was refused when the server went back stays refused until its round has a line again.
    """
    number, model = claim.round, claim.model
    known = made(record.links[place] for place in standing(record.links)).get(number, [])
    if known:
        of = f"while the record has {known[-1][:12]} after round {number}"
        return "" if model in known else f"is the model {model[:12]}, {of}"
    if any(model in row.get("refused", ()) for row in record.links):
        return f"is the model {model[:12]}, which was refused before"
    return ""


def undone(record: Record, over: int) -> frozenset[tuple[int, int]]:
    """The attempts that were committed, by round, of rounds after this one: what they made is given up."""
    return frozenset(
        (row["round"], row["attempt"])
        for row in record.links
        if row.get("result") == COMMITTED and row["round"] > over and "attempt" in row
    )


def resealed(record: Record, claim: Claim) -> str:
    """Why a checkpoint with the right model is not the one that was kept; empty where it is, or where no line says.

    One that was refused when the server went back stays refused.
    """
    rows = (record.links[place] for place in standing(record.links))
    kept = next((row.get("checkpoint") for row in rows if row["round"] == claim.round), None)
    if kept not in {None, claim.seal}:
        return f"is not the checkpoint {kept[:12]} that the record has beside its model"
    if claim.seal and any(claim.seal in row.get("refused", ()) for row in record.links):
        return f"is the checkpoint {claim.seal[:12]}, which was refused before"
    return ""


def given_up(record: Record, claim: Claim) -> str:
    """Why a round without a line that stands is none to go on from; empty where it may be committed and not recorded.

    That may only the round after the last line, made from the `base` that was there then. Where the record never came
    as far as to this round, lines are missing, which is not for this function to say.
    """
    number, base = claim.round, claim.base
    if not record.links or number <= (last := int(record.links[-1]["round"])):
        return ""
    reached = max(row["round"] for row in record.links)
    if number > last + 1:
        return GIVEN_UP if number <= reached + 1 else ""
    standing_rows = [record.links[place] for place in standing(record.links)]
    present = made([*standing_rows, record.links[-1]]).get(last, [""])[-1]
    if base == present or not present:
        return ""
    if number <= reached:
        return GIVEN_UP
    return (
        f"was made from {base[:12]}, while the record has {present[:12]} after round {last}" if base else ""
    )


def against(record: Record, signed: Head) -> Finding | None:
    """Tell whether the record that was signed went on, or ended otherwise; lines may have come since."""
    holes = sum(finding.gone for finding in record.findings)
    last = signed.lines - holes
    if (gone := last - len(record.lines)) > 0:
        here = len(record.lines) + 1
        return Finding(f"{_count(gone)} missing at the end: {signed.lines} were signed", here, gone=gone)
    if last > 0 and digest(line := record.lines[last - 1]) != signed.digest:
        return Finding("it was changed: it is not the last line that was signed", last, _round(line))
    return None


def _broken(lines: Sequence[bytes], rows: Sequence[Row], digests: Sequence[str]) -> Iterable[Finding]:
    """Where the chain does not hold; `digests[n]` is what the line after n lines must name."""
    known: dict[str, int] | None = None
    told = -1
    for place, row in enumerate(rows):
        if row.get("previous") == digests[place] or place == told:
            continue
        known = known or {found: number for number, found in enumerate(digests)}
        finding, itself = _break(lines, rows, place, known)
        told = place + 1 if itself else told  # the next line does not fit it for the same reason
        yield finding


def _break(
    lines: Sequence[bytes], rows: Sequence[Row], place: int, known: Mapping[str, int]
) -> tuple[Finding, bool]:
    """Why the line at this place does not follow the one before it, and whether it is itself what was changed."""
    number, at, named = place + 1, _round(lines[place]), rows[place].get("previous")
    if not isinstance(named, str):
        return Finding("it was changed: it is no line of a record", number, at), True
    if (there := known.get(named)) is not None:
        return Finding(f"it is not in its place: it was written after line {there}", number, at), False
    if (gap := _missing(rows, place)) > 0:
        return Finding(f"before it {_count(gap)} missing{_gap(rows, place)}", number, at, gap), False
    if place == 0:
        return Finding("it was changed, or the record is of another plan", number, at), True
    if place + 1 < len(rows) and rows[place + 1].get("previous") != digest(lines[place]):
        return Finding("it was changed, and perhaps the line before it too", number, at), True
    return Finding("it was changed: the next line does not fit it", place, _round(lines[place - 1])), False


def _missing(rows: Sequence[Row], place: int) -> int:
    """How many lines are missing before this one, if the number of the line before it can be believed; else 0."""
    earlier, last, own = (_number(rows[at]) if at >= 0 else 0 for at in range(place - 2, place + 1))
    return own - last - 1 if place == 0 or last == earlier + 1 else 0


def _gap(rows: Sequence[Row], place: int) -> str:
    first = rows[place - 1].get("round", 0) + 1 if place else 1
    last = rows[place].get("round", 0) - 1
    if first > last:
        return ""
    return f" (round {first})" if first == last else f" (rounds {first} to {last})"


def _contradictions(rows: Sequence[Row], plan: str) -> Iterable[Finding]:
    """Lines that are whole, and say what cannot be."""
    model = None
    for row in rows:
        if (named := str(row.get("plan"))) != plan:
            sentence = f"it is of the plan {named[:12]}, not {plan[:12]}"
            yield Finding(sentence, row.get("line"), row.get("round"))
    for row in (rows[place] for place in standing(rows)):
        base = row.get("base")
        if model is not None and base is not None and base != model:
            yield Finding(
                f"its model was made from {str(base)[:12]}, while the round before it had made {str(model)[:12]}",
                row.get("line"),
                row.get("round"),
            )
        model = row.get("model", base) or model


def _link(line: bytes) -> Row:
    """What the chain needs of a line; empty where it is none. The rest is let go, for a record may be long."""
    try:
        row = from_json(line)
    except ValueError:
        return {}
    if not isinstance(row, dict) or not isinstance(row.get("round"), int):
        return {}
    link = {name: row[name] for name in LINK if name in row}
    if not isinstance(link.get("checkpoint", ""), str):
        del link["checkpoint"]
    if not isinstance(link.get("refused", []), list):
        del link["refused"]
    return link


def _round(line: bytes) -> int | None:
    """The round of a line that may be damaged."""
    found = re.search(rb'"round":(\d+)', line)
    return int(found[1]) if found else None


def _number(row: Row) -> int:
    number = row.get("line")
    return number if isinstance(number, int) else 0


def _count(lines: int) -> str:
    return f"{lines} line is" if lines == 1 else f"{lines} lines are"


def written(row: Mapping[str, Any]) -> bytes:
    """A row as the bytes of its line, without the newline."""
    return canonical(dict(row)).encode()
