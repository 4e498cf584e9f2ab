"""Both engines of the keystream against AES block by block, and which of them is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fl_core.secagg import keystream
from fl_core.secagg.keystream import ENGINES, SLACK, CounterMode, Engine, GaloisCounterMode, quickest
from tests.fl_core.secagg.slow import keystream as by_hand

KEY = bytes(range(32))
CHUNKS = [0, 1, 2**32, 2**64 - 1]


def filled(engine: Engine, chunk: int, size: int, *, room: int = 0) -> bytes:
    stream = bytearray(b"\xaa" * (size + SLACK + room))
    engine.fill(chunk, memoryview(bytes(size)), memoryview(stream))
    assert stream[size + SLACK :] == b"\xaa" * room
    return bytes(stream[:size])


@pytest.mark.parametrize("engine", ENGINES)
@given(
    places=some.lists(some.tuples(some.sampled_from(CHUNKS), some.integers(8, 300)), min_size=1, max_size=6)
)
def test_any_chunk_in_any_order_is_that_of_single_blocks(
    engine: type[Engine], places: list[tuple[int, int]]
) -> None:
    """Whatever came before, half a block among it; memory beyond its own room stays as it was."""
    one = engine(KEY)
    for chunk, size in places:
        assert filled(one, chunk, size, room=7) == by_hand(KEY, chunk, size)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_chunk_is_that_of_single_blocks(engine: type[Engine]) -> None:
    """With its sentinel."""
    size = 256 * 1024 + 8
    assert filled(engine(KEY), 3, size) == by_hand(KEY, 3, size)


@pytest.mark.parametrize("slow", ENGINES)
def test_the_quicker_one_is_taken(slow: type[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever that is: here one of them does its work a hundred times over."""
    fill = slow.fill

    def again_and_again(self: Engine, chunk: int, zeros: memoryview, stream: memoryview) -> None:
        for _ in range(100):
            fill(self, chunk, zeros, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(slow, "fill", again_and_again)
    quick = {CounterMode: GaloisCounterMode, GaloisCounterMode: CounterMode}[slow]
    assert keystream.quickest.__wrapped__() is quick


def test_it_is_sought_once_for_a_process() -> None:
    """A cohort's masks are all made by one engine."""
    assert quickest() is quickest()
