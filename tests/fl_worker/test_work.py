"""One worker's side of a round: what it hands in, and what is refused before it leaves the worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fl_core.errors import ProgramError, UpdateError
from fl_core.extensions import Extension
from fl_core.metrics import check_measured
from fl_core.stages import Pipeline

Write = Callable[..., Any]

PROGRAM = """
import numpy as np
class Model:
    def weights(self): return {"w": np.zeros(2, np.float32)}
    def train(self, weights): return {"w": weights["w"] + np.float32(VALUE)}, EXAMPLES, {"loss": 0.5}
    def evaluate(self, weights): return {"score": 0.25, "examples": 4}
def task(config, site):
    return Model()
"""


def program(value: str = "1/3", examples: int = 5) -> str:
    return PROGRAM.replace("VALUE", value).replace("EXAMPLES", str(examples))


def quiet() -> None: ...


def test_a_worker_hands_in_update_and_metrics(write: Write) -> None:
    """The update goes with its number of examples and with what training measured."""
    learner = write(program()).learner()
    done = learner.train(learner.initial(), round=1, states=(), moved=quiet)
    assert done.examples == 5
    assert done.metrics["loss"].value == 0.5
    assert np.allclose(done.update["w"], 1 / 3)
    assert learner.evaluate(learner.initial(), moved=quiet).examples == 4


MEASURED = """
import numpy as np
from fl_core.metrics import AUC, Measurement
class Model:
    def weights(self): return {"w": np.zeros(2, np.float32)}
    def train(self, weights): return weights, 1
    def evaluate(self, weights):
        scores = np.array([0.5, weights["w"][0], 0.25])
        area = AUC(8)
        auc = Measurement(area, area.measure(scores, np.array([0, 1, 1])))
        return {"loss": float(weights["w"][1]), "seen": 3.0, "auc": auc, "examples": 3}
def task(config, site):
    return Model()
"""


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_model_that_has_diverged_is_measured_by_nobody(write: Write, *, secure: bool) -> None:
    """What cannot be summed is of no example, where numbers of any size can be summed and where they cannot."""
    learner = write(MEASURED).learner()
    learner = replace(learner, below=1e9 if secure else math.inf)
    huge = {"w": np.array([np.nan, 1e30 if secure else np.inf], np.float32)}
    found = learner.evaluate(huge, moved=quiet).metrics
    assert (found["seen"].value, found["seen"].vector.tolist()) == (3.0, [9.0, 3.0])
    assert not found["loss"].vector.any()
    assert not found["auc"].vector.any()
    check_measured(found, whose="worker-0")


def test_a_program_whose_scores_are_no_probabilities_is_told_so(write: Write) -> None:
    """They are finite, so that no divergence explains them: its author must mend it."""
    learner = write(MEASURED).learner()
    with pytest.raises(ProgramError, match="let the model end in a sigmoid or a softmax"):
        learner.evaluate({"w": np.array([1.5, 0], np.float32)}, moved=quiet)


def test_stages_remember_only_what_is_handed_back(write: Write) -> None:
    """The same states give the same update; the new states give another, and nothing is kept inside."""
    learner = replace(write(program()).learner(), pipeline=Pipeline.of([Extension(name="float16")]))
    start = learner.initial()
    first = learner.train(start, round=1, states=learner.pipeline.fresh(), moved=quiet)
    again = learner.train(start, round=1, states=learner.pipeline.fresh(), moved=quiet)
    later = learner.train(start, round=1, states=first.states, moved=quiet)
    assert first.update["w"].dtype == np.float16
    assert np.array_equal(first.update["w"], again.update["w"])
    assert not np.array_equal(first.states[0]["w"], later.states[0]["w"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (program("'nan'"), r"worker-0's update, which train\(weights\) made: array 'w' holds 2 values"),
        (program("'inf'"), "lower the learning rate"),
        (
            program().replace("0.5", "float('nan')"),
            "worker-0's training: the metric 'loss' is not a finite number",
        ),
        (program(examples=0), "worker-0 trained on no example"),
        (
            program(examples=-5),
            r"worker-0 trained on -5 examples, says train\(weights\); give a whole number",
        ),
    ],
)
def test_a_spoilt_update_never_leaves_the_worker(write: Write, text: str, told: str) -> None:
    """NaN, infinity and training on nothing end the round for this worker, not the job."""
    learner = write(text).learner()
    with pytest.raises(UpdateError, match=told):
        learner.train(learner.initial(), round=1, states=(), moved=quiet)
