"""Why a process ended, found in the last of what it wrote: log lines in JSON, tracebacks, words of others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

TAIL_BYTES: Final = 2048
"""Kubernetes keeps so much of a log's end, or 80 lines; the first line of it may lack its beginning."""

HEADER: Final = "Traceback ("
"""How the heading of a traceback begins: Python's own, and that of a program's own lines."""
ERRORS: Final = frozenset({"error", "critical"})

_MARGIN: Final = re.compile(r"^ *\| ?")
"""What stands before each line of the errors in a group."""
_VALUE_ENDS: Final = '"}'
"""How a line of JSON ends whose last value is a text."""
_ESCAPED_OR_QUOTE: Final = re.compile(r'\\.|"')


def error_in(lines: Sequence[str]) -> tuple[str, str]:
    """The last error in a log's lines and its traceback; without one, the last line that is no JSON."""
    raw = ""
    for line in reversed(lines):
        entry = entry_in(line)
        if entry is None:
            raw = raw or line.strip()
        elif entry.get("level") in ERRORS:
            return _parted(entry)
    return raw, ""


def cause_in(tail: str) -> str:
    """One line from the end of a log: the last error with what was raised, or the last line that is no JSON; empty
    where there is neither.
    """
    lines = list(_whole(tail))
    for place, line in reversed([*enumerate(lines)]):
        entry = entry_in(line)
        if entry is not None and entry.get("level") in ERRORS:
            sentence, traceback = _parted(entry)
            return _with(sentence, raised_in(traceback.splitlines()))
        if entry is None and line.startswith(HEADER) and (raised := raised_in(lines[place:])):
            return raised
    plain = [line for line in lines if line.strip() and entry_in(line) is None]
    return next(iter(_outermost(reversed(plain))), plain[-1].strip() if plain else "")


def cause_told(words: str) -> str:
    """One line from what a process left for its end: a sentence and, where a traceback is below it, what was raised.

    Where it could leave nothing, it is the end of its log.
    """
    lines = words.strip().splitlines() or [""]
    if any(map(entry_in, lines)):
        return cause_in(words)
    return _with(lines[0], raised_in(lines[1:]))


def raised_in(lines: Sequence[str]) -> str:
    """Type and text of what was raised, by a traceback's lines; of several the last, in a group the innermost."""
    lines = [_MARGIN.sub("", line) for line in lines]
    headers = [place for place, line in enumerate(lines) if line.startswith(HEADER)]
    after = _outermost(lines[headers[-1] + 1 :] if headers else reversed(lines))
    return next(iter(after), "")


def entry_in(line: str) -> dict[str, object] | None:
    """A log line's fields; None for one that is no JSON, or nested too deeply to be read."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            return entry
    return None


def _outermost(lines: Iterable[str]) -> Iterator[str]:
    """The lines that belong to no other one: what was raised, not where."""
    return (line.strip() for line in lines if line.strip() and not line.startswith((" ", "\t", "(")))


def _parted(entry: dict[str, object]) -> tuple[str, str]:
    """The sentence of an error and its traceback, which is below it or in a field of its own."""
    sentence, _, below = str(entry.get("event", "")).partition("\n")
    return sentence, below or str(entry.get("exception", ""))


def _with(sentence: str, raised: str) -> str:
    return sentence if raised in sentence else f"{sentence}: {raised}" if sentence else raised


def _whole(tail: str) -> Iterator[str]:
    """The lines of a log's end; of one in JSON that lacks its beginning, the lines in its last value."""
    lines = [_MARGIN.sub("", line) for line in tail.rstrip().splitlines()]
    if lines and len(tail.encode()) >= TAIL_BYTES and entry_in(lines[0]) is None:
        first = lines.pop(0)
        if first.endswith(_VALUE_ENDS):
            with suppress(ValueError):
                yield from json.loads(f'"{_last_value(first)}"').splitlines()[1:]
        elif not lines:
            yield first
    yield from lines


def _last_value(line: str) -> str:
    """The last value of a line of JSON that ends with a text, as it is written, in time linear in the line."""
    body = line.removesuffix(_VALUE_ENDS)
    quotes = (found.end() for found in _ESCAPED_OR_QUOTE.finditer(body) if found[0] == '"')
    return body[max(quotes, default=0) :]
