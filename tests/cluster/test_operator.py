"""The operator's process on a real cluster: children made, repaired, suspended and removed, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

Map = dict[str, Any]
MANIFESTS = Path(__file__).parents[2] / "manifests"
SYSTEM = "fljob-system"
PATIENCE_SECONDS = 40.0


@dataclass
class Lab:
    """One namespace with FLJobs, and operators that can be started and killed."""

    cluster: Any
    namespace: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kubectl(self, *words: str, stdin: Any = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        text = json.dumps(stdin) if stdin is not None else None
        done = self.cluster.kubectl("-n", self.namespace, *words, stdin=text, check=False)
        assert not check or done.returncode == 0, done.stderr
        return str(done.stdout)

    def get(self, kind: str, name: str = "") -> Any:
        """An object, or the list of a kind."""
        said = self.kubectl("get", kind, *([name] if name else []), "-o", "json", check=False)
        found = json.loads(said) if said else None
        return found["items"] if found and not name else found

    def apply(self, name: str = "digits", **spec: Any) -> None:
        """Create an FLJob, or change it."""
        whole = {
            "program": {"entrypoint": "program:task", "framework": "numpy"},
            "rounds": 20,
            "workers": {"replicas": 4},
            **spec,
        }
        job = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": name}, "spec": whole}
        self.kubectl("apply", "-f", "-", stdin=job)

    def condition(self, kind: str, name: str = "digits") -> tuple[str, str]:
        """Status and reason of a job's condition."""
        job = self.get("fljob", name) or {}
        conditions = job.get("status", {}).get("conditions", [])
        return next(((one["status"], one["reason"]) for one in conditions if one["type"] == kind), ("", ""))

    def jobs(self) -> list[str]:
        """The names of the Jobs that are not on their way out."""
        return sorted(
            one["metadata"]["name"] for one in self.get("jobs") if "deletionTimestamp" not in one["metadata"]
        )

    def operator(self, *options: str) -> subprocess.Popen[bytes]:
        """Start an operator for this namespace."""
        command = [
            sys.executable, "-m", "fl_operator", "run", "--kubeconfig", str(self.cluster.kubeconfig),
            "--namespace", SYSTEM, "--watch-namespace", self.namespace, "--lease", self.namespace,
            "--metrics", "127.0.0.1:0", "--enrolment", "127.0.0.1:0", "--log-format", "console", *options,
        ]  # fmt: skip
        with (self.folder / f"operator-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        self.processes.append(process)
        return process


def eventually(what: Callable[[], Any], *, within: float = PATIENCE_SECONDS) -> Any:
    """Ask until it is true; the last answer is in the failure."""
    end = time.monotonic() + within
    while not (answer := what()):
        assert time.monotonic() < end, f"after {within:g} s: {answer!r}"
        time.sleep(0.2)
    return answer


@contextmanager
def lab_of(cluster: Any, namespace: str, folder: Path) -> Iterator[Lab]:
    lab = Lab(cluster, namespace, folder)
    try:
        yield lab
    finally:
        for process in lab.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", autouse=True)
def _installed(cluster: Any) -> None:
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    cluster.kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")
    cluster.kubectl("create", "namespace", SYSTEM, check=False)


@pytest.fixture
def lab(cluster: Any, namespace: str, tmp_path: Path) -> Iterator[Lab]:
    """A namespace without an operator."""
    with lab_of(cluster, namespace, tmp_path) as made:
        yield made


THREE = ["digits-scheduler", "digits-server", "digits-worker"]


def test_a_job_gets_its_children_and_then_there_is_quiet(lab: Lab) -> None:
    """All children, conditions and columns; then no write to any of them."""
    lab.operator("--no-leader-election")
    lab.apply()
    eventually(lambda: lab.jobs() == THREE)
    eventually(lambda: lab.condition("Compiled") == ("True", "Compiled"))
    assert "Starting" in lab.kubectl("get", "fljob", "digits")
    eventually(lambda: "Started" in lab.kubectl("get", "events.events.k8s.io"))

    def versions() -> dict[str, str]:
        kinds = ["fljobs", "jobs", "configmaps", "services", "networkpolicies", "persistentvolumeclaims"]
        return {
            f"{kind}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
            for kind in kinds
            for one in lab.get(kind)
        }

    time.sleep(3)  # pods that cannot start change their Jobs' status once
    before = versions()
    time.sleep(5)
    assert versions() == before


@pytest.mark.level(3)
def test_a_child_that_is_edited_or_deleted_comes_back(lab: Lab) -> None:
    """By hand or by accident: it is repaired, and an event says so."""
    lab.operator("--no-leader-election")
    lab.apply()
    eventually(lambda: lab.jobs() == THREE)
    lab.kubectl("label", "service", "digits-server", "fljob.dev/role=nobody", "--overwrite")
    eventually(
        lambda: lab.get("service", "digits-server")["metadata"]["labels"]["fljob.dev/role"] == "server"
    )
    eventually(lambda: "Repaired" in lab.kubectl("get", "events.events.k8s.io"))
    old = lab.get("job", "digits-server")["metadata"]["uid"]
    lab.kubectl("delete", "job", "digits-server", "--wait=false", "--cascade=foreground")
    eventually(
        lambda: (lab.get("job", "digits-server") or {"metadata": {"uid": old}})["metadata"]["uid"] != old
    )


def test_somebody_elses_object_is_left_alone(lab: Lab) -> None:
    """A name that is taken is told in the job, and the object stays as it was."""
    taken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "digits-server"}}
    ports = [{"port": 80}]
    lab.kubectl("create", "-f", "-", stdin={**taken, "spec": {"ports": ports, "selector": {"app": "other"}}})
    lab.operator("--no-leader-election")
    lab.apply()
    eventually(lambda: lab.condition("Stalled") == ("True", "NameTaken"))
    assert lab.get("service", "digits-server")["spec"]["selector"] == {"app": "other"}


