"""What workers measured, as text that anybody may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import UpdateError
from fl_core.metrics import KINDS, Accuracy, Measurement, mean_of
from fl_server.measurements import MOST, read_measurements

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
ROWS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(KINDS)),
        "options": st.dictionaries(
            st.sampled_from(["bins", "classes", "k"]), st.integers(-3, 5) | SCALARS, max_size=1
        ),
        "vector": st.lists(st.integers(-3, 9) | st.floats(), max_size=10),
    }
)


def test_what_was_written_is_read() -> None:
    """Measurements survive the way over the wire."""
    sent = {"loss": mean_of(2.0, 4), "accuracy": Measurement(Accuracy(), mean_of(0.5, 4).vector)}
    text = json.dumps({name: measurement.to_json() for name, measurement in sent.items()})
    found = read_measurements(text)
    assert {name: one.value for name, one in found.items()} == {"loss": 2.0, "accuracy": 0.5}
    assert read_measurements("") == {}


@given(
    st.text()
    | JSON.map(json.dumps)
    | st.dictionaries(st.text(max_size=3), ROWS | JSON, max_size=3).map(json.dumps)
)
def test_anything_is_read_or_refused(text: str) -> None:
    """Whatever a worker sends has either values that can be computed, or is an UpdateError."""
    try:
        found = read_measurements(text)
    except UpdateError:
        return
    assert all(isinstance(measurement.value, float) for measurement in found.values())


def test_too_many_metrics_are_refused() -> None:
    """One message holds a bounded number of metrics."""
    many: dict[str, Any] = {str(number): mean_of(1.0, 1).to_json() for number in range(MOST + 1)}
    with pytest.raises(UpdateError, match=f"at most {MOST}"):
        read_measurements(json.dumps(many))
