from __future__ import annotations

import numpy as np
import pytest

from fl_core.errors import UpdateError
from fl_core.weights import check_finite
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.arrays import Receiver, frames, opened
from fl_worker.backends import Trained
from fl_worker.spoiling import corrupted, spoilt

TRAINED = Trained({"w": np.array([1.0, -2.0], "f4"), "n": np.array([3], "i8")}, 5, {})


def test_nothing_is_spoilt_unless_it_is_asked_for() -> None:
    """Without a word, or with one of another step, the update and the frame are as they were."""
    assert spoilt(TRAINED, "") is TRAINED
    assert corrupted(b"frame", "nan") == b"frame"


def test_an_update_of_not_a_numbers_is_what_a_worker_refuses_to_send() -> None:
    """The spoilt update keeps names, shapes and dtypes, and the worker's own check finds it."""
    update = spoilt(TRAINED, "nan").update
    assert {name: array.dtype for name, array in update.items()} == {"w": np.dtype("f4"), "n": np.dtype("i8")}
    with pytest.raises(UpdateError, match="2 values that are not finite"):
        check_finite(update, whose="the update")


def test_a_flipped_update_is_the_opposite() -> None:
    """Each array has the opposite sign, so that a step goes as far the other way."""
    update = spoilt(TRAINED, "sign_flip").update
    assert all((update[name] == -TRAINED.update[name]).all() for name in update)


def test_a_corrupted_frame_is_refused() -> None:
    """A byte that changes after the checksum was made is found by whoever receives the frame."""
    data = memoryview(bytes(10_000))
    head, chunk = frames(pb.Transfer(nbytes=len(data)), data)
    receiver = Receiver(lambda _offset, _data: None)
    receiver.open_bytes(opened(head), nbytes=len(data))
    with pytest.raises(UpdateError):
        receiver.frame(corrupted(chunk, "corrupt"))
    receiver.frame(chunk)
