"""`fl-worker try`, `init` and `export`, as processes and as a user sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fl_core.errors import MismatchError, ProgramError, SpecError, StorageError
from fl_core.extensions import Extension
from fl_core.plan import Privacy, Target
from fl_core.plan import Site as PlanSite
from fl_core.weights import Manifest, digest

ROOT = Path(__file__).parents[2]
Write = Callable[..., Any]

PLAIN = """
import numpy as np
class Model:
    def weights(self): return {"w": np.zeros(3, np.float32)}
    def train(self, weights): return {"w": weights["w"] + 1}, 5
    def evaluate(self, weights): return {"loss": float(3 - weights["w"].sum()), "examples": 4}
def task(config, site):
    print("hello from", site.name)
    return Model()
"""
PADDLE = """
import paddle
from fl_worker import Task
def task(config, site):
    return Task(
        model=paddle.nn.Linear(2, 2), loss=paddle.nn.functional.cross_entropy, train=[],
        optimizer=lambda parameters, round: paddle.optimizer.SGD(0.1, parameters),
    )
"""


def worker(command: str, job: Any, *options: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fl_worker", command, "--plan", job.file, "--program", job.folder, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        list(map(str, line)),
        cwd=job.folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_try_trains_one_round(write: Write) -> None:
    """`try` prints examples, what the round did to the loss, the seconds and the bytes of an update."""
    result = worker("try", write(PLAIN))
    assert result.returncode == 0, result.stderr
    assert "5 to train on, 4 to test with" in result.stdout
    assert "3.0000 before, 0.0000 after" in result.stdout
    assert "12 bytes" in result.stdout


def test_try_takes_private_steps(write: Write) -> None:
    """Under dp_sgd `try` trains as a round will, and says that it is gradients that are cut."""
    private = PLAIN.replace(
        'def train(self, weights): return {"w": weights["w"] + 1}, 5',
        """def examples(self): return 5
    def gradients(self, weights, places): return {"w": np.tile(weights["w"] - 1, (len(places), 1))}""",
    )
    job = write(private)
    options = {"clip": 4.0, "noise_multiplier": 0.01, "rate": 1.0, "steps": 9, "learning_rate": 0.5}
    hiding = Privacy(
        unit="example",
        mechanism=Extension(name="dp_sgd", options=options),
        epsilon=900,
        delta=1e-5,
        corrupt=0,
        measured=False,
    )
    job.file.write_text(job.plan.model_copy(update={"privacy": hiding}).to_json())
    result = worker("try", job)
    assert result.returncode == 0, result.stderr
    assert "5 to train on" in result.stdout
    assert "dp_sgd, which cuts the gradient of each example to 4" in result.stdout


def test_a_breakpoint_works_in_try(write: Write) -> None:
    """`breakpoint()` in a program stops in the debugger of the terminal."""
    job = write(PLAIN.replace('return {"w": weights', 'breakpoint(); return {"w": weights'))
    result = worker("try", job, given="p weights['w'].sum()\ncontinue\n")
    assert result.returncode == 0, result.stderr
    assert "(Pdb)" in result.stdout


def test_try_shows_exceptions_whole(write: Write) -> None:
    """What the program raises is shown with every frame, and the exit code says that the program is wrong."""
    result = worker("try", write(PLAIN.replace("print(", "import json; json.loads('{'); print(")))
    assert result.returncode == ProgramError.exit_code
    assert "json/decoder.py" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: the program raised JSONDecodeError")
    assert result.stderr.count("Traceback") == result.stderr.count("json.loads('{')") == 1


@pytest.mark.parametrize("command", ["try", "init"])
def test_a_target_that_is_not_measured_is_told(write: Write, command: str) -> None:
    """Before a job starts, a target that the program does not measure ends both with the server's sentence."""
    job = write(PLAIN)
    target = Target(metric="auc", at_least=0.9)
    job.file.write_text(job.plan.model_copy(update={"target": target}).to_json())
    result = worker(command, job)
    assert result.returncode == SpecError.exit_code
    assert "Error: spec.target.metric: 'auc' is not among the program's metrics, loss;" in result.stderr


