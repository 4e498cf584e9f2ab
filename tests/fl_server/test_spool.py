"""Unfinished updates wait in memory up to a budget, then in a file, and leave nothing behind."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import StorageError
from fl_server.spool import Spool, Spools

sizes = st.lists(st.integers(1, 40), max_size=12)


def fill(spool: Spool, lengths: list[int]) -> bytes:
    """Hand in chunks of these lengths, one after the other; returns what was handed in."""
    given_ = b""
    for number, length in enumerate(lengths):
        data = bytes([number + 1]) * length
        spool.take(len(given_), data)
        given_ += data
    return given_


def content(spool: Spool) -> bytes:
    pieces = list(spool.chunks())
    joined = b"".join(data for _, data in pieces)
    starts = [sum(len(data) for _, data in pieces[:number]) for number in range(len(pieces))]
    assert [offset for offset, _ in pieces] == starts
    return joined


async def admitted(spools: Spools, nbytes: int) -> Spool:
    return await spools.admit(nbytes, waited=lambda: None)


def in_memory(spools: Spools, budget: int) -> int:
    return budget - spools.left


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@settings(deadline=None, max_examples=100)
@given(sizes, st.booleans())
def test_every_chunk_comes_back_once(folder: Path, lengths: list[int], full: bool) -> None:  # noqa: FBT001
    """In memory and in a file, all bytes are there in order, as often as they are asked for."""

    async def scene() -> None:
        spools = Spools(folder, patience=0, budget=500)
        with await admitted(spools, 500 if full else 0), await admitted(spools, sum(lengths)) as spool:
            handed_in = fill(spool, lengths)
            assert content(spool) == handed_in
            assert content(spool) == handed_in

    asyncio.run(scene())


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 100))
def test_the_budget_is_shared_and_given_back(folder: Path, updates: list[int], budget: int) -> None:
    """Spools never keep more in memory than the budget together, or one update; afterwards all of it is free."""

    async def scene() -> None:
        spools = Spools(folder, patience=0, budget=budget)
        open_ = []
        for nbytes in updates:
            open_.append((await admitted(spools, nbytes)).__enter__())
            assert in_memory(spools, budget) <= max(budget, updates[0])
        for spool in open_:
            spool.__exit__(None, None, None)
        assert spools.left == budget

    asyncio.run(scene())


def test_an_update_waits_for_its_turn(tmp_path: Path) -> None:
    """While others leave, an update waits for memory instead of going to a file, and says that it waited."""

    async def scene() -> None:
        spools, waits = Spools(tmp_path, patience=30, budget=10), list[int]()
        first = await admitted(spools, 10)
        second = asyncio.create_task(spools.admit(10, waited=lambda: waits.append(1)))
        await asyncio.sleep(0.01)
        assert not second.done()
        with first:
            fill(first, [10])
        with await asyncio.wait_for(second, 1) as spool:
            assert in_memory(spools, 10) == 10
            assert content(spool) is not None
        assert (waits, spools.left) == ([1], 10)

    asyncio.run(scene())


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """No file has a name while updates wait, and an update that fails gives everything back."""

    async def spoilt(spools: Spools) -> None:
        with await admitted(spools, 24) as spool:
            fill(spool, [8, 8, 8])
            assert names(tmp_path) == []
            raise ConnectionError("the worker went")

    async def scene() -> None:
        spools, before = Spools(tmp_path, patience=0, budget=10), open_files()
        with await admitted(spools, 10):
            with pytest.raises(ConnectionError):
                await spoilt(spools)
            assert open_files() == before
        assert (spools.left, names(tmp_path)) == (10, [])

    asyncio.run(scene())


def test_a_full_disk_is_nobodys_fault_who_sends(tmp_path: Path) -> None:
    """What cannot be kept on disk may be tried again, and the budget is as it was."""

    async def scene() -> None:
        spools = Spools(tmp_path, patience=0, budget=100)
        with await admitted(spools, 100):
            full = pytest.raises(StorageError, match="cannot be kept on disk: File too large; make room")
            with await admitted(spools, 1 << 30) as spool, limited(4096), full:
                spool.take(0, bytes(8192))
        assert spools.left == 100

    asyncio.run(scene())


def test_a_disk_that_cannot_be_read_is_nobodys_fault_who_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that its file does not give back is a fault of the storage, and is told as one."""

    def broken(*_: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def scene() -> None:
        spools = Spools(tmp_path, patience=0, budget=0)
        spools.left = -1
        with await admitted(spools, 24) as spool:
            fill(spool, [8, 8, 8])
            monkeypatch.setattr(os, "pread", broken)
            with pytest.raises(
                StorageError, match="cannot be read back from disk: Input/output error; look after"
            ):
                content(spool)

    asyncio.run(scene())


@contextmanager
def limited(nbytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
