"""Loading a program: the digest comes first; a mistake ends with a sentence and the user's own lines."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.bundle import bundle, bundle_digest
from fl_core.errors import JobError, MismatchError, ProgramError
from fl_core.plan import SecureAggregation
from tests.conftest import private

Write = Callable[..., Any]

GOOD = """
import numpy as np
class Model:
    def weights(self): return {"w": np.random.rand(3)}
    def train(self, weights): return {"w": weights["w"] + np.random.rand(3)}, 5
    def evaluate(self, weights): return {"score": 0.5, "examples": 4}
def task(config, site): return Model()
"""


def test_a_changed_program_is_never_imported(write: Write, tmp_path: Path) -> None:
    """A program whose digest is not the plan's does not run a line, and both digests are named."""
    mark = tmp_path / "imported"
    job = write(GOOD)
    file = next(job.folder.glob("*.py"))
    file.write_text(f"open({str(mark)!r}, 'w')\n" + file.read_text())
    with pytest.raises(MismatchError, match=f"[0-9a-f]{{64}}.*{job.plan.program.sha256}"):
        job.learner()
    assert not mark.exists()


def test_modules_beside_the_program_are_found(write: Write) -> None:
    """A program may import a file beside it, and gets its config and its site."""
    job = write(
        """
        import numpy as np
        class Model:
            def __init__(self, size): self.size = size
            def weights(self): return {"w": np.zeros(self.size)}
            def train(self, weights): return weights, 1
            def evaluate(self, weights): return {}
        def task(config, site): return Model(config["size"] + site.index + site.count)
        """,
        config={"size": 3},
    )
    assert job.learner(1).initial()["w"].shape == (8,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def other(config, site): ...", "has no function 'task'"),
        ("task = 3", "has no function 'task'"),
        ("import nowhere", "raised ModuleNotFoundError while .* was imported"),
        ("def task(config, site) return 1", "raised SyntaxError"),
        ("def task(config): ...", "raised TypeError while `task\\(config, site\\)` ran"),
        ("def task(config, site): return None", "object with the methods weights, evaluate, train"),
        ("def task(config, site): raise SystemExit('bye')", "raised SystemExit"),
        ("def task(config, site): return config['missing']", "KeyError: 'missing'"),
    ],
)
def test_a_broken_program_is_told_in_a_sentence(write: Write, text: str, told: str) -> None:
    """A missing name, a wrong return and an exception each end as a ProgramError that says what happened."""
    with pytest.raises(ProgramError, match=told):
        write(text).learner()


def test_only_the_users_frames_are_shown(write: Write) -> None:
    """A traceback shows the program's own lines, and none of ours or of the libraries between."""
    job = write(
        """
        import json
        def parsed(text): return json.loads(text)
        def task(config, site): return parsed("{")
        """
    )
    with pytest.raises(ProgramError) as caught:
        job.learner()
    files = re.findall(r'File "(.*?)"', str(caught.value))
    assert files == [str(next(job.folder.glob("*.py")))] * 2
    assert 'return parsed("{")' in str(caught.value)
    assert "JSONDecodeError" in str(caught.value)


def test_a_wrong_task_is_shown_where_it_was_made(write: Write) -> None:
    """What FLJob refuses in the program's own call is told with the line that made the call."""
    job = write(
        "from fl_worker import Task\ndef task(config, site):\n    return Task(model=1, train=[], epochs=0)"
    )
    with pytest.raises(ProgramError, match=r"(?s)epochs=0\): give a whole .*line 3, in task\n +return Task"):
        job.learner()


def test_an_error_in_training_is_the_programs(write: Write) -> None:
    """What user code raises in a round is told in the same way."""
    learner = write(
        GOOD.replace('return {"w": weights["w"] + np.random.rand(3)}, 5', "return 1 / 0")
    ).learner()
    with pytest.raises(
        ProgramError, match=r"while it trained in round 2(.|\n)*1 / 0(.|\n)*ZeroDivisionError"
    ):
        learner.train(learner.initial(), round=2, states=(), moved=lambda: None)


