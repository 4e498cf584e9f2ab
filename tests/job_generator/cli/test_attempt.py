from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from fl_core.plan import Plan
from job_generator.cli.attempt import inherited
from job_generator.compiler import compile_job
from job_generator.spec import FLJob

Process = Callable[..., subprocess.CompletedProcess[str]]
JobFile = Callable[..., Path]
RAISES = (
    "def task(config, site):\n    return broken(config)\n\ndef broken(config):\n    return config['depth']\n"
)


def test_traceback(process: Process, job_file: JobFile, tmp_path: Path) -> None:
    """An exception of the program is shown whole, with its lines, and ends with 66; no file is left."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    file = job_file(program=RAISES)
    before = sorted(tmp_path.rglob("*"))
    done = process("try", file, cwd=scratch)
    assert done.returncode == 66
    assert "return broken(config)" in done.stderr
    assert "KeyError: 'depth'" in done.stderr
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert [path for path in left if "__pycache__" not in path.parts] == []


def test_no_such_worker(process: Process, job_file: JobFile) -> None:
    """A worker that the job does not have is said in one line."""
    done = process("try", job_file(), "--index", "9")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Error: --index 9: the job has 4 workers; expected 0 to 3"


def test_no_data(submit: Callable[..., Result], job_file: JobFile) -> None:
    """Data that is not there ends it before anything is loaded, for the very worker that is tried."""
    result = submit("try", job_file(), "--data", "no/{index}", "--index", "2")
    assert result.exit_code == 66
    assert "no/2 does not exist" in result.stderr


def test_a_wrong_job(submit: Callable[..., Result], job_file: JobFile) -> None:
    """A wrong job ends before this process becomes a worker."""
    assert submit("try", job_file(rounds=0)).exit_code == 65


def test_the_plan_is_nowhere(a_job: Callable[..., FLJob]) -> None:
    """The plan is handed on by a descriptor: the same text, which processes inherit, and no name on disk."""
    plan = compile_job(a_job())
    path = inherited(plan)
    descriptor = int(path.rpartition("/")[2])
    assert Plan.read(Path(path)) == plan
    assert os.get_inheritable(descriptor)
    assert os.fstat(descriptor).st_nlink == 0
    os.close(descriptor)
