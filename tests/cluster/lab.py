"""A namespace with FLJobs, and operators as processes of their own that are started, killed and led astray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.control_plane import ON_FAKE_NODES
from harness.objects import objects
from tests.cluster.proxy.beside import Beside, beside
from tests.cluster.proxy.faults import Faults

Map = dict[str, Any]
MANIFESTS = Path(__file__).parents[2] / "manifests"
DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
CLASS: Final = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "lab", "annotations": {DEFAULT: "true"}},
    "provisioner": "fljob.dev/nobody",
}
"""A storage class of which nobody makes volumes; jobs that choose no storage need a default."""
SYSTEM: Final = "fljob-system"
ACCOUNT: Final = "fljob-operator"
REAL_VOLUMES: Final = 4
"""From this level on a cluster has a storage class of its own."""
PATIENCE_SECONDS: Final = 60.0
TRY_AGAIN: Final = 75
"""With this exit code a process asks to be started again, as its Deployment does."""
OPERATOR: Final = ("-m", "fl_operator")


@dataclass
class Running:
    """One operator: its process, how it was started, and what it says."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: list[str], log: Path) -> Running:
        """Start it; what it says is added to the log."""
        with log.open("ab") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env=dict(os.environ))
        return cls(command, log, process)

    def tend(self) -> None:
        """Start it again if it ended and asked for it."""
        if self.process.poll() == TRY_AGAIN:
            self.process = Running.start(self.command, self.log).process

    def kill(self) -> None:
        """End it without a chance to end in order."""
        self.process.kill()
        self.process.wait()

    def said(self, event: str) -> list[Map]:
        """The lines of its log about this."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in map(_line, lines) if line.get("event") == event]

    def is_ready(self) -> bool:
        """Whether it says that it can take over."""
        started = self.said("started")
        try:
            with urlopen(f"http://{started[-1]['metrics']}/readyz", timeout=10) as page:
                return bool(page.status == HTTPStatus.OK)
        except (IndexError, OSError):
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        address = self.said("started")[-1]["metrics"]
        with urlopen(f"http://{address}/metrics", timeout=10) as page:
            text = page.read().decode()
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def _line(text: str) -> Map:
    try:
        read = json.loads(text)
    except ValueError:  # a traceback
        return {}
    return read if isinstance(read, dict) else {}


@dataclass
class Lab:
    """One namespace with FLJobs, and operators that can be started and killed."""

    cluster: Any
    namespace: str
    folder: Path
    kubeconfig: Path
    """How operators get to the API server."""
    proxy: Beside | None = None
    operators: list[Running] = field(default_factory=list)

    # -- objects

    def kubectl(self, *words: str, stdin: Any = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        text = json.dumps(stdin) if stdin is not None else None
        done = self.cluster.kubectl("-n", self.namespace, *words, stdin=text, check=False)
        assert not check or done.returncode == 0, done.stderr
        return str(done.stdout)

    def get(self, kind: str, name: str = "", *words: str) -> Any:
        """An object, or the list of a kind; None if there is none, or no answer."""
        with suppress(OSError):
            return objects(self.cluster, self.namespace, kind, *([name] if name else []), *words)
        return None

    def apply(self, name: str = "digits", **spec: Any) -> None:
        """Create an FLJob, or change it."""
        self.apply_all(fljob(name, **spec))

    def apply_all(self, *objects: Map) -> None:
        """Create objects, or change them, with one command."""
        self.kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def storage(self, name: str = "storage") -> Map:
        """A claim that has its volume, on every level, as a job's `spec.server`."""
        volume = f"{self.namespace}-{name}"
        size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
        bound = {
            "accessModes": modes,
            "capacity": size,
            "storageClassName": "",
            "hostPath": {"path": str(self.folder)},
            "claimRef": {"namespace": self.namespace, "name": name},
        }
        claim = {
            "accessModes": modes,
            "resources": {"requests": size},
            "storageClassName": "",
            "volumeName": volume,
        }
        self.apply_all(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": bound},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim},
        )
        return {"storage": {"existingClaim": name}}

    # -- what is there

    def condition(self, kind: str, name: str = "digits") -> tuple[str, str]:
        """Status and reason of a job's condition."""
        found = self.told(kind, name)
        return found.get("status", ""), found.get("reason", "")

    def told(self, kind: str, name: str = "digits") -> Map:
        """A job's condition."""
        job = self.get("fljob", name) or {}
        conditions = job.get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def jobs(self) -> list[str]:
        """The names of the Jobs that are not on their way out."""
        return sorted(one["metadata"]["name"] for one in self.get("jobs") if stays(one))

    def pods(self, role: str = "", name: str = "digits") -> list[Map]:
        """The pods of a job, or of one of its roles, that are not on their way out."""
        chosen = f"fljob.dev/job={name}" + (f",fljob.dev/role={role}" if role else "")
        return [one for one in self.get("pods", "", "-l", chosen) if stays(one)]

    def children(self) -> dict[str, str]:
        """The uid of each object that operators made here."""
        kinds = "jobs,configmaps,services,networkpolicies,persistentvolumeclaims"
        found = self.get(kinds, "", "-l", "app.kubernetes.io/managed-by=fljob-operator")
        return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["uid"] for one in found}

    def versions(self, *more: str) -> dict[str, str]:
        """What changes whenever somebody writes one of a job's children."""
        kinds = ",".join(
            ["jobs", "configmaps", "services", "networkpolicies", "persistentvolumeclaims", *more]
        )
        return {
            f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
            for one in self.get(kinds)
        }

    def reasons(self) -> set[str]:
        """Why events were told in the namespace."""
        return {one["reason"] for one in self.get("events") or ()}

    # -- operators

    def operator(
        self,
        *options: str,
        elect: bool = False,
        kubeconfig: Path | None = None,
        python: tuple[str, ...] = OPERATOR,
    ) -> Running:
        """Start an operator for this namespace; with `elect` it takes part in a leader election of the namespace."""
        if elect:
            self._allow_lease()
        command = [
            sys.executable, *python, "run", "--kubeconfig", str(kubeconfig or self.kubeconfig),
            "--namespace", SYSTEM, "--watch-namespace", self.namespace, "--lease", self.namespace,
            "--metrics", "127.0.0.1:0", "--enrolment", "127.0.0.1:0", "--log-format", "json",
            "--leader-election" if elect else "--no-leader-election", *options,
        ]  # fmt: skip
        log = self.folder / f"operator-{len(self.operators)}.log"
        self.operators.append(Running.start(command, log))
        return self.operators[-1]

    def _allow_lease(self) -> None:
        """As the chart allows the Lease that it names."""
        leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
        rule = {**leases, "resourceNames": [self.namespace], "verbs": ["get", "update"]}
        metadata = {"name": self.namespace, "namespace": SYSTEM}
        rbac, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
        role = {"apiGroup": group, "kind": "Role", "name": self.namespace}
        who = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}
        binding = {"kind": "RoleBinding", "roleRef": role, "subjects": [who]}
        self.cluster.apply(
            {"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": [rule]},
            {"apiVersion": rbac, "metadata": metadata, **binding},
        )

    def on_fake_nodes(self) -> tuple[str, str]:
        """The option with which an operator sends all pods to the fake nodes, where they run."""
        path = self.folder / "template.json"
        path.write_text(json.dumps({"spec": ON_FAKE_NODES}), encoding="utf-8")
        return "--template", str(path)

    def calm(self) -> None:
        """From now on nothing goes wrong on the way to the API server."""
        if self.proxy:
            self.proxy.calm()

    def eventually(self, what: Callable[[], Any], *, within: float = PATIENCE_SECONDS) -> Any:
        """Ask until it is true; the last answer is in the failure."""
        end = time.monotonic() + within
        while not (answer := what()):
            if time.monotonic() > end:
                self.calm()  # which says what happened
                pytest.fail(f"after {within:g} s: {answer!r}; {self.trouble()}")
            for operator in self.operators:
                operator.tend()
            time.sleep(0.2)
        return answer

    def trouble(self) -> str:
        """What somebody who looks for the reason wants to see."""
        jobs = [one.get("status", {}).get("conditions") for one in self.get("fljobs") or ()]
        logs = [one.log.read_text(encoding="utf-8", errors="replace")[-2000:] for one in self.operators]
        return "\n".join(
            [json.dumps(jobs[:3], indent=1), self.kubectl("get", "pods,jobs", check=False), *logs]
        )


