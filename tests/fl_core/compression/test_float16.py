"""Half-precision updates lose nothing for ever: what rounding took comes with the next round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl_core.compression.float16 import LARGEST, Float16
from fl_core.errors import UpdateError
from fl_core.stages import State
from fl_core.weights import Manifest, pack

STAGE = Float16()
finite = st.floats(-1000, 1000, width=32)
rounds = st.integers(1, 12).flatmap(lambda count: hnp.arrays("f4", (count, 3), elements=finite))


@settings(deadline=None, max_examples=100)
@given(rounds)
def test_what_is_lost_in_one_round_comes_back(updates: Any) -> None:
    """After every round, all that was sent plus what is remembered is all that was to be sent."""
    state: State = {}
    sent = np.zeros(3)
    for number, update in enumerate(updates, start=1):
        out, state = STAGE.on_worker({"w": update}, state)
        sent += out["w"].astype("f8")
        wanted = updates[:number].astype("f8").sum(axis=0)
        slack = number * 2**-23 * (np.abs(updates).max() + 1)
        assert np.all(np.abs(sent + state["w"] - wanted) <= slack)
        assert np.all(np.abs(state["w"]) <= 2**-11 * np.abs(out["w"].astype("f8")) + 2**-25)


def test_steps_too_small_for_float16_arrive() -> None:
    """Updates of which each would round to nothing add up to what they are."""
    state: State = {}
    arrived = 0.0
    for _ in range(1000):
        out, state = STAGE.on_worker({"w": np.full(1, 1e-9, "f4")}, state)
        arrived += float(out["w"][0])
    assert np.float16(1e-9) == 0
    assert arrived == pytest.approx(1e-6, rel=0.1)


def test_half_the_bytes_travel() -> None:
    """What is sent is what the wire announces: the same arrays as float16, half of float32's bytes."""
    update = {"w": np.ones((2, 3), "f4"), "b": np.ones(2, "f8")}
    sent, _ = STAGE.on_worker(update, {})
    wire = STAGE.wire(Manifest.of(update))
    assert Manifest.of(sent) == wire
    assert [spec.dtype for spec in wire] == ["float16"] * 2
    assert len(pack({"w": sent["w"]})) * 2 == len(pack({"w": update["w"]}))


def test_a_state_handed_in_is_not_changed() -> None:
    """A round that is tried again starts from the same memory and sends the same."""
    _, before = STAGE.on_worker({"w": np.full(3, 1 / 3, "f4")}, {})
    kept = before["w"].copy()
    once, _ = STAGE.on_worker({"w": np.full(3, 0.7, "f4")}, before)
    again, _ = STAGE.on_worker({"w": np.full(3, 0.7, "f4")}, before)
    assert once["w"].tobytes() == again["w"].tobytes()
    assert before["w"].tobytes() == kept.tobytes()


@pytest.mark.parametrize("value", [LARGEST * 1.01, -1e6, np.inf])
def test_what_does_not_fit_is_refused(value: float) -> None:
    """A change beyond float16's range is refused by name rather than sent as infinity."""
    with pytest.raises(UpdateError, match="'w' changes by more than float16 can hold"):
        STAGE.on_worker({"w": np.array([0, value], "f4")}, {})


def test_the_largest_value_and_nothing_at_all_fit() -> None:
    """The largest number, empty arrays and scalars pass."""
    update = {"w": np.array([LARGEST, -LARGEST], "f4"), "e": np.zeros((0, 2), "f4"), "s": np.array(2.0, "f4")}
    sent, _ = STAGE.on_worker(update, {})
    assert sent["w"].tolist() == [LARGEST, -LARGEST]
    assert (sent["e"].shape, float(sent["s"])) == ((0, 2), 2.0)


def test_the_server_takes_what_it_gets() -> None:
    """The mean needs no undoing."""
    mean = {"w": np.array([0.25])}
    assert STAGE.on_server(mean, {}) == (mean, {})
