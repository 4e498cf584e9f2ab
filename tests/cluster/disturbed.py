"""A job in pods whose processes are disturbed at their steps, and what became of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.remade import Recorded, rounds_of
from tests.cluster.steps import CONFIG_MAP, TEMPLATE, Fault, Steps, listening
from tests.cluster.tenant import OVER, SYSTEM, Map, Tenant
from tests.rounds.secure import PROGRAM

DEADLINE_SECONDS = 5
WORKERS = 4
SELECTION: Map = {
    "minimum": WORKERS,
    "deadlineSeconds": DEADLINE_SECONDS,
    "stallSeconds": DEADLINE_SECONDS,
    "joinSeconds": 60,
    "onShortfall": {"action": "Retry", "attempts": 30},
}
"""All workers or another attempt: so each committed round has the cohort of the undisturbed job."""
PATIENCE_SECONDS = 900
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Tried(Recorded):
    """A job that is over, and the faults that were done to it."""

    steps: Steps

    def check(self) -> None:
        """No round is lost, skipped or counted twice, and each model is that of the round's recorded workers."""
        assert [row["round"] for row in self.rows] == list(range(1, self.plan.rounds + 1))
        assert {row["result"] for row in self.rows} == {"Committed"}
        assert self.models() == self.should_be()

    def check_whole(self) -> None:
        """So it is, and each round is of all workers: each model is the undisturbed job's."""
        assert {len(row["reporters"]) for row in self.rows} == {WORKERS}
        self.check()


def disturbed(
    tenant: Tenant,
    home: Path,
    faults: Sequence[Fault],
    *,
    ends: str = "Complete",
    files: Map = CONFIG_MAP,
    look: Callable[[Steps], object] = lambda _: None,
    **spec: Any,
) -> Tried:
    """Run the hospitals' job with changes to its spec: all of these faults are done to it, and it ends so.

    Who wants to look at its processes meanwhile is called again and again.
    """
    name, job = written(home, **spec)
    tenant.kubectl("apply", "-f", "-", stdin=json.dumps(files))
    steps = Steps(list(faults), operator(tenant))

    def is_over() -> bool:
        look(steps)
        return tenant.shown(name).get("state") in OVER

    with listening(steps):
        tenant.fl_submit("submit", str(job))
        tenant.eventually(name, is_over, within=PATIENCE_SECONDS)
    assert tenant.shown(name)["state"] == ends, tenant.everything(name)
    assert (steps.faults, len(steps.deeds)) == ([], len(faults))
    return Tried(tenant.plan(name), job.parent, rounds_of(tenant.record(name)), steps)


def written(
    home: Path, *, secure: bool, size: int = 8, workers: int = WORKERS, template: Map = TEMPLATE, **spec: Any
) -> tuple[str, Path]:
    """The name and the file of the hospitals' job; its program is a module that no other job here has."""
    number = next(NUMBERS)
    name, folder = f"{'secure' if secure else 'plain'}-{number}", home / f"job-{number}"
    folder.mkdir(parents=True)
    (folder / f"ward_{number}.py").write_text(PROGRAM, encoding="utf-8")
    program = {"entrypoint": f"ward_{number}:task", "framework": "numpy", "config": {"size": size}}
    whole: Map = {
        "seed": 1,
        "program": program,
        "selection": SELECTION,
        "workers": {"replicas": workers, "restartsPerWorker": 10_000, "template": template},
        "server": {"template": template},
        "scheduler": {"template": template},
        "secureAggregation": {"maxExamples": 2**30} if secure else {"enabled": False},
        **spec,
    }
    head = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": name}}
    (folder / "job.yaml").write_text(yaml.safe_dump({**head, "spec": whole}), encoding="utf-8")
    return name, folder / "job.yaml"


def operator(tenant: Tenant) -> str:
    """The name of the operator's pod, which is its host's name."""
    words = ("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name")
    return str(tenant.cluster.kubectl(*words).stdout).split()[0].removeprefix("pod/")