@pytest.mark.parametrize("framework", ["torch", "../evil", "os", ""])
def test_an_unknown_framework_is_named(write: Write, framework: str) -> None:
    """A framework without a backend is refused, with those that there are."""
    with pytest.raises(JobError, match="paddle, sklearn"):
        write(GOOD, framework=framework).learner()


def test_a_taken_name_is_refused(tmp_path: Path, write: Write) -> None:
    """A program called like an installed module says so, instead of running that module."""
    (tmp_path / "json.py").write_text("def task(config, site): ...")
    digest = bundle_digest(bundle(tmp_path, "json"))
    job = write(GOOD)
    program = job.plan.program.model_copy(update={"entrypoint": "json:task", "sha256": digest})
    taken = replace(job, plan=job.plan.model_copy(update={"program": program}), folder=tmp_path)
    with pytest.raises(
        ProgramError, match="'json' already belongs to .*; give the program's file another name"
    ):
        taken.learner()


def test_a_framework_that_is_not_installed_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the framework the message says what to install at the worker."""
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "fl_worker.backends.sklearn", raising=False)
    with pytest.raises(ProgramError, match=r"pip install 'fljob\[sklearn\]'"):
        write(GOOD, framework="sklearn").learner()


SPARSE = """
import paddle
from fl_worker import Task
def sgd(parameters, round): return paddle.optimizer.SGD(0.1, parameters)
def task(config, site):
    layer = paddle.nn.Sequential(paddle.nn.Embedding(9, 2, sparse=config["sparse"]), paddle.nn.Flatten())
    return Task(model=layer, train=[], loss=paddle.nn.functional.cross_entropy, optimizer=sgd)
"""


@pytest.mark.parametrize("protected", ["sums", "sums with noise", "nothing"])
def test_a_sparse_embedding_is_in_no_secure_sum_without_noise(write: Write, protected: str) -> None:
    """A row that one worker alone looks up would be its own in the sum; with noise, or in the clear, it may be."""
    pytest.importorskip("paddle")
    secure = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
    changes = {
        "secure_aggregation": None if protected == "nothing" else secure,
        "privacy": private() if protected == "sums with noise" else None,
    }
    for sparse in (True, False):
        job = write(SPARSE, framework="paddle", config={"sparse": sparse})
        job = replace(job, plan=job.plan.model_copy(update=changes))
        if sparse and protected == "sums":
            with pytest.raises(
                ProgramError, match="0 is a sparse Embedding: a row that one worker alone looks up"
            ):
                job.learner()
        else:
            assert job.learner().initial()["0.weight"].shape == (9, 2)


def test_missing_data_is_named(write: Write, tmp_path: Path) -> None:
    """A data path that leads nowhere ends before the program runs."""
    with pytest.raises(ProgramError, match=r"worker-0: there is no data at .*nowhere"):
        write(GOOD).learner(data=tmp_path / "nowhere")


def test_all_workers_start_from_the_same_weights(write: Write) -> None:
    """Initial weights follow from the job's seed alone, whatever the process drew before."""
    job = write(GOOD)
    first = job.learner(0).initial()["w"]
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002 - the stream that programs use
    assert np.array_equal(first, job.learner(3).initial()["w"])


def test_a_round_replays_and_differs_from_others(write: Write) -> None:
    """The same worker and round give the same update; another worker or round gives another."""
    job = write(GOOD)
    updates = [
        worker.train(worker.initial(), round=number, states=(), moved=lambda: None).update["w"].tobytes()
        for worker, number in [
            (job.learner(0), 1),
            (job.learner(0), 1),
            (job.learner(0), 2),
            (job.learner(1), 1),
        ]
    ]
    assert updates[0] == updates[1]
    assert len(set(updates)) == 3


def test_a_program_without_a_digest_is_found_in_its_folder(write: Write) -> None:
    """As in a ConfigMap that somebody else made: the files are there, and only nobody said which they must be."""
    job = write(GOOD)
    unnamed = job.plan.program.model_copy(update={"sha256": None})
    found = replace(job, plan=job.plan.model_copy(update={"program": unnamed})).learner()
    assert set(found.initial()) == {"w"}
