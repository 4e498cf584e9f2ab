"""The line that remains of a round."""

from __future__ import annotations

import json
import math

import pytest

from fl_core.errors import MismatchError
from fl_core.metrics import Accuracy, Measurement, mean_of
from fl_core.plan import canonical
from fl_server.ledger import Ledger, measured_in


def opened() -> Ledger:
    """A ledger whose two workers have handed in updates."""
    ledger = Ledger()
    ledger.open(3, 1)
    ledger.convened(["worker-1", "worker-0", "worker-2"], live=4, passedOver=["worker-3"], away=0)
    ledger.trained("worker-0", examples=1, metrics={"loss": mean_of(4.0, 1)}, nbytes=10)
    ledger.trained("worker-1", examples=3, metrics={"loss": mean_of(8.0, 3)}, nbytes=10)
    ledger.down += 7
    return ledger


def test_a_committed_round_in_one_line() -> None:
    """Cohort, reporters, examples, exact metrics and bytes in both directions are in the line."""
    ledger = opened()
    ledger.committed(("worker-0", "worker-1"), model="m")
    ledger.evaluated("worker-0", {"loss": mean_of(1.0, 1)})
    assert ledger.concluded(skipped="") == {"loss": 1.0}
    row = {name: value for name, value in ledger.row.items() if name != "seconds"}
    assert row == {
        "round": 3,
        "attempt": 1,
        "result": "Committed",
        "model": "m",
        "cohort": ["worker-0", "worker-1", "worker-2"],
        "selection": {"live": 4, "passedOver": ["worker-3"]},
        "reporters": ["worker-0", "worker-1"],
        "dropouts": {},
        "examples": 4,
        "train": {"loss": 7.0},
        "metrics": {"loss": 1.0},
        "bytes": {"up": 20, "down": 7},
    }


def test_the_images_of_those_whose_updates_are_in_the_model() -> None:
    """Who handed in late is not counted, nor who said none; an attempt that is given up leaves nothing."""
    ledger = opened()
    for worker, image in (("worker-0", "a:1"), ("worker-1", ""), ("worker-2", "b:1")):
        ledger.runs_in(worker, image)
    ledger.committed(("worker-0", "worker-1"), model="m")
    assert ledger.row["images"] == {"a:1": 1}
    ledger.open(4, 1)
    ledger.trained("worker-0", examples=1, metrics={}, nbytes=10)
    ledger.committed(("worker-0",), model="m")
    assert "images" not in ledger.row


def test_images_outlive_the_server_that_was_told_them() -> None:
    """The one that records a round which another one has committed names them, too."""
    before, after = opened(), Ledger()
    before.runs_in("worker-0", "a:1")
    before.committed(("worker-0", "worker-1"), model="m")
    after.resume(json.loads(canonical(before.row)))
    after.concluded(skipped="")
    assert (after.row["result"], after.row["images"]) == ("Committed", {"a:1": 1})


def test_a_metric_without_a_finite_value_is_named() -> None:
    """The line tells which were measured and have no value, lest they be taken for metrics that are not there."""
    ledger = opened()
    ledger.committed(("worker-0", "worker-1"), model="m")
    ledger.evaluated("worker-0", {"loss": mean_of(1.0, 1), "seen": mean_of(1.0, 0)})
    assert ledger.concluded(skipped="") == {"loss": 1.0}
    assert (ledger.row["metrics"], ledger.row["notFinite"]) == ({"loss": 1.0}, ["seen"])
    assert measured_in(ledger.row) == pytest.approx({"loss": 1.0, "seen": math.nan}, nan_ok=True)
    assert "NaN" not in canonical(ledger.row)


def test_a_skipped_round_says_why() -> None:
    """A round without a model has no reporters, and its reason."""
    ledger = opened()
    ledger.concluded(skipped="too few")
    assert (ledger.row["result"], ledger.row["reason"]) == ("Skipped", "too few")
    assert (ledger.row["reporters"], ledger.row["examples"], ledger.row["train"]) == ([], 0, {})


