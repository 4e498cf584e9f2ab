"""The chart on a real API server: every object is taken, the rights suffice, and what must stay stays."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harness.waiting import until
from tests.cluster.lab import CLASS

if TYPE_CHECKING:
    from conftest import Render

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "fljob"
FILES = sorted((CHART / "ci").glob("*.yaml"))
PATIENCE_SECONDS = 60.0
MONITORING = "monitoring.coreos.com/v1"
DEFINITION = "crd/fljobs.fljob.dev"
JOB: dict[str, Any] = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "digits"},
    "spec": {
        "program": {
            "entrypoint": "program:task",
            "framework": "numpy",
            "source": {"configMap": {"name": "digits"}},
        },
        "rounds": 20,
        "workers": {"replicas": 4},
    },
}

Helm = Callable[..., str]


def eventually(what: Callable[[], Any]) -> Any:
    """Ask until it is true; the last answer is in the failure."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (answer := what()):
        assert time.monotonic() < end, answer
        time.sleep(0.3)
    return answer


@pytest.fixture(scope="module", autouse=True)
def _namespaces(cluster: Any) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(CLASS))
    for name in ("ops", "team-a", "team-b", "trials"):
        cluster.kubectl("create", "namespace", name)
        cluster.kubectl("create", "serviceaccount", "fljob-test", "-n", name)


