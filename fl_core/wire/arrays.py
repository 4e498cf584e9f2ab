"""Arrays as checksummed chunks of one flat buffer: a Transfer first, then Chunks in order, without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import google_crc32c
from google.protobuf.message import DecodeError

from fl_core.errors import UpdateError
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.guard import strange

CHUNK = 1 << 20
"""Bytes per chunk; a multiple of every element's size."""

LENGTH, CHECKSUM = "it has not as many bytes as it must have", "a checksum does not fit what came"
"""What the record says of a transfer that was refused for its length, or for its content."""

# Field 2 of a Frame, a Chunk, and in it the fields 2 and 3, with their wire types.
_CHUNK_TAG, _CRC_TAG, _DATA_TAG = b"\x12", b"\x15", b"\x1a"
_CRC_BYTES = 4


class Chunk(NamedTuple):
    """What a pb.Chunk says, without its copies."""

    offset: int
    crc32c: int
    data: bytes


def frames(
    transfer: pb.Transfer, buffer: bytes | bytearray | memoryview, *, start: int = 0
) -> Iterator[bytes]:
    """The serialised frames of a transfer: its head, and the chunks from this byte on, where one begins."""
    yield pb.Frame(transfer=transfer).SerializeToString()
    view = memoryview(buffer)
    for offset in range(start, len(view), CHUNK):
        data = bytes(view[offset : offset + CHUNK])
        before, after = _wrapping(offset, len(data))
        yield b"".join((before, google_crc32c.value(data).to_bytes(_CRC_BYTES, "little"), after, data))


def check_offset(offset: int, end: int, *, what: str) -> None:
    """Refuse to go on where no chunk begins or ends of something that has so many bytes."""
    beyond = offset > end
    if beyond or (offset % CHUNK and offset != end):
        expected = f"at most {end}" if beyond else f"a multiple of {CHUNK}"
        raise UpdateError(f"byte {offset} of {what} of {end} is asked for; expected {expected}")


class Receiver:
    """Checks the frames of one transfer as they come, and hands verified chunks to `take`.

    A transfer that goes on begins at a `position` where a chunk does.
    """

    def __init__(self, take: Callable[[int, bytes], None], *, position: int = 0) -> None:
        self._take = take
        self._transfer: pb.Transfer | None = None
        self.position = position

    @property
    def complete(self) -> bool:
        """Whether the last byte has been verified."""
        return self._transfer is not None and self.position == self._transfer.nbytes

    def open(self, transfer: pb.Transfer, *, expected: Manifest) -> None:
        """Accept the head of the transfer if it announces what is expected."""
        announced = Manifest.from_json(transfer.manifest)
        if wrong := expected.difference(announced):
            raise UpdateError(
                f"the update does not fit the model: {wrong}", short="its arrays are not the model's"
            )
        self.open_bytes(transfer, nbytes=expected.nbytes)

    def open_bytes(self, transfer: pb.Transfer, *, nbytes: int) -> None:
        """Accept the head of a transfer of so many bytes, whatever they mean."""
        if self._transfer is not None:
            raise UpdateError("a second Transfer in one stream; exactly one comes first")
        if transfer.nbytes != nbytes:
            raise UpdateError(f"{transfer.nbytes} bytes announced; {nbytes} are expected", short=LENGTH)
        self._transfer = transfer

    def frame(self, message: bytes) -> None:
        """Accept the next chunk as it came over the wire."""
        due = min(CHUNK, self._transfer.nbytes - self.position) if self._transfer is not None else 0
        self.chunk(_written(message, self.position, due) or _parsed(message))

    def chunk(self, chunk: pb.Chunk | Chunk) -> None:
        """Accept the next chunk: in order, of the right length, with the right checksum."""
        if self._transfer is None:
            raise UpdateError("a Chunk before the Transfer")
        data = chunk.data  # protobuf copies it each time it is asked
        due = min(CHUNK, self._transfer.nbytes - self.position)
        if chunk.offset != self.position or len(data) != due or not due:
            raise UpdateError(
                f"{len(data)} bytes came for byte {chunk.offset}; expected {due} for {self.position}",
                short=LENGTH,
            )
        found = google_crc32c.value(data)
        if found != chunk.crc32c:
            raise UpdateError(
                f"the chunk at byte {chunk.offset} has CRC-32C {found:08x}, not {chunk.crc32c:08x}",
                short=CHECKSUM,
            )
        self._take(chunk.offset, data)
        self.position += due


def opened(message: bytes) -> pb.Transfer:
    """The Transfer that a stream begins with; an empty one where something else came."""
    try:
        frame = pb.Frame.FromString(message)
    except DecodeError:
        return pb.Transfer()
    return frame.transfer


@lru_cache(maxsize=1 << 12)
def _wrapping(offset: int, length: int) -> tuple[bytes, bytes]:
    """What stands before and after the checksum of a serialised chunk; protobuf would copy the data four times."""
    before, after = pb.Chunk(offset=offset).SerializeToString() + _CRC_TAG, _DATA_TAG + _varint(length)
    inside = len(before) + _CRC_BYTES + len(after) + length
    return _CHUNK_TAG + _varint(inside) + before, after


def _written(message: bytes, offset: int, length: int) -> Chunk | None:
    """The chunk that is due, if it is written as `frames` writes it."""
    before, after = _wrapping(offset, length)
    crc, data = len(before), len(before) + _CRC_BYTES + len(after)
    if len(message) != data + length or not message.startswith(before):
        return None
    if not message.startswith(after, crc + _CRC_BYTES):
        return None
    return Chunk(offset, int.from_bytes(message[crc : crc + _CRC_BYTES], "little"), message[data:])


def _parsed(message: bytes) -> pb.Chunk:
    """The chunk in any other spelling; refuses what is no chunk."""
    try:
        frame = pb.Frame.FromString(message)
    except DecodeError as error:
        raise UpdateError(f"{len(message)} bytes came that are no Frame") from error
    if where := strange(frame):
        raise UpdateError(f"a {where} with unknown fields")
    return frame.chunk


def _varint(value: int) -> bytes:
    """A whole number as protobuf writes it: seven bits to a byte, the lowest first."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def unchanged(message: bytes) -> bytes:
    """The serializer of frames that are serialised already."""
    return message
