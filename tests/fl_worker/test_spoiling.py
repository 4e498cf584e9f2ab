from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from fl_core.errors import UpdateError
from fl_core.weights import check_finite
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.arrays import Receiver, frames, opened
from fl_worker.backends import Backend, Trained
from fl_worker.spoiling import corrupted, flipped, mislabelled, spoilt

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


def test_flipped_labels_are_those_from_the_other_end() -> None:
    """Of the classes 0 to c - 1 each label l becomes c - 1 - l, so that flipping twice changes nothing."""
    labels = np.array([[0], [3], [1]])
    assert flipped(labels, 4).tolist() == [[3], [0], [2]]
    assert (flipped(flipped(labels, 4), 4) == labels).all()
    with pytest.raises(UpdateError, match="label_flip: labels are float32; only whole numbers"):
        flipped(np.zeros(3, "f4"), 4)


def test_a_plain_object_has_no_labels_to_flip() -> None:
    """It is refused where labels are to be flipped, and left alone by every other word."""
    plain = cast("Backend", object())
    with pytest.raises(UpdateError, match="this program keeps its labels to itself"):
        mislabelled(plain, "label_flip")
    with mislabelled(plain, "sign_flip"), mislabelled(plain, ""):
        pass


def test_a_corrupted_frame_is_refused() -> None:
    """A byte that changes after the checksum was made is found by whoever receives the frame."""
    data = memoryview(bytes(10_000))
    head, chunk = frames(pb.Transfer(nbytes=len(data)), data)
    receiver = Receiver(lambda _offset, _data: None)
    receiver.open_bytes(opened(head), nbytes=len(data))
    with pytest.raises(UpdateError):
        receiver.frame(corrupted(chunk, "corrupt"))
    receiver.frame(chunk)
