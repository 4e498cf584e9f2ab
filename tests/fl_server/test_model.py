"""A model as frames: from its beginning, or from where a worker has it."""

from __future__ import annotations

import numpy as np
import pytest

from fl_core.errors import UpdateError
from fl_core.wire.arrays import CHUNK
from fl_server.model import Model

MODEL = Model.of({"w": np.arange(CHUNK // 4 * 2 + 5, dtype="f4")})


@pytest.mark.parametrize(("offset", "left"), [(0, 3), (CHUNK, 2), (2 * CHUNK, 1), (len(MODEL.buffer), 0)])
def test_what_a_worker_has_is_not_sent_again(offset: int, left: int) -> None:
    """The head comes each time, and with it the chunks that are lacking."""
    frames = MODEL.frames_from(offset)
    assert frames == (MODEL.frames[0], *MODEL.frames[4 - left :])


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        *((offset, f"a multiple of {CHUNK}") for offset in (1, CHUNK - 1, len(MODEL.buffer) - 1)),
        *(
            (offset, f"at most {len(MODEL.buffer)}")
            for offset in (len(MODEL.buffer) + 1, 3 * CHUNK, 2**64 - 1)
        ),
    ],
)
def test_a_model_goes_on_where_a_chunk_begins(offset: int, expected: str) -> None:
    """Another byte, or one beyond the end, is refused with what is expected."""
    with pytest.raises(UpdateError, match=f"byte {offset} of a model .*; expected {expected}$"):
        MODEL.frames_from(offset)
