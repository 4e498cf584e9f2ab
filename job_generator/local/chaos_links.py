"""The connections between a run's processes, each through a TCP proxy that can be cut, silenced, slowed or corrupted.

What passes is TLS, so a changed byte is a broken connection here, never a changed message.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

PIECE = 1 << 16
KILO = 1_000.0
LAST_SECONDS = 1.0
"""How long the last pieces may take when a link ends."""


@dataclass(slots=True)
class Weather:
    """What happens to the bytes of one link now."""

    broken: bool = False
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    """Seconds that each piece is late."""
    scatter: float = 0.0
    """Seconds that each piece is late beyond that, at most: drawn for each."""
    bandwidth: float | None = None
    """Bytes a second, in each direction."""
    spoil_next: bool = False

    def __post_init__(self) -> None:
        self.flowing.set()

    def seconds(self, nbytes: int) -> float:
        """How long a piece of this size takes."""
        late = self.delay + random.uniform(0.0, self.scatter)  # noqa: S311 - nothing secret
        return late + (nbytes / self.bandwidth if self.bandwidth else 0.0)

    def spoilt(self, piece: bytes) -> bytes:
        """The piece, with a byte changed if one is to be."""
        if not self.spoil_next:
            return piece
        self.spoil_next = False
        middle = len(piece) // 2
        return piece[:middle] + bytes([piece[middle] ^ 0xFF]) + piece[middle + 1 :]


class Link:
    """One process's way to another: an address to dial in the place of the peer's own."""

    def __init__(self, client: str, peer: str, target: str) -> None:
        self.client = client
        self.peer = peer
        self.weather = Weather()
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def touches(self, name: str) -> bool:
        """Whether this process is at one of its ends."""
        return name in {self.client, self.peer}

    async def listen(self) -> str:
        """The address to dial."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def cut(self) -> None:
        """Break what is open, and refuse what comes."""
        self.weather.broken = True
        for writer in list(self._open):
            writer.transport.abort()

    def calm(self) -> None:
        """Be an ordinary connection again."""
        weather = self.weather
        weather.broken, weather.spoil_next = False, False
        weather.delay, weather.scatter, weather.bandwidth = 0.0, 0.0, None
        weather.flowing.set()

    async def close(self) -> None:
        """Carry nothing any more."""
        self.calm()
        self.cut()
        if self._server is not None:
            self._server.close()
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=LAST_SECONDS)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.weather.broken:
            writer.transport.abort()
            return
        if (task := asyncio.current_task()) is not None:
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)
        with suppress(OSError):
            there, back = await asyncio.open_connection(self._host, self._port)
            both = {writer, back}
            self._open |= both
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, back, both, outward=True))
                    group.create_task(self._pump(there, writer, both, outward=False))
            finally:
                self._open -= both
        writer.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: set[asyncio.StreamWriter],
        *,
        outward: bool,
    ) -> None:
        """Pass pieces on until either side ends; then both do."""
        weather = self.weather
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                if seconds := weather.seconds(len(piece)):
                    await asyncio.sleep(seconds)
                await weather.flowing.wait()
                writer.write(weather.spoilt(piece) if outward else piece)
                await writer.drain()
        for one in both:
            one.close()


class Net:
    """All links of a run."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    async def way(self, client: str, peer: str, target: str) -> str:
        """The address at which this client reaches this peer."""
        link = Link(client, peer, target)
        self._links.append(link)
        return await link.listen()

    def of(self, name: str) -> list[Link]:
        """The links that end at this process."""
        return [link for link in self._links if link.touches(name)]

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(link.close() for link in self._links))
