"""Paddle: every optimiser moves, a round replays, strategies and buffers do what they say."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from paddle import nn  # noqa: E402 - after importorskip
from paddle.nn.functional import cross_entropy  # noqa: E402

from fl_core.errors import ProgramError, UpdateError  # noqa: E402
from fl_core.metrics import AUC, Accuracy, RecallAtK  # noqa: E402
from fl_core.strategies import LocalWork  # noqa: E402
from fl_core.weights import Manifest, add, digest  # noqa: E402
from fl_worker.backends.paddle import PaddleBackend  # noqa: E402
from fl_worker.spoiling import flipped  # noqa: E402
from fl_worker.task import Site, Task  # noqa: E402

SITE = Site(name="worker-0", index=0, count=2, seed=7)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype("int64")
OPTIMIZERS = [
    name
    for name, kind in inspect.getmembers(paddle.optimizer, inspect.isclass)
    if issubclass(kind, paddle.optimizer.Optimizer) and kind is not paddle.optimizer.Optimizer
]
ROOT = Path(__file__).parents[2]
GRADIENT = LocalWork(kind="gradient")


def quiet() -> None: ...


def sgd(parameters: Any, round: int) -> Any:  # noqa: ARG001 - the signature of a program
    return paddle.optimizer.SGD(0.1, parameters)


def net() -> Any:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def normed() -> Any:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1D(8), nn.Linear(8, 2))


def loader(x: Any = X, y: Any = Y, *, batch: int = 16, shuffle: bool = True) -> Any:
    data = paddle.io.TensorDataset([paddle.to_tensor(x), paddle.to_tensor(y)])
    return paddle.io.DataLoader(data, batch_size=batch, shuffle=shuffle)


def backend(
    model: Any = None, *, work: LocalWork | None = None, site: Site = SITE, **task: Any
) -> PaddleBackend:
    PaddleBackend.reseed(7)
    data = loader()
    defaults = {"loss": cross_entropy, "optimizer": sgd, "train": data, "test": data}
    defaults["metrics"] = {"accuracy": Accuracy()}
    made = Task(**{**defaults, "model": model or net(), **task})
    return PaddleBackend(made, site=site, work=work or LocalWork())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_trains(name: str) -> None:
    """Each class of paddle.optimizer lowers the loss of the model that it is given, and replays to the byte."""
    kind = getattr(paddle.optimizer, name)
    rate = 1.0 if name == "Adadelta" else 0.02
    more = {"max_iter": 3} if name == "LBFGS" else {}
    one = backend(optimizer=lambda parameters, _: kind(rate, parameters=parameters, **more), epochs=4)
    weights = one.weights()
    before = one.evaluate(weights, moved=quiet).metrics["loss"].value
    update = one.train(weights, round=1, moved=quiet).update
    assert one.evaluate(add(weights, update), moved=quiet).metrics["loss"].value < before
    assert digest(one.train(weights, round=1, moved=quiet).update) == digest(update)


SCHEDULES = {
    "step": lambda: paddle.optimizer.lr.StepDecay(0.1, step_size=2),
    "noam": lambda: paddle.optimizer.lr.NoamDecay(8, 4),
    "warmup": lambda: paddle.optimizer.lr.LinearWarmup(0.1, warmup_steps=3, start_lr=0.0, end_lr=0.1),
    "cosine": lambda: paddle.optimizer.lr.CosineAnnealingDecay(0.1, T_max=8),
    "plateau": lambda: paddle.optimizer.lr.ReduceOnPlateau(0.1, patience=1),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_steps_once_per_batch(name: str) -> None:
    """After a round of two epochs of four batches the schedule has stepped eight times."""
    made: list[Any] = []

    def optimizer(parameters: Any, round: int) -> Any:  # noqa: ARG001
        made.append(SCHEDULES[name]())
        return paddle.optimizer.SGD(made[-1], parameters)

    one = backend(optimizer=optimizer, epochs=2)
    start = made[-1].last_epoch
    one.train(one.weights(), round=1, moved=quiet)
    assert made[-1].last_epoch == start + 8


def test_the_same_seed_gives_the_same_bytes_in_two_processes() -> None:
    """Initial weights and a shuffled, dropped-out round agree to the byte between processes."""
    folder = str(Path(__file__).parent)
    program = f"import sys; sys.path.insert(0, {folder!r}); import test_paddle; print(test_paddle.trained())"
    other = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == trained() != ""


def trained() -> str:
    """Digests of the initial weights and of the update of a round."""
    PaddleBackend.reseed(7)
    one = backend(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)), epochs=2)
    weights = one.weights()
    return digest(weights) + digest(one.train(weights, round=3, moved=quiet).update)


def test_workers_and_rounds_have_streams_of_their_own() -> None:
    """Another worker or another round draws other numbers."""
    sites = [SITE, SITE, Site(name="worker-1", index=1, count=2, seed=7)]
    updates = set()
    for site, number in zip(sites, (1, 2, 1), strict=True):
        one = backend(site=site)
        updates.add(digest(one.train(one.weights(), round=number, moved=quiet).update))
    assert len(updates) == 3


def test_an_update_is_new_minus_received_and_looks_like_the_model() -> None:
    """Names, dtypes and shapes are the model's; one plain step is minus rate times gradient."""
    one = backend(train=loader(batch=64))
    gradient = backend(train=loader(batch=64), work=GRADIENT)
    weights = one.weights()
    update = one.train(weights, round=1, moved=quiet).update
    steepest = gradient.train(weights, round=1, moved=quiet).update
    assert Manifest.of(update) == Manifest.of(weights)
    assert all(np.allclose(update[name], 0.1 * steepest[name], atol=1e-6) for name in update)


