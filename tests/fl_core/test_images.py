"""Which image a process says it runs in, and whether a digest pins it."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.errors import UpdateError
from fl_core.images import MOST, NAMED, OTHERS, Used, check, digest_of, tally, used

HEX = "0123456789abcdef" * 4
PINNED = f"registry.example:5000/fl/worker:1.2@sha256:{HEX}"


@pytest.mark.parametrize(
    ("reference", "digest"),
    [(PINNED, HEX), ("worker:1.2", ""), ("worker@sha256:ab", ""), (f"sha256:{HEX}", ""), ("", "")],
)
def test_a_digest_pins_an_image_and_a_tag_does_not(reference: str, digest: str) -> None:
    """Only a whole SHA-256 behind the name is one."""
    assert digest_of(reference) == digest


@pytest.mark.parametrize("text", ["", "worker", PINNED, "[::1]:5000/worker:1", "a" * MOST])
def test_what_can_name_an_image_is_taken(text: str) -> None:
    """Nothing is a good answer, too."""
    assert check(text, whose="worker-1") == text


@pytest.mark.parametrize("text", [" ", "a b", "a\n", "-a", '"', "a" * (MOST + 1), "é"])
def test_what_can_name_none_is_refused(text: str) -> None:
    """The sentence names the worker, and is no longer for a long text."""
    with pytest.raises(UpdateError, match="worker-1 names the image") as error:
        check(text, whose="worker-1")
    assert len(str(error.value)) < 150


def test_workers_are_counted_by_their_images() -> None:
    """Who says none is not counted; the order in which they report changes nothing."""
    assert list(tally(["b", "", "a", "b", ""]).items()) == [("b", 2), ("a", 1)]
    assert tally(["a", "b"]) == tally(["b", "a"])


def test_a_line_does_not_grow_with_the_images() -> None:
    """Workers in further ones are one number."""
    told = tally([str(number) for number in range(100)] + ["9"])
    assert (len(told), told["9"], told[OTHERS]) == (NAMED + 1, 2, 100 - NAMED)


def test_a_record_tells_the_images_of_all_its_rounds() -> None:
    """Of the server and of the workers, each with its number of rounds; lines without any tell none."""
    rows = [
        {"software": {"image": "server:1"}, "images": {PINNED: 3}},
        {"software": {}, "images": {PINNED: 2, "worker:1": 1}},
        {},
    ]
    assert used(rows) == [
        Used("server", "server:1", 1), Used("worker", PINNED, 2), Used("worker", "worker:1", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "row", [{"software": "x"}, {"images": [["b"]]}, {"software": {"image": 3}, "images": None}]
)
def test_a_line_that_somebody_changed_tells_no_images(row: dict[str, Any]) -> None:
    """What is not as a server writes it is passed over."""
    assert used([row]) == []


def test_a_descriptor_has_a_digest_only_where_one_is_known() -> None:
    """A tag is named, and said to be no more."""
    assert Used("worker", PINNED, 2).descriptor == {
        "uri": f"docker://{PINNED}",
        "digest": {"sha256": HEX},
        "annotations": {"role": "worker", "rounds": 2},
    }
    assert "digest" not in Used("server", "server:1", 1).descriptor
