"""FLJob itself: scheduler, server and no-op workers as real processes with mutual TLS."""

import json
import os
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from bench.cases import FLOAT32_BYTES, Case, Result
from bench.measuring import Stopped, measure
from bench.memory import Limits
from bench.plans import UID, plain
from bench.processes import Group
from fl_core.bundle import bundle, bundle_digest
from fl_core.identity import Authority, Identity
from fl_core.plan import Plan, Program
from fl_core.record import LINES

HERE = Path(__file__).parent
PROGRAM = HERE / "noop"
PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class Ours:
    """One scheduler, one server, one forked process per worker; every setting that matters is the default.

    A checkpoint of every round and three of them kept is the default. Only the evaluation is left out, because
    the peers have none.
    """

    limits: Limits = field(default_factory=Limits)
    name: str = "ours"

    def measure(self, case: Case) -> Result:
        """Run one case."""
        return measure(_Deployment(), case, self.limits)

    def versions(self) -> dict[str, str]:
        """Name what the figures depend on."""
        return {name: version(name) for name in ("fljob", "grpcio", "protobuf", "numpy")}


@dataclass(frozen=True)
class _Deployment:
    """Our own commands in the folder of the measurement; `addresses` is filled as the processes announce them."""

    addresses: dict[str, str] = field(default_factory=dict)

    def start_servers(self, group: Group, case: Case, events: Path) -> None:
        """Start scheduler and server; they announce themselves before any worker or model has come."""
        plan = plan_of(case)
        (group.folder / "plan.json").write_text(plan.to_json())
        _issue(group.folder, workers=case.clients)
        storage = group.folder / "storage"
        self._start(group, "scheduler")
        self._start(group, "server", scheduler=self.addresses["scheduler"], storage=str(storage))
        with events.open("a") as file:
            file.write(json.dumps({"event": "ready"}) + "\n")
        follower: list[str | Path] = [
            sys.executable,
            HERE / "ours_rounds.py",
            storage / LINES,
            events,
        ]
        group.start(follower, role="follower", environment=_variables())

    def start_clients(self, group: Group, case: Case) -> None:
        """Start the process that forks the workers."""
        where = [self.addresses["scheduler"], self.addresses["server"], str(case.clients)]
        command: list[str | Path] = [sys.executable, HERE / "ours_clients.py", group.folder, PROGRAM, *where]
        group.start(command, role="client", environment=_variables())

    def remark(self, case: Case, rounds: list[dict[str, Any]]) -> str:
        """Say what our round does more than a peer's, and what share of it the checkpoint is."""
        least = case.clients * case.elements * FLOAT32_BYTES
        if any(min(line["bytes"]["up"], line["bytes"]["down"]) < least for line in rounds):
            return (
                f"bytes per round: {[line['bytes'] for line in rounds]}, at least {least} each way expected"
            )
        shares = [line["seconds"]["commit"] / line["seconds"]["total"] for line in rounds[1:]]
        share = f", {median(shares):.0%} of the round" if shares else ""
        return f"mutual TLS; a checkpoint every round{share}"

    def _start(self, group: Group, role: str, **options: str) -> None:
        """Start a process of the role `server` and wait for its address."""
        reading, writing = os.pipe()
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        common: list[str | Path] = ["--plan", group.folder / "plan.json", "--identity", group.folder / role]
        command: list[str | Path] = [
            sys.executable,
            "-m",
            f"fl_{role}",
            *common,
            "--announce-fd",
            str(writing),
            *flags,
        ]
        group.start(command, role="server", environment=_variables(), inherit=(writing,))
        os.close(writing)
        with os.fdopen(reading) as stream:
            line = stream.readline()
        if not line:
            raise Stopped(group.failure() or f"the {role} announced nothing")
        self.addresses[role] = json.loads(line)["address"]


def plan_of(case: Case) -> Plan:
    """Compile the case; one round more than is measured, because the last one ends the job and evaluates."""
    digest = bundle_digest(bundle(PROGRAM, "noop"))
    program = Program(
        entrypoint="noop:task", framework="numpy", sha256=digest, config={"elements": case.elements}
    )
    return plain(
        rounds=case.rounds + 1,
        cohort=case.clients,
        program=program,
        patience_seconds=PATIENCE_SECONDS,
        evaluation_every=case.rounds + 1,
    )


def _issue(folder: Path, *, workers: int) -> None:
    """Give every process its certificate."""
    authority = Authority(UID)
    names = [Identity(UID, "scheduler"), Identity(UID, "server")]
    for identity in [*names, *(Identity(UID, "worker", index) for index in range(workers))]:
        authority.issue(identity).write(folder / identity.name)


def _variables() -> dict[str, str]:
    """Let a process find our packages from wherever it runs, and count as workers do: on one thread."""
    return {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