def test_fedsgd_is_the_full_gradient() -> None:
    """Unequal batches or one batch: the gradient is that of the mean loss over all examples."""
    whole, parts = (
        backend(train=loader(batch=64), work=GRADIENT),
        backend(train=loader(batch=7), work=GRADIENT),
    )
    one = whole.train(whole.weights(), round=1, moved=quiet)
    other = parts.train(whole.weights(), round=1, moved=quiet)
    assert one.examples == other.examples == 64
    assert all(np.allclose(one.update[name], other.update[name], atol=1e-6) for name in one.update)


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS"])
def test_fedprox_pulls_towards_the_received_model(name: str) -> None:
    """The larger mu, the less the model moves away."""
    kind = getattr(paddle.optimizer, name)
    more = {"max_iter": 3} if name == "LBFGS" else {}

    def moved(mu: float) -> float:
        one = backend(
            optimizer=lambda parameters, _: kind(0.05, parameters=parameters, **more),
            work=LocalWork(proximal=mu),
            epochs=2,
        )
        update = one.train(one.weights(), round=1, moved=quiet).update
        return float(sum((array**2).sum() for array in update.values()))

    assert moved(10) < moved(1) < moved(0)


def test_fedprox_starts_from_the_received_model_each_round() -> None:
    """The anchor is what was received now: from there the first step feels no pull."""
    plain, pulled = (
        backend(train=loader(batch=64)),
        backend(train=loader(batch=64), work=LocalWork(proximal=5.0)),
    )
    for weights in (plain.weights(), {name: array + 1 for name, array in plain.weights().items()}):
        one, other = (each.train(weights, round=1, moved=quiet).update for each in (plain, pulled))
        assert all(np.allclose(one[name], other[name], atol=1e-6) for name in one)


STATISTICS = ("1._mean", "1._variance")


@pytest.mark.parametrize("policy", ["average", "local", "first"])
def test_buffers_follow_their_policy(policy: Any) -> None:
    """Statistics travel only when they are averaged; local ones serve the worker's own evaluation."""
    one = backend(normed(), buffers=policy)
    weights = one.weights()
    update = one.train(weights, round=1, moved=quiet).update
    moved = [bool(np.any(update[name])) for name in STATISTICS]
    assert moved == [policy == "average"] * 2
    own = one._layer.state_dict()["1._mean"].numpy()
    one.evaluate(weights, moved=quiet)
    kept = np.array_equal(one._layer.state_dict()["1._mean"].numpy(), own)
    assert kept == (policy != "average")
    assert np.any(own != weights["1._mean"]) == (policy != "first")


@pytest.mark.parametrize("policy", ["average", "local", "first"])
def test_the_initial_weights_stay_those_of_the_start(policy: Any) -> None:
    """After a round and an evaluation a worker's initial weights hold nothing of what it has learned."""
    one = backend(normed(), buffers=policy)
    weights = one.weights()
    one.train(add(weights, weights), round=1, moved=quiet)
    assert digest(one.weights()) == digest(weights)
    one.evaluate(weights, moved=quiet)
    one.weights()["0.weight"][:] = 0
    assert digest(one.weights()) == digest(weights)


