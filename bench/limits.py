"""What this machine can do at best, measured in the same run: the ceiling of every other figure."""

import hashlib
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench import grpc_stream
from bench.cases import MEBIBYTE, MEGABYTE

REPEATS = 5
BUFFER_BYTES = 256 * MEBIBYTE
STREAM_MESSAGES = 1024
FILE_BYTES = 100 * MEGABYTE


@dataclass(frozen=True)
class Limit:
    """The best of several tries: bytes per second, in units of 10^9."""

    name: str
    gigabytes_per_second: float


def measure() -> list[Limit]:
    """Measure every limit, one after another."""
    return [
        Limit("memcpy (numpy copy)", memcpy()),
        Limit("loopback TCP, one stream, two processes", loopback()),
        Limit("gRPC stream, 1 MiB messages, no TLS", grpc_stream.measure(STREAM_MESSAGES, tls=False)),
        Limit("gRPC stream, 1 MiB messages, mutual TLS", grpc_stream.measure(STREAM_MESSAGES, tls=True)),
        Limit("SHA-256", checksum(lambda data: hashlib.sha256(data).digest())),
        Limit("crc32 (zlib)", checksum(zlib.crc32)),
        Limit(f"write 100 MB and fsync ({_filesystem()})", write_and_sync()),
    ]


def memcpy() -> float:
    """Copy between two buffers that no cache holds."""
    source = np.random.default_rng(0).integers(0, 256, BUFFER_BYTES, np.uint8)
    target = np.empty_like(source)
    return _best(BUFFER_BYTES, lambda: np.copyto(target, source))


def checksum(digest: Callable[[bytes], object]) -> float:
    """Digest one large buffer."""
    data = np.random.default_rng(0).bytes(BUFFER_BYTES)
    return _best(BUFFER_BYTES, lambda: digest(data))


def write_and_sync() -> float:
    """Write a file in order and wait until the disk has it."""
    data = os.urandom(FILE_BYTES)
    with TemporaryDirectory(prefix="bench-") as folder:
        return _best(FILE_BYTES, lambda: _write(Path(folder) / "file", data))


def loopback() -> float:
    """Send over one TCP connection until the other process says it has everything."""
    with _sink() as connection:
        return _best(STREAM_MESSAGES * MEBIBYTE, lambda: _pour(connection))


def _pour(connection: socket.socket) -> None:
    piece = bytes(MEBIBYTE)
    for _ in range(STREAM_MESSAGES):
        connection.sendall(piece)
    assert connection.recv(1) == b"."


@contextmanager
def _sink() -> Iterator[socket.socket]:
    """Start the receiving process and connect to it; closing the connection ends it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_drain, args=(theirs,), daemon=True)
    process.start()
    with socket.create_connection(("127.0.0.1", ours.recv())) as connection:
        yield connection
    process.join()


def _drain(pipe: Connection) -> None:
    """Receive, and answer with one byte whenever a whole batch has come."""
    room = bytearray(MEBIBYTE)
    batch = STREAM_MESSAGES * MEBIBYTE
    received = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            while got := connection.recv_into(room):
                received += got
                if received % batch == 0:
                    connection.sendall(b".")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _best(size: int, action: Callable[[], object]) -> float:
    """Take the fastest of a few tries, because only the disturbance of others varies."""
    return size / min(_seconds(action) for _ in range(REPEATS)) / 1e9


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _filesystem() -> str:
    """Name the kind of file system of the temporary folder: a sync to memory would say nothing of a disk."""
    with TemporaryDirectory(prefix="bench-") as folder:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        holding = [(point, kind) for point, kind in mounts if Path(folder).is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1]
