from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_core.bundle import bundle, bundle_digest
from job_generator.compiler import compile_job
from job_generator.manifests import Rendering, children
from job_generator.program import inspect, sealed
from job_generator.samples import TEMPLATE, first_sample
from job_generator.source import Document, read
from job_generator.spec import FLJob

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"


def objects(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def job_of(path: Path) -> FLJob:
    return Document(objects(path)[-1]).job()


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_good(path: Path) -> None:
    """Every sample is a good job, says in its head how it is applied, and becomes Kubernetes objects."""
    job = sealed(job_of(path), SAMPLES)
    kinds = [one["kind"] for one in children(Rendering(job=job, plan=compile_job(job)))]
    assert kinds.count("Job") >= 3
    head = path.read_text(encoding="utf-8")
    assert f"#   kubectl apply -f manifests/samples/{path.name}" in head


def test_there_is_one_for_each_kind() -> None:
    """There is a first job, one with a shared claim, and one with sites."""
    assert sorted(path.stem for path in SAMPLES.glob("*.yaml")) == ["first", "sites", "storage"]


def test_first(tmp_path: Path) -> None:
    """The first job's ConfigMap holds the program of the template, whose digest the workers will check."""
    configuration, document = yaml.safe_load_all(first_sample())
    job = Document(document).job()
    for name, text in configuration["data"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert job.spec.program.sha256 == bundle_digest(bundle(tmp_path, "program"))
    assert list(inspect(job, tmp_path)) == []
    assert job.spec.program.source is not None
    assert job.spec.program.source.config_map is not None
    assert job.spec.program.source.config_map.name == configuration["metadata"]["name"]


def test_first_is_the_template() -> None:
    """The first job is the one that `fl-submit init` writes, but for its name and where its program lies."""
    ours, template = job_of(SAMPLES / "first.yaml").spec, read(TEMPLATE / "job.yaml").job().spec
    program = ours.program.model_copy(update={"source": None, "sha256": None})
    assert ours.model_copy(update={"program": program}) == template