def test_a_worker_that_does_not_exist_is_refused(write: Write) -> None:
    """The index must be one of the plan's workers."""
    result = worker("try", write(PLAIN), "--index", "4")
    assert result.returncode == ProgramError.exit_code
    assert "the workers 0 to 3" in result.stderr


def test_init_prints_one_line_of_json(write: Write) -> None:
    """Manifest, size and digest are those of the initial weights, whatever the program itself prints."""
    result = worker("init", write(PLAIN))
    row = json.loads(result.stdout)
    weights = {"w": np.zeros(3, np.float32)}
    assert (row["manifest"], row["digest"]) == (Manifest.of(weights).to_json(), digest(weights))
    assert (row["arrays"], row["parameters"], row["nbytes"], row["updateNbytes"]) == (1, 3, 12, 12)
    assert "hello from worker-0" in result.stderr


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_a_model_is_exported_without_the_program(write: Write, tmp_path: Path, form: str) -> None:
    """Plain formats hold the model's arrays, and the program never runs."""
    job = write("raise SystemExit")
    model, target = tmp_path / "last.safetensors", tmp_path / f"model.{form}"
    save_file({"w": np.arange(3, dtype=np.float32)}, model)
    result = worker("export", job, "--model", model, "--format", form, "-o", target)
    assert result.returncode == 0, result.stderr
    read = np.load(target) if form == "npz" else __import__("safetensors.numpy").numpy.load_file(target)
    assert read["w"].tolist() == [0, 1, 2]


def test_paddles_own_format_loads_into_the_layer(write: Write, tmp_path: Path) -> None:
    """What `export --format paddle` wrote is a state dictionary of the program's Layer."""
    paddle = pytest.importorskip("paddle")
    weights = {"weight": np.ones((2, 2), np.float32), "bias": np.full(2, 3, np.float32)}
    model, target = tmp_path / "last.safetensors", tmp_path / "model.pdparams"
    save_file(weights, model)
    result = worker(
        "export", write(PADDLE, framework="paddle"), "--model", model, "--format", "paddle", "-o", target
    )
    assert result.returncode == 0, result.stderr
    layer = paddle.nn.Linear(2, 2)
    layer.set_state_dict(paddle.load(str(target)))
    assert all(np.array_equal(tensor.numpy(), weights[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize(
    ("content", "form", "framework", "code"),
    [
        (b"not a model", "npz", "numpy", StorageError.exit_code),
        (None, "paddle", "numpy", MismatchError.exit_code),
        (None, "paddle", "paddle", MismatchError.exit_code),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(
    write: Write, tmp_path: Path, content: bytes | None, form: str, framework: str, code: int
) -> None:
    """A damaged model, another framework's and another program's model end with a code and without a file."""
    model, target = tmp_path / "last.safetensors", tmp_path / "out"
    save_file({"other": np.zeros(2, np.float32)}, model)
    if content:
        model.write_bytes(content)
    job = write(PADDLE if framework == "paddle" else PLAIN, framework=framework)
    result = worker("export", job, "--model", model, "--format", form, "-o", target)
    assert result.returncode == code, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.safetensors", job.folder.name]


@pytest.mark.parametrize(("index", "name"), [(2, "worker-2"), (3, "lab-b")])
def test_a_site_is_called_by_its_name(write: Write, index: int, name: str) -> None:
    """A program sees the name that the job gives to its site; the other workers have numbers."""
    job = write(PLAIN)
    sites = (PlanSite(name="lab-b", index=3, external=False),)
    job.file.write_text(job.plan.model_copy(update={"sites": sites}).to_json())
    result = worker("init", job, "--index", str(index))
    assert result.returncode == 0, result.stderr
    assert f"hello from {name}\n" in result.stdout + result.stderr
