"""Each watcher sees the present standing at once, every closed round once, and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.wire import fl_pb2 as pb
from fl_core.wire.channels import CLOSED_BYTES, MESSAGE_LIMIT, MOST_CLOSED
from fl_server.board import Board


def board_of(*, rounds: int, expected: int) -> Board:
    return Board(rounds, expected, lambda _: None)


def run(test: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(limited())


def test_the_standing_comes_at_once() -> None:
    """Whoever begins to watch gets one observation with the standing and all rounds closed so far."""

    async def scene() -> None:
        board = board_of(rounds=5, expected=3)
        board.closed += ["one", "two"]
        seen = await anext(board.watch())
        assert (seen.standing.rounds, seen.standing.expected, list(seen.closed)) == (5, 3, ["one", "two"])
        assert not seen.HasField("ending")

    run(scene())


def test_a_trouble_is_shown_while_it_lasts() -> None:
    """What another thread tells wakes a watcher, stands beside the notices, and is gone when that thread says so."""

    async def scene() -> None:
        board = board_of(rounds=5, expected=3)
        board.notices.append("a checkpoint was passed over")
        told, watch = board.from_threads(), board.watch()
        seen = [(await anext(watch)).standing.notice]
        for sentence in ("the store is silent", "the store is still silent", ""):
            await asyncio.to_thread(told, sentence)
            seen.append((await anext(watch)).standing.notice)
        passed = "a checkpoint was passed over"
        assert seen == [
            passed,
            f"{passed}; the store is silent",
            f"{passed}; the store is still silent",
            passed,
        ]

    run(scene())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=12))
def test_every_round_is_seen_once(steps: list[tuple[int, bool, bool]]) -> None:
    """However fast rounds close and however slowly a watcher reads: all of them, in order, none twice."""

    async def scene() -> None:
        board = board_of(rounds=99, expected=1)
        seen: dict[int, list[str]] = {}

        async def watch(number: int) -> None:
            seen[number] = []
            async for observation in board.watch():
                seen[number] += observation.closed

        watchers = [asyncio.create_task(watch(0))]
        for number, (closed, pause, joins) in enumerate(steps):
            board.closed += [f"{number}/{index}" for index in range(closed)]
            board.changed()
            if joins:
                watchers.append(asyncio.create_task(watch(len(watchers))))
            if pause:
                await asyncio.sleep(0)
        board.ending = pb.Ending(complete=True, reason="RoundsDone")
        board.changed()
        await asyncio.gather(*watchers)
        assert all(lines == board.closed for lines in seen.values())

    run(scene())


@pytest.mark.parametrize("beyond", [1, MOST_CLOSED])
def test_who_comes_late_gets_the_rounds_in_pieces(beyond: int) -> None:
    """However many rounds have closed, none is missed, and each observation but the last says that more follow."""

    async def scene() -> None:
        board = board_of(rounds=1000, expected=1)
        board.closed += [str(number) for number in range(2 * MOST_CLOSED + beyond)]
        board.ending = pb.Ending(complete=True)
        seen = [observation async for observation in board.watch()]
        assert [len(one.closed) for one in seen] == [MOST_CLOSED, MOST_CLOSED, beyond]
        assert [line for one in seen for line in one.closed] == board.closed
        assert [one.HasField("ending") for one in seen] == [False, False, True]
        assert [one.more for one in seen] == [True, True, False]

    run(scene())


def test_no_observation_is_too_long_to_send() -> None:
    """Lines that one worker has made long, by its metrics' names, go in pieces; one that is too long goes alone."""

    async def scene() -> None:
        board = board_of(rounds=1000, expected=1)
        names = [f"{number:02}{chr(0x1D538) * 61}" for number in range(200)]
        board.closed += [json.dumps(names, ensure_ascii=False)] * MOST_CLOSED
        board.closed.insert(3, "x" * CLOSED_BYTES + "y")
        board.ending = pb.Ending(complete=True)
        seen = [observation async for observation in board.watch()]
        assert [line for one in seen for line in one.closed] == board.closed
        assert [len(one.closed) for one in seen[:2]] == [3, 1]
        assert all(one.ByteSize() < MESSAGE_LIMIT / 2 for one in seen)
        assert [one.more for one in seen] == [True] * (len(seen) - 1) + [False]

    run(scene())


def test_the_end_is_the_last_observation() -> None:
    """The observation with the ending ends the watch, also for who comes after it."""

    async def scene() -> None:
        board = board_of(rounds=1, expected=1)
        board.closed.append("one")
        board.ending = pb.Ending(complete=True, reason="RoundsDone", model="abc")
        late = [observation async for observation in board.watch()]
        assert [(list(one.closed), one.ending.model) for one in late] == [(["one"], "abc")]

    run(scene())


def test_who_stops_watching_is_forgotten() -> None:
    """A watcher that goes in the middle leaves nothing on the board."""

    async def scene() -> None:
        board = board_of(rounds=1, expected=1)
        watch = board.watch()
        await anext(watch)
        assert len(board._watchers) == 1
        await watch.aclose()
        assert not board._watchers

    run(scene())
