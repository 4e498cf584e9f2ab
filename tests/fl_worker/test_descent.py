"""Private steps at a worker: the program gives gradients, and everything that privacy rests on is done here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl_core.errors import ProgramError, SpecError, UpdateError
from fl_core.extensions import Extension
from fl_core.plan import Privacy
from fl_core.privacy.mechanisms.dp_sgd import DpSgd
from fl_core.strategies import LocalWork
from fl_worker import logistic
from fl_worker.descent import WORK, Descent

Write = Callable[..., Any]

PROGRAM = """
import numpy as np
class Mean:
    def __init__(self, config):
        self.data = np.arange(200, dtype="f4").reshape(100, 2) / 200
        self.config = config
    def weights(self): return {"w": np.zeros(2, "f4")}
    def evaluate(self, weights): return {"loss": 0.5, "examples": 4}
    def examples(self): return self.config.get("examples", 100)
    def gradients(self, weights, places):
        found = weights["w"] - self.data[places]
        return {"w": found[: self.config.get("given", len(found))]}
def task(config, site):
    return Mean(config)
"""
TRAINS = """
import numpy as np
class Model:
    def weights(self): return {"w": np.zeros(2, "f4")}
    def train(self, weights): return weights, 3
    def evaluate(self, weights): return {}
def task(config, site):
    return Model()
"""


def private(name: str = "dp_sgd", **changes: Any) -> Privacy:
    told = {"clip": 2.0, "noise_multiplier": 1.0, "rate": 0.2, "steps": 5, "learning_rate": 0.5, **changes}
    return Privacy(
        unit="example",
        mechanism=Extension(name=name, options=told),
        epsilon=8,
        delta=1e-5,
        corrupt=1,
        measured=True,
    )


LOCAL = private().model_copy(
    update={"mechanism": Extension(name="local", options={"clip": 2.0, "noise_multiplier": 1.0})}
)


@pytest.fixture
def learner(write: Write) -> Callable[..., Any]:
    """Load a program under DP-SGD: `learner(noise_multiplier=...)`."""

    def build(
        text: str = PROGRAM, *, config: Any = None, privacy: Privacy | None = None, **given: Any
    ) -> Any:
        kind = {name: given.pop(name) for name in ("strategy", "framework", "mu") if name in given}
        written = write(text, config=config or {}, **kind)
        made = written.plan.model_copy(update={"privacy": privacy or private(**given)})
        return type(written)(made, written.folder).learner()

    return build


def train(one: Any) -> Any:
    return one.train(one.initial(), round=1, states=(), moved=lambda: None)


def test_without_noise_it_is_gradient_descent(learner: Callable[..., Any]) -> None:
    """All examples in every step and next to no noise: five plain steps towards the mean."""
    done = train(learner(noise_multiplier=1e-9, rate=1.0))
    expected = (np.arange(200).reshape(100, 2) / 200).mean(axis=0) * (1 - 0.5**5)
    assert np.allclose(done.update["w"], expected, atol=1e-6)
    assert (done.examples, done.metrics) == (0, {})


def test_every_step_has_its_noise(learner: Callable[..., Any]) -> None:
    """The update spreads as so many steps of this rate, clip and multiplier let it, and no two are alike."""
    one = learner(noise_multiplier=4.0, learning_rate=0.01, steps=3)
    updates = np.array([train(one).update["w"] for _ in range(300)])
    deviation = 0.01 * np.sqrt(3) * 4.0 * 2.0 / (0.2 * 100)
    assert updates.std() == pytest.approx(deviation, rel=0.15)
    assert len(np.unique(updates, axis=0)) == 300


def test_no_example_counts_for_more_than_the_clip(learner: Callable[..., Any]) -> None:
    """However long a gradient is, one of a hundred examples moves a step by its clip norm and no further."""
    done = train(learner(PROGRAM.replace("/ 200", "* 1e6"), noise_multiplier=1e-9, rate=1.0, steps=1))
    assert np.linalg.norm(done.update["w"]) <= 0.5 * 2.0 * (1 + 1e-6)


def test_a_step_may_draw_nobody(learner: Callable[..., Any]) -> None:
    """Where no coin falls for any example the program is not asked, and the step is noise."""
    done = train(learner(rate=1e-18, learning_rate=1e-18))
    assert np.isfinite(done.update["w"]).all()
    assert np.any(done.update["w"])


def test_it_moves_with_every_step(learner: Callable[..., Any]) -> None:
    """A worker that trains long is not taken for one that stalls."""
    one, seen = learner(), []
    one.train(one.initial(), round=1, states=(), moved=lambda: seen.append(1))
    assert one.backend.moves
    assert len(seen) == 5


def test_an_example_whose_gradient_is_not_finite_moves_nothing(learner: Callable[..., Any]) -> None:
    """Whatever model comes, the worker answers with noise and the other examples; it does not say that one is so."""
    text = PROGRAM.replace('return {"w": found', 'found[places == 3] = np.inf; return {"w": -found')
    done = train(learner(text, noise_multiplier=1e-9, rate=1.0, steps=1))
    data = np.arange(200).reshape(100, 2) / 200
    assert np.allclose(done.update["w"], -0.5 * np.delete(data, 3, axis=0).sum(axis=0) / 100, atol=1e-6)


def test_no_model_makes_a_worker_say_what_its_examples_are(learner: Callable[..., Any]) -> None:
    """Weights at which the gradients of some examples overflow, and those of others do not, get an update from it."""
    text = PROGRAM.replace("- self.data[places]", "* self.data[places] * 10")
    with np.errstate(over="ignore"):
        one = learner(text)
        done = one.train({"w": np.full(2, 3e38, "f4")}, round=1, states=(), moved=lambda: None)
    assert np.isfinite(done.update["w"]).all()


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"config": {"given": 1}}, ProgramError, "expected one gradient for each of"),
        ({"config": {"examples": 0}}, UpdateError, "at least one"),
        ({"config": {"examples": "many"}}, ProgramError, "must give a whole number, not 'many'"),
        (
            {"text": PROGRAM.replace('return {"w": found', 'return {"v": found')},
            ProgramError,
            "gave the shapes",
        ),
        ({"text": TRAINS}, ProgramError, "Model has no gradients"),
        ({"strategy": "fedprox", "mu": 0.1}, SpecError, "spec.strategy: fedprox changes how workers train"),
        ({"privacy": LOCAL}, SpecError, "spec.privacy.mechanism: local does not hide examples"),
    ],
)
def test_what_cannot_be_private_is_refused(
    learner: Callable[..., Any], changes: dict[str, Any], error: type[Exception], told: str
) -> None:
    """Programs that give no gradient of each example, and jobs that do not fit, are refused with what is missing."""
    with pytest.raises(error, match=told):
        train(learner(rate=0.5, **changes))


# -- scikit-learn

SKLEARN = """
import numpy as np
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from fl_worker import Task
def task(config, site):
    rng = np.random.default_rng(3)
    y = rng.integers(0, config["classes"], 400)
    x = rng.normal(size=(400, 4)) + 2 * np.eye(4)[y]
    return Task(model=eval(config["model"]), train=(x, y), test=(x, y), classes=list(range(config["classes"])))
