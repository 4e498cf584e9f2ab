"""Which word means a run on this machine, and which a job on a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from job_generator.cli.__main__ import main
from job_generator.cluster.options import is_run, runs


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one job and one of another are here, and no kubeconfig."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    for number, name in enumerate(
        ("my-job-20260101-120000", "my-job-20260102-120000-2", "fraud-20260103-120000")
    ):
        run = tmp_path / "fl-runs" / name / "run.json"
        run.parent.mkdir(parents=True)
        run.write_text("{}")
        os.utime(run, (number, number))


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(
    "words",
    [
        "status",
        "stop",
        "suspend",
        "resume",
        "logs",
        "explain",
        "record show",
        "record verify",
        "watch",
        "delete",
        "fork --from-round 1",
    ],
)
def test_a_mistyped_run_is_answered_with_the_runs_that_are_near(words: str) -> None:
    """Where there is no cluster a name that no run has is most likely a run's; then comes how to reach a cluster."""
    result = CliRunner().invoke(main, [*words.split(), "my-jbo"])
    assert result.exit_code == 64
    assert result.stderr.startswith(
        "Error: there is no run my-jbo here (did you mean fl-runs/my-job-20260102-120000-2?), "
        "and no cluster to ask for a job of that name: "
    )
    assert "--kubeconfig" in result.stderr or "fljob[cluster]" in result.stderr


@pytest.mark.usefixtures("no_cluster")
def test_what_is_for_jobs_alone_says_what_to_do_with_a_run() -> None:
    """Nothing is said of a cluster where a run's folder is named, by a path or by its name alone."""
    run = "fl-runs/fraud-20260103-120000"
    for words, instead in (("watch", "fl-submit status {}"), ("delete", "rm -r {}")):
        result = CliRunner().invoke(main, [words, run])
        assert (result.exit_code, instead.format(run) in result.stderr) == (2, True)
        assert "cluster" not in result.stderr.rpartition("Error: ")[2]
        os.chdir("fl-runs")
        assert "is a run on this machine" in CliRunner().invoke(main, [words, run.partition("/")[2]]).stderr
        os.chdir("..")
    assert "does not exist" in CliRunner().invoke(main, ["watch", "fl-runs/fraud"]).stderr


@pytest.mark.usefixtures("no_cluster")
def test_an_error_in_an_error_ends_once() -> None:
    """The sentence of the Kubernetes client is taken in without its full stop."""
    said = CliRunner().invoke(main, ["watch", "my-jbo"]).stderr
    assert "No configuration found; name its file with" in said


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("words", ["status", "logs", "explain"])
def test_a_folder_that_is_no_run_is_called_so(words: str) -> None:
    """A folder that is here but holds no run is told from one that is not here."""
    Path("my-job").mkdir()
    result = CliRunner().invoke(main, [*words.split(), "my-job"])
    assert result.stderr.startswith(
        "Error: my-job is a folder here but no run, for it has no run.json (did you mean "
    )


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(("begun", "found"), [("", 3), ("fl-runs/my", 2), ("elsewhere/", 0)])
def test_runs_complete(begun: str, found: int) -> None:
    """A shell is given the runs that begin so; where none does, it is told to look for folders."""
    items = runs(click.Context(main), click.Argument(["what"]), begun)
    assert [item.type for item in items] == (["plain"] * found or ["dir"])


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("fl-runs/fraud-20260103-12000", "(did you mean fl-runs/fraud-20260103-120000?)"),
        ("runs/my-job-20260101-120000", "(did you mean fl-runs/my-job-20260101-120000?)"),
        ("fl-runs/entirely", "(fl-submit list shows those that are)"),
    ],
)
def test_a_folder_that_is_not_there_is_answered_likewise(word: str, hint: str) -> None:
    """A path is a run's and no job's, so only runs are named."""
    result = CliRunner().invoke(main, ["status", word])
    assert result.exit_code == 2
    assert hint in " ".join(result.stderr.split())


def test_a_folder_of_a_jobs_files_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `init` and `submit` job and folder have one name, and the job on the cluster is meant."""
    monkeypatch.chdir(tmp_path)
    Path("first").mkdir()
    Path("first-run").mkdir()
    Path("first-run/run.json").write_text("{}")
    assert [is_run(word) for word in ("first", "first-run", "./first", "absent")] == [
        False,
        True,
        True,
        False,
    ]
