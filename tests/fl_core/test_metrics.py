"""A metric over any partition of the data is the metric over all of it, and travels as plain JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import MismatchError, ProgramError
from fl_core.metrics import (
    AUC,
    KINDS,
    Accuracy,
    MacroF1,
    Mean,
    Measurement,
    Metric,
    RecallAtK,
    mean_of,
    summable,
    total,
)

CLASSES = 5
METRICS: list[Metric] = [Accuracy(), Mean(), AUC(bins=64), RecallAtK(k=2), MacroF1(classes=CLASSES)]
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)


def data(metric: Metric, n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    classes = 2 if isinstance(metric, AUC) else CLASSES
    shape = (n,) if isinstance(metric, Mean) else (n, classes)
    return rng.random(shape), rng.integers(0, classes, n)


@each
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 1000))
def test_a_sum_over_any_partition_is_the_global_metric(metric: Metric, sizes: list[int], seed: int) -> None:
    """However the examples are dealt out, empty hands included, the sum's value is that of all of them."""
    predictions, labels = data(metric, sum(sizes), seed)
    cuts = np.cumsum(sizes)[:-1]
    parts = {
        str(number): {"m": Measurement(metric, metric.measure(mine, truth))}
        for number, (mine, truth) in enumerate(
            zip(np.split(predictions, cuts), np.split(labels, cuts), strict=True)
        )
    }
    whole = metric.value(metric.measure(predictions, labels))
    assert total(parts)["m"].value == pytest.approx(whole, nan_ok=True)
    assert total(parts)["m"].vector.shape == (metric.length,)


@each
def test_a_measurement_travels_as_json(metric: Metric) -> None:
    """What `to_json` wrote is read again, options and vector alike."""
    measured = Measurement(metric, metric.measure(*data(metric, 30, 1)))
    again = Measurement.from_json(json.loads(json.dumps(measured.to_json())))
    assert again.metric == metric
    assert np.array_equal(again.vector, measured.vector)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "os.system"},
        {"options": {"bins": 3}},
        {"options": 3},
        {"options": ["k"]},
        {"kind": "recall_at_k", "options": {"k": math.nan}},
        {"kind": "recall_at_k", "options": {"k": [1]}},
        {"kind": "recall_at_k", "options": {"k": True}},
        {"kind": "recall_at_k", "options": {"k": 0}},
        {"kind": "recall_at_k", "options": {"k": "7"}},
        {"vector": [1.0]},
        {"vector": [1.0, math.nan]},
        {"vector": [1.0, math.inf]},
        {"vector": "many"},
        {"vector": None},
    ],
)
def test_what_is_no_measurement_is_refused(wrong: dict[str, Any]) -> None:
    """Unknown kinds and options, wrong lengths and values that are not finite never reach a sum."""
    with pytest.raises(MismatchError):
        Measurement.from_json({"kind": "accuracy", "options": {}, "vector": [1.0, 2.0], **wrong})


@pytest.mark.parametrize("row", [{}, {"kind": "accuracy"}, {"kind": "accuracy", "options": {}}])
def test_missing_fields_are_refused(row: dict[str, Any]) -> None:
    """A measurement needs its kind, its options and its vector."""
    with pytest.raises(MismatchError):
        Measurement.from_json(row)


NAMED: list[tuple[Metric, Any]] = [
    (Accuracy(), np.array([0.0, math.nan, 2.0])),
    (Accuracy(), np.array([0.0, math.inf, 2.0])),
    (Accuracy(), np.array([[0.5, 0.5], [math.nan, 0.5], [0.1, 0.9]])),
    (Mean(), np.array([1.0, math.nan, 2.0])),
    (AUC(8), np.array([[0.5], [math.nan], [0.25]])),
    (AUC(8), np.array([math.inf, -math.inf, 1.0])),
    (RecallAtK(1), np.full((3, 4), math.nan)),
    (MacroF1(3), np.array([0.0, math.inf, 2.0])),
    (MacroF1(3), np.full((3, 3), math.nan)),
]


@pytest.mark.parametrize(("metric", "predictions"), NAMED)
def test_a_model_that_has_diverged_measures_nothing_and_raises_nothing(
    metric: Metric, predictions: Any
) -> None:
    """Scores that are no numbers give a vector and a value that are none: neither an error nor a perfect recall."""
    vector = metric.measure(predictions, np.array([0, 1, 1]))
    assert vector.shape == (metric.length,)
    assert not math.isfinite(metric.value(vector))


@pytest.mark.parametrize("wrong", [[1.5, 0.5], [0.5, -0.1], [math.nan, 1.5], [math.inf, -2.0]])
def test_scores_that_are_no_probabilities_are_the_programs_fault(wrong: list[float]) -> None:
    """A finite score outside of 0 to 1 is none that a right program gives, whatever stands beside it."""
    with pytest.raises(ProgramError, match="AUC needs scores between 0 and 1"):
        AUC().measure(np.array(wrong), np.array([0, 1]))


