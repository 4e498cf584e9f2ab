"""Helm, promtool, and what the chart makes of some values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "fljob"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KUBERNETES = "1.37.0"
GO_PATH = f"{os.environ.get('PATH', '')}:/usr/local/go/bin"

sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "cluster")]

from harness.binaries import found  # noqa: E402 - after the path
from harness.fixtures import _level, cluster, lacking, namespace  # noqa: E402, F401 - for pytest

Map = dict[str, Any]
Render = Callable[..., list[Map]]


def program(name: str, path: Path | str | None, *, advice: str) -> str:
    """The path of a tool; where it is missing the test is skipped, or fails where nothing may be skipped."""
    if path is None:
        lacking(f"{name} is missing: {advice}")
    return str(path)


def module(name: str) -> Path:
    """The folder of a Go module, fetched where it is not there."""
    go = program("go", shutil.which("go", path=GO_PATH), advice="install it from go.dev/dl")
    words = [go, "mod", "download", "-json", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    folder = json.loads(done.stdout or "{}").get("Dir")
    return Path(program(name, folder, advice=f"`go mod download {name}` fetches it"))


@pytest.fixture(scope="session")
def helm() -> str:
    """Helm, from PATH or from the cache of the cluster's tools."""
    known = shutil.which("helm") or found("helm")
    return program("helm", known, advice="`python tests/cluster build helm` builds it")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' tool."""
    return program("promtool", shutil.which("promtool"), advice="Debian's package prometheus has it")


@pytest.fixture(scope="session")
def render(helm: str) -> Render:
    """The objects that the chart makes of value files and single values; `tests=True`: those of `helm test`, too."""

    def template(*values: Path, tests: bool = False, release: str = "fljob", **sets: Any) -> list[Map]:
        words = [helm, "template", release, str(CHART), "--namespace", "ops", "--kube-version", KUBERNETES]
        words += [word for file in values for word in ("--values", str(file))]
        words += [
            word
            for path, value in sets.items()
            for word in ("--set-json", f"{path.replace('__', '.')}={value}")
        ]
        words += [] if tests else ["--no-hooks"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr)
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    return template


@pytest.fixture(scope="session")
def definitions() -> Path:
    """The definitions of the Prometheus operator, from its Go module."""
    return module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