def fljob(name: str = "digits", **spec: Any) -> Map:
    """An FLJob of four workers, with changes to its spec."""
    whole = {
        "program": {"entrypoint": "program:task", "framework": "numpy"},
        "rounds": 20,
        "workers": {"replicas": 4},
        **spec,
    }
    return {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "metadata": {"name": name},
        "spec": whole,
    }


def stays(thing: Map) -> bool:
    """Whether an object is not on its way out."""
    return "deletionTimestamp" not in thing["metadata"]


def account(cluster: Any) -> Path:
    """How the operator's own service account gets to the API server: with the rights of `manifests/`, and no more."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}")
    found: Path = cluster.user(f"system:serviceaccount:{SYSTEM}:{ACCOUNT}", groups=groups)
    return found


@contextmanager
def lab_of(
    cluster: Any, namespace: str, folder: Path, *, kubeconfig: Path, faults: Faults | None = None
) -> Iterator[Lab]:
    """A namespace without an operator; with faults, its operators get to the API server through them."""
    with ExitStack() as stack:
        proxy = stack.enter_context(beside(kubeconfig, faults)) if faults else None
        lab = Lab(cluster, namespace, folder, proxy.kubeconfig if proxy else kubeconfig, proxy)
        try:
            yield lab
        finally:
            for operator in lab.operators:
                operator.kill()


@pytest.fixture(scope="module")
def installed(cluster: Any) -> None:
    """The definition, the operator's rights, and no operator but those that tests start."""
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    cluster.kubectl("-n", SYSTEM, "scale", "deployment/fljob-operator", "--replicas=0")
    cluster.kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")
    if cluster.level < REAL_VOLUMES:
        cluster.apply(CLASS)


@pytest.fixture
def lab(installed: None, cluster: Any, namespace: str, tmp_path: Path) -> Iterator[Lab]:  # noqa: ARG001
    """A namespace whose operators have the rights that they are installed with."""
    with lab_of(cluster, namespace, tmp_path, kubeconfig=account(cluster)) as made:
        yield made
