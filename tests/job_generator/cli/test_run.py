from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from fl_core.errors import SpecError
from fl_core.plan import InitialModel, Plan
from job_generator.cli.files import JobFiles
from job_generator.cli.run import beginning
from job_generator.local.folder import RunFolder, RunState

Submit = Callable[..., Result]
JobFile = Callable[..., Path]


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the current folder is as empty as it was."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return lambda: list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a job file, such as job.yaml"),
        (["JOB", "--resume", "FOLDER"], "give a job file, or --resume with the folder of a run, not both"),
        (["--resume", "FOLDER", "--folder", "x"], "--folder is for a new run; leave it out"),
        (["-f", "JOB", "--resume", "FOLDER"], "not both"),
        (["--resume", "nowhere"], "does not exist"),
        (["JOB", "--log-level", "loud"], "is not one of"),
        (["JOB", "--output", "xml"], "is not one of"),
    ],
)
def test_usage(
    submit: Submit, job_file: JobFile, nothing_left: Callable[[], bool], words: list[str], message: str
) -> None:
    """Words that do not fit each other are wrong usage, and nothing is made."""
    file = job_file()
    given = {"JOB": str(file), "FOLDER": str(file.parent)}
    result = submit("run", *(given.get(word, word) for word in words))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert nothing_left()


@pytest.mark.parametrize(
    ("changes", "words", "code"),
    [
        ({"rounds": 0}, [], 65),
        ({"program__sha256": "a" * 64}, [], 65),
        ({"program__entrypoint": "nowhere:task"}, [], 65),
        ({}, ["--data", "no/{index}"], 66),
        ({"initialModel": {"uri": "gone.npz"}}, [], 65),
        ({"initialModel": {"configMap": {"name": "a", "key": "b"}}}, [], 65),
    ],
)
def test_refused(
    submit: Submit, job_file: JobFile, nothing_left: Callable[[], bool], changes: dict[str, object],
    words: list[str], code: int,
) -> None:  # fmt: skip
    """A job, program or data that cannot work ends the command before its folder is made."""
    result = submit("run", job_file(**changes), *words)
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")
    assert nothing_left()


def test_no_run(submit: Submit, tmp_path: Path) -> None:
    """A folder that is no run's cannot be gone on with."""
    result = submit("run", "--resume", tmp_path)
    assert result.exit_code == 67
    assert "fl-submit list" in result.stderr


def test_a_live_run(submit: Submit, job_file: JobFile) -> None:
    """A run that goes on is not gone on with a second time, and says only that."""
    folder = RunFolder(job_file().parent)
    folder.write(RunState(job="digits", started=dt.datetime.now(dt.UTC), program=".", restarts=0))
    with folder.hold():
        result = submit("run", "--resume", folder.path)
    assert (result.exit_code, result.stdout) == (75, "")
    assert result.stderr.startswith(f"Error: {folder.path} is running now; stop that run first")


def test_an_occupied_folder(submit: Submit, job_file: JobFile) -> None:
    """A folder that holds something is not run in."""
    file = job_file()
    result = submit("run", file, "--folder", file.parent)
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_left_aside(submit: Submit, job_file: JobFile, nothing_left: Callable[[], bool]) -> None:
    """What only a cluster can do is named once; a program that only a cluster has cannot run here."""
    source = {"image": {"reference": "mine:1"}}
    result = submit(
        "run", job_file(program__source=source, program__entrypoint="elsewhere:task", suspend=True)
    )
    assert (result.exit_code, result.stdout) == (66, "")
    assert "left aside here: spec.suspend, spec.program.source.\n" in result.stderr
    assert "there is no elsewhere.py" in result.stderr
    assert nothing_left()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("faults: [{fault: burn, who: server}]", 'chaos.yaml:1: faults[0].fault: "burn" is unknown'),
        ("faults: [{fault: kill, who: worker-999}]", 'faults[0].who: "worker-999" is nobody'),
    ],
)
def test_faults_that_no_job_can_have(
    submit: Submit,
    job_file: JobFile,
    nothing_left: Callable[[], bool],
    tmp_path: Path,
    text: str,
    sentence: str,
) -> None:
    """A file of faults that is wrong is refused with file, line and path, and no folder is made."""
    chaos = tmp_path / "chaos.yaml"
    chaos.write_text(text)
    result = submit("run", str(job_file()), "--chaos", str(chaos))
    assert result.exit_code == 65
    assert sentence in result.stderr
    assert nothing_left()


BEGUN = {"initialModel": {"configMap": {"name": "before", "key": "m.npz"}}}


@pytest.mark.parametrize(
    ("changes", "sha256", "told"),
    [
        ({}, None, "the recorded job began with a file; name a copy of it in the job file"),
        (BEGUN, None, "spec.initialModel.configMap: only a cluster has it"),
        ({"initialModel": {"uri": "m.npz"}}, "ab" * 32, f"and the recorded job began with {'ab' * 32}"),
        ({"initialModel": {"uri": "m.npz"}}, None, ""),
        ({"initialModel": {"uri": "m.npz"}}, sha256(b"model").hexdigest(), ""),
    ],
)
def test_the_file_that_a_job_on_a_cluster_began_with(
    job_file: JobFile, plan_of: Callable[..., Plan], changes: dict[str, Any], sha256: str | None, told: str
) -> None:
    """The job file here names a copy; another file, or none, is refused before anything is made."""
    file = job_file(**changes)
    (file.parent / "m.npz").write_bytes(b"model")
    given, plan = JobFiles((file,)), plan_of(initial_model=InitialModel(sha256=sha256))
    if told:
        with pytest.raises(SpecError, match=told):
            beginning(given, plan)
    else:
        assert beginning(given, plan) == str(file.parent / "m.npz")
    assert beginning(given, plan_of()) is None
