"""Every fault of every role at every step of a round, in minutes: `pytest tests/rounds/matrix_recovery.py`.

`python -m tests.rounds.matrix_recovery [WORD ...]` runs those rows whose names hold a word, and prints the table of
docs/explanation/recovery.md. One row is one job in which each step has a round of its own; `make test` takes a few
cells, drawn from a seed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fl_core.steps import STEPS
from tests.rounds.faults import Tried, tried

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(600)]

DEADLINE_SECONDS = 3
WHOLE = {"minimum": 4, "deadlineSeconds": DEADLINE_SECONDS, "stallSeconds": DEADLINE_SECONDS}
"""All four workers or another attempt: so each committed round has the cohort of the undisturbed job."""

FAULTS: dict[str, dict[str, Any]] = {
    "kill": {"fault": "kill"},
    "stop": {"fault": "stop", "seconds": DEADLINE_SECONDS + 2},
    "cut": {"fault": "cut", "seconds": 2},
}
ROLES = ("server", "scheduler", "worker-1")
FIRST = 2
"""The round of the first cell: the one before it is undisturbed."""
MOST_SECONDS, MOST_SECONDS_LOADED = 10, 60
"""From a fault until the server is at its next step, and from its death until the job trains again: where a row begins
with processors to spare, and elsewhere."""


@dataclass(frozen=True)
class Row:
    """One fault of one role in one kind of job."""

    secure: bool
    role: str
    fault: str

    @property
    def name(self) -> str:
        return f"{'secure' if self.secure else 'plain'} {self.role} {self.fault}"

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that rounds of this job have."""
        return tuple(step for step in STEPS if self.secure or step != "unmask")

    def cell(self, step: str, number: int) -> dict[str, Any]:
        """The fault at this step of this round."""
        return {**FAULTS[self.fault], "who": self.role, "round": number, "step": step}


ROWS = [Row(secure, role, fault) for secure in (False, True) for role in ROLES for fault in FAULTS]
CELLS = [(row, step) for row in ROWS for step in row.steps]


def run(home: Path, cells: Sequence[tuple[Row, str]]) -> Tried:
    """A job with a round for each of these cells, `finish` in the last; all of them are done, and it goes well."""
    ordered = sorted(cells, key=lambda cell: cell[1] == "finish")
    faults = [row.cell(step, FIRST + number) for number, (row, step) in enumerate(ordered)]
    rounds = FIRST + len(faults) - 1 + (ordered[-1][1] != "finish")
    done = tried(home, faults, secure=cells[0][0].secure, rounds=rounds, selection=WHOLE)
    done.check()
    assert done.report["not_done"] == []
    assert [deed["step"] for deed in done.report["done"]] == [step for _, step in ordered]
    for row in done.rounds():
        assert len(row["reporters"]) == 4
    return done


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_job_gets_over_it_at_every_step(tmp_path: Path, row: Row) -> None:
    """No round is lost, skipped or counted twice, each model is the undisturbed job's, and it goes on in time."""
    limit = MOST_SECONDS if os.getloadavg()[0] < (os.cpu_count() or 1) else MOST_SECONDS_LOADED
    done = run(tmp_path, [(row, step) for step in row.steps])
    for deed in done.report["done"]:
        has_next = deed["step"] != "finish" or (deed["who"], deed["fault"]) == ("server", "kill")
        assert deed["back_after"] is not None or not has_next, deed
        assert (deed["back_after"] or 0) < limit, deed
        if (deed["who"], deed["fault"]) == ("server", "kill") and deed["step"] != "finish":
            assert deed["training_after"] < limit, deed


def lines(row: Row, done: Tried) -> str:
    """A row of the table: seconds until the server came to its next step, step by step; and until the job trained."""
    told = [(row.name, "back_after")]
    if (row.role, row.fault) == ("server", "kill"):
        told.append((f"{row.name}, to training", "training_after"))
    return "\n".join(
        line(name, {deed["step"]: deed[what] for deed in done.report["done"]}) for name, what in told
    )


def line(name: str, took: dict[str, float | None]) -> str:
    """A row of these seconds."""
    cells = ["" if (seconds := took.get(step)) is None else f"{seconds:.1f}" for step in STEPS]
    return f"| {name} | {' | '.join(cells)} |"


def main(words: Iterable[str]) -> None:
    """Print the table, each line as it is there."""
    wanted = [row for row in ROWS if not words or any(word in row.name for word in words)]
    sys.stdout.write(f"| | {' | '.join(STEPS)} |\n|---|{'---:|' * len(STEPS)}\n")
    for row in wanted:
        home = Path(tempfile.mkdtemp())
        try:
            sys.stdout.write(lines(row, run(home, [(row, step) for step in row.steps])) + "\n")
            shutil.rmtree(home)
        except AssertionError as error:
            sys.stdout.write(f"| {row.name} | failed, see {home}: {error} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
