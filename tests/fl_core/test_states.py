"""What strategies and stages remember, through a checkpoint and back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fl_core.errors import JobError
from fl_server.checkpoints import Saved, read, write

DTYPES = ["f2", "f4", "f8", "i8", "u1", "?"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
LEAVES = ARRAYS | st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=5)
NAMES = st.text(st.characters(codec="utf-8"), max_size=5)
STATES = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
    ),
    max_size=3,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value, type and, for arrays, in each bit."""
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or one != one)  # noqa: PLR0124 - NaN


@given(state=STATES)
@settings(deadline=None)
def test_a_state_survives_a_checkpoint(state: dict[str, Any]) -> None:
    """Arrays of any dtype, numbers, texts, lists and maps come back as they were, to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round-0000001.safetensors"
        model = {"w": np.arange(3, dtype="f4")}
        write(path, Saved(model, {"round": 1}, {"strategy": state, "0": {}}))
        found = read(path)
    assert same({"strategy": state, "0": {}}, dict(found.states))
    assert same(model, dict(found.weights))


def test_names_with_slashes_are_no_paths(tmp_path: Path) -> None:
    """Two arrays that lie at what reads like one path are two."""
    state = {"a/b": np.zeros(1), "a": {"b": np.ones(1)}}
    write(tmp_path / "one.safetensors", Saved({}, {}, {"strategy": state}))
    assert same(read(tmp_path / "one.safetensors").states["strategy"], state)


@pytest.mark.parametrize("value", [object(), {1: "number as name"}, {1, 2}, b"bytes"])
def test_what_no_checkpoint_can_hold_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    """A state that could not be restored fails when it is written, and says where it is."""
    with pytest.raises(JobError, match="strategy/speed"):
        write(tmp_path / "one.safetensors", Saved({}, {}, {"strategy": {"speed": value}}))
