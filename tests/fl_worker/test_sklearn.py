"""scikit-learn's linear models and perceptrons train round by round; what cannot is refused at load."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fl_core.errors import ProgramError, UpdateError
from fl_core.metrics import AUC, Accuracy, MacroF1, RecallAtK
from fl_core.strategies import LocalWork
from fl_core.weights import Manifest, add, digest
from fl_worker.backends.sklearn import SklearnBackend
from fl_worker.spoiling import flipped
from fl_worker.task import Site, Task

SITE = Site(name="worker-0", index=0, count=2, seed=7)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
Z = X @ np.array([1.0, -2.0, 0.5, 0.0]) + 3
CLASSIFIERS = [
    SGDClassifier(loss="log_loss"),
    SGDClassifier(),
    Perceptron(),
    LogisticRegression(),
    LogisticRegression(solver="saga"),
    MLPClassifier((8,), learning_rate_init=0.01),
    MLPClassifier((8,), solver="sgd", learning_rate_init=0.1),
]
REGRESSORS = [
    SGDRegressor(),
    Lasso(alpha=0.01),
    ElasticNet(alpha=0.01),
    MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.01),
]


def name_of(model: Any) -> str:
    return type(model).__name__


def quiet() -> None: ...


def backend(
    model: Any, *, x: Any = X, y: Any = Y, work: LocalWork | None = None, **task: Any
) -> SklearnBackend:
    SklearnBackend.reseed(7)
    fitting = Task(model=model, train=(x, y), test=(x, y), **task)
    return SklearnBackend(fitting, site=SITE, work=work or LocalWork())


def classifier(model: Any, **task: Any) -> SklearnBackend:
    return backend(model, **{"classes": [0, 1, 2], "metrics": {"accuracy": Accuracy()}, "epochs": 5, **task})


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name_of)
def test_classifiers_learn_in_rounds(model: Any) -> None:
    """Five rounds from the initial weights classify better than chance, through weights alone."""
    one = classifier(model)
    weights = one.weights()
    for number in range(5):
        weights = add(weights, one.train(weights, round=number, moved=quiet).update)
    measured = one.evaluate(weights, moved=quiet)
    assert measured.metrics["accuracy"].value > 0.7
    assert measured.examples == 120


@pytest.mark.parametrize("model", REGRESSORS, ids=name_of)
def test_regressors_learn_in_rounds(model: Any) -> None:
    """The squared error falls to a tenth of what it was."""
    one = backend(model, y=Z, epochs=20)
    weights = one.weights()
    before = one.evaluate(weights, moved=quiet).metrics["loss"].value
    for number in range(5):
        weights = add(weights, one.train(weights, round=number, moved=quiet).update)
    assert one.evaluate(weights, moved=quiet).metrics["loss"].value < before / 10


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name_of)
def test_a_worker_without_some_labels_has_the_same_shapes(model: Any) -> None:
    """A worker that holds a single class trains a model of all classes, and its update fits the others'."""
    one = classifier(model, x=X[Y == 1], y=Y[Y == 1])
    weights = one.weights()
    update = one.train(weights, round=1, moved=quiet).update
    assert Manifest.of(update) == Manifest.of(weights) == Manifest.of(classifier(model).weights())
    assert all(np.isfinite(array).all() for array in update.values())


@pytest.mark.parametrize("model", [*CLASSIFIERS], ids=name_of)
def test_a_round_replays(model: Any) -> None:
    """The same weights, worker and round give the same update, whatever was trained in between."""
    one = classifier(model)
    weights = one.weights()
    first = digest(one.train(weights, round=1, moved=quiet).update)
    one.train(weights, round=2, moved=quiet)
    assert digest(one.train(weights, round=1, moved=quiet).update) == first


def test_a_kept_optimiser_remembers() -> None:
    """With keep_optimizer=True the same round trains otherwise the second time."""
    one = classifier(MLPClassifier((8,)), keep_optimizer=True)
    weights = one.weights()
    first = digest(one.train(weights, round=1, moved=quiet).update)
    assert digest(one.train(weights, round=1, moved=quiet).update) != first


def test_phantom_rows_change_nothing() -> None:
    """The rows that stand for missing classes have no weight: the fit is the one without them."""
    y = (Y > 0).astype(int)
    one = backend(LogisticRegression(), y=y, classes=[0, 1], epochs=200)
    update = one.train(one.weights(), round=1, moved=quiet).update
    plain = LogisticRegression(max_iter=200).fit(X, y)
    assert np.allclose(update["coef_"], plain.coef_, atol=1e-4)


@pytest.mark.parametrize("model", [LogisticRegression(), SGDClassifier(), Perceptron()], ids=name_of)
def test_auc_works_on_probabilities_and_on_distances(model: Any) -> None:
    """An estimator without probabilities is measured by its decision function, squashed to [0, 1]."""
    y = (Y > 0).astype(int)
    one = backend(model, y=y, classes=[0, 1], epochs=10, metrics={"auc": AUC()})
    weights = add(one.weights(), one.train(one.weights(), round=1, moved=quiet).update)
    assert one.evaluate(weights, moved=quiet).metrics["auc"].value > 0.85


BEYOND = [1e200, np.finfo(np.float64).max, np.inf, np.nan]
FINE: dict[str, Any] = {"accuracy": Accuracy(), "auc": AUC(), "recall": RecallAtK(1), "f1": MacroF1(3)}


