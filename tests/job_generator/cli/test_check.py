from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result

Submit = Callable[..., Result]
JobFile = Callable[..., Path]


def test_good(submit: Submit, job_file: JobFile) -> None:
    """A good job is one line, on standard output, with what it comes to."""
    result = submit("check", job_file(selection={"perRound": 3}))
    assert result.exit_code == 0
    assert result.output == (
        "digits is a good job: 20 rounds of fedavg with 4 workers, 3 in each round and at least 3.\n"
    )


def test_one_of_each(submit: Submit, job_file: JobFile) -> None:
    """One round with one worker is said in the singular."""
    assert (
        "1 round of fedavg with 1 worker, 1"
        in submit("check", job_file(rounds=1, workers__replicas=1)).stdout
    )


def test_sums_that_are_not_secure(submit: Submit, job_file: JobFile) -> None:
    """With two in a round nothing hides their updates, which is a note; whoever turned it off knows."""
    few = submit("check", job_file(workers__replicas=2))
    assert few.stderr == (
        "note: secure aggregation is off, as it needs at least 3 in a round and here there are 2: "
        "the server sees each worker's update\n"
    )
    told = json.loads(submit("check", job_file(workers__replicas=2), "--output", "json").stdout)
    assert (told["valid"], len(told["notes"])) == (True, 1)
    off = submit("check", job_file(workers__replicas=2, secureAggregation={"enabled": False}))
    assert off.stderr == submit("check", job_file()).stderr == ""


def test_wrong(submit: Submit, job_file: JobFile) -> None:
    """A wrong job ends with 65, and every problem is a line with the file and line, on standard error."""
    file = job_file("  sede: 1", rounds=0)
    result = submit("check", file)
    assert (result.exit_code, result.stdout) == (65, "")
    first, second = result.stderr.removeprefix("Error: ").splitlines()
    assert first.startswith(f"{file}:6: spec.rounds: 0 is not accepted; expected")
    assert second.startswith(f"{file}:8: spec.sede: there is no such field (did you mean seed?)")


def test_the_program(submit: Submit, job_file: JobFile) -> None:
    """A program without its function is wrong, too, and is not run to find out."""
    file = job_file(program="raise SystemExit(3)\ndef train(): ...\n")
    result = submit("check", file)
    assert result.exit_code == 65
    assert result.stderr == (
        f"Error: {file}:5: spec.program.entrypoint: the module program has no function task; there is train\n"
    )


@pytest.mark.parametrize(("kind", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_for_programs(submit: Submit, job_file: JobFile, kind: str, read: Callable[[str], object]) -> None:
    """With --output the answer is data, good or not, and the exit code is the same."""
    good = submit("check", job_file(), "--output", kind)
    assert (good.exit_code, read(good.stdout)) == (0, {"valid": True, "problems": [], "notes": []})
    file = job_file(rounds=0)
    wrong = submit("check", file, "--output", kind)
    message = "0 is not accepted; expected a whole number from 1 to 1000000"
    problem = {"path": "spec.rounds", "message": message, "place": f"{file}:6"}
    assert (wrong.exit_code, read(wrong.stdout)) == (65, {"valid": False, "problems": [problem]})
    assert wrong.stderr == ""


@pytest.mark.parametrize(
    ("name", "content", "more", "expected"),
    [
        ("model.pdparams", b"\x80\x02}", {}, "expected safetensors, or npz as numpy.savez"),
        ("model.npz", b"PK\x03\x04 and no archive", {}, "expected safetensors, or npz as numpy.savez"),
        (
            "first.py",
            b"import numpy\n",
            {},
            "first.py is neither safetensors nor npz: it begins with b'import nu'",
        ),
        ("model.npz", b"PK\x03\x04", {"round": 3}, "for the arrays of an npz alone leave round out"),
    ],
)
def test_a_first_model_that_is_none(
    submit: Submit, job_file: JobFile, name: str, content: bytes, more: dict[str, int], expected: str
) -> None:
    """A file that no server could begin with is refused without a process, and the sentence says what is accepted."""
    file = job_file(initialModel={"uri": name, **more})
    (file.parent / name).write_bytes(content)
    for command in ("check", "try", "run"):
        result = submit(command, file)
        assert result.exit_code == 65
        assert result.stderr.startswith("Error: spec.initialModel.uri: ")
        assert expected in result.stderr


def test_a_first_model_without_numbers(submit: Submit, job_file: JobFile) -> None:
    """A model that holds NaN is refused before a process is started, with its array."""
    file = job_file(initialModel={"uri": "model.npz"})
    np.savez(file.parent / "model.npz", w=np.full(3, np.nan, "f4"))
    for command in ("check", "run"):
        result = submit(command, file)
        assert result.exit_code == 65
        assert "array 'w' holds 3 values that are not finite numbers" in result.stderr
        assert "learning rate" not in result.stderr


def test_more_files(submit: Submit, job_file: JobFile, tmp_path: Path) -> None:
    """Files given with -f are laid over the job in their order, and -f alone is enough."""
    for number in (5, 7):
        (tmp_path / f"{number}.yaml").write_text(f"spec: {{rounds: {number}}}\n")
    file, five, seven = job_file(), tmp_path / "5.yaml", tmp_path / "7.yaml"
    assert "good job: 7 rounds" in submit("check", file, "-f", five, "-f", seven).stdout
    assert "good job: 5 rounds" in submit("check", "-f", file, "-f", seven, "-f", five).stdout


def test_no_file(submit: Submit, tmp_path: Path) -> None:
    """Without a file the answer is how to give one; a folder is none."""
    for words in ([], [tmp_path], [tmp_path / "none.yaml"]):
        result = submit("check", *words)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr
    assert "give a job file, such as job.yaml" in submit("check").stderr


def test_not_yaml(submit: Submit, job_file: JobFile) -> None:
    """A file that is not YAML ends with 65 and one line, not with a traceback, whatever the output."""
    file = job_file("\tx: 1")
    for words in ([], ["--output", "json"]):
        result = submit("check", file, *words)
        assert result.exit_code == 65
        assert result.stderr.startswith(f"Error: {file}:8: this is not YAML: ")


def test_what_is_loaded(loaded: Callable[[Sequence[str]], set[str]], job_file: JobFile) -> None:
    """Checking loads neither the network, nor a framework, nor what draws tables, nor the program."""
    found = loaded(["check", str(job_file())])
    assert "job_generator.compiler" in found
    assert {"grpc", "paddle", "sklearn", "rich", "program", "cryptography"} & found == set()
