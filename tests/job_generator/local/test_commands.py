from __future__ import annotations

import ast
import datetime as dt
import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from click.testing import Result as Done
from safetensors.numpy import load_file, save_file

from fl_core.errors import StorageError
from fl_core.plan import Plan
from fl_server.checkpoints import Checkpoints, Saved
from job_generator.cli.__main__ import main
from job_generator.cli.list import age
from job_generator.local.folder import RunFolder, RunState
from job_generator.local.record import ClosedRound
from job_generator.local.summary import Result

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def a_run(tmp_path: Path, a_plan: Callable[..., Plan]) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "digits-1")
    folder.prepare(job="kind: FLJob\n", plan=a_plan())
    state = RunState(
        job="digits", state="Complete", started=NOW, program="p", restarts=1, reason="RoundsDone"
    )
    folder.write(state.model_copy(update={"ended": NOW + dt.timedelta(seconds=9)}))
    scores = [0.5, 0.95, 0.92]
    rounds = [ClosedRound(round=n, model=f"m{n}", metrics={"accuracy": s}) for n, s in enumerate(scores, 1)]
    folder.record.write_text("".join(f"{closed.model_dump_json()}\n" for closed in rounds))
    folder.last_model.parent.mkdir()
    save_file(WEIGHTS, folder.last_model, metadata={"fljob": json.dumps({"facts": {"round": 3}})})
    (folder.logs / "server.log").write_text(
        '{"timestamp":"2026-01-02T10:00:00","event":"round closed","round":3}\n'
    )
    return folder


def typed(*words: object) -> Done:
    """`fl-submit` with these words."""
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="fl-submit")


def test_document(a_run: RunFolder) -> None:
    """A run's document holds its last metrics, its best round, and whether the target was reached."""
    document = Result.read(a_run).document()
    assert document["metrics"] == {"accuracy": 0.92}
    assert document["best"] == {"round": 2, "metrics": {"accuracy": 0.95}}
    assert (document["target_reached"], document["digest"], document["seconds"]) == (True, "m3", 9.0)


def test_list(a_run: RunFolder) -> None:
    """`list` shows every run with its state, round and metric, as a page and as data."""
    runs = str(a_run.path.parent)
    page = typed("list", "--runs", runs)
    assert "Complete" in page.output
    assert "3/4" in page.output
    data = typed("list", "--runs", runs, "--output", "json")
    assert json.loads(data.output)[0]["rounds"] == 3


