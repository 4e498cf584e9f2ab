"""The chart where pods really run: two replicas, one leader, and `helm test`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from panels import filled, panels

from harness.fixtures import lacking
from harness.runtime import load

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "fljob"
IMAGES = ROOT / "dist" / "images"
SPACE = "fljob-chart"
SETTINGS = ("--set", "image.pullPolicy=Never", "--set", "fullnameOverride=chart-operator")

PROMETHEUS = "127.0.0.1:19090"
PATIENCE_SECONDS = 90.0
QUIET = {
    "operator: Requests sent again",
    "operator: Watches begun again",
    "jobs: Workers lost",
}
"""Panels of what went wrong have nothing to show where nothing did."""

Helm = Callable[..., str]
Ask = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def release(cluster: Any, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """The chart in a namespace that allows restricted pods only, and helm to ask of it."""
    for archive in (IMAGES / "control.tar", IMAGES / "numpy.tar"):
        if not archive.exists():
            lacking(f"there is no {archive.name} in dist/images: make cluster-images builds it")
        load(archive)
    home = tmp_path_factory.mktemp("helm")
    own = {f"HELM_{name}_HOME": str(home) for name in ("CACHE", "CONFIG", "DATA")}

    def call(*words: str) -> str:
        command = [helm, "--kubeconfig", str(cluster.kubeconfig), "--namespace", SPACE, *words]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
        pods = cluster.kubectl("-n", SPACE, "get", "pods,events,fljobs", check=False).stdout
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{pods}"
        return done.stdout + done.stderr

    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("label", "namespace", SPACE, "pod-security.kubernetes.io/enforce=restricted")
    watched = ("--set", f"watchNamespaces={{{SPACE}}}", "--set", "rbac.aggregate=false")
    call(
        "install", "fljob", str(CHART), *SETTINGS, *watched, "--take-ownership", "--wait", "--timeout", "180s"
    )
    yield call
    call("uninstall", "fljob")


def test_both_replicas_are_ready_and_one_leads(cluster: Any, release: Helm) -> None:  # noqa: ARG001
    """Two operators are ready, with a read-only root file system and few rights, and one of them holds the Lease."""

    def ask(*words: str) -> Any:
        return json.loads(cluster.kubectl("-n", SPACE, "get", *words, "-o", "json").stdout)

    pods = ask("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    assert [pod["status"]["containerStatuses"][0]["ready"] for pod in pods] == [True, True]
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
    holder = ask("lease", "chart-operator")["spec"]["holderIdentity"]
    assert holder.partition("_")[0] in {pod["metadata"]["name"] for pod in pods}


def test_helm_test_sees_a_job_to_its_end(cluster: Any, release: Helm) -> None:
    """`helm test` trains a job of two workers to its end, tells of it, removes it, and works a second time."""
    said = release("test", "fljob", "--logs", "--timeout", "280s")
    assert re.search(r"state=Complete .*round=3/3", said), said
    assert cluster.kubectl("-n", SPACE, "get", "fljobs", "-o", "name").stdout == ""
    release("test", "fljob", "--timeout", "280s")


def test_prometheus_finds_what_the_panels_ask_for(cluster: Any, release: Helm, tmp_path: Path) -> None:  # noqa: ARG001
    """A Prometheus that scrapes as the docs say has an answer for each panel; it knows jobs by name, nobody else."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        lacking("prometheus is missing: Debian's package has it")
    for name, rounds in (("brief", 2), ("long", 5000)):
        cluster.kubectl("-n", SPACE, "apply", "-f", "-", stdin=sample(name, rounds))
    with serving(prometheus, configuration(tmp_path / "pods.json"), tmp_path) as ask:
        end = time.monotonic() + PATIENCE_SECONDS
        while empty := {name for name, query in panels() if not ask(filled(query))} - QUIET:
            (tmp_path / "pods.json").write_text(json.dumps(list(discovered(cluster))))
            assert time.monotonic() < end, (empty, cluster.kubectl("-n", SPACE, "get", "fljobs,pods").stdout)
            time.sleep(2)
        assert {one["metric"]["role"] for one in ask('up{fljob="long"} == 1')} == {
            "server",
            "scheduler",
            "worker",
        }
        assert ask('fl_round_current{fljob="long", role="server"}')
        assert not ask('{worker=~".+"}') + ask('{client=~".+"}')
    cluster.kubectl("-n", SPACE, "delete", "fljobs", "--all")


def sample(name: str, rounds: int) -> str:
    """The first sample under another name, with so many rounds of two workers."""
    documents = list(yaml.safe_load_all((ROOT / "manifests" / "samples" / "first.yaml").read_text()))
    documents[1]["metadata"]["name"] = name
    documents[1]["spec"]["rounds"] = rounds
    documents[1]["spec"]["workers"]["replicas"] = 2
    return yaml.safe_dump_all(documents)


def configuration(pods: Path) -> Any:
    """What the page on monitoring tells to write, with the workers; Debian's Prometheus takes pods from a file only."""
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    block = next(
        text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "scrape_configs" in text
    )
    written = yaml.safe_load(block.replace("server|scheduler", "server|scheduler|worker"))
    for job in written["scrape_configs"]:
        del job["kubernetes_sd_configs"]
        job["file_sd_configs"] = [{"files": [str(pods)], "refresh_interval": "1s"}]
    return {"global": {"scrape_interval": "2s"}, **written}


def discovered(cluster: Any) -> Iterator[Any]:
    """The ports of all pods with the labels that Prometheus' own discovery gives them."""
    for pod in json.loads(cluster.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]:
        metadata, status = pod["metadata"], pod["status"]
        known = {
            "namespace": metadata["namespace"],
            "pod_name": metadata["name"],
            "pod_phase": status["phase"],
        }
        for label, value in metadata.get("labels", {}).items():
            known[f"pod_label_{re.sub(r'[^a-zA-Z0-9]', '_', label)}"] = value
        for port in pod["spec"]["containers"][0].get("ports", ()):
            labels = {**known, "pod_container_port_name": port["name"]}
            named = {f"__meta_kubernetes_{name}": value for name, value in labels.items()}
            yield {"targets": [f"{status.get('podIP', 'none')}:{port['containerPort']}"], "labels": named}


@contextmanager
def serving(prometheus: str, settings: Any, folder: Path) -> Iterator[Ask]:
    """Prometheus with these settings; gives what asks it, an empty list where it knows nothing."""
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(settings))
    words = [
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={PROMETHEUS}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([prometheus, *words], stdout=log, stderr=log)

    def ask(query: str) -> list[Any]:
        address = f"http://{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return list(said["data"]["result"])

    try:
        time.sleep(5)
        yield ask
    finally:
        process.terminate()
        process.wait(30)
