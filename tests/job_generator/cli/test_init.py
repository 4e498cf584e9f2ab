from __future__ import annotations

import compileall
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from fl_core.extensions import known
from fl_core.metrics import total
from fl_core.strategies import LocalWork
from fl_core.weights import Weights
from fl_worker.program import backend_class
from fl_worker.task import Site
from job_generator.cli import init
from job_generator.source import load_job

Submit = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[str]]
FRAMEWORKS = ["paddle", "sklearn", "numpy"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_templates(submit: Submit, process: Process, tmp_path: Path, framework: str) -> None:
    """A new job is good, is called as its folder, and its program trains as it is."""
    pytest.importorskip(framework)
    folder = tmp_path / "my-own"
    assert submit("init", folder, "--framework", framework).exit_code == 0
    assert submit("check", folder / "job.yaml").stdout.startswith("my-own is a good job: ")
    done = process("try", folder / "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-own"]


def test_an_installed_template(submit: Submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip compiles what it installs; a new job has none of that."""
    shutil.copytree(init.TEMPLATES, tmp_path / "templates")
    assert compileall.compile_dir(tmp_path / "templates", quiet=1)
    monkeypatch.setattr(init, "TEMPLATES", tmp_path / "templates")
    assert submit("init", tmp_path / "new", "--framework", "numpy").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["job.yaml", "program.py"]


@pytest.mark.parametrize("framework", ["sklearn", "numpy"])
def test_templates_learn(framework: str) -> None:
    """Over ten rounds a template's loss falls in each, and its accuracy rises by five points."""
    pytest.importorskip(framework)
    folder = Path(str(init.TEMPLATES / framework))
    job = load_job([folder / "job.yaml"]).spec
    task, count = runpy.run_path(str(folder / "program.py"))["task"], job.workers.replicas
    sites = [Site(f"worker-{index}", index, count, seed=job.seed) for index in range(count)]
    kind = backend_class(framework)
    workers = [kind(task(job.program.config, site), site=site, work=LocalWork()) for site in sites]
    model: Weights = workers[0].weights()
    seen = []
    for number in range(1, job.rounds + 1):
        updates = [worker.train(model, round=number, moved=lambda: None).update for worker in workers]
        model = {name: model[name] + np.mean([one[name] for one in updates], axis=0) for name in model}
        measured = {
            s.name: w.evaluate(model, moved=lambda: None).metrics for s, w in zip(sites, workers, strict=True)
        }
        seen.append({name: value.value for name, value in total(measured).items()})
    losses = [one["loss"] for one in seen]
    assert losses == sorted(losses, reverse=True)
    assert seen[-1]["accuracy"] > seen[0]["accuracy"] + 0.04


def test_every_framework() -> None:
    """There is a template for each framework that drives a program."""
    assert tuple(sorted(FRAMEWORKS)) == known("fl_worker.backends")


def test_output(submit: Submit, tmp_path: Path) -> None:
    """The files are named, and then the commands that come next, with their paths."""
    lines = submit("init", tmp_path / "a" / "b").stdout.splitlines()
    assert lines[:2] == [str(tmp_path / "a" / "b" / name) for name in ("job.yaml", "program.py")]
    assert lines[-1] == f"  fl-submit run {tmp_path}/a/b/job.yaml"
    assert load_job([tmp_path / "a" / "b" / "job.yaml"]).spec.program.framework == "paddle"


@pytest.mark.parametrize("there", ["job.yaml", "program.py"])
def test_nothing_is_overwritten(submit: Submit, tmp_path: Path, there: str) -> None:
    """A folder that holds one of the files stays as it is; one that holds others gets the job."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / there).write_text("mine")
    result = submit("init", tmp_path / "job")
    assert result.exit_code == 2
    assert f"{there} is there already; nothing was written" in result.stderr
    assert [path.read_text() for path in (tmp_path / "job").iterdir()] == ["mine"]
    (tmp_path / "job" / there).rename(tmp_path / "job" / "notes.txt")
    assert submit("init", tmp_path / "job").exit_code == 0


@pytest.mark.parametrize("name", ["Digits", "my_job", "1a", "a" * 41, "a."])
def test_names(submit: Submit, tmp_path: Path, name: str) -> None:
    """A folder whose name is no job's name is refused with what a name is; nothing is written."""
    result = submit("init", tmp_path / name)
    assert result.exit_code == 2
    assert "lower-case letters, digits and" in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_no_folder(submit: Submit, tmp_path: Path) -> None:
    """A folder that cannot be made is one line and 74."""
    (tmp_path / "file").write_text("")
    result = submit("init", tmp_path / "file" / "job")
    assert result.exit_code == 74
    assert "cannot be written: Not a directory" in result.stderr
