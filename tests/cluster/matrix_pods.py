"""Every fault of every role at every step of a round, in real pods.

`make test-cluster ARGS='tests/cluster/matrix_pods.py -s'` runs it whole and prints the table of
docs/explanation/recovery.md; `-k 'plain-server'` takes a row. One row is one job in which each cell has a round of its
own. `tests/cluster/test_faults.py` takes a few cells, drawn from a seed.

Left out: `unmask` where sums are not secure; the operator beside secure sums, of which it knows nothing; at `finish`
all but SIGKILL, for a job finishes once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fl_core.steps import STEPS
from tests.cluster.disturbed import DEADLINE_SECONDS, Tried, disturbed
from tests.cluster.steps import Deed, Fault, Steps
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(1200)]

LONGER = DEADLINE_SECONDS + 2.0
"""How long a process is stopped, or its pod's network cut."""
FIRST = 2
"""The round of the first cell: the one before it is undisturbed."""


@dataclass(frozen=True)
class Row:
    """The faults of one role in one kind of job."""

    secure: bool
    role: str

    @property
    def name(self) -> str:
        return f"{'secure' if self.secure else 'plain'}-{self.role}"


@dataclass(frozen=True)
class Cell:
    """One fault of a row at one step."""

    row: Row
    fault: str
    step: str

    @property
    def makes_sense(self) -> bool:
        """The rule by which cells are left out; the module's text says it."""
        unmasked = self.step == "unmask" and not self.row.secure
        return not unmasked and (self.step != "finish" or self.fault == "kill")

    def at(self, number: int) -> Fault:
        """The fault, in this round."""
        return Fault(self.fault, self.row.role, number, self.step, LONGER)


ROWS = [
    *(Row(False, role) for role in ("server", "scheduler", "worker-1", "operator")),
    *(Row(True, role) for role in ("server", "scheduler", "worker-1")),
]
CELLS = [
    cell
    for row, fault, step in itertools.product(ROWS, ("kill", "stop", "cut"), STEPS)
    if (cell := Cell(row, fault, step)).makes_sense
]


def run(
    tenant: Tenant, home: Path, cells: Sequence[Cell], *, look: Callable[[Steps], object] = lambda _: None
) -> Tried:
    """A job with a round for each of these cells, `finish` in the last: all are done, and it completes as it should.

    Meanwhile `look` is called again and again.
    """
    ordered = sorted(cells, key=lambda cell: cell.step == "finish")
    faults = [cell.at(FIRST + number) for number, cell in enumerate(ordered)]
    rounds = FIRST + len(faults) - 1 + (ordered[-1].step != "finish")
    tried = disturbed(tenant, home, faults, look=look, secure=cells[0].row.secure, rounds=rounds)
    tried.check_whole()
    return tried


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_job_in_pods_gets_over_it_at_every_step(tenant: Tenant, tmp_path: Path, row: Row) -> None:
    """No round is lost or counted twice, each model is the undisturbed job's, and it goes on in time."""
    tried = run(tenant, tmp_path, [cell for cell in CELLS if cell.row == row])
    for line in lines(row, tried):
        print(line)  # noqa: T201 - the table
    assert all((deed.back_after or 0) < 60 for deed in tried.steps.deeds)


def lines(row: Row, tried: Tried) -> Iterator[str]:
    """The rows of the table: seconds until the server came to its next step, step by step."""
    for fault in ("kill", "stop", "cut"):
        took = {deed.fault.step: shown(deed) for deed in tried.steps.deeds if deed.fault.fault == fault}
        cells = [took.get(step, "") for step in STEPS]
        yield f"| {row.name.replace('-', ' ', 1)} {fault} | {' | '.join(cells)} |"


def shown(deed: Deed) -> str:
    return "-" if deed.back_after is None else f"{deed.back_after:.1f}"
