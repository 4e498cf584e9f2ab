"""What is written here is what safetensors' own library writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from fl_core.errors import JobError
from fl_core.tensors import DTYPES, parts

ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
    st.sampled_from(list(DTYPES)).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
    ),
    max_size=6,
)


def joined(arrays: Any, metadata: dict[str, str]) -> bytes:
    return b"".join(bytes(part) for part in parts(arrays, metadata))


@given(arrays=ARRAYS, note=st.text(st.characters(codec="utf-8")))
def test_the_bytes_are_the_librarys(arrays: dict[str, Any], note: str) -> None:
    """Names, dtypes, shapes, empty and single numbers: byte for byte the same file."""
    assert joined(arrays, {"fljob": note}) == save(arrays, {"fljob": note})


def test_arrays_in_another_order_of_bytes_come_back() -> None:
    """Columns first, every second number, and big-endian numbers are written as they are read."""
    square = np.arange(16, dtype="f4").reshape(4, 4)
    arrays = {"columns": square.T, "second": square[:, ::2], "big": square.astype(">f4")}
    found = load(joined(arrays, {}))
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_what_lies_in_order_is_not_copied() -> None:
    """A model's own bytes are what is written."""
    array = np.zeros(1000, "f4")
    _, part = parts({"w": array}, {})
    array[0] = 1
    assert bytes(part[:4]) == np.float32(1).tobytes()


def test_numbers_that_no_file_holds_are_named() -> None:
    """An array of texts or of complex numbers is refused with its name and what is accepted."""
    with pytest.raises(JobError, match=r"array w is of complex64; a model's file holds bool, uint8"):
        parts({"w": np.zeros(2, "c8")}, {})
