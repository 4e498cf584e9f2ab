"""A proxy before a process that cuts a connection for good after so many bytes, and counts what comes for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PIECE = 1 << 16
BUFFER = 1 << 16
"""Bytes that the kernel may hold in each direction, so that what is counted has nearly arrived."""


@dataclass
class Cutting:
    """Carries connections to `target` and cuts the open one whenever as many bytes as the next of `cuts` have come."""

    target: tuple[str, int]
    cuts: list[int]
    came: int = 0
    connections: int = 0
    _open: set[socket.socket] = field(default_factory=set)

    def serve(self, listening: socket.socket) -> None:
        """Carry connections until the socket that listens is closed."""
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                self.connections += 1
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        far = socket.create_connection(self.target)
        pair = (near, far)
        self._open.update(pair)
        for one in pair:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
        self._pump(near, far, counted=True)

    def _pump(self, there: socket.socket, back: socket.socket, *, counted: bool = False) -> None:
        with suppress(OSError):
            while piece := there.recv(PIECE):
                if counted and self._counts(len(piece)):
                    break
                back.sendall(piece)
        for one in (there, back):
            self._open.discard(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _counts(self, nbytes: int) -> bool:
        """Count what came, and say whether it is time to cut."""
        self.came += nbytes
        if not self.cuts or self.came < self.cuts[0]:
            return False
        del self.cuts[0]
        return True

    def close(self) -> None:
        """Carry nothing more."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(target: str, cuts: Sequence[int]) -> Iterator[tuple[str, Cutting]]:
    """The address of a proxy before this one, and the proxy."""
    host, _, port = target.rpartition(":")
    proxy = Cutting((host, int(port)), sorted(cuts))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=proxy.serve, args=(listening,), daemon=True)
        serving.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}", proxy
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()
            proxy.close()
