"""One port for all that a site outside the cluster dials: connections go on by the name that their TLS hello asks for.

The relay reads that name (SNI, RFC 6066) and nothing else. What follows is passed on as it comes, so that TLS stays
between the site and the process that it means: the relay can neither read what they say nor speak for one of them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import structlog

from fl_core.errors import FLJobError, UnavailableError
from fl_core.identity import Identity
from fl_server.metrics import Metrics

log = structlog.get_logger()

MOST_CONNECTIONS: Final = 256
HELLO_SECONDS: Final = 10.0
MOST_HELLO: Final = 1 << 14
"""Bytes; a hello with keys that withstand quantum computers has about 2,000."""
DIAL_SECONDS: Final = 10.0
FAREWELL_SECONDS: Final = 5.0
"""How long a side may take to read the last bytes."""
ENROL_SECONDS: Final = 60.0
"""How long an enrolment may take: it is one request, and nobody has been asked for a certificate before it."""
END_SECONDS: Final = 10.0
"""How long sites may take to leave when the job is over."""
PIECE: Final = 1 << 16
SILENT_SECONDS: Final = 60
"""After so long without a byte the kernel asks whether the other side is still there."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where connections of one name go, `host:port`, and how long one may last (for ever without `seconds`)."""

    address: str
    seconds: float | None = None


def routes(job: str, *, server: str, scheduler: str, enrol: str | None) -> dict[str, Route]:
    """The names that a site of this job (its uid) may ask for; `enrol` is the URL of the operator's endpoint."""
    known = {
        Identity(job, "server").host: Route(server),
        Identity(job, "scheduler").host: Route(scheduler),
    }
    url = urlsplit(enrol or "")
    if url.hostname:
        known[url.hostname] = Route(f"{url.hostname}:{url.port or 443}", ENROL_SECONDS)
    return known


class TurnedAwayError(Exception):
    """A connection leads nowhere; `reason` is a word for the metrics."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Relay:
    """Listens for sites and connects each with whom it asks for."""

    def __init__(self, known: Mapping[str, Route], metrics: Metrics) -> None:
        self._routes = known
        self._metrics = metrics
        self._open: set[asyncio.Task[None]] = set()
        self._hellos = Hellos()

    @asynccontextmanager
    async def listening(self, address: str) -> AsyncIterator[str]:
        """Relay at `host:port` (port 0: any free one) until the block ends; gives the address.

        Where the job has ended, well or not, the sites get some time to hear of it from the scheduler.
        """
        host, _, port = address.rpartition(":")
        try:
            server = await asyncio.start_server(self._accept, host, int(port), limit=PIECE)
        except OSError as error:
            raise UnavailableError(f"nobody can listen at {address}: {error}") from error
        try:
            yield f"{host}:{server.sockets[0].getsockname()[1]}"
            await self._emptied()
        except FLJobError:
            await self._emptied()
            raise
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _emptied(self) -> None:
        """Wait until the sites have gone by themselves, though not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while self._open:
                    await asyncio.wait(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; a task of our own, as the end of this process is no error of it."""
        if len(self._open) >= MOST_CONNECTIONS:
            busy = TurnedAwayError("busy", f"{MOST_CONNECTIONS} connections are open, no more are taken")
            self._turn_away(writer, busy)
            return
        task = asyncio.create_task(self._take(reader, writer))
        self._open.add(task)
        self._metrics.external.set(len(self._open))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.remove(task)
        self._metrics.external.set(len(self._open))

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._relay(reader, writer)
        except TurnedAwayError as error:
            self._turn_away(writer, error)
        except OSError as error:
            log.debug("connection broken", reason=str(error))
        finally:
            writer.transport.abort()

    def _turn_away(self, writer: asyncio.StreamWriter, error: TurnedAwayError) -> None:
        self._metrics.turned_away.labels(error.reason).inc()
        log.warning("turned away", reason=str(error), peer=writer.get_extra_info("peername"))
        writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, begun = await self._hellos.read(reader)
        if name not in self._routes:
            raise TurnedAwayError("name", f"nobody here is called {name!r}")
        route = self._routes[name]
        back, there = await _dialled(route)
        try:
            _keep_alive(writer)
            there.write(begun)
            async with asyncio.timeout(route.seconds), asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, there))
                both.create_task(_pump(back, writer))
        except* OSError as broken:
            log.debug("connection broken", name=name, reason=str(broken.exceptions[0]))
        else:
            await _farewell(there, writer)
        finally:
            there.transport.abort()


class Hellos:
    """Reads the name that a TLS hello asks for; the ssl module does the parsing."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.sni_callback = self._told

    async def read(self, reader: asyncio.StreamReader) -> tuple[str, bytes]:
        """The name, empty where none is asked for, and what was read; raises TurnedAwayError for anything else."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                return await self._read(reader)
        except TimeoutError as error:
            raise TurnedAwayError("hello", f"no TLS hello came within {HELLO_SECONDS:g} s") from error

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, bytes]:
        incoming, begun = ssl.MemoryBIO(), b""
        tls = self._tls.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        while piece := await reader.read(MOST_HELLO - len(begun)):
            begun += piece
            incoming.write(piece)
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                if tls not in self._names:
                    raise TurnedAwayError("hello", f"this is no TLS hello: {error.reason}") from error
            return self._names.pop(tls), begun
        raise TurnedAwayError("hello", f"no whole TLS hello in {len(begun)} bytes, at most {MOST_HELLO}")

    def _told(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int:
        """Keep the name; the handshake is the process's that is meant, so ours ends here."""
        self._names[tls] = name or ""
        return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)


async def _dialled(route: Route) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = route.address.rpartition(":")
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            reader, writer = await asyncio.open_connection(host, int(port), limit=PIECE)
    except OSError as error:
        reason = str(error) or f"within {DIAL_SECONDS:g} s"
        raise TurnedAwayError("upstream", f"{route.address} does not answer: {reason}") from error
    _keep_alive(writer)
    return reader, writer


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """So that a side that is gone without a word does not count as open for ever."""
    channel: socket.socket = writer.get_extra_info("socket")
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_SECONDS)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, no faster than it is taken, and then that nothing more will come."""
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


async def _farewell(*writers: asyncio.StreamWriter) -> None:
    """Close, once the last bytes have been taken."""
    with suppress(OSError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            for writer in writers:
                writer.close()
                await writer.wait_closed()
