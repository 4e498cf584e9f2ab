"""What vectors mean: what goes in comes out of the sum, metrics to their resolution, and nonsense is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import MismatchError, UpdateError
from fl_core.metrics import AUC, Accuracy, MacroF1, Mean, Measurement, mean_of
from fl_core.secagg.masks import Vector
from fl_core.secagg.ring import Ring, public_dither
from fl_core.secagg.summands import METRIC_LIMIT, MeasureSum, RangeSum, Schema, UpdateSum
from fl_core.weights import Manifest
from tests.fl_core.secagg.cast import total_of

RING = Ring(bits=32, members=5, most_weight=100)
ARRAYS = {
    "w": np.array([[0.5, -0.25]], np.float32),
    "none": np.zeros((0, 3), np.float16),
    "b": np.array(0.125, np.float64),
}
METRICS = {"loss": mean_of(1.5, 4), "accuracy": Measurement(Accuracy(), np.array([3.0, 4.0]))}


def updates(**changes: Any) -> UpdateSum:
    """The sum of updates of these arrays and metrics."""
    fields = {"ring": RING, "manifest": Manifest.of(ARRAYS), "exponents": (0, -40, 0)}
    return UpdateSum(**{**fields, "schema": Schema.of(METRICS), **changes})


def encoded(summand: UpdateSum, worker: int = 0, **changes: Any) -> Vector:
    """One worker's update."""
    fields = {
        "weight": 10,
        "examples": 12,
        "metrics": METRICS,
        "dither": public_dither(1, round=1, worker=worker),
    }
    return summand.encode(changes.pop("update", ARRAYS), **{**fields, **changes})


# -- metrics --

numbers = some.floats(-0.999 * METRIC_LIMIT / 8, 0.999 * METRIC_LIMIT / 8, allow_nan=False)


@settings(deadline=None)
@given(some.lists(some.tuples(numbers, numbers), min_size=1, max_size=8))
def test_metrics_are_exact_to_their_resolution(vectors: list[tuple[float, float]]) -> None:
    """The sum of so many members is wrong by half of 2^-20 for each at most, and counts are exact."""
    measured = [{"loss": Measurement(Mean(), np.array(one))} for one in vectors]
    schema = Schema.of(measured[0])
    total = sum(schema.encode(one, members=8) for one in measured)
    exact = [
        sum(map(int, (np.rint(np.array(c) * 2**20)).tolist())) / 2**20 for c in zip(*vectors, strict=True)
    ]
    found = schema.decode(total)["loss"].vector
    assert np.allclose(found, exact, rtol=2**-52, atol=0)
    error = np.abs(found - np.sum(np.array(vectors), axis=0))
    assert (error <= len(vectors) * 2.0**-21 + 1e-9 * np.abs(np.array(vectors)).sum(axis=0)).all()


def test_counts_are_summed_exactly() -> None:
    """A ratio of counts is the plain one, for every kind of metric."""
    measured = {
        "accuracy": Measurement(Accuracy(), np.array([123456.0, 999999.0])),
        "f1": Measurement(MacroF1(3), np.arange(9.0)),
        "auc": Measurement(AUC(bins=4), np.arange(8.0)),
    }
    schema = Schema.of(measured)
    found = schema.decode(schema.encode(measured, members=3) + schema.encode(measured, members=3))
    assert list(found) == sorted(measured)
    for name, one in found.items():
        assert one.metric == measured[name].metric
        assert one.vector.tolist() == (2 * measured[name].vector).tolist()
        assert one.value == pytest.approx((measured[name] + measured[name]).value, abs=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, METRIC_LIMIT, -METRIC_LIMIT, METRIC_LIMIT / 5])
def test_metrics_that_no_sum_holds_are_refused(value: float) -> None:
    """Not a number, infinite, or so large that the members together leave 64 bits."""
    measured = {"loss": Measurement(Mean(), np.array([value, 1.0]))}
    with pytest.raises(UpdateError, match="a metric's vector holds"):
        Schema.of(measured).encode(measured, members=5)