def test_whole_number_buffers_stay_with_the_worker() -> None:
    """A counter is no part of the model."""

    class Counting(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)
            self.register_buffer("calls", paddle.zeros([], "int64"))

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return self.linear(x)

    one = backend(Counting())
    assert sorted(one.weights()) == ["linear.bias", "linear.weight"]
    assert one.train(one.weights(), round=1, moved=quiet).examples == 64


def test_loading_starts_no_loader() -> None:
    """A loader is not walked through while the task is checked: its thread would draw from NumPy's stream."""

    class Watched(paddle.io.DataLoader):  # type: ignore[misc]  # Paddle has no types
        walks = 0

        def __iter__(self) -> Any:
            type(self).walks += 1
            return super().__iter__()

    data = paddle.io.TensorDataset([paddle.to_tensor(X), paddle.to_tensor(Y)])
    one = backend(train=Watched(data, batch_size=16, shuffle=True))
    assert Watched.walks == 0
    one.train(one.weights(), round=1, moved=quiet)
    assert Watched.walks == 1


def test_a_kept_optimiser_remembers() -> None:
    """Momentum lives on with keep_optimizer=True, and starts afresh without."""

    def twice(*, keep: bool) -> tuple[str, str]:
        one = backend(
            optimizer=lambda parameters, _: paddle.optimizer.Momentum(0.1, 0.9, parameters),
            keep_optimizer=keep,
        )
        weights = one.weights()
        first, second = (digest(one.train(weights, round=1, moved=quiet).update) for _ in range(2))
        return first, second

    assert len(set(twice(keep=False))) == 1
    assert len(set(twice(keep=True))) == 2


