"""Jobs train in real pods, from the chart and the images as users get them, to the same model as a local run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.binaries import binary
from harness.runtime import load

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "dist" / "images"
SYSTEM = "fljob-system"


@dataclass
class Lab:
    """A namespace of a cluster with an operator."""

    cluster: Any
    namespace: str

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        done = self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin, check=False)
        assert not check or done.returncode == 0, done.stderr
        return str(done.stdout)

    def job(self, name: str) -> Any:
        """An FLJob as it is now."""
        return json.loads(self.kubectl("get", "fljob", name, "-o", "json"))

    def shown(self, name: str) -> dict[str, str]:
        """What its columns show."""
        return dict(self.job(name).get("status", {}).get("display", {}))

    def completes(self, name: str, *, within: float = 300) -> list[str]:
        """Wait for its end; gives the rounds that its column showed on the way."""
        rounds: list[str] = []
        end = time.monotonic() + within
        while (shown := self.shown(name)).get("state") not in {"Complete", "Failed"}:
            if shown.get("round") not in [None, *rounds[-1:]]:
                rounds.append(shown["round"])
            assert time.monotonic() < end, self.everything(name)
            time.sleep(0.5)
        assert shown["state"] == "Complete", self.everything(name)
        return rounds

    def model(self, name: str) -> Any:
        """The final model, read where the volume really is."""
        claim = json.loads(self.kubectl("get", "pvc", "-l", f"fljob.dev/job={name}", "-o", "json"))["items"][
            0
        ]
        volume = json.loads(
            self.cluster.kubectl("get", "pv", claim["spec"]["volumeName"], "-o", "json").stdout
        )
        uid = self.job(name)["metadata"]["uid"]
        place = Path(volume["spec"]["hostPath"]["path"]) / f"{name}-{uid}"
        return load_file(place / "models" / "last.safetensors")

    def everything(self, name: str) -> str:
        """What somebody who looks for the reason wants to see."""
        logs = [
            self.kubectl("logs", "-l", f"fljob.dev/role={role}", "--tail=15", check=False)
            for role in ("scheduler", "server", "worker")
        ]
        operator = ("logs", "-l", "app.kubernetes.io/name=fljob", "--tail=40")
        return "\n".join(
            [
                json.dumps(self.job(name).get("status"), indent=1),
                self.kubectl("get", "pods,pvc,events", "-o", "wide"),
                *logs,
                str(self.cluster.kubectl("-n", SYSTEM, *operator, check=False).stdout),
            ]
        )


@pytest.fixture(scope="module")
def chart(cluster: Any) -> None:
    """The chart, installed as README says, with images that were built for this test."""
    archives = [IMAGES / f"{name}.tar" for name in ("control", "numpy", "paddle")]
    if missing := [archive.name for archive in archives if not archive.exists()]:
        pytest.skip(f"there is no {missing[0]} in dist/images: make cluster-images builds them")
    for archive in archives:
        load(archive)
    words = ["install", "fljob", str(ROOT / "helm" / "fljob"), "--namespace", SYSTEM, "--create-namespace"]
    options = ["--set", "image.pullPolicy=Never", "--set", "replicas=1", "--wait", "--timeout", "180s"]
    done = subprocess.run(
        [str(binary("helm")), *words, *options, "--kubeconfig", str(cluster.kubeconfig)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = cluster.kubectl("-n", SYSTEM, "get", "pods,events", check=False).stdout
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{told}"


@pytest.fixture
def lab(cluster: Any, chart: None, namespace: str) -> Lab:  # noqa: ARG001
    """A namespace in which pods must pass Pod Security `restricted`."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    return Lab(cluster, namespace)


def local(job: Path, folder: Path) -> Any:
    """The model that `fl-submit run` makes of a job here."""
    run = folder / "run"
    command = [sys.executable, "-m", "job_generator.cli", "run", str(job), "--folder", str(run)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return load_file(next(run.rglob("last.safetensors")))


def same(ours: Any, theirs: Any) -> bool:
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_first_job_trains_in_pods(lab: Lab) -> None:
    """The sample of the docs: its columns move with the rounds, it completes, and the metric is there."""
    lab.kubectl("apply", "-f", str(ROOT / "manifests" / "samples" / "first.yaml"))
    began = time.monotonic()
    rounds = lab.completes("first")
    assert len(rounds) > 2
    assert time.monotonic() - began < 120
    shown = lab.shown("first")
    assert shown["metric"].startswith("accuracy=0.9")
    assert lab.model("first")
    lab.kubectl("wait", "--for=condition=Complete", "fljob/first", "--timeout=5s")
    assert "Complete" in lab.kubectl("get", "fljob", "first")


def test_digits_trains_with_paddle_to_the_same_model_as_a_local_run(lab: Lab, tmp_path: Path) -> None:
    """The example reaches its stated accuracy, and each weight is the same to the bit."""
    lab.kubectl("apply", "-k", str(ROOT / "examples" / "digits"))
    lab.completes("digits", within=600)
    accuracy = lab.job("digits")["status"]["training"]["metrics"]["accuracy"]
    assert accuracy >= 0.95
    assert same(lab.model("digits"), local(ROOT / "examples" / "digits" / "job.yaml", tmp_path))


@pytest.mark.parametrize("role", ["server", "scheduler", "worker"])
def test_a_pod_that_is_killed_costs_no_round(lab: Lab, role: str) -> None:
    """Deleted while the job trains, a pod comes back, and the job ends with the model of an undisturbed one."""
    sample = (ROOT / "manifests" / "samples" / "first.yaml").read_text()
    lab.kubectl("apply", "-f", "-", stdin=sample)
    end = time.monotonic() + 120
    while int(lab.shown("first").get("round", "0/1").partition("/")[0]) < 1:
        assert time.monotonic() < end, lab.everything("first")
        time.sleep(0.2)
    pods = json.loads(lab.kubectl("get", "pods", "-l", f"fljob.dev/role={role}", "-o", "json"))["items"]
    lab.kubectl("delete", "pod", pods[0]["metadata"]["name"], "--grace-period=0", "--force")
    lab.completes("first")