def test_the_largest_metrics_do_not_wrap_around() -> None:
    """All members just below the limit, with either sign."""
    for sign in (1, -1):
        measured = {"loss": Measurement(Mean(), np.array([sign * METRIC_LIMIT / 5 * 0.999999, 1.0]))}
        schema = Schema.of(measured)
        total = 5 * schema.encode(measured, members=5)
        assert schema.decode(total)["loss"].vector[0] == pytest.approx(sign * METRIC_LIMIT * 0.999999)


def test_a_schema_says_nothing_of_values() -> None:
    """Two workers that measured other numbers of the same kinds have one schema, whatever the order of names."""
    other = {"accuracy": Measurement(Accuracy(), np.array([0.0, 9.0])), "loss": mean_of(7.0, 1)}
    assert Schema.of(METRICS) == Schema.of(other)
    assert Schema.of(METRICS) != Schema.of({"loss": METRICS["loss"]})
    assert Schema().length == 0
    assert Schema().encode({}, members=3).tolist() == []


def row(kind: str, **options: Any) -> str:
    return json.dumps({"m": {"kind": kind, "options": options, "vector": []}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{",
        '{"m": 1}',
        '{"m": {}}',
        '{"m": {"kind": "os.system", "options": {}}}',
        row("accuracy", k=1),
        row("auc", bins="many"),
        row("auc", bins=-1),
        row("auc", bins=1.5),
        row("auc", bins=10**12),
        row("macro_f1", classes=10**9),
        row("macro_f1", classes=10**400),
        row("macro_f1", classes=-2),
        row("macro_f1", classes=10**2199),
        row("auc", bins=10**4299 * 9),
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    """A peer's text neither runs, nor allocates what it names, nor ends the process."""
    with pytest.raises(MismatchError):
        _ = Schema(text).names


# -- sums --


@settings(deadline=None)
@given(weights=some.lists(some.integers(1, 300), min_size=3, max_size=5))
def test_a_sum_of_updates_says_what_went_in(weights: list[int]) -> None:
    """Weights are cut at the greatest, examples and metrics are summed exactly, the mean is within its bound."""
    summand = updates()
    vectors = [encoded(summand, worker, weight=weight) for worker, weight in enumerate(weights)]
    found = summand.decode(total_of(summand.layout, vectors), members=len(weights))
    assert found.weight == sum(min(weight, 100) for weight in weights)
    assert found.examples == 12 * len(weights)
    assert found.clipped == 0
    assert found.metrics["accuracy"].value == 0.75
    for name, array in ARRAYS.items():
        assert found.mean()[name].shape == array.shape
        level = len(weights) / RING.levels * 100 / found.weight
        assert np.abs(found.mean()[name] - array).max(initial=0) <= level * 1.001


def test_the_next_ranges_come_out_of_the_sum() -> None:
    """One worker beyond the range doubles it, and its clipped elements are counted."""
    summand = updates()
    large = {**ARRAYS, "w": np.array([[7.0, -9.0]], np.float32)}
    vectors = [encoded(summand), encoded(summand, 1), encoded(summand, 2, update=large)]
    found = summand.decode(total_of(summand.layout, vectors), members=3)
    assert found.exponents == (1, -40, -1)
    assert found.clipped == 2


def test_what_was_just_voted_for_is_not_counted() -> None:
    """Whatever an update is like, its header is that of any other, and one that counts all the same is not heard."""
    summand = updates(counted=False)
    large = {**ARRAYS, "w": np.array([[7.0, -9.0]], np.float32)}
    headers = [encoded(summand, update=one).header.tolist() for one in (ARRAYS, large)]
    assert headers[0] == headers[1]
    lying = replace(summand, counted=True)
    found = summand.decode(
        total_of(summand.layout, [encoded(lying, n, update=large) for n in range(3)]), members=3
    )
    assert (found.exponents, found.clipped) == (summand.exponents, 0)
    assert summand.text != lying.text


@pytest.mark.parametrize("weight", [0, -1, 301, 2**63 - 1])
def test_a_weight_that_cannot_be_is_refused(weight: int) -> None:
    """Nobody trained, or a member lied: the sum has no mean, and the round's attempt ends."""
    summand = updates()
    total = total_of(summand.layout, [encoded(summand, worker) for worker in range(3)])
    total.header[0] = np.int64(weight).view(np.uint64)
    with pytest.raises(UpdateError, match=f"3 workers sum up to the weight {weight}; expected 1 to 300"):
        summand.decode(total, members=3)


@pytest.mark.parametrize(
    ("place", "said", "told"),
    [(1, -1, 0), (1, -(2**63), 0), (2, -7, 0), (2, 2**63 - 1, 9), (2, 9, 9), (2, 4, 4)],
)
def test_a_count_that_cannot_be_is_the_nearest_that_can(place: int, said: int, told: int) -> None:
    """One member alone can make it: it costs the figure, and neither the sum nor the process."""
    summand = updates()
    total = total_of(summand.layout, [encoded(summand, worker) for worker in range(3)])
    total.header[place] = np.int64(said).view(np.uint64)
    found = summand.decode(total, members=3)
    assert (found.examples, found.clipped)[place - 1] == told


def test_no_header_makes_what_json_cannot_say() -> None:
    """Whatever one member puts into its metrics, each has a number for its value or none, and raises nothing."""
    kinds = {"f1": MacroF1(2), "auc": AUC(bins=2), "accuracy": Accuracy(), "loss": Mean()}
    schema = Schema.of({name: Measurement(kind, np.zeros(kind.length)) for name, kind in kinds.items()})
    for least in (-(2**63), -1, 0, 1, 2**63 - 1):
        for one in schema.decode(np.resize(np.array([least, 1, -3], np.int64), schema.length)).values():
            assert isinstance(one.value, float)


def test_an_update_that_is_not_finite_is_refused() -> None:
    """It is not made into numbers."""
    bad = {**ARRAYS, "w": np.array([[np.nan, 0]], np.float32)}
    with pytest.raises(UpdateError, match="'w' holds values that are not finite"):
        encoded(updates(), update=bad)


@pytest.mark.parametrize(
    "wrong",
    [
        {name: ARRAYS[name] for name in ("b", "none", "w")},
        {**ARRAYS, "w": ARRAYS["w"].T},
        {name: ARRAYS[name] for name in ("w", "none")},
        {**ARRAYS, "more": ARRAYS["b"]},
    ],
    ids=["another order", "another shape", "one missing", "one more"],
)
def test_an_update_of_another_manifest_is_refused(wrong: dict[str, Any]) -> None:
    """Elements would be added to those of another array."""
    with pytest.raises(UpdateError, match="arrays"):
        encoded(updates(), update=wrong)


def test_ranges_are_learned_from_a_sum() -> None:
    """The vector of votes of all members gives everybody's range."""
    summand = RangeSum(Manifest.of(ARRAYS))
    large = {**ARRAYS, "b": np.array(5.0)}
    total = total_of(summand.layout, [summand.encode(ARRAYS), summand.encode(large), summand.encode(ARRAYS)])
    assert summand.decode(total) == (-1, -40, 3)


def test_measurements_are_summed() -> None:
    """The global metric is that of all data together."""
    summand = MeasureSum(Schema.of(METRICS), members=5)
    total = total_of(summand.layout, [summand.encode(METRICS)] * 4)
    assert summand.decode(total)["loss"].value == 1.5
    assert summand.decode(total)["accuracy"].vector.tolist() == [12, 16]


def test_different_meanings_have_different_texts() -> None:
    """Whatever changes what an element means changes the session's context."""
    other = Manifest.of({"w": ARRAYS["w"]})
    texts = {
        updates().text,
        updates(exponents=(0, -40, 1)).text,
        updates(ring=Ring(bits=16, members=5, most_weight=100)).text,
        updates(ring=Ring(bits=32, members=6, most_weight=100)).text,
        updates(ring=Ring(bits=32, members=5, most_weight=99)).text,
        updates(schema=Schema()).text,
        updates(manifest=other).text,
        RangeSum(other).text,
        RangeSum(Manifest.of(ARRAYS)).text,
        MeasureSum(Schema(), 5).text,
        MeasureSum(Schema(), 6).text,
        MeasureSum(Schema.of(METRICS), 5).text,
    }
    assert len(texts) == 12