class Sigmoid(nn.Layer):  # type: ignore[misc]  # Paddle has no types
    """One score between 0 and 1 for each example, through a layer with buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(4, 8), nn.BatchNorm1D(8), nn.Linear(8, 1)

    def forward(self, x: Any) -> Any:
        return paddle.nn.functional.sigmoid(self.outer(self.norm(self.inner(x))))


def binary(**task: Any) -> PaddleBackend:
    data = loader(y=Y[:, None].astype("float32"))
    given: dict[str, Any] = {"loss": nn.BCELoss(), "metrics": {"auc": AUC()}}
    return backend(Sigmoid(), train=data, test=data, **{**given, **task})


def beyond(one: PaddleBackend, value: float) -> dict[str, Any]:
    return {name: np.full_like(array, value) for name, array in one.weights().items()}


@pytest.mark.parametrize("value", [1e30, np.inf, np.nan])
@pytest.mark.parametrize("work", [LocalWork(), LocalWork(proximal=0.1)], ids=["plain", "proximal"])
def test_a_model_that_has_diverged_ends_no_worker(work: LocalWork, value: float) -> None:
    """It is trained and measured, also with a loss that refuses what is not a number; none of that is finite."""
    one = binary(work=work)
    weights = beyond(one, value)
    done, measured = one.train(weights, round=1, moved=quiet), one.evaluate(weights, moved=quiet)
    assert (done.examples, measured.examples) == (64, 64)
    assert not all(np.isfinite(array).all() for array in done.update.values())
    assert not any(np.isfinite(found.value) for found in measured.metrics.values())


def test_a_gradient_at_a_model_that_has_diverged_ends_no_worker() -> None:
    """As a training."""
    one = binary(work=GRADIENT, buffers="first")
    update = one.train(beyond(one, np.nan), round=1, moved=quiet).update
    assert not all(np.isfinite(array).all() for array in update.values())


def test_metrics_of_classes_know_a_model_that_has_diverged() -> None:
    """Scores that are no numbers are neither right nor among the highest."""
    one = backend(metrics={"accuracy": Accuracy(), "recall": RecallAtK(1)})
    measured = one.evaluate(beyond(one, np.nan), moved=quiet).metrics
    assert not any(np.isfinite(found.value) for found in measured.values())


def test_a_loss_that_fails_for_another_reason_is_the_programs() -> None:
    """Scores outside of 0 to 1 are no divergence: what Paddle says of them is raised."""
    data = loader(y=Y[:, None].astype("float32"))
    one = backend(nn.Linear(4, 1), train=data, test=data, loss=nn.BCELoss(), metrics={})
    with pytest.raises(ValueError, match="input"):
        one.evaluate(one.weights(), moved=quiet)


@pytest.mark.parametrize(
    "kept", [{"keep_optimizer": True}, {"keep_optimizer": True, "buffers": "local"}], ids=["all", "local"]
)
def test_nothing_is_kept_of_a_training_that_has_diverged(kept: dict[str, Any]) -> None:
    """A worker that has got a model beyond all numbers trains and measures the next one as if there had been none."""
    momentum: Any = lambda parameters, _: paddle.optimizer.Momentum(0.1, 0.9, parameters)  # noqa: E731
    one, fresh = (binary(optimizer=momentum, **kept) for _ in range(2))
    weights = fresh.weights()
    one.train(beyond(one, np.nan), round=1, moved=quiet)
    made, expected = (each.train(weights, round=2, moved=quiet).update for each in (one, fresh))
    assert digest(made) == digest(expected)
    measured = [each.evaluate(weights, moved=quiet).metrics["loss"].value for each in (one, fresh)]
    assert measured[0] == measured[1]


@pytest.mark.parametrize("work", [LocalWork(), GRADIENT], ids=["train", "gradient"])
def test_local_buffers_that_overflow_are_not_kept(work: LocalWork) -> None:
    """Though the update is finite: the next round trains and measures as if there had been none."""
    one, fresh = (backend(normed(), work=work, buffers="local") for _ in range(2))
    weights = fresh.weights()
    far = weights | {"0.weight": weights["0.weight"] * np.float32(1e20)}
    update = one.train(far, round=1, moved=quiet).update
    assert all(np.isfinite(array).all() for array in update.values())
    made, expected = (each.train(weights, round=2, moved=quiet).update for each in (one, fresh))
    assert digest(made) == digest(expected)
    measured = [each.evaluate(weights, moved=quiet).metrics["loss"].value for each in (one, fresh)]
    assert measured[0] == measured[1]


def test_an_optimiser_that_overflows_is_not_kept() -> None:
    """Adam's second moment beyond all numbers would hold the parameters still, with updates that are finite."""
    adam: Any = lambda parameters, _: paddle.optimizer.Adam(0.1, parameters=parameters)  # noqa: E731
    factor = [1e25]
    loss: Any = lambda output, labels: cross_entropy(output, labels) * factor[0]  # noqa: E731
    one, fresh = (backend(optimizer=adam, loss=loss, keep_optimizer=True) for _ in range(2))
    weights = fresh.weights()
    update = one.train(weights, round=1, moved=quiet).update
    assert all(np.isfinite(array).all() for array in update.values())
    factor[0] = 1.0
    made, expected = (each.train(weights, round=2, moved=quiet).update for each in (one, fresh))
    assert digest(made) == digest(expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_that_works_is_kept(name: str) -> None:
    """The same one drives the next round, whichever of paddle.optimizer it is."""
    kind = getattr(paddle.optimizer, name)
    made: list[Any] = []

    def optimizer(parameters: Any, round: int) -> Any:  # noqa: ARG001 - the signature of a program
        made.append(kind(0.02, parameters=parameters))
        return made[-1]

    one = backend(optimizer=optimizer, keep_optimizer=True)
    before = len(made)
    for number in (1, 2):
        one.train(one.weights(), round=number, moved=quiet)
    assert len(made) == before + 1


def test_progress_is_told_batch_by_batch() -> None:
    """Each batch of training and of evaluation is a sign of life."""
    one, steps = backend(epochs=3), []
    one.train(one.weights(), round=1, moved=lambda: steps.append(1))
    one.evaluate(one.weights(), moved=lambda: steps.append(1))
    assert len(steps) == 3 * 4 + 4


def test_examples_and_losses_are_counted() -> None:
    """Examples are those of one epoch; the loss is a mean over all steps; the metrics cover the test data."""
    one = backend(epochs=3)
    done = one.train(one.weights(), round=1, moved=quiet)
    measured = one.evaluate(one.weights(), moved=quiet)
    assert (done.examples, measured.examples) == (64, 64)
    assert done.metrics["loss"].vector[1] == 192
    assert measured.metrics["accuracy"].vector[1] == 64


def test_without_test_data_there_is_nothing_to_measure() -> None:
    """test=None means no evaluation and no metrics."""
    one = backend(test=None)
    assert one.evaluate(one.weights(), moved=quiet).metrics == {}


def test_what_was_saved_is_loaded_by_paddle(tmp_path: Path) -> None:
    """`save` writes what `set_state_dict(paddle.load(...))` takes."""
    one, fresh = backend(normed()), normed()
    weights = {name: array + 1 for name, array in one.weights().items()}
    one.save(weights, tmp_path / "model.pdparams")
    fresh.set_state_dict(paddle.load(str(tmp_path / "model.pdparams")))
    assert all(np.array_equal(tensor.numpy(), weights[name]) for name, tensor in fresh.state_dict().items())


def spoilt() -> Any:
    model = net()
    model[0].weight.set_value(np.full([4, 8], np.nan, "float32"))
    return model


def frozen() -> Any:
    model = net()
    for parameter in model.parameters():
        parameter.stop_gradient = True
    return model


SHARED = paddle.optimizer.lr.StepDecay(0.1, step_size=2)
OTHER = nn.Linear(1, 1).parameters()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": object()}, "paddle.nn.Layer, not object"),
        ({"model": spoilt()}, "initial weights: array '0.weight' holds 32 values"),
        ({"model": frozen()}, "no trainable parameter"),
        ({"loss": None}, "Task\\(loss=None\\)"),
        ({"optimizer": None}, "Task\\(optimizer=None\\)"),
        ({"optimizer": lambda _, __: 3}, "paddle.optimizer, not int"),
        ({"optimizer": lambda p, _: paddle.optimizer.SGD(SHARED, p)}, "same optimiser or schedule twice"),
        ({"optimizer": lambda _, __: paddle.optimizer.SGD(0.1, OTHER)}, "SGD moves no parameter"),
        ({"train": iter([])}, "used up after one pass"),
        ({"train": 3}, "walked through"),
        ({"classes": [0, 1]}, "scikit-learn"),
        ({"model": normed(), "work": GRADIENT}, "fedsgd sends gradients"),
        (
            {
                "model": nn.Sequential(nn.Embedding(3, 4, sparse=True), nn.Linear(4, 2)),
                "work": LocalWork(proximal=1),
            },
            "sparse=False",
        ),
    ],
)
def test_what_cannot_be_driven_is_refused_at_load(wrong: dict[str, Any], told: str) -> None:
    """A Layer, loss, optimiser or loader that would fail in a round fails before the first one."""
    with pytest.raises(ProgramError, match=told):
        backend(**wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"loss": lambda _, __: 3.0}, "must return a Tensor, not float"),
        ({"train": [paddle.to_tensor(X)]}, "a batch must be"),
        ({"train": [(X,)]}, "a batch must be"),
    ],
)
def test_what_shows_in_a_round_only_is_told_there(wrong: dict[str, Any], told: str) -> None:
    """A loss that is no Tensor and batches without labels are named."""
    one = backend(**wrong)
    with pytest.raises(ProgramError, match=told):
        one.train(one.weights(), round=1, moved=quiet)


