"""Every fault of every role at every step of a round, in real pods.

`make test-cluster ARGS='tests/cluster/matrix_pods.py -s'` runs it whole and prints the table of
docs/explanation/recovery.md; `-k 'plain-server'` takes a row. One row is one job in which each cell has a round of its
own. `tests/cluster/test_faults.py` takes a few cells, drawn from a seed.

Left out: `unmask` where sums are not secure; the operator beside secure sums, of which it knows nothing; at `finish`
all but SIGKILL, for a job finishes once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fl_core.steps import STEPS
from tests.cluster.remade import Recorded, rounds_of
from tests.cluster.steps import CONFIG_MAP, TEMPLATE, Deed, Fault, Steps, listening
from tests.cluster.tenant import SYSTEM, Map, Tenant
from tests.rounds.secure import PROGRAM

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(1200)]

DEADLINE_SECONDS = 5
LONGER = DEADLINE_SECONDS + 2.0
"""How long a process is stopped, or its pod's network cut."""
WORKERS = 4
SELECTION = {
    "minimum": WORKERS,
    "deadlineSeconds": DEADLINE_SECONDS,
    "stallSeconds": DEADLINE_SECONDS,
    "joinSeconds": 60,
    "onShortfall": {"action": "Retry", "attempts": 30},
}
"""All workers or another attempt: so each committed round has the cohort of the undisturbed job."""
FIRST = 2
"""The round of the first cell: the one before it is undisturbed."""
PATIENCE_SECONDS = 900
NUMBERS = itertools.count()


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


@dataclass(frozen=True)
class Tried(Recorded):
    """A job that is over, and the faults that were done to it."""

    steps: Steps

    def check(self) -> None:
        """No round is lost, skipped or counted twice, each is of all workers, whose model is the recorded one."""
        assert [row["round"] for row in self.rows] == list(range(1, self.plan.rounds + 1))
        assert {row["result"] for row in self.rows} == {"Committed"}
        assert {len(row["reporters"]) for row in self.rows} == {WORKERS}
        assert self.models() == self.should_be()


def run(tenant: Tenant, home: Path, cells: Sequence[Cell]) -> Tried:
    """A job with a round for each of these cells, `finish` in the last: all are done, and it completes as it should."""
    ordered = sorted(cells, key=lambda cell: cell.step == "finish")
    faults = [cell.at(FIRST + number) for number, cell in enumerate(ordered)]
    rounds = FIRST + len(faults) - 1 + (ordered[-1].step != "finish")
    name, job = written(home, secure=cells[0].row.secure, rounds=rounds)
    tenant.kubectl("apply", "-f", "-", stdin=json.dumps(CONFIG_MAP))
    with listening(faults, operator=operator(tenant)) as steps:
        tenant.fl_submit("submit", str(job))
        tenant.completes(name, within=PATIENCE_SECONDS)
    assert (steps.faults, len(steps.deeds)) == ([], len(cells))
    tried = Tried(tenant.plan(name), job.parent, rounds_of(tenant.record(name)), steps)
    tried.check()
    return tried


def written(home: Path, *, secure: bool, rounds: int) -> tuple[str, Path]:
    """The name and the file of the hospitals' job; its program is a module that no other job here has."""
    number = next(NUMBERS)
    name, folder = f"{'secure' if secure else 'plain'}-{number}", home / f"job-{number}"
    folder.mkdir(parents=True)
    (folder / f"ward_{number}.py").write_text(PROGRAM, encoding="utf-8")
    program = {"entrypoint": f"ward_{number}:task", "framework": "numpy", "config": {"size": 8}}
    spec: Map = {
        "seed": 1,
        "rounds": rounds,
        "program": program,
        "selection": SELECTION,
        "workers": {"replicas": WORKERS, "restartsPerWorker": 10_000, "template": TEMPLATE},
        "server": {"template": TEMPLATE},
        "scheduler": {"template": TEMPLATE},
        "secureAggregation": {"maxExamples": 2**30} if secure else {"enabled": False},
    }
    head = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": name}}
    (folder / "job.yaml").write_text(yaml.safe_dump({**head, "spec": spec}), encoding="utf-8")
    return name, folder / "job.yaml"


def operator(tenant: Tenant) -> str:
    """The name of the operator's pod, which is its host's name."""
    words = ("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name")
    return str(tenant.cluster.kubectl(*words).stdout).split()[0].removeprefix("pod/")


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
