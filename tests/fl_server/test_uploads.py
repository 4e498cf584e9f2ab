"""Uploads over several calls: each byte is taken once, two updates are never mixed, and nothing is held for ever."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import UpdateError
from fl_core.wire import arrays
from fl_core.wire import fl_pb2 as pb
from fl_server import uploads
from fl_server.spool import Spools
from fl_server.uploads import Uploads

CHUNK, CHUNKS = 8, 5
NBYTES = CHUNK * CHUNKS - 3
UPDATES = [Random(seed).randbytes(NBYTES) for seed in range(2)]
BUDGET = 2 * NBYTES
WORKER = "worker-1"

calls = st.tuples(
    st.integers(0, 1), st.integers(1, 2), st.integers(0, CHUNKS), st.sampled_from(["cut", "gone", "refused"])
)
"""A call of a worker: which of two updates it brings, for which attempt, how many chunks of it, and how it ends."""


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Chunks are of eight bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK", CHUNK)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


def head(update: int = 0, *, attempt: int = 1, start: int = 0) -> pb.Transfer:
    """What announces an update."""
    return pb.Transfer(
        context=pb.Context(round=1, attempt=attempt),
        kind=pb.KIND_MASKED,
        nbytes=NBYTES,
        digest=hashlib.sha256(UPDATES[update]).hexdigest(),
        start=start,
    )


class World:
    """A server's uploads."""

    def __init__(self, folder: Path, *, budget: int = BUDGET) -> None:
        self.spools = Spools(folder, patience=0, budget=budget)
        self.waited_for = True
        self.uploads = Uploads(self.spools, wanted=lambda *_: self.waited_for)

    async def call(
        self, said: pb.Transfer, update: int, *, chunks: int, end: str, worker: str = WORKER
    ) -> bytes:
        """Bring so many more chunks of an update, and end; gives the whole, if it is that."""
        came = [len(UPDATES[update]) - said.start]

        async def frames() -> AsyncIterator[bytes]:
            for number, frame in enumerate(list(arrays.frames(said, UPDATES[update], start=said.start))[1:]):
                if number == chunks:
                    break
                came[0] -= CHUNK
                yield frame
            if came[0] > 0 and end == "gone":
                raise asyncio.CancelledError
            if came[0] > 0 and end == "refused":
                yield b"\xff"

        upload = self.uploads.call(worker, said, nbytes=NBYTES, waited=lambda: None)
        async with upload as one:
            receiver = one.receiver(nbytes=NBYTES, manifest=None)
            await one.receive(receiver, frames(), moved=lambda: None)
        with one.spool:
            return b"".join(data for _, data in one.spool.chunks())

    async def tried(
        self, said: pb.Transfer, update: int, *, chunks: int, end: str, worker: str = WORKER
    ) -> bytes:
        """As `call`; nothing where it does not end well."""
        try:
            return await self.call(said, update, chunks=chunks, end=end, worker=worker)
        except (UpdateError, asyncio.CancelledError):
            return b""


