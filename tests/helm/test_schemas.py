"""What the chart renders and what lies in manifests/, by kubeconform and the schemas of Kubernetes 1.37."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemas
import yaml

from conftest import KUBERNETES, ROOT, module, program
from harness.binaries import found

Map = dict[str, Any]
Check = Callable[[list[Map]], str]
MONITORS = ("podmonitors", "servicemonitors", "prometheusrules")
VALUES = sorted((ROOT / "helm" / "fljob" / "ci").glob("*.yaml"))
MANIFESTS = sorted(one for one in (ROOT / "manifests").rglob("*.yaml") if one.stem != "kustomization")


@pytest.fixture(scope="module")
def check(definitions: Path, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What kubeconform complains of; nothing is left out for want of a schema."""
    tool = program(
        "kubeconform", found("kubeconform"), advice="`python tests/cluster build kubeconform` builds it"
    )
    folder = tmp_path_factory.mktemp("schemas")
    custom = [definitions / f"monitoring.coreos.com_{kind}.yaml" for kind in MONITORS]
    swagger = module(f"k8s.io/kubernetes@v{KUBERNETES}") / "api/openapi-spec/swagger.json"
    schemas.write(folder, swagger=swagger, definitions=[*custom, ROOT / "manifests/crd.yaml"])

    def complaints(things: list[Map]) -> str:
        words = [tool, "-strict", "-schema-location", f"{folder}/{schemas.LOCATION}", "-"]
        given = yaml.safe_dump_all(things)
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == bool(done.stdout or done.stderr)
        return done.stdout + done.stderr

    return complaints


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_what_the_chart_renders_is_valid(check: Check, render: Any, values: Path) -> None:
    """With each file of values that stands for a way to install it, the objects of `helm test` among them."""
    things = render(values, tests=True)
    assert len(things) >= 8
    assert check(things) == ""


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_what_lies_in_manifests_is_valid(check: Check, path: Path) -> None:
    """The definition, the operator and the samples."""
    things = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    assert check(things) == ""


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("spec", "replicas"), "two", "at '/spec/replicas': got string, want integer"),
        (("spec", "replica"), 2, "at '/spec': additional properties 'replica' not allowed"),
        (("kind",), "Deploymint", "could not find schema for Deploymint"),
    ],
)
def test_what_is_wrong_is_found(
    check: Check, render: Any, path: tuple[str, ...], value: Any, complaint: str
) -> None:
    """A value of the wrong type, an unknown field, an unknown kind."""
    deployment = next(one for one in render() if one["kind"] == "Deployment")
    inner = deployment
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert complaint in check([deployment])
