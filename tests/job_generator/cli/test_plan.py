from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from job_generator.cli.plan import machine

Submit = Callable[..., Result]
JobFile = Callable[..., Path]
PROGRAM = """
import numpy as np
print("noise")
class Program:
    def weights(self):
        return {"w": np.zeros(100, "float32")}
    def train(self, weights):
        return weights, 1
    def evaluate(self, weights):
        return {}
def task(config, site):
    return Program()
"""


def test_measured(submit: Submit, job_file: JobFile) -> None:
    """The model's size comes from the program, run elsewhere, and the bytes of a round from that."""
    changes = {"compression": [{"name": "float16"}], "secureAggregation": {"enabled": False}}
    result = submit("plan", job_file(program=PROGRAM, **changes), "--output", "json")
    document = json.loads(result.stdout)
    assert document["model"] == {"arrays": 1, "parameters": 100, "nbytes": 400, "updateNbytes": 200}
    assert (document["down"], document["up"], document["processes"]) == (1600, 800, 6)


def test_masked(submit: Submit, job_file: JobFile) -> None:
    """A masked update has 2 or 4 bytes an element, whatever the model's are."""
    for bits, nbytes in ((32, 400), (16, 200)):
        job = job_file(program=PROGRAM, secureAggregation={"bits": bits})
        document = json.loads(submit("plan", job, "--output", "json").stdout)
        assert 4 * nbytes <= document["up"] < 4 * (nbytes + 100)


def test_unmeasured(submit: Submit, job_file: JobFile) -> None:
    """With --no-measure the program is not loaded, and the page says what is unknown for that."""
    result = submit("plan", job_file(program="raise SystemExit(3)"), "--no-measure")
    assert result.exit_code == 0
    assert "unknown: the program was not loaded" in result.stdout
    assert re.search(r"can be lost +1 of them", result.stdout)


def test_a_program_that_raises(submit: Submit, job_file: JobFile) -> None:
    """A program that raises is the program's error, with its traceback."""
    result = submit("plan", job_file(program="def task(config, site):\n    return 1 / 0\n"))
    assert result.exit_code == 66
    assert "program.py" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert result.stderr.count("Error: ") == 2  # the sentence's, and the exception's own


@pytest.mark.parametrize(
    "changes", [{"strategy": {"name": "nowhere.at:All"}}, {"target": {"metric": "auc", "atLeast": 1}}]
)
def test_what_the_worker_refuses(submit: Submit, job_file: JobFile, changes: dict[str, object]) -> None:
    """What only loading tells, a class that is not there or a target that is not measured, is one sentence."""
    program = PROGRAM.replace("return {}", "return {'loss': 1.0}")
    result = submit("plan", job_file(program=program, **changes))
    assert result.exit_code == 65
    assert result.stderr.count("Error: ") == 1


@pytest.mark.parametrize(("words", "code"), [(["--data", "no/{index}"], 66), (["--output", "xml"], 2)])
def test_wrong_words(submit: Submit, job_file: JobFile, words: list[str], code: int) -> None:
    """Data that is not there and an output that is none are refused before anything is loaded."""
    assert submit("plan", job_file(), *words).exit_code == code


@pytest.mark.parametrize("command", ["try", "run"])
def test_a_first_model_of_another_shape(
    submit: Submit, job_file: JobFile, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is refused before a job's processes start and a run's folder is made, with the array and both shapes."""
    monkeypatch.chdir(tmp_path)
    file = job_file(program=PROGRAM, initialModel={"uri": "model.npz"})
    np.savez(file.parent / "model.npz", w=np.zeros(7, "f4"))
    result = submit(command, file)
    assert result.exit_code == 67
    assert "array w float32[7] should be w float32[100]" in result.stderr
    assert not (tmp_path / "fl-runs").exists()


def test_shared_data(submit: Submit, job_file: JobFile) -> None:
    """Data that all workers share is told of, on standard error."""
    file = job_file()
    result = submit("plan", file, "--no-measure", "--data", file.parent)
    assert result.exit_code == 0
    assert result.stderr == f"--data {file.parent} has no {{index}}: all 4 workers get this same path.\n"


def test_findings(submit: Submit, job_file: JobFile) -> None:
    """What a careful person would want to know stands below the page."""
    result = submit("plan", job_file(selection={"minimum": 4}), "--no-measure")
    assert result.stdout.splitlines()[-1].startswith("warning: the quorum is all workers")


def test_sums_that_are_not_secure(submit: Submit, job_file: JobFile) -> None:
    """Where too few take part for a secure sum, that is one of the findings, for programs too."""
    document = json.loads(
        submit("plan", job_file(workers__replicas=2), "--no-measure", "--output", "json").stdout
    )
    notes = [one["message"] for one in document["findings"] if one["level"] == "note"]
    assert [one for one in notes if one.startswith("secure aggregation is off, as it needs at least 3")]


def test_what_ends_a_job_early(submit: Submit, job_file: JobFile) -> None:
    """A target and early stopping are on the page, and nothing where a job has neither."""
    changes = {"target": {"metric": "accuracy", "atLeast": 0.9}, "earlyStopping": {"patience": 3}}
    page = submit("plan", job_file(**changes), "--no-measure").stdout
    assert re.search(
        r"ends early +when accuracy ≥ 0\.9 is reached, or when 3 measured rounds in a row make no progress",
        " ".join(page.split()),
    )
    assert "ends early" not in submit("plan", job_file(), "--no-measure").stdout


def test_machine() -> None:
    """The machine has memory and cores."""
    assert machine().memory_free > 1 << 20
    assert machine().cores >= 1