"""


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "model", ["LogisticRegression(C=np.inf)", "SGDClassifier(loss='log_loss', penalty=None)"]
)
def test_logistic_regression_learns(learner: Callable[..., Any], model: str, classes: int) -> None:
    """With a little noise it tells the classes apart, after one round and from its own gradients."""
    one = learner(
        SKLEARN,
        framework="sklearn",
        config={"model": model, "classes": classes},
        steps=60,
        noise_multiplier=0.5,
        rate=0.2,
        learning_rate=1.0,
    )
    start, before = one.initial(), one.evaluate(one.initial(), moved=lambda: None)
    done = train(one)
    after = one.evaluate(
        {name: array + done.update[name] for name, array in start.items()}, moved=lambda: None
    )
    assert after.metrics["loss"].value < 0.75 * before.metrics["loss"].value


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("LogisticRegression()", "use C=np.inf and class_weight=None"),
        ("SGDClassifier(loss='log_loss')", "use penalty=None and"),
        ("SGDClassifier(loss='hinge', penalty=None)", "SGDClassifier does not give"),
        ("LogisticRegression(C=np.inf, class_weight={0: 2, 1: 1})", "weights of classes"),
    ],
)
def test_other_estimators_are_refused_by_name(learner: Callable[..., Any], model: str, told: str) -> None:
    """A penalty, weighted classes or another loss: refused when the program is loaded."""
    with pytest.raises(ProgramError, match=told):
        learner(SKLEARN, framework="sklearn", config={"model": model, "classes": 2})


@pytest.mark.parametrize(("rows", "joint"), [(1, False), (1, True), (3, True), (3, False)])
def test_the_gradients_are_those_of_the_log_loss(rows: int, *, joint: bool) -> None:
    """Each equals the difference quotient of its own example's loss, in every weight."""
    rng = np.random.default_rng(5)
    weights = {"coef_": rng.normal(size=(rows, 4)), "intercept_": rng.normal(size=rows)}
    x, labels = rng.normal(size=(6, 4)), rng.integers(0, max(rows, 2), 6)
    found = logistic.gradients(weights, x, labels, joint=joint, intercept=True)

    def losses(changed: Any) -> Any:
        scores = x @ changed["coef_"].T + changed["intercept_"]
        if joint and rows > 1:
            return np.log(np.exp(scores).sum(1)) - scores[np.arange(6), labels]
        wanted = labels[:, None] == (np.array([1]) if rows == 1 else np.arange(rows))
        return np.logaddexp(0, np.where(wanted, -scores, scores)).sum(1)

    for name, array in weights.items():
        for place in np.ndindex(array.shape):
            step = np.zeros(array.shape)
            step[place] = 1e-6
            up, down = ({**weights, name: array + sign * step} for sign in (1, -1))
            assert np.allclose(
                found[name][(slice(None), *place)], (losses(up) - losses(down)) / 2e-6, atol=1e-6
            )


def test_paddle_is_refused_by_name() -> None:
    """Its Layers give the gradient of a batch only."""
    paddle = pytest.importorskip("paddle")
    from fl_worker.backends.paddle import PaddleBackend  # noqa: PLC0415 - needs Paddle
    from fl_worker.task import Site, Task  # noqa: PLC0415

    task = Task(model=paddle.nn.Linear(2, 1), train=[], loss=paddle.nn.functional.mse_loss)
    with pytest.raises(ProgramError, match="which Paddle does not give; use the framework numpy or sklearn"):
        PaddleBackend(task, site=Site("worker-0", 0, 1), work=WORK)


def test_a_backend_without_gradients_is_refused() -> None:
    """One of the user's own that offers none is named."""

    class Own:
        def weights(self) -> dict[str, Any]:
            return {"w": np.zeros(2)}

    mechanism = DpSgd(clip=1.0, noise_multiplier=1.0, rate=0.5, steps=1, learning_rate=0.1)
    own: Any = Own()
    with pytest.raises(ProgramError, match="Own gives no gradients of single examples"):
        Descent(own, mechanism).train(own.weights(), round=1, moved=lambda: None)
    assert LocalWork() != WORK