def test_what_masks_a_class_is_a_score() -> None:
    """Where classes are ruled out by minus infinity the others are ranked as ever."""
    scores, labels = np.array([[-math.inf, 2.0, 1.0], [3.0, -math.inf, 1.0]]), np.array([1, 0])
    for metric in (Accuracy(), RecallAtK(1), MacroF1(3)):
        assert metric.value(metric.measure(scores, labels)) == 1


def test_what_no_sum_can_take_counts_as_of_no_example() -> None:
    """Such measurements are zeros, which change no sum, and have no value where nobody has another; the rest stays."""
    good, huge = mean_of(2.0, 3), mean_of(1e9, 3)
    given = {"good": good, "huge": huge, "nan": mean_of(math.nan, 3), "inf": mean_of(-math.inf, 3)}
    found = summable(given, below=1e9)
    assert found["good"] is good
    assert summable(given)["huge"] is huge
    for name in ("huge", "nan", "inf"):
        assert (found[name].metric, found[name].vector.tolist()) == (Mean(), [0.0, 0.0])
        assert math.isnan(found[name].value)
        assert (found[name] + good).value == 2.0


def test_different_metrics_do_not_add_up() -> None:
    """Two workers with different programs are told so."""
    with pytest.raises(MismatchError, match="one program"):
        Measurement(AUC(8), np.zeros(16)) + Measurement(AUC(16), np.zeros(32))


def test_the_sum_does_not_depend_on_the_order() -> None:
    """Workers are added in the order of their names, so the sum is the same to the bit."""
    parts = {f"worker-{number}": {"loss": mean_of(0.1 * number, 7 * number)} for number in range(1, 9)}
    turned = dict(reversed(parts.items()))
    assert total(parts)["loss"].vector.tobytes() == total(turned)["loss"].vector.tobytes()


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_auc_is_that_of_scikit_learn(seed: int) -> None:
    """With enough bins the two histograms give the area under the curve to three digits."""
    ranking = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, 200)])
    scores = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.2 * rng.normal(size=labels.size), 0, 1)
    assert AUC(4096).value(AUC(4096).measure(scores, labels)) == pytest.approx(
        ranking.roc_auc_score(labels, scores), abs=1e-3
    )


def test_macro_f1_is_that_of_scikit_learn() -> None:
    """The mean of the classes' F1 scores comes out of the confusion matrix."""
    scoring = pytest.importorskip("sklearn.metrics")
    scores, labels = data(MacroF1(CLASSES), 200, 3)
    metric = MacroF1(CLASSES)
    expected = scoring.f1_score(labels, scores.argmax(axis=1), average="macro")
    assert metric.value(metric.measure(scores, labels)) == pytest.approx(expected)


def test_accuracy_takes_scores_and_class_numbers() -> None:
    """Scores are decided by the highest; labels may stand in a column."""
    scores, labels = data(Accuracy(), 50, 4)
    vectors = [
        Accuracy().measure(scores, labels),
        Accuracy().measure(scores, labels[:, None]),
        Accuracy().measure(scores.argmax(axis=1), labels),
        Accuracy().measure(scores.argmax(axis=1)[:, None], labels[:, None]),
    ]
    assert len({vector.tobytes() for vector in vectors}) == 1


@given(st.integers(0, 1000))
def test_recall_at_all_classes_is_one(seed: int) -> None:
    """Recall grows with k, and is 1 when k covers every class."""
    scores, labels = data(RecallAtK(), 40, seed)
    recalls = [RecallAtK(k).value(RecallAtK(k).measure(scores, labels)) for k in range(1, CLASSES + 1)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1


def test_nothing_measured_is_not_a_number() -> None:
    """No example at all gives NaN, not zero and not an exception."""
    assert all(math.isnan(metric.value(np.zeros(metric.length))) for metric in METRICS)


def test_what_would_be_miscounted_is_refused() -> None:
    """Logits for an AUC, one score for a class and labels beyond the classes are told to be mistakes."""
    with pytest.raises(ProgramError, match="sigmoid"):
        AUC().measure(np.array([-1.0, 3.0]), np.array([0, 1]))
    with pytest.raises(ProgramError, match="which class"):
        Accuracy().measure(np.array([[0.3], [0.9]]), np.array([0, 1]))
    with pytest.raises(ProgramError, match="outside of 0 to 1"):
        MacroF1(2).measure(np.array([0, 1]), np.array([0, 2]))


def test_every_kind_travels_under_its_own_name() -> None:
    """The table of kinds holds each class once."""
    assert len(set(KINDS.values())) == len(KINDS) == len(METRICS)
