"""Twenty jobs of five workers at once in pods, whose three busiest control processes are killed.

`make test-cluster ARGS='tests/cluster/matrix_many.py -s'` runs it. It is `tests/rounds/matrix_many.py` with containers:
all jobs are in their first round when those of operator, servers and schedulers get SIGKILL that have had the most
processor time. All pods run at the same time on one node: 140, or 42 with `FLJOB_MANY_JOBS=6`.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fl_core.steps import STARTED
from tests.cluster.disturbed import Tried, operator, written
from tests.cluster.remade import rounds_of
from tests.cluster.steps import CONFIG_MAP, TEMPLATE, Steps, awaited, listening
from tests.cluster.tenant import OVER, Map, Tenant
from tests.rounds.matrix_many import VICTIMS, WORKERS, busy

JOBS = int(os.environ.get("FLJOB_MANY_JOBS", "20"))
ROUNDS = 3
PATIENCE_SECONDS = 1200.0
SELECTION: Map = {"minimum": WORKERS, "deadlineSeconds": 1800, "stallSeconds": 1800, "joinSeconds": 1800}
SMALL: Map = copy.deepcopy(TEMPLATE)
SMALL["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "5m", "memory": "48Mi"}}
"""Or two cores would take the pods of three jobs."""

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(2 * PATIENCE_SECONDS + 300)]


@dataclass(slots=True)
class Gate(Steps):
    """Has workers wait with their first training until it is open."""

    open: threading.Event = field(default_factory=threading.Event)
    there: set[str] = field(default_factory=set)
    """The host names of those that have come to it."""
    control: dict[str, str] = field(default_factory=dict)
    """The commands of servers and schedulers by their host names."""
    starts: Counter[str] = field(default_factory=Counter)
    """How often each of them was started."""

    def hold(self, process: Map, step: str, number: int) -> None:
        """Have a worker wait at the gate."""
        if step == STARTED and not process["name"].startswith("worker"):
            self.control[process["host"]] = f"fl-{process['name']}"
            self.starts[process["host"]] += 1
        if (step, number) == ("train", 1):
            self.there.add(process["host"])
            self.open.wait(PATIENCE_SECONDS)

    def kill_the_busiest(self) -> list[str]:
        """Kill the control processes that have had the most processor time; the host names of their pods."""
        commands = {**self.control, self.operator: "fl-operator"}
        pids = {host: awaited(host, command) for host, command in commands.items()}
        victims = sorted(pids, key=lambda host: busy(pids[host]), reverse=True)[:VICTIMS]
        for host in victims:
            os.kill(pids[host], signal.SIGKILL)
        return victims


def test_every_job_in_pods_completes_when_the_busiest_are_killed(tenant: Tenant, tmp_path: Path) -> None:
    """All jobs complete, each round once, of all workers, with the undisturbed job's models; none is stuck."""
    more = {"rounds": ROUNDS, "workers": WORKERS, "template": SMALL, "selection": SELECTION, "suspend": True}
    jobs = dict(written(tmp_path, secure=False, **more) for _ in range(JOBS))
    tenant.kubectl("apply", "-f", "-", stdin=json.dumps(CONFIG_MAP))
    gate, begin = Gate([], operator(tenant)), time.monotonic()
    some = next(iter(jobs))
    with listening(gate):
        for job in jobs.values():
            tenant.fl_submit("submit", str(job))
        tenant.kubectl("patch", "fljob", *jobs, "--type=merge", "-p", '{"spec": {"suspend": false}}')
        tenant.eventually(some, lambda: len(gate.there) == JOBS * WORKERS, within=PATIENCE_SECONDS)
        there, killed = time.monotonic() - begin, gate.kill_the_busiest()
        gate.open.set()
        tenant.eventually(some, lambda: states(tenant).keys() <= OVER, within=PATIENCE_SECONDS)
    ended = states(tenant)
    print(f"{JOBS * (WORKERS + 2)} pods after {there:.0f} s, killed {killed}")  # noqa: T201
    print(f"{dict(ended)} in {time.monotonic() - begin:.0f} s")  # noqa: T201
    assert ended == {"Complete": JOBS}
    for name, job in jobs.items():
        tried = Tried(tenant.plan(name), job.parent, rounds_of(tenant.record(name)), gate)
        tried.check()
        assert {len(row["reporters"]) for row in tried.rows} == {WORKERS}
    assert all(gate.starts[host] > 1 for host in killed if host != gate.operator)


def states(tenant: Tenant) -> Counter[str]:
    """How many jobs are in which state."""
    return Counter(one.get("status", {}).get("display", {}).get("state", "") for one in tenant.get("fljobs"))