def beyond(one: SklearnBackend, value: float) -> dict[str, Any]:
    return {name: np.full_like(array, value) for name, array in one.weights().items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize("model", [*CLASSIFIERS, LogisticRegression(solver="newton-cg")], ids=name_of)
def test_a_classifier_that_has_diverged_ends_no_worker(model: Any, value: float) -> None:
    """It can be trained and measured; of what is not a number neither update nor measurement is finite."""
    one = classifier(clone(model), metrics=FINE)
    weights = beyond(one, value)
    done, measured = one.train(weights, round=1, moved=quiet), one.evaluate(weights, moved=quiet)
    assert (done.examples, measured.examples) == (len(Y), len(Y))
    assert measured.metrics.keys() == {"loss", *FINE}
    if not np.isfinite(value):
        assert not any(np.isfinite(array).any() for array in done.update.values())
        assert not any(np.isfinite(found.value) for found in measured.metrics.values())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize("model", REGRESSORS, ids=name_of)
def test_a_regressor_that_has_diverged_ends_no_worker(model: Any, value: float) -> None:
    """As of a classifier; its loss is beyond all numbers."""
    one = backend(clone(model), y=Z)
    weights = beyond(one, value)
    update, measured = one.train(weights, round=1, moved=quiet).update, one.evaluate(weights, moved=quiet)
    assert Manifest.of(update) == Manifest.of(weights)
    assert not np.isfinite(measured.metrics["loss"].value)
    if not np.isfinite(value):
        assert not all(np.isfinite(array).all() for array in update.values())


def test_an_optimiser_that_has_diverged_is_not_kept() -> None:
    """A worker that has got a model beyond all numbers trains the next one as if there had been none."""
    one, fresh = (classifier(MLPClassifier((8,)), keep_optimizer=True) for _ in range(2))
    one.train(beyond(one, np.nan), round=1, moved=quiet)
    weights = fresh.weights()
    made, expected = (each.train(weights, round=2, moved=quiet).update for each in (one, fresh))
    assert digest(made) == digest(expected)


def test_a_fit_that_fails_for_another_reason_is_the_programs() -> None:
    """Only numbers that overflow are of no training; what else a fit says is raised."""
    one = classifier(LogisticRegression())
    one.holding(one.weights()).model.set_params(C=-1.0)
    with pytest.raises(ValueError, match="'C' parameter"):
        one.train(one.weights(), round=1, moved=quiet)


def test_labels_need_not_be_numbers() -> None:
    """Classes may be words; metrics see their places."""
    words = np.array(["no", "yes", "yes!"])[Y]
    one = classifier(SGDClassifier(loss="log_loss"), y=words, classes=["yes!", "no", "yes"])
    weights = add(one.weights(), one.train(one.weights(), round=1, moved=quiet).update)
    assert one.evaluate(weights, moved=quiet).metrics["accuracy"].value > 0.7


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (GaussianNB(), "cannot be trained round by round"),
        (MultinomialNB(), "cannot be trained round by round"),
        (RandomForestClassifier(), "cannot be trained round by round"),
        (MiniBatchKMeans(), "cannot be trained round by round"),
        (object(), "cannot be trained round by round"),
        (LogisticRegression(solver="liblinear"), "liblinear"),
        (LogisticRegression(class_weight="balanced"), "balanced"),
        (SGDClassifier(average=True), "average=False"),
        (MLPClassifier(solver="lbfgs"), "epoch by epoch"),
        (MLPClassifier(early_stopping=True), "epoch by epoch"),
    ],
)
def test_what_cannot_be_driven_is_refused_at_load(model: Any, told: str) -> None:
    """An estimator whose weighted mean is no model never starts, and the message says what does."""
    with pytest.raises(ProgramError, match=told):
        classifier(model, x=np.abs(X))


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"classes": None}, "all classes"),
        ({"classes": [0, 1]}, "label 2 is not among"),
        ({"work": LocalWork(proximal=0.1)}, "fedavg"),
        ({"work": LocalWork(kind="gradient")}, "fedavg"),
        ({"loss": max}, "leave them out"),
        ({"buffers": "local"}, "leave it out"),
        ({"y": Y[:3]}, "rows must match"),
        ({"x": X[:0], "y": Y[:0]}, "no example"),
        ({"x": X[:, 0]}, "rows must match"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_at_load(task: dict[str, Any], told: str) -> None:
    """Data, classes and strategies that do not fit are named before the first round."""
    with pytest.raises(ProgramError, match=told):
        classifier(SGDClassifier(), **task)


def test_a_closed_form_is_refused() -> None:
    """LinearRegression ignores the model that it receives, so it is refused."""
    with pytest.raises(ProgramError, match="LinearRegression cannot be trained round by round"):
        backend(LinearRegression(), y=Z)


def test_flipped_labels_are_trained_on_for_once() -> None:
    """The update is that of a worker whose data is labelled so, and the next one is honest again."""
    one, other = (backend(SGDClassifier(loss="log_loss"), y=y, classes=[0, 1, 2]) for y in (Y, 2 - Y))
    with one.mislabelled(flipped):
        wrong = one.train(one.weights(), round=1, moved=quiet).update
    right = one.train(one.weights(), round=1, moved=quiet).update
    assert digest(wrong) == digest(other.train(other.weights(), round=1, moved=quiet).update)
    assert digest(wrong) != digest(right)


def test_numbers_and_words_are_no_labels_to_flip() -> None:
    """A regressor and classes that are no whole numbers are refused."""
    words = backend(SGDClassifier(), y=Y.astype(str), classes=["0", "1", "2"])
    for one in (backend(SGDRegressor(), y=Z, classes=None), words):
        with pytest.raises(UpdateError, match="cannot be flipped"), one.mislabelled(flipped):
            pass
