"""The table: every figure of this run, each peer divided by ours, with the command and the machine."""

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.cases import GIBIBYTE, MEBIBYTE, Case, Result
from bench.limits import Limit

OURS = "ours"
HEADER = ("case", "system", "s/round", "range", "server MiB", "time / ours", "memory / ours", "note")


@dataclass(frozen=True)
class Machine:
    """Where and when the figures were measured."""

    date: str
    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str

    @classmethod
    def here(cls) -> "Machine":
        """Describe the present machine."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            _cpu(),
            len(os.sched_getaffinity(0)),
            round(pages / GIBIBYTE, 1),
            platform.release(),
            platform.python_version(),
        )


@dataclass(frozen=True)
class Row:
    """One system in one case."""

    case: Case
    system: str
    result: Result


@dataclass(frozen=True)
class Report:
    """All that one run measured."""

    command: str
    machine: Machine
    versions: dict[str, dict[str, str]]
    limits: list[Limit]
    rows: list[Row]

    def markdown(self) -> str:
        """Write it for people."""
        parts = [_setting(self), _limits(self.limits), _rows(self.rows)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def json(self) -> str:
        """Write it for programs, every round's duration included."""
        return json.dumps(asdict(self), indent=2)


def ratio(theirs: float | None, ours: float | None) -> str:
    """How many times ours; a dash where one of both was not measured."""
    return "-" if theirs is None or not ours else f"{theirs / ours:.2f}x"


def _setting(report: Report) -> str:
    machine = report.machine
    packages = [f"{name} {_listed(versions)}" for name, versions in report.versions.items()]
    lines = [
        f"`{report.command}`, {machine.date}",
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, Linux {machine.kernel}",
        f"Python {machine.python}; " + "; ".join(packages),
    ]
    return "  \n".join(lines)


def _listed(versions: dict[str, str]) -> str:
    return "(" + ", ".join(f"{name} {version}" for name, version in versions.items()) + ")"


def _limits(limits: list[Limit]) -> str:
    rows = [(limit.name, f"{limit.gigabytes_per_second:.2f}") for limit in limits]
    return table(("limit of the machine", "GB/s"), rows) if rows else ""


def _rows(rows: list[Row]) -> str:
    ours = {row.case: row.result for row in rows if row.system == OURS}
    return table(HEADER, [_cells(row, ours.get(row.case)) for row in rows]) if rows else ""


def _cells(row: Row, ours: Result | None) -> tuple[str, ...]:
    result = row.result
    seconds, peak = result.round_seconds, result.peak_bytes_beyond_idle
    return (
        row.case.name,
        row.system,
        "-" if seconds is None else f"{seconds:.3f}",
        f"{min(result.durations):.3f} to {max(result.durations):.3f}" if result.durations else "-",
        "-" if peak is None else f"{peak / MEBIBYTE:.0f}",
        ratio(seconds, ours.round_seconds if ours else None),
        ratio(peak, ours.peak_bytes_beyond_idle if ours else None),
        result.note.replace("|", "/"),
    )


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Pad the columns, so that the table reads as well in a terminal as on a page."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = tuple("-" * width for width in widths)
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, rule, *rows]
    ]
    return "\n".join(lines)


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()