@pytest.fixture(scope="module")
def install(cluster: Any, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm on this cluster, with folders of its own."""
    home = tmp_path_factory.mktemp("helm")
    own = {f"HELM_{name}_HOME": str(home) for name in ("CACHE", "CONFIG", "DATA")}

    def call(*words: str, check: bool = True) -> str:
        done = subprocess.run(
            [helm, "--kubeconfig", str(cluster.kubeconfig), "--namespace", "ops", *words],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return call


@pytest.fixture
def bare(cluster: Any, install: Helm) -> Iterator[None]:
    """Nothing of the chart is on the cluster, neither before nor after."""
    yield
    install("uninstall", "fljob", check=False)
    cluster.kubectl("delete", "fljobs", "--all", "--all-namespaces", "--ignore-not-found", check=False)
    cluster.kubectl("delete", DEFINITION, "--ignore-not-found")
    cluster.kubectl("delete", "secret,lease", "--all", "-n", "ops")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_api_server_takes_every_object(cluster: Any, render: Render, file: Path) -> None:
    """No object that the chart makes has a field that its kind does not know, or a value that it refuses."""
    for one in render(file, tests=True):
        if one["apiVersion"] != MONITORING:
            said = cluster.kubectl(
                "apply",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                "-",
                stdin=json.dumps(one),
                check=False,
            )
            assert said.returncode == 0, f"{one['kind']}: {said.stderr}"


def test_the_prometheus_operator_takes_the_monitors(cluster: Any, render: Render, definitions: Path) -> None:
    """ServiceMonitor, PodMonitor and PrometheusRule are what its definitions say, with no field too many."""
    ours = [one for one in render(CHART / "ci" / "monitoring.yaml") if one["apiVersion"] == MONITORING]
    assert {one["kind"] for one in ours} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    for one in ours:
        name = f"{one['kind'].lower()}s"
        cluster.kubectl("create", "-f", str(definitions / f"monitoring.coreos.com_{name}.yaml"))
        cluster.kubectl(
            "wait", "--for=condition=Established", f"crd/{name}.monitoring.coreos.com", "--timeout=30s"
        )
        cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(one))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.usefixtures("bare")
def test_each_value_file_installs_upgrades_and_goes(cluster: Any, install: Helm, file: Path) -> None:
    """Helm installs it, upgrades it to the defaults, and removes all but the definition."""
    values = yaml.safe_load(file.read_text())
    monitored = any(values.get(name, {}).get("enabled") for name in ("serviceMonitor", "podMonitor"))
    off = ["serviceMonitor", "podMonitor", "prometheusRule"] if monitored else []
    words = ["--values", str(file), *(word for name in off for word in ("--set", f"{name}.enabled=false"))]
    said = install("install", "fljob", str(CHART), *words)
    assert "helm test fljob" in said
    install("upgrade", "fljob", str(CHART), "--reset-values")
    install("uninstall", "fljob")
    kinds = "all,cm,sa,role,rolebinding,netpol,pdb"
    labelled = ("get", kinds, "-n", "ops", "-l", "app.kubernetes.io/name=fljob")
    assert until(lambda: not cluster.kubectl(*labelled).stdout), cluster.kubectl(*labelled).stdout
    assert cluster.kubectl("get", DEFINITION, check=False).returncode == 0


@pytest.mark.usefixtures("bare")
def test_jobs_outlive_the_chart(cluster: Any, install: Helm) -> None:
    """An FLJob is still there when the chart is removed and installed again, over the definition that was kept."""
    install("install", "fljob", str(CHART))
    cluster.kubectl("create", "-n", "team-a", "-f", "-", stdin=json.dumps(JOB))
    install("uninstall", "fljob")
    install("install", "fljob", str(CHART))
    assert cluster.kubectl("get", "fljob", "digits", "-n", "team-a", check=False).returncode == 0


@pytest.mark.parametrize(
    ("place", "only"), [("team-a", ()), ("team-b", ("team-b", "ops"))], ids=["everywhere", "namespaced"]
)
@pytest.mark.usefixtures("bare")
def test_the_operator_works_with_the_charts_rights(
    cluster: Any, install: Helm, tmp_path: Path, *, place: str, only: tuple[str, ...]
) -> None:
    """As the chart's service account the operator makes a job's children, tells its status, and is refused nothing."""
    chosen = ["--set", f"watchNamespaces={{{','.join(only)}}}"] if only else []
    install("install", "fljob", str(CHART), *chosen)
    groups = ("system:serviceaccounts", "system:serviceaccounts:ops")
    account = cluster.user("system:serviceaccount:ops:fljob-operator", groups=groups)
    log = tmp_path / "operator.log"

    def ask(*words: str) -> str:
        return str(cluster.kubectl("-n", place, *words, check=False).stdout)

    with operator(account, log, *(f"--watch-namespace={name}" for name in only)):
        cluster.kubectl("create", "-n", place, "-f", "-", stdin=json.dumps(JOB))
        eventually(lambda: kinds_in(ask) >= {"Job", "Service", "NetworkPolicy", "PersistentVolumeClaim"})
        eventually(lambda: ask("get", "fljob", "digits", "-o", "jsonpath={.status.conditions}"))
        ask("delete", "service", "digits-server")
        eventually(lambda: ask("get", "service", "digits-server"))
        eventually(lambda: ask("get", "events.v1.events.k8s.io", "-o", "name"))
        metrics = scraped(log)
    assert re.findall(r'rest_client_requests_total\{code="40[13]".*', metrics) == []
    assert 'rest_client_requests_total{code="201"' in metrics
    assert "fljob_leader 1.0" in metrics


@pytest.mark.usefixtures("bare")
def test_the_operator_may_not_do_what_it_need_not(cluster: Any, install: Helm) -> None:
    """Secrets elsewhere, other Secrets of its own namespace, pods/exec, roles and other Leases are closed to it, and it
    replaces no child.
    """
    install("install", "fljob", str(CHART))
    account = "--as=system:serviceaccount:ops:fljob-operator"

    def may(*words: str) -> bool:
        return bool(cluster.kubectl("auth", "can-i", *words, account, check=False).stdout.strip() == "yes")

    for refused in (
        ("get", "secrets", "-n", "team-a"),
        ("list", "secrets", "-n", "ops"),
        ("get", "secret/other", "-n", "ops"),
        ("create", "pods", "--subresource=exec", "-n", "team-a"),
        ("create", "pods", "-n", "team-a"),
        ("create", "roles", "-n", "team-a"),
        ("update", "lease/other", "-n", "ops"),
        ("create", "leases", "-n", "team-a"),
        ("get", "nodes"),
        ("create", "fljobs", "-n", "team-a"),
        ("update", "jobs", "-n", "team-a"),
        ("update", "configmaps", "-n", "team-a"),
        ("patch", "fljobs", "--subresource=status", "-n", "team-a"),
    ):
        assert not may(*refused), refused
    for granted in (
        ("get", "secret/fljob-authority", "-n", "ops"),
        ("update", "lease/fljob-operator", "-n", "ops"),
        ("update", "fljobs", "--subresource=finalizers", "-n", "team-a"),
        ("update", "fljobs", "--subresource=status", "-n", "team-a"),
        ("delete", "fljobs", "-n", "team-a"),
    ):
        assert may(*granted), granted


@pytest.mark.level(3)
@pytest.mark.usefixtures("bare")
def test_people_get_their_rights_from_the_clusters_roles(cluster: Any, install: Helm) -> None:
    """Who may view a namespace may read its FLJobs; who may edit it may write them, and nobody may write a status."""
    install("install", "fljob", str(CHART))
    for role in ("view", "edit"):
        cluster.kubectl(
            "create",
            "rolebinding",
            role,
            f"--clusterrole={role}",
            f"--user={role}er",
            "-n",
            "team-b",
            check=False,
        )

    def may(who: str, *words: str) -> bool:
        said = cluster.kubectl("auth", "can-i", *words, "-n", "team-b", f"--as={who}", check=False)
        return bool(said.stdout.strip() == "yes")

    eventually(lambda: may("viewer", "list", "fljobs") and may("editer", "create", "fljobs"))
    assert not may("viewer", "create", "fljobs")
    assert not may("editer", "update", "fljobs", "--subresource=status")


class operator:  # noqa: N801 - a `with` block reads as a word
    """`fl-operator run` as this user, until the block ends."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str) -> None:
        self.command = [
            sys.executable, "-m", "fl_operator", "run", "--kubeconfig", str(kubeconfig), "--namespace", "ops",
            "--metrics", "127.0.0.1:0", "--enrolment", "127.0.0.1:0", *options,
        ]  # fmt: skip
        self.log = log

    def __enter__(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def kinds_in(ask: Callable[..., str]) -> set[str]:
    """The kinds of objects that the operator has made in the namespace."""
    kinds = "jobs,services,networkpolicies,pvc,configmaps"
    said = ask("get", kinds, "-l", "app.kubernetes.io/managed-by=fljob-operator", "-o", "json")
    return {one["kind"] for one in json.loads(said)["items"]}


def scraped(log: Path) -> str:
    """What Prometheus would read of the operator whose log this is."""
    started = next(json.loads(line) for line in log.read_text().splitlines() if '"started"' in line)
    with urllib.request.urlopen(f"http://{started['metrics']}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