def test_wide_list(a_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns every column is there, however long the run's path and its metric's name."""
    long = a_run.path.with_name("r" * 60)
    a_run.path.rename(long)
    (long / "storage" / "metrics.jsonl").write_text(
        ClosedRound(round=3, metrics={"balanced_accuracy_of_all": 0.5}).model_dump_json() + "\n"
    )
    monkeypatch.setenv("COLUMNS", "80")
    page = typed("list", "--runs", str(long.parent)).output
    assert page.split()[:5] == ["RUN", "STATE", "ROUND", "METRIC", "AGE"]
    assert "Complete" in page
    assert "balanced_accura… 0.5000" in page
    assert "".join(line.split(" ")[1] for line in page.splitlines()[3:-1]).endswith("r" * 60)


def test_empty_list(tmp_path: Path) -> None:
    """Without runs, `list` says how to start one."""
    assert "fl-submit run" in typed("list", "--runs", str(tmp_path)).output


def test_status(a_run: RunFolder) -> None:
    """`status` shows the rounds, where the model lies and how to predict with it; the lines are Python."""
    page = typed("status", a_run.path)
    assert page.exit_code == 0
    assert "target accuracy ≥ 0.9 reached" in page.output
    shown = page.output.partition("Load it and predict:\n")[2].partition("\n\n")[0]
    assert len(ast.parse(textwrap.dedent(shown)).body) == 3
    assert str(a_run.path) in shown


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "Running"}, "Interrupted  digits: round 3/4"),
        ({"state": "Failed", "exit_code": 74}, "go on:   fl-submit run --resume {path}"),
        ({"state": "Failed", "exit_code": 72}, "mended:  fl-submit run --resume {path}"),
        ({"state": "Failed", "exit_code": 68}, "go on:   fl-submit run --resume {path}"),
        (
            {"state": "Failed", "exit_code": 66},
            "mended:  fl-submit run '/a b/job.yaml' -f /more.yaml --data '/d/{{index}}'",
        ),
        (
            {"state": "Failed", "exit_code": 68, "recurs": True},
            "mended:  fl-submit run '/a b/job.yaml'",
        ),
        ({"state": "Stopped", "exit_code": 130}, "fl-submit run --resume {path}"),
    ],
)
def test_what_to_type_next(a_run: RunFolder, changes: dict[str, object], said: str) -> None:
    """Where a run stands in its rounds, and what to type to go on with one that has not ended well."""
    given = {"files": ("/a b/job.yaml", "/more.yaml"), "data": "/d/{index}"}
    a_run.write(a_run.state().model_copy(update={**given, **changes}))
    page = typed("status", a_run.path)
    assert said.format(path=a_run.path) in page.output


def test_seconds(a_run: RunFolder) -> None:
    """A run that was resumed took the time of all its parts, but not of the pauses between them."""
    later = NOW + dt.timedelta(hours=1)
    again = {"resumed": later, "earlier_seconds": 9.0, "ended": later + dt.timedelta(seconds=5)}
    a_run.write(a_run.state().model_copy(update=again))
    assert Result.read(a_run).seconds == 14.0
    a_run.write(a_run.state().model_copy(update={**again, "ended": None}))
    assert Result.read(a_run).seconds == 9.0


def test_logs(a_run: RunFolder) -> None:
    """`logs` prints time, process, round and event."""
    page = typed("logs", a_run.path, "--round", "3")
    assert page.output.split() == ["10:00:00", "server", "[3]", "round", "closed"]


def test_logs_as_data(a_run: RunFolder) -> None:
    """`logs --output` prints a document for each line, with the process and all that it said."""
    shown = typed("logs", a_run.path, "--output", "json").stdout.splitlines()
    documents = list(yaml.safe_load_all(typed("logs", a_run.path, "--output", "yaml").stdout))
    assert [json.loads(line) for line in shown] == documents
    (closed,) = (one for one in documents if one.get("round") == 3)
    assert (closed["process"], closed["event"]) == ("server", "round closed")


def test_logs_of_no_round(a_run: RunFolder) -> None:
    """Where no line is of the round that is asked for, that is said; standard output stays empty."""
    page = typed("logs", a_run.path, "--round", "99")
    assert (page.exit_code, page.stdout) == (0, "")
    assert page.stderr.startswith(f"{a_run.path} has no line of round 99; ")


def test_explain(a_run: RunFolder) -> None:
    """A run is explained: how it stands, what became of its rounds, and what to type next."""
    a_run.write(a_run.state().model_copy(update={"state": "Failed", "message": "too few", "exit_code": 68}))
    first, second, *rest = typed("explain", a_run.path).stdout.splitlines()
    assert first == "digits is Failed (RoundsDone) too few."
    assert second.endswith("3 were committed.")
    assert rest == [
        f"go on: fl-submit run --resume {a_run.path}",
        f"One round by itself: fl-submit explain {a_run.path} --round 3",
    ]


def test_logs_of_nobody(a_run: RunFolder) -> None:
    """A process that there is not is refused, with those that there are."""
    page = typed("logs", a_run.path, "--role", "worker-9")
    assert page.exit_code == 2
    assert "there is no such process; there are server" in page.output


def test_unwritable_model(a_run: RunFolder, tmp_path: Path) -> None:
    """A model that cannot be written is one sentence."""
    done = typed("model", a_run.path, "-o", str(tmp_path / "missing" / "m.npz"))
    assert done.exit_code == StorageError.exit_code
    assert "m.npz cannot be written: No such file" in done.stderr


def test_damaged_run(a_run: RunFolder) -> None:
    """`list` names a folder that it cannot read, and lists the others."""
    damaged = a_run.path.parent / "torn"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    page = typed("list", "--runs", str(a_run.path.parent))
    assert page.exit_code == 0
    assert "torn is left out" in page.stderr
    assert "run.json is damaged: Invalid JSON" in page.stderr
    assert "pydantic" not in page.stderr
    assert "Complete" in page.stdout


@pytest.mark.parametrize("name", ["m.npz", "m.safetensors"])
def test_model(a_run: RunFolder, tmp_path: Path, name: str) -> None:
    """`model` writes the same arrays in the format that the file's ending names."""
    target = tmp_path / name
    done = typed("model", a_run.path, "-o", str(target))
    assert "round 3, 1 arrays, 6 parameters" in done.output
    read = np.load(target) if name.endswith("npz") else load_file(target)
    np.testing.assert_array_equal(read["w"], WEIGHTS["w"])


def test_model_before_the_end(a_run: RunFolder, tmp_path: Path) -> None:
    """Of a run that has failed, `model` writes its newest whole checkpoint, and says so in one line."""
    a_run.write(a_run.state().model_copy(update={"state": "Failed"}))
    a_run.last_model.unlink()
    Checkpoints(a_run.storage / "checkpoints", "plan", keep=3).save(
        Saved(WEIGHTS, {"round": 2, "plan": "plan"})
    )
    for name, read in (("m.npz", np.load), ("m.safetensors", load_file)):
        done = typed("model", a_run.path, "-o", str(tmp_path / name))
        told = (
            "is Failed and has no final model; this is its newest whole checkpoint, round-0000002.safetensors"
        )
        assert f"{a_run.path.name} {told}" in done.stderr
        assert done.stdout == f"{tmp_path / name}: the model of round 2, 1 arrays, 6 parameters\n"
        np.testing.assert_array_equal(read(tmp_path / name)["w"], WEIGHTS["w"])


def test_unknown_format(a_run: RunFolder, tmp_path: Path) -> None:
    """A file whose ending says nothing is asked about."""
    done = typed("model", a_run.path, "-o", str(tmp_path / "model.bin"))
    assert "--format" in done.output


def test_models_that_there_are_not(a_run: RunFolder, tmp_path: Path) -> None:
    """A best model where there is none, and Paddle's format for another framework, are wrong usage, in a sentence."""
    target = tmp_path / "model.pdparams"
    for words, sentence in (
        (["--best", "--format", "npz"], "--best: there is none"),
        ([], "is one of numpy; write .npz"),
    ):
        done = typed("model", a_run.path, "-o", str(target), *words)
        assert done.exit_code == 2
        assert sentence in done.stderr
    assert not target.exists()


def test_age() -> None:
    """Ages are written as kubectl does."""
    spans = [dt.timedelta(seconds=n) for n in (5, 120, 7300, 90000)]
    assert [age(span) for span in spans] == ["5s", "2m", "2h", "1d"]