def test_numpy_batches_and_losses_per_example_work() -> None:
    """Batches may be plain arrays, and a loss per example is averaged."""
    one = backend(train=[(X, Y)], loss=lambda output, labels: cross_entropy(output, labels, reduction="none"))
    same = backend(train=[(X, Y)])
    first, second = (each.train(each.weights(), round=1, moved=quiet).update for each in (one, same))
    assert all(np.allclose(first[name], second[name], atol=1e-6) for name in first)


@pytest.mark.parametrize("work", [LocalWork(), GRADIENT])
def test_flipped_labels_are_trained_on_for_once(work: LocalWork) -> None:
    """The update is that of a worker whose data is labelled so, and the next one is honest again."""
    one, other = (backend(train=loader(y=y, shuffle=False), work=work) for y in (Y, 1 - Y))
    with one.mislabelled(flipped):
        wrong = one.train(one.weights(), round=1, moved=quiet).update
    right = one.train(one.weights(), round=1, moved=quiet).update
    assert digest(wrong) == digest(other.train(other.weights(), round=1, moved=quiet).update)
    assert digest(wrong) != digest(right)


def test_numbers_are_no_labels_to_flip() -> None:
    """Labels with a fraction are refused."""
    one = backend(train=loader(y=Y.astype("float32")))
    with one.mislabelled(flipped), pytest.raises(UpdateError, match="only whole numbers can be flipped"):
        one.train(one.weights(), round=1, moved=quiet)
