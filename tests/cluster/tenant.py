"""Somebody who has a namespace on a cluster with the chart, `kubectl` and `fl-submit`, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from fl_core.plan import Plan
from harness.binaries import binary
from harness.fixtures import lacking
from harness.objects import objects
from harness.runtime import load

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "dist" / "images"
SYSTEM: Final = "fljob-system"
OVER: Final = frozenset({"Complete", "Failed"})
ENVIRONMENT: Final = os.environ | {"OMP_NUM_THREADS": "1"}
FL_SUBMIT: Final = (sys.executable, "-m", "job_generator.cli")
Map = dict[str, Any]


@dataclass
class Tenant:
    """A namespace, and what one can do and see there."""

    cluster: Any
    namespace: str

    # -- commands

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        done = self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin, check=False)
        assert not check or done.returncode == 0, done.stderr
        return str(done.stdout)

    def line(self, *words: str) -> list[str]:
        """The command line of fl-submit for the namespace."""
        return [*FL_SUBMIT, *words, "--kubeconfig", str(self.cluster.kubeconfig), "-n", self.namespace]

    def fl_submit(self, *words: str, code: int = 0) -> str:
        """Run fl-submit, which ends with this code; what it printed."""
        done = subprocess.run(
            self.line(*words), capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    @contextmanager
    def beside(self, *line: str) -> Iterator[subprocess.Popen[str]]:
        """A command that runs meanwhile, and is ended afterwards."""
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
            try:
                yield process
            finally:
                process.terminate()

    # -- what is there

    def get(self, *words: str) -> Any:
        """An object, or the items of a list."""
        found = objects(self.cluster, self.namespace, *words)
        assert found is not None, f"there is no {' '.join(words)} in {self.namespace}"
        return found

    def shown(self, name: str) -> dict[str, str]:
        """What the columns of a job show."""
        return dict(self.get("fljob", name).get("status", {}).get("display", {}))

    def round(self, name: str) -> int:
        """The last round that is over."""
        return int(self.shown(name).get("round", "0/1").partition("/")[0])

    def eventually(self, name: str, what: Callable[[], Any], *, within: float = 120) -> Any:
        """Ask until it is so; where it is not, the failure shows everything about the job."""
        end = time.monotonic() + within
        while not (answer := what()):
            assert time.monotonic() < end, f"{answer!r}\n{self.everything(name)}"
            time.sleep(0.2)
        return answer

    def completes(self, name: str, *, within: float = 300) -> None:
        """Wait for its end, which is a good one."""
        self.eventually(name, lambda: self.shown(name).get("state") in OVER, within=within)
        assert self.shown(name)["state"] == "Complete", self.everything(name)

    def storage(self, name: str) -> Path:
        """The folder of the job's server, where the volume really is."""
        uid = self.get("fljob", name)["metadata"]["uid"]
        return self.folder(f"{name}-storage-{uid}") / f"{name}-{uid}"

    def folder(self, claim: str) -> Path:
        """Where the volume of a claim that is bound really is."""
        volume = self.get("pvc", claim)["spec"]["volumeName"]
        return Path(self.get("pv", volume)["spec"]["hostPath"]["path"])

    def volume(self, name: str, files: Mapping[str, bytes]) -> None:
        """A claim whose volume holds these files."""
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(claim))
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{name}", "--timeout=60s")
        for path, content in files.items():
            file = self.folder(name) / path
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)

    def plan(self, name: str) -> Plan:
        """What the job's processes read."""
        found = (one for one in self.get("configmaps") if one["metadata"]["name"].startswith(f"{name}-plan-"))
        return Plan.model_validate_json(next(found)["data"]["plan.json"])

    def record(self, name: str) -> list[Map]:
        """The lines of the server's record; none before its first round is over."""
        path = self.storage(name) / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def model(self, name: str, folder: Path) -> Map:
        """The model as `fl-submit model` fetches it."""
        self.fl_submit("model", name, "-o", str(folder / f"{name}.npz"))
        return arrays(folder / f"{name}.npz")

    def everything(self, name: str) -> str:
        """What somebody who looks for the reason wants to see."""
        logs = [
            self.kubectl("logs", "-l", f"fljob.dev/role={role}", "--tail=15", check=False)
            for role in ("scheduler", "server", "worker")
        ]
        operator = ("logs", "-l", "app.kubernetes.io/name=fljob", "--tail=40")
        return "\n".join(
            [
                json.dumps(self.get("fljob", name).get("status"), indent=1),
                self.kubectl("get", "pods,pvc,events", "-o", "wide"),
                *logs,
                str(self.cluster.kubectl("-n", SYSTEM, *operator, check=False).stdout),
            ]
        )


def arrays(path: Path) -> Map:
    """What an .npz file holds."""
    with np.load(path) as found:
        return {name: found[name] for name in found}


def local(job: Path, folder: Path) -> Map:
    """The model that `fl-submit run` makes of a job on this machine."""
    run, target = str(folder / "run"), str(folder / "local.npz")
    for words in (("run", str(job), "--folder", run), ("model", run, "-o", target)):
        done = subprocess.run([*FL_SUBMIT, *words], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    return arrays(Path(target))


def same(ours: Map, theirs: Map) -> bool:
    """Whether two models are equal to the bit."""
    return {name: one.tobytes() for name, one in ours.items()} == {
        name: one.tobytes() for name, one in theirs.items()
    }


def load_images(*names: str) -> None:
    """Make images that were built for tests known to the node; `control` is the control plane's."""
    archives = [IMAGES / f"{name}.tar" for name in names]
    if missing := [archive.name for archive in archives if not archive.exists()]:
        lacking(f"there is no {missing[0]} in dist/images: make cluster-images builds them")
    for archive in archives:
        load(archive)


@pytest.fixture(scope="session")
def chart(cluster: Any) -> None:
    """The chart as README says, with images that were built for tests: the operator, and workers for NumPy."""
    load_images("control", "numpy")
    options = ["--set", "image.pullPolicy=Never", "--set", "replicas=1"]
    _helm(cluster, "install", "--create-namespace", *options)


def upgrade(cluster: Any, *settings: str) -> None:
    """Upgrade the chart with other values, and wait until the operator that they make is ready."""
    _helm(cluster, "upgrade", "--reuse-values", *(word for one in settings for word in ("--set", one)))


def _helm(cluster: Any, verb: str, *options: str) -> None:
    words = [verb, "fljob", str(ROOT / "helm" / "fljob"), "--namespace", SYSTEM, *options]
    done = subprocess.run(
        [str(binary("helm")), *words, "--wait", "--timeout", "180s", "--kubeconfig", str(cluster.kubeconfig)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = cluster.kubectl("-n", SYSTEM, "get", "pods,events", check=False).stdout
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{told}"


@pytest.fixture
def tenant(cluster: Any, chart: None, namespace: str) -> Tenant:  # noqa: ARG001 - it is there
    """A namespace in which pods must pass Pod Security `restricted`."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    return Tenant(cluster, namespace)