def test_stages_add_up_to_the_whole() -> None:
    """The total is the sum of the stages."""
    ledger = opened()
    for stage in ("select", "train", "aggregate", "commit"):
        ledger.lap(stage)
    ledger.concluded(skipped="")
    seconds = dict(ledger.row["seconds"])
    assert seconds.pop("total") == pytest.approx(sum(seconds.values()))
    assert list(seconds) == ["select", "train", "aggregate", "commit", "evaluate"]


def test_another_attempt_forgets_the_first() -> None:
    """What came for an attempt that was given up is in no line; who was lost in it is."""
    ledger = opened()
    ledger.dropped("worker-2", "deadline")
    assert ledger.lost == {"worker-2": "deadline"}
    ledger.open(3, 2, earlier=[{"attempt": 1, "dropouts": ledger.lost}])
    ledger.concluded(skipped="")
    assert (ledger.row["attempt"], ledger.row["dropouts"]) == (2, {})
    assert ledger.row["bytes"] == {"up": 0, "down": 0}
    assert ledger.row["earlier"] == [{"attempt": 1, "dropouts": {"worker-2": "deadline"}}]
    ledger.open(4, 1)
    assert "earlier" not in ledger.row


def test_a_dropout_is_news_once() -> None:
    """The first reason stays."""
    ledger = opened()
    assert ledger.dropped("worker-2", "stalled")
    assert not ledger.dropped("worker-2", "deadline")
    assert ledger.row["dropouts"] == {"worker-2": "stalled"}


def test_that_a_worker_was_told_to_end_may_be_heard_late() -> None:
    """Its call may have ended before that is known; no other reason takes the first one's place."""
    ledger = Ledger()
    ledger.open(1, 1)
    assert [ledger.dropped("worker-2", reason) for reason in ("gone", "no heartbeat")] == [True, False]
    assert ledger.row["dropouts"] == {"worker-2": "gone"}
    assert not ledger.dropped("worker-2", "left")
    assert ledger.row["dropouts"] == {"worker-2": "left"}


def test_an_odd_metric_is_left_out() -> None:
    """A metric of another kind than most workers measured is left out; the update and its examples stay."""
    ledger = opened()
    odd = {"loss": Measurement(Accuracy(), mean_of(1.0, 1).vector)}
    ledger.trained("worker-2", examples=5, metrics=odd, nbytes=10)
    expected = opened()
    for one, reporters in (
        (ledger, ("worker-0", "worker-1", "worker-2")),
        (expected, ("worker-0", "worker-1")),
    ):
        one.committed(reporters, model="m")
    assert ledger.row["train"] == expected.row["train"] != {}
    assert (ledger.row["examples"], ledger.row["bytes"]["up"]) == (9, 30)


def test_a_value_that_is_no_number_is_left_out() -> None:
    """A mean over no example has no value, and no place in the line."""
    ledger = opened()
    ledger.committed(("worker-0",), model="m")
    ledger.evaluated("worker-0", {"loss": mean_of(0.0, 0)})
    assert ledger.concluded(skipped="") == {}


def test_a_line_goes_on_in_another_process() -> None:
    """Written as JSON and taken up again, a committed round ends in the same line."""
    first, second = opened(), Ledger()
    first.dropped("worker-2", "deadline")
    first.committed(("worker-0", "worker-1"), model="m")
    second.resume(json.loads(canonical(first.row)))
    for ledger in (first, second):
        ledger.evaluated("worker-1", {"loss": mean_of(2.0, 1)})
        ledger.concluded(skipped="")
        ledger.row.pop("seconds")
    assert first.row == second.row
    assert second.reporters == ("worker-0", "worker-1")


def test_a_line_of_another_version_is_told() -> None:
    """A checkpoint whose round's line lacks what is read today ends with what to do."""
    with pytest.raises(MismatchError, match=r"another version of FLJob \(KeyError: 'dropouts'\)"):
        Ledger().resume({"round": 1})
