"""Arrays as checksummed chunks of one flat buffer: a Transfer first, then Chunks in order, without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import google_crc32c

from fl_core.errors import UpdateError
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb

CHUNK = 1 << 20
"""Bytes per chunk; a multiple of every element's size."""


def frames(transfer: pb.Transfer, buffer: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """The serialised frames of a whole transfer."""
    yield pb.Frame(transfer=transfer).SerializeToString()
    view = memoryview(buffer)
    for offset in range(0, len(view), CHUNK):
        data = bytes(view[offset : offset + CHUNK])
        chunk = pb.Chunk(offset=offset, crc32c=google_crc32c.value(data), data=data)
        yield pb.Frame(chunk=chunk).SerializeToString()


class Receiver:
    """Checks the frames of one transfer as they come, and hands verified chunks to `take`."""

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._transfer: pb.Transfer | None = None
        self.position = 0

    @property
    def complete(self) -> bool:
        """Whether the last byte has been verified."""
        return self._transfer is not None and self.position == self._transfer.nbytes

    def open(self, transfer: pb.Transfer, *, expected: Manifest) -> None:
        """Accept the head of the transfer if it announces what is expected."""
        if self._transfer is not None:
            raise UpdateError("a second Transfer in one stream; exactly one comes first")
        announced = Manifest.from_json(transfer.manifest)
        if wrong := expected.difference(announced):
            raise UpdateError(f"the update does not fit the model: {wrong}")
        if transfer.nbytes != expected.nbytes:
            raise UpdateError(f"{transfer.nbytes} bytes announced for arrays of {expected.nbytes}")
        self._transfer = transfer

    def chunk(self, chunk: pb.Chunk) -> None:
        """Accept the next chunk: in order, of the right length, with the right checksum."""
        if self._transfer is None:
            raise UpdateError("a Chunk before the Transfer")
        due = min(CHUNK, self._transfer.nbytes - self.position)
        if chunk.offset != self.position or len(chunk.data) != due or not due:
            raise UpdateError(
                f"{len(chunk.data)} bytes came for byte {chunk.offset}; expected {due} for {self.position}"
            )
        found = google_crc32c.value(chunk.data)
        if found != chunk.crc32c:
            raise UpdateError(
                f"the chunk at byte {chunk.offset} has CRC-32C {found:08x}, not {chunk.crc32c:08x}"
            )
        self._take(chunk.offset, chunk.data)
        self.position += due


def unchanged(message: bytes) -> bytes:
    """The serializer of frames that are serialised already."""
    return message
