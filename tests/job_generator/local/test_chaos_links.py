from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from job_generator.local.chaos_links import Link


@asynccontextmanager
async def echo() -> AsyncIterator[Link]:
    """A link to a peer that gives back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    link = Link("worker-0", "server", f"{host}:{port}")
    try:
        yield link
    finally:
        await link.close()
        server.close()


def through(test: Callable[[Link, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), echo() as link:
            host, _, port = (await link.listen()).rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            await test(link, reader, writer)
            writer.transport.abort()

    asyncio.run(run())


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    writer.write(text)
    return await reader.readexactly(len(text))


def test_a_link_carries_what_it_is_given() -> None:
    """Without a fault bytes pass in both directions as they are, and the end of one side is that of the other."""

    async def test(_: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = bytes(range(256)) * 1_000
        assert await said(reader, writer, text) == text
        writer.write_eof()
        assert await reader.read() == b""

    through(test)


def test_a_cut_link_breaks_and_refuses_until_it_is_calm() -> None:
    """An open connection ends, a new one ends at once; afterwards a new one carries again."""

    async def test(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await said(reader, writer, b"before") == b"before"
        address = writer.get_extra_info("peername")
        link.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(reader, writer, b"during")
        reader, writer = await asyncio.open_connection(*address)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(reader, writer, b"during")
        link.calm()
        reader, writer = await asyncio.open_connection(*address)
        assert await said(reader, writer, b"after") == b"after"

    through(test)


def test_a_silent_link_holds_what_it_carries() -> None:
    """Nothing comes while it is silent, and nothing is lost once it is not."""

    async def test(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.weather.flowing.clear()
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(4)
        link.calm()
        assert await reader.readexactly(4) == b"held"

    through(test)


def test_a_mixed_link_keeps_each_connection_in_order_and_not_one_beside_another() -> None:
    """Of forty pieces on two connections in turn each has its own in order; together they come in another."""

    async def heard(reader: asyncio.StreamReader, came: list[int]) -> None:
        for _ in range(20):
            came.extend(await reader.readexactly(1))

    async def test(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.weather.scatter = 0.05
        other, beside = await asyncio.open_connection(*writer.get_extra_info("peername"))
        came: list[int] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(heard(reader, came))
            group.create_task(heard(other, came))
            for number in range(40):
                (beside if number % 2 else writer).write(bytes([number]))
                await asyncio.sleep(0.01)
        beside.transport.abort()
        assert [number for number in came if number % 2] == list(range(1, 40, 2))
        assert [number for number in came if not number % 2] == list(range(0, 40, 2))
        assert came != list(range(40))

    through(test)


def test_a_slow_link_takes_its_time() -> None:
    """100 kB at 500 kB a second take 200 ms each way, one behind the other but for the last piece."""

    async def test(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.weather.bandwidth, link.weather.delay = 500_000.0, 0.01
        begin = time.monotonic()
        await said(reader, writer, bytes(100_000))
        assert time.monotonic() - begin > 0.25

    through(test)


def test_a_corrupting_link_changes_one_byte_once() -> None:
    """The next piece on its way out has one other byte, the one after it none."""

    async def test(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.weather.spoil_next = True
        came = await said(reader, writer, bytes(100))
        assert sorted(came) == [0] * 99 + [255]
        assert await said(reader, writer, bytes(100)) == bytes(100)

    through(test)
