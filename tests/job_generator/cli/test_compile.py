from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from fl_core.bundle import bundle, bundle_digest
from fl_core.plan import Plan

Submit = Callable[..., Result]
JobFile = Callable[..., Path]
ROLES = ["scheduler", "server", "worker"]
FILES = ["plan.json", *(f"{role}/fl-job.yaml" for role in ROLES)]
OBJECTS = ["kubernetes.yaml", *(f"{role}/kubernetes.yaml" for role in ROLES)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_the_same_bytes(submit: Submit, job_file: JobFile, tmp_path: Path) -> None:
    """The same job compiles to the same files, wherever it lies and however often."""
    file = job_file()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(file.parent, elsewhere)
    for job, folder in ((file, "one"), (elsewhere / "job.yaml", "two"), (file, "one")):
        assert submit("compile", job, "-o", tmp_path / folder).exit_code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert list(contents(tmp_path / "one")) == sorted([*FILES, *OBJECTS])


def test_files(submit: Submit, job_file: JobFile, tmp_path: Path) -> None:
    """Each file is named on standard output; the FL-Jobs are YAML and belong to the Plan beside them."""
    result = submit("compile", job_file(), "-o", tmp_path / "jobs")
    assert result.stdout.splitlines() == [str(tmp_path / "jobs" / name) for name in (*FILES, *OBJECTS)]
    plan = Plan.read(tmp_path / "jobs" / "plan.json")
    for name in FILES[1:]:
        job = yaml.safe_load((tmp_path / "jobs" / name).read_text())
        assert (job["planDigest"], job["role"]) == (plan.digest, name.partition("/")[0])


def test_objects(submit: Submit, job_file: JobFile, tmp_path: Path) -> None:
    """The Kubernetes objects of each role are in its folder, and the Plan that they mount in one above."""
    submit("compile", job_file(), "-o", tmp_path)
    objects = {name: list(yaml.safe_load_all((tmp_path / name).read_text())) for name in OBJECTS}
    assert [one["kind"] for one in objects["kubernetes.yaml"]] == ["ConfigMap"]
    for role in ROLES:
        own = objects[f"{role}/kubernetes.yaml"]
        assert {one["metadata"]["labels"]["fljob.dev/role"] for one in own} == {role}
        assert [one["metadata"]["name"] for one in own if one["kind"] == "Job"] == [f"digits-{role}"]
    mounted = objects["kubernetes.yaml"][0]["data"]["plan.json"]
    assert mounted == (tmp_path / "plan.json").read_text()
    assert "ownerReferences" not in json.dumps(objects)


def test_the_program_is_sealed(submit: Submit, job_file: JobFile) -> None:
    """The Plan on standard output holds the digest of the program; another program gives another Plan."""
    file = job_file()
    first = json.loads(submit("compile", file).stdout)
    assert first["program"]["sha256"] == bundle_digest(bundle(file.parent, "program"))
    second = json.loads(submit("compile", job_file(program="task = 1\n")).stdout)
    assert second["program"]["sha256"] != first["program"]["sha256"]
    assert {**second, "program": first["program"]} == first


def test_another_program(submit: Submit, job_file: JobFile) -> None:
    """A job that names another digest than its program's is refused with both."""
    result = submit("compile", job_file(program__sha256="a" * 64))
    assert result.exit_code == 65
    assert "spec.program.sha256: " + "a" * 64 in result.stderr


def test_no_program(submit: Submit, job_file: JobFile) -> None:
    """A program that is not there is the program's error, 66."""
    file = job_file()
    (file.parent / "program.py").unlink()
    result = submit("compile", file)
    assert (result.exit_code, result.stdout) == (66, "")
    assert "there is no program.py" in result.stderr


@pytest.mark.parametrize("place", ["", "/deeper"])
def test_no_folder(submit: Submit, job_file: JobFile, place: str) -> None:
    """A folder that cannot be written is one line and no traceback."""
    file = job_file()
    result = submit("compile", file, "-o", f"{file.parent}/program.py{place}")
    assert result.exit_code == (74 if place else 2)
    assert "Traceback" not in result.stderr
    assert "program.py" in result.stderr
