"""A model is one flat buffer with a manifest, and a digest that tells any two models apart."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl_core.errors import MismatchError, UpdateError
from fl_core.weights import (
    DTYPES,
    ArraySpec,
    Manifest,
    Weights,
    add,
    check_finite,
    difference,
    digest,
    flat_digest,
    pack,
)

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
models = st.dictionaries(st.text(max_size=4), arrays, max_size=5)


def same(one: Weights, other: Weights) -> bool:
    return list(one) == list(other) and all(
        one[name].tobytes() == other[name].tobytes() and one[name].shape == other[name].shape for name in one
    )


@settings(deadline=None, max_examples=50)
@given(models)
def test_a_model_comes_back_from_its_buffer(model: Weights) -> None:
    """Whatever names, dtypes and shapes: packed and viewed, it is the same model to the bit."""
    manifest = Manifest.of(model)
    buffer = pack(model)
    assert len(buffer) == manifest.nbytes
    assert same(manifest.views(buffer), model)
    assert flat_digest(manifest, buffer) == digest(model)


@settings(deadline=None, max_examples=50)
@given(models)
def test_a_manifest_travels_as_json(model: Weights) -> None:
    """What `to_json` wrote is read again, with the same digest."""
    manifest = Manifest.of(model)
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.digest == manifest.digest
    assert manifest.difference(again) is None


@settings(deadline=None, max_examples=50)
@given(models)
def test_runs_cover_the_buffer_once(model: Weights) -> None:
    """Every element stands in exactly one run, runs follow each other, aligned to 8 bytes."""
    manifest = Manifest.of(model)
    assert sum(run.size for run in manifest.runs) == sum(spec.size for spec in manifest)
    assert all(run.offset % 8 == 0 for run in manifest.runs)
    ends = [run.end for run in manifest.runs]
    assert all(0 <= run.offset - end < 8 for run, end in zip(manifest.runs[1:], ends, strict=False))
    for spec, offset, (number, place) in zip(manifest, manifest.offsets, manifest.places, strict=True):
        run = manifest.runs[number]
        assert run.dtype == spec.dtype
        assert run.offset + place * np.dtype(spec.dtype).itemsize == offset


@settings(deadline=None, max_examples=50)
@given(models.filter(lambda model: any(array.size for array in model.values())), st.data())
def test_any_flipped_bit_is_another_model(model: Weights, data: st.DataObject) -> None:
    """Digests tell models apart that differ in one bit of one element."""
    buffer, manifest = pack(model), Manifest.of(model)
    spot = data.draw(st.integers(0, len(buffer) - 1))
    buffer[spot] ^= 1 << data.draw(st.integers(0, 7))
    assert flat_digest(manifest, buffer) != digest(model)


@pytest.mark.parametrize(
    "other",
    [
        {"w": np.zeros((2, 3), "f4"), "c": np.zeros(2, "f4")},
        {"w": np.zeros((3, 2), "f4"), "b": np.zeros(2, "f4")},
        {"w": np.zeros((2, 3), "f8"), "b": np.zeros(2, "f4")},
        {"b": np.zeros(2, "f4"), "w": np.zeros((2, 3), "f4")},
        {"w": np.zeros((2, 3), "f4")},
    ],
)
def test_names_shapes_dtypes_and_order_count(other: Weights) -> None:
    """The same zeros under another name, shape, dtype or order are another model, and words say why."""
    model = {"w": np.zeros((2, 3), "f4"), "b": np.zeros(2, "f4")}
    assert digest(model) != digest(other)
    assert Manifest.of(model).difference(Manifest.of(other))


def test_a_difference_names_what_is_expected() -> None:
    """The sentence names the array, what came and what should have come."""
    mine = Manifest.of({"w": np.zeros((2, 3), "f4"), "b": np.zeros(2, "f4")})
    wrong = Manifest.of({"w": np.zeros((3, 2), "f4"), "b": np.zeros(2, "f4")})
    assert mine.difference(wrong) == "array w float32[3, 2] should be w float32[2, 3]"
    assert mine.difference(Manifest(mine.arrays[:1])) == "array 'b' is missing"
    assert mine.difference(Manifest(mine.arrays[::-1])) == "the arrays are in another order"
    assert Manifest(mine.arrays[:1]).difference(mine) == "array 'b' is not in the model"


def test_the_machines_byte_order_does_not_matter() -> None:
    """Big-endian and strided arrays are the same model as little-endian, contiguous ones."""
    grid = np.arange(6, dtype="f4").reshape(2, 3)
    strided = np.asfortranarray(grid)
    assert digest({"w": grid}) == digest({"w": grid.astype(">f4")}) == digest({"w": strided})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "5",
        "[5]",
        '["abc"]',
        '[["w","float32"]]',
        '[["w","float32",[2],0]]',
        '[["w","float32",2]]',
        '[["w","float32",[-1]]]',
        '[["w","float32",["x"]]]',
        '[["w","float32","12"]]',
        '[["w","float32",[1.5]]]',
        '[["w","float32",["7"]]]',
        '[["w","float32",[true]]]',
        '[["w","float32",[1e999]]]',
        '[[5,"float32",[2]]]',
        '[["w","int64",[2]]]',
        '[["w","object",[2]]]',
        '[["w","float32",[2]],["w","float32",[2]]]',
        '[["w", "float32", [2]]]',
        "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    """Only what `to_json` writes is read: anything else is refused, never half understood."""
    with pytest.raises(MismatchError):
        Manifest.from_json(text)


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.just("float32"),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_is_a_manifest_or_refused(value: Any) -> None:
    """No text at all makes reading a manifest end in anything but a manifest or a refusal."""
    text = json.dumps(value, separators=(",", ":"))
    with suppress(MismatchError):
        assert Manifest.from_json(text).to_json() == text


def test_what_cannot_be_exchanged_is_refused() -> None:
    """Whole numbers and objects are no model, and two arrays need two names."""
    with pytest.raises(MismatchError, match="'n' has dtype 'int64'"):
        Manifest.of({"n": np.zeros(2, "i8")})
    with pytest.raises(MismatchError, match=r"\['w'\] occur twice"):
        Manifest((ArraySpec("w", "float32", (1,)), ArraySpec("w", "float32", (2,))))


@settings(deadline=None, max_examples=50)
@given(hnp.arrays("f4", 5, elements=st.floats(-1e6, 1e6, width=32)), st.integers(0, 100))
def test_a_sum_is_rounded_once(array: Any, seed: int) -> None:
    """Model plus a float64 mean is the nearest float32 to the true sum."""
    mean = np.random.default_rng(seed).normal(size=5)
    found = add({"w": array}, {"w": mean})["w"]
    assert found.dtype == np.float32
    assert found.tolist() == (array.astype("f8") + mean).astype("f4").tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_model_plus_difference_is_the_new_model(dtype: str) -> None:
    """Where nothing needs rounding, a worker's difference added to the old model is the new one."""
    old, new = ({"w": np.array(values, dtype)} for values in ([1, 2, 3], [4, 0, 3.5]))
    change = difference(new, old)
    assert change["w"].dtype == np.dtype(dtype)
    assert same(add(old, change), new)


@pytest.mark.parametrize(("bad", "count"), [([np.nan], 1), ([np.inf, -np.inf], 2), ([np.inf], 1)])
def test_what_is_not_finite_is_named(bad: list[float], count: int) -> None:
    """The sentence says whose, in which array and how many, and numpy adds no warning of its own."""
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(UpdateError, match=f"'w' holds {count} values"),
    ):
        check_finite({"v": np.ones(2), "w": np.array([*bad, 1.0], "f4")}, whose="worker-1")


def test_large_but_finite_values_pass() -> None:
    """A sum that overflows is no proof of infinite values."""
    with warnings.catch_warnings(action="error"):
        check_finite({"w": np.full(3, np.finfo("f8").max)}, whose="worker-1")


def test_arrays_come_in_a_manifests_order() -> None:
    """Those that it does not name come last, and one that is missing stays so."""
    wanted = Manifest.of({name: np.zeros(1, "f4") for name in ("w", "b", "gone")})
    assert list(wanted.ordered({"more": np.ones(1, "f4"), "b": np.ones(1, "f4"), "w": np.ones(1, "f4")})) == [
        "w",
        "b",
        "more",
    ]
