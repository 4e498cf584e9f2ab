"""One worker's side of a round: what it hands in, and what is refused before it leaves the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fl_core.errors import UpdateError
from fl_core.extensions import Extension
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
