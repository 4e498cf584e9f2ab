from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from job_generator.compiler import compile_job
from job_generator.forecast import Model
from job_generator.manifests import Rendering, children
from job_generator.source import Document

Map = dict[str, Any]
Build = Callable[..., Map]


def containers(document: Map, *, model: Model | None = None) -> dict[str, Map]:
    """The generated containers of a job, by the names of their Jobs."""
    job = Document(document).job()
    objects = children(Rendering(job=job, plan=compile_job(job), model=model))
    jobs = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Job"
    }
    return {name: spec["containers"][0] for name, spec in jobs.items()}


@pytest.mark.parametrize("name", ["server", "scheduler", "worker"])
def test_command(job_map: Build, name: str) -> None:
    """The process itself knows every option of the line."""
    one = containers(job_map())[f"digits-{name}"]
    module = {"fl-server": "fl_server", "fl-scheduler": "fl_scheduler", "fl-worker": "fl_worker"}[
        one["command"][0]
    ]
    help_line = [sys.executable, "-m", module, *one["command"][1:], "--help"]
    text = subprocess.run(help_line, capture_output=True, text=True, check=True, timeout=60).stdout
    options = {part for part in one["args"] if part.startswith("--")} - {
        "--enrol",
        "--token-file",
        "--ca-file",
    }
    assert [option for option in sorted(options) if f"{option} " not in text] == []


def test_resources(job_map: Build) -> None:
    """Memory is the forecast's; a model that was measured makes the request larger and the limit known."""
    model = Model(arrays=1, parameters=25_000_000, nbytes=100 << 20, update_nbytes=100 << 20)
    unknown, known = containers(job_map()), containers(job_map(), model=model)
    assert unknown["digits-worker"]["resources"] == {
        "requests": {"cpu": "100m", "memory": "80Mi"},
        "limits": {"memory": "1184Mi"},
    }
    assert known["digits-worker"]["resources"]["requests"]["memory"] == "680Mi"
    assert known["digits-server"]["resources"]["limits"] == {"memory": "1380Mi"}
    assert known["digits-scheduler"]["resources"] == {
        "requests": {"cpu": "50m", "memory": "90Mi"},
        "limits": {"memory": "180Mi"},
    }


def test_patience(job_map: Build) -> None:
    """A start may take as long as the job may take to be ready, a worker's computing as long as a round waits."""
    found = containers(job_map(preRunningDeadlineSeconds=1200, selection={"stallSeconds": 300}))

    def seconds(role: str, probe: str) -> int:
        settings = found[f"digits-{role}"][probe]
        return int(settings["periodSeconds"] * settings["failureThreshold"])

    assert {seconds(role, "startupProbe") for role in ("server", "scheduler", "worker")} == {1200}
    assert seconds("worker", "livenessProbe") == 300
    assert seconds("server", "livenessProbe") == 30
    short = containers(job_map(selection={"stallSeconds": 0.5}))["digits-worker"]
    assert short["livenessProbe"]["failureThreshold"] == 3


def test_probes(job_map: Build) -> None:
    """Probes ask where the process serves its metrics."""
    for one in containers(job_map()).values():
        assert one["args"][one["args"].index("--metrics") + 1] == "0.0.0.0:9090"
        for probe, path in (
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ):
            assert one[probe]["httpGet"] == {"path": path, "port": "metrics"}


def test_started_again(job_map: Build) -> None:
    """A worker is started again in place unless it ended for good; the others are, whatever happens."""
    found = containers(job_map())
    rule = found["digits-worker"]["restartPolicyRules"][0]
    assert (rule["action"], rule["exitCodes"]["operator"]) == ("Restart", "NotIn")
    assert rule["exitCodes"]["values"] == [0, 64, 65, 66, 67, 68, 72]
    assert not any("restartPolicy" in found[f"digits-{role}"] for role in ("server", "scheduler"))


def test_a_server_knows_its_pod(job_map: Build) -> None:
    """Two pods of one Job have the same name for a moment; their uids differ, and only the server asks."""
    told = {
        name: [one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"] if "valueFrom" in one]
        for name, container in containers(job_map()).items()
    }
    assert told == {"digits-server": ["metadata.uid"], "digits-scheduler": [], "digits-worker": []}