@settings(deadline=None, max_examples=200)
@given(st.lists(calls, max_size=12), st.booleans())
def test_each_byte_is_taken_once_and_no_two_updates_are_mixed(
    folder: Path,
    steps: list[tuple[int, int, int, str]],
    in_file: bool,  # noqa: FBT001
) -> None:
    """However calls end, an upload goes on behind what came of the same bytes for the same attempt, else at nothing."""

    async def scene() -> None:
        world = World(folder, budget=2 * NBYTES)
        if in_file:
            await world.spools.admit(2 * NBYTES, waited=lambda: None)
        before, held = world.spools.left, (0, 0, 0)
        for update, attempt, chunks, end in steps:
            start = world.uploads.held(WORKER, head(update, attempt=attempt))
            assert start == (held[2] if held[:2] == (update, attempt) else 0)
            said = head(update, attempt=attempt, start=start)
            whole = await world.tried(said, update, chunks=chunks, end=end)
            position = min(start + chunks * CHUNK, NBYTES)
            assert whole == (UPDATES[update] if position == NBYTES else b"")
            kept = position < NBYTES and end != "refused"
            held = (update, attempt, position) if kept else (0, 0, 0)
        world.waited_for = False
        world.uploads._sweep()
        assert world.spools.left == before

    asyncio.run(scene())


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 2**64 - 1) | st.integers(1, NBYTES + CHUNK), st.integers(0, CHUNKS - 1))
def test_an_upload_goes_on_nowhere_else(folder: Path, start: int, chunks: int) -> None:
    """Between chunks, behind the end, ahead of what came: refused with a sentence, and what came stays as it is."""

    async def scene() -> None:
        world, came = World(folder), chunks * CHUNK
        await world.tried(head(), 0, chunks=chunks, end="cut")
        if start != came:
            with pytest.raises(
                UpdateError, match=f"^an upload goes on at byte {start}; expected {came}, which"
            ):
                await world.call(head(start=start), 0, chunks=CHUNKS, end="cut")
        for other in (head(1, start=CHUNK), head(0, attempt=2, start=CHUNK)):
            with pytest.raises(UpdateError, match=f"^an upload goes on at byte {CHUNK}; expected 0, which"):
                await world.call(other, 0, chunks=CHUNKS, end="cut")
        with pytest.raises(UpdateError, match=f"^an upload goes on at byte {CHUNK}; expected 0, which"):
            await world.call(head(start=CHUNK), 0, chunks=CHUNKS, end="cut", worker="worker-2")
        assert await world.call(head(start=came), 0, chunks=CHUNKS, end="cut") == UPDATES[0]

    asyncio.run(scene())


def test_what_was_put_together_of_two_updates_is_refused(folder: Path) -> None:
    """The digest that a head names is that of the whole, however many calls brought it."""

    async def scene() -> None:
        world = World(folder)
        await world.tried(head(), 1, chunks=2, end="cut")
        with pytest.raises(UpdateError, match="^what came in several calls has the digest [0-9a-f]{12}, not"):
            await world.call(head(start=2 * CHUNK), 0, chunks=CHUNKS, end="cut")
        assert (world.uploads.held(WORKER, head()), world.spools.left) == (0, BUDGET)

    asyncio.run(scene())


def test_a_worker_has_one_upload_however_many_it_begins(folder: Path) -> None:
    """Who begins one after the other and finishes none holds the place of one, in memory and on disk."""

    async def scene() -> None:
        world = World(folder, budget=NBYTES)
        for attempt in range(1, 100):
            await world.tried(head(attempt=attempt), 0, chunks=3, end="gone")
            assert (list(world.uploads._cut), world.spools.left) == ([WORKER], 0)

    asyncio.run(scene())


def test_what_nobody_waits_for_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cut stays while its worker is waited for, and is gone soon after."""
    monkeypatch.setattr(uploads, "SWEEP_SECONDS", 0.01)

    async def scene() -> None:
        world = World(folder)
        await world.tried(head(), 0, chunks=3, end="gone")
        world.uploads._sweep()
        assert world.uploads.held(WORKER, head()) == 3 * CHUNK
        world.waited_for = False
        async with asyncio.timeout(10):
            while world.uploads.held(WORKER, head()):
                await asyncio.sleep(0.01)
        assert (world.spools.left, world.uploads._sweeping) == (BUDGET, None)

    asyncio.run(scene())


def test_an_upload_that_names_no_digest_is_not_kept(folder: Path) -> None:
    """A short one begins anew."""

    async def scene() -> None:
        world, short_one = World(folder), head()
        short_one.digest = ""
        await world.tried(short_one, 0, chunks=3, end="cut")
        assert (world.uploads.held(WORKER, short_one), world.spools.left) == (0, BUDGET)

    asyncio.run(scene())