@pytest.mark.level(3)
def test_a_job_is_suspended_and_resumed(lab: Lab) -> None:
    """Suspended: no pods. Resumed: pods again. Made suspended: none at all."""
    lab.operator("--no-leader-election")
    lab.apply(suspend=True)
    eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    assert lab.jobs() == []
    lab.apply(suspend=False)
    eventually(lambda: lab.jobs() == THREE)
    eventually(lambda: len(lab.get("pods")) == 6)
    lab.apply(suspend=True, suspendGraceSeconds=0)
    eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    eventually(lambda: not [one for one in lab.get("pods") if "deletionTimestamp" not in one["metadata"]])


@pytest.mark.level(3)
def test_a_deleted_job_takes_all_with_it_but_the_storage(lab: Lab) -> None:
    """What the job owns goes; the claim that is to be kept stays."""
    lab.operator("--no-leader-election")
    lab.apply()
    eventually(lambda: lab.jobs() == THREE)
    claim = lab.get("persistentvolumeclaims")[0]["metadata"]["name"]
    lab.kubectl("delete", "fljob", "digits", "--cascade=foreground", "--timeout=30s")
    eventually(lambda: not lab.get("jobs") and not lab.get("services"))
    assert [one["metadata"]["name"] for one in lab.get("persistentvolumeclaims")] == [claim]


def test_an_operator_that_is_killed_at_any_moment_leaves_nothing_half_done(lab: Lab) -> None:
    """Killed again and again while it creates: in the end each child is there once."""
    for number in range(4):
        lab.apply(f"job-{number}")
    for pause in (0.8, 1.0, 1.2, 1.5):
        process = lab.operator("--no-leader-election")
        time.sleep(pause)
        process.kill()
        process.wait()
    lab.operator("--no-leader-election")
    eventually(lambda: len(lab.jobs()) == 12)
    assert len(lab.get("persistentvolumeclaims")) == 4
    assert all(lab.condition("Compiled", f"job-{number}")[0] == "True" for number in range(4))


def test_leadership_passes_to_a_replica(lab: Lab) -> None:
    """Of two operators one works; when it is killed, the other does within 20 seconds."""
    first = lab.operator()
    lab.apply("one")
    eventually(lambda: len(lab.jobs()) == 3)
    lab.operator()
    time.sleep(2)
    first.send_signal(signal.SIGKILL)
    lab.apply("two")
    eventually(lambda: len(lab.jobs()) == 6, within=25)
