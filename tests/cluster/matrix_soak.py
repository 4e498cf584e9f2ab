"""A long job in pods with a random kill in every other round.

`make test-cluster ARGS='tests/cluster/matrix_soak.py -s'` runs it in minutes; `FLJOB_SOAK_ROUNDS=120` makes it
longer. All four workers are needed, so that each round waits for whoever was killed.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fl_core.steps import STEPS
from tests.cluster.disturbed import PATIENCE_SECONDS, disturbed
from tests.cluster.steps import Fault, Steps, pids_of
from tests.cluster.tenant import Tenant
from tests.rounds.matrix_soak import FILES_GROWTH, MEMORY_GROWTH, Sample, growth, sampled

ROUNDS = int(os.environ.get("FLJOB_SOAK_ROUNDS", "60"))
SEED = 28
"""Of the kills, drawn so that one of six servers lives for 22 of 60 rounds."""
WHO = ("server", "scheduler", "worker-0", "worker-1", "worker-2", "worker-3", "operator")
FEWEST_SAMPLES = 60
"""A server that lived for less says nothing about growth."""

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(PATIENCE_SECONDS + 300)]


@dataclass
class Servers:
    """How each server of a job stood whenever it was looked at."""

    samples: dict[int, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def look(self, steps: Steps) -> None:
        """See how the one that runs stands."""
        for pid in pids_of("fl-server", steps.hosts["server"]) if "server" in steps.hosts else []:
            if (sample := sampled(pid)) is not None:
                self.samples[pid].append(sample)


def kills() -> list[Fault]:
    """One in every other round from the second on, of anybody at any step; the last two rounds are undisturbed."""
    drawn = random.Random(SEED)
    steps = [step for step in STEPS if step not in {"unmask", "finish"}]
    rounds = range(2, ROUNDS - 1, 2)
    return [Fault("kill", drawn.choice(WHO), number, drawn.choice(steps)) for number in rounds]


def test_a_long_job_in_pods_loses_nothing_and_its_servers_do_not_grow(tenant: Tenant, tmp_path: Path) -> None:
    """No round is lost or counted twice, each model is the undisturbed job's, a server's memory and files are flat."""
    servers, faults = Servers(), kills()
    tried = disturbed(tenant, tmp_path, faults, look=servers.look, secure=False, rounds=ROUNDS)
    tried.check_whole()
    lived = [growth(some) for some in servers.samples.values() if len(some) >= FEWEST_SAMPLES]
    took = [deed.back_after or 0.0 for deed in tried.steps.deeds]
    print(  # noqa: T201 - the figures
        f"{ROUNDS} rounds in {sum(row['attempt'] for row in tried.rows)} attempts, {len(took)} kills",
        f"{dict(Counter(fault.who for fault in faults))}; {sum(took):.0f} s lost, at most {max(took):.1f};",
        *(f"memory x{memory:.3f}, {files:+d} files;" for memory, files in lived),
    )
    assert lived, {pid: len(some) for pid, some in servers.samples.items()}
    for memory, files in lived:
        assert (memory < MEMORY_GROWTH, files <= FILES_GROWTH) == (True, True), (memory, files)
