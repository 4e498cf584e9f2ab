"""A transfer is taken whole and unharmed, or refused in words; a refused chunk is never kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import FLJobError, MismatchError, UpdateError
from fl_core.weights import Manifest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.arrays import CHUNK, Receiver, frames
from fl_core.wire.channels import MESSAGE_LIMIT

LARGE = {"w": np.random.default_rng(1).normal(size=CHUNK // 4 * 2 + 5).astype("f4")}
MANIFEST = Manifest.of(LARGE)
BUFFER = pack(LARGE)


def head(of: Manifest = MANIFEST, **changes: object) -> pb.Transfer:
    fields = {"manifest": of.to_json(), "nbytes": of.nbytes, **changes}
    return pb.Transfer(kind=pb.KIND_UPDATE, **fields)  # type: ignore[arg-type]


def sent() -> list[pb.Frame]:
    return [pb.Frame.FromString(part) for part in frames(head(), BUFFER)]


@dataclass
class Kept:
    """A receiver and what it has let through."""

    chunks: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.receiver = Receiver(lambda offset, data: self.chunks.append((offset, data)))

    def take(self, frame: pb.Frame) -> None:
        if frame.WhichOneof("what") == "transfer":
            self.receiver.open(frame.transfer, expected=MANIFEST)
        else:
            self.receiver.chunk(frame.chunk)

    def take_all(self, parts: list[pb.Frame]) -> None:
        for frame in parts:
            self.take(frame)

    @property
    def content(self) -> bytes:
        return b"".join(data for _, data in self.chunks)


@pytest.mark.parametrize("had", [0, CHUNK, 2 * CHUNK, MANIFEST.nbytes])
def test_a_transfer_goes_on_where_another_one_stopped(had: int) -> None:
    """From a byte at which a chunk begins, or the end, it takes the rest and nothing before."""
    came: list[bytes] = []
    receiver = Receiver(lambda _, data: came.append(data), position=had)
    opening, *chunks = sent()
    receiver.open(opening.transfer, expected=MANIFEST)
    for frame in chunks:
        if frame.chunk.offset >= had:
            receiver.chunk(frame.chunk)
        else:
            with pytest.raises(UpdateError, match=f"for {had}"):
                receiver.chunk(frame.chunk)
    assert receiver.complete
    assert b"".join(came) == bytes(BUFFER)[had:]


def test_an_honest_transfer_arrives() -> None:
    """All chunks in order give the buffer again, and only the last one completes it."""
    kept = Kept()
    for frame in sent():
        assert not kept.receiver.complete
        kept.take(frame)
    assert kept.receiver.complete
    assert kept.content == bytes(BUFFER)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 40), st.sampled_from(["f2", "f4", "f8"]))
def test_any_size_arrives(size: int, dtype: str) -> None:
    """Models of every size, the empty one included, are complete after exactly their bytes."""
    model = {"a": np.ones(size, dtype), "b": np.ones(3, "f8")} if size else {}
    manifest, chunks = Manifest.of(model), list[bytes]()
    receiver = Receiver(lambda _, data: chunks.append(data))
    receiver.open(head(manifest), expected=manifest)
    for part in list(frames(head(manifest), pack(model)))[1:]:
        receiver.chunk(pb.Frame.FromString(part).chunk)
    assert receiver.complete
    assert b"".join(chunks) == bytes(pack(model))


def test_no_frame_exceeds_the_message_limit() -> None:
    """However large the model, every frame but the head is a chunk and a few bytes."""
    assert max(map(len, frames(head(), BUFFER))) < CHUNK + 64 < MESSAGE_LIMIT


def change(index: int, edit: Callable[[pb.Chunk], None]) -> Callable[[list[pb.Frame]], list[pb.Frame]]:
    def changed(parts: list[pb.Frame]) -> list[pb.Frame]:
        edit(parts[index].chunk)
        return parts

    return changed


def renewed(chunk: pb.Chunk, data: bytes) -> None:
    """Other data with a checksum that fits."""
    chunk.data, chunk.crc32c = data, google_crc32c.value(data)


@pytest.mark.parametrize(
    ("spoil", "whole", "told"),
    [
        (change(1, lambda c: renewed(c, c.data[:-4])), 0, "1048572 bytes came for byte 0; expected 1048576 for 0"),
        (change(2, lambda c: renewed(c, c.data + b"1234")), 1, "1048580 bytes came for byte 1048576; expected 1048576"),
        (change(3, lambda c: renewed(c, c.data + b"1234")), 2, "24 bytes came for byte 2097152; expected 20"),
        (change(2, lambda c: renewed(c, b"")), 1, "0 bytes came for byte 1048576; expected 1048576"),
        (lambda f: [f[0], f[2], f[1], f[3]], 0, "came for byte 1048576; expected 1048576 for 0"),
        (lambda f: [f[0], f[1], f[1], f[2]], 1, "came for byte 0; expected 1048576 for 1048576"),
        (lambda f: [f[0], f[1], f[3]], 1, "20 bytes came for byte 2097152; expected 1048576 for 1048576"),
        (lambda f: [*f, f[3]], 3, "20 bytes came for byte 2097152; expected 0 for 2097172"),
        (lambda f: [*f, pb.Frame(chunk=pb.Chunk(offset=2097172))], 3, "0 bytes came for byte 2097172; expected 0"),
        (lambda f: f[1:], 0, "a Chunk before the Transfer"),
        (lambda f: [f[0], f[1], f[0]], 1, "a second Transfer in one stream"),
        (change(2, lambda c: setattr(c, "crc32c", 7)), 1, "the chunk at byte 1048576 has CRC-32C .*, not 00000007"),
        (change(2, lambda c: setattr(c, "offset", 1048577)), 1, "expected 1048576 for 1048576"),
    ],
    ids=[
        "short", "long", "long-last", "empty", "reordered", "twice", "gap", "one-more", "empty-more", "headless",
        "second-head", "checksum", "offset",
    ],
)  # fmt: skip
def test_a_spoilt_transfer_is_refused(
    spoil: Callable[[list[pb.Frame]], list[pb.Frame]], whole: int, told: str
) -> None:
    """The first wrong frame is refused, saying what was expected, and only what came before it is kept."""
    kept = Kept()
    with pytest.raises(UpdateError, match=told):
        kept.take_all(spoil(sent()))
    assert kept.content == bytes(BUFFER[: whole * CHUNK])
    assert kept.receiver.position == len(kept.content)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2 * CHUNK + 19), st.integers(0, 7))
def test_any_flipped_bit_is_found(byte: int, bit: int) -> None:
    """A bit that flips on the way spoils its chunk, and no byte of that chunk is kept."""
    kept, parts = Kept(), sent()
    chunk = parts[1 + byte // CHUNK].chunk
    data = bytearray(chunk.data)
    data[byte % CHUNK] ^= 1 << bit
    chunk.data = bytes(data)
    with pytest.raises(UpdateError, match="has CRC-32C"):
        kept.take_all(parts)
    assert kept.content == bytes(BUFFER[: byte // CHUNK * CHUNK])


def test_a_transfer_that_ends_early_is_not_complete() -> None:
    """Without its last chunk a transfer is not whole, whatever came."""
    kept = Kept()
    for frame in sent()[:-1]:
        kept.take(frame)
    assert not kept.receiver.complete
    assert kept.receiver.position == 2 * CHUNK


@pytest.mark.parametrize(
    ("wrong", "kind", "told"),
    [
        (
            {"nbytes": MANIFEST.nbytes - 4},
            UpdateError,
            f"2097168 bytes announced; {MANIFEST.nbytes} are expected",
        ),
        ({"nbytes": 2**63}, UpdateError, "bytes announced; "),
        ({"manifest": "[]"}, UpdateError, "array 'w' is missing"),
        (
            {"manifest": '[["w","float64",[524293]]]'},
            UpdateError,
            r"float64\[524293\] should be w float32\[524293\]",
        ),
        ({"manifest": "nonsense"}, MismatchError, "a manifest is a list"),
    ],
)
def test_a_head_that_announces_something_else_is_refused(
    wrong: dict[str, object], kind: type[FLJobError], told: str
) -> None:
    """Other arrays and another size are refused before a byte comes, and an honest head is still taken."""
    kept = Kept()
    with pytest.raises(kind, match=told):
        kept.receiver.open(head(**wrong), expected=MANIFEST)  # type: ignore[arg-type]
    assert not kept.receiver.complete
    kept.receiver.open(head(), expected=MANIFEST)


def test_a_refused_chunk_changes_nothing() -> None:
    """After refusals the chunk that was due is still due, and taken."""
    kept, parts = Kept(), sent()
    kept.take(parts[0])
    for wrong in (parts[2], parts[3], pb.Frame(chunk=pb.Chunk(data=b"x"))):
        with pytest.raises(UpdateError):
            kept.take(wrong)
    for frame in parts[1:]:
        kept.take(frame)
    assert kept.content == bytes(BUFFER)


@pytest.mark.parametrize("size", [1, 127, 128, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 12, 3 * CHUNK])
def test_frames_are_protobufs_own(size: int) -> None:
    """What `frames` writes is, but for a checksum of zero, byte for byte what protobuf would write."""
    buffer = bytes(range(1, 252)) * (size // 251 + 1)
    for part in list(frames(head(), buffer[:size]))[1:]:
        frame = pb.Frame.FromString(part)
        assert frame.chunk.crc32c == google_crc32c.value(frame.chunk.data)
        assert frame.SerializeToString() == part


def test_any_spelling_of_a_chunk_is_read() -> None:
    """A chunk whose fields stand in another order is the same chunk; what is no frame is refused."""
    taken = list[int]()
    receiver = Receiver(lambda offset, _: taken.append(offset))
    receiver.open(head(), expected=MANIFEST)
    chunk = sent()[1].chunk
    other = b"".join(
        part.SerializeToString() for part in (pb.Chunk(data=chunk.data), pb.Chunk(crc32c=chunk.crc32c))
    )
    length = pb.Transfer(manifest="x" * len(other)).SerializeToString()[1 : -len(other)]
    receiver.frame(b"\x12" + length + other)
    assert taken == [0]
    with pytest.raises(UpdateError, match="no Frame"):
        receiver.frame(b"\x12\xff")
    with pytest.raises(UpdateError, match="unknown fields"):
        receiver.frame(sent()[2].SerializeToString() + b"\x78\x01")


def test_a_raw_frame_is_checked_like_a_parsed_one() -> None:
    """One flipped bit in what was sent is found by the checksum."""
    receiver = Receiver(lambda *_: None)
    receiver.open(head(), expected=MANIFEST)
    part = bytearray(list(frames(head(), BUFFER))[1])
    part[1000] ^= 1
    with pytest.raises(UpdateError, match="CRC-32C"):
        receiver.frame(bytes(part))
