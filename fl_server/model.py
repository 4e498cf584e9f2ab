"""A model as the server holds it: one immutable flat buffer, ready to be sent to many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fl_core.weights import Array, Manifest, Weights, flat_digest, pack
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.arrays import CHUNK, check_offset, frames


@dataclass(frozen=True)
class Model:
    """Manifest, flat buffer and digest of one round's model.

    `clip` is the clip norm of updates made from it, where it moves with the models; 0 stands for the plan's.
    `exponents` are the ranges in which such updates are summed, where all workers' are the same and known.
    """

    manifest: Manifest
    buffer: bytes | memoryview
    clip: float = 0.0
    exponents: tuple[int, ...] = ()

    @classmethod
    def of(cls, weights: Weights, *, clip: float = 0.0, exponents: tuple[int, ...] = ()) -> Model:
        """Flatten these weights."""
        return cls(Manifest.of(weights), pack(weights), clip, exponents)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of manifest and buffer, as hex."""
        return flat_digest(self.manifest, self.buffer)

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """The model as serialised frames, made once for all workers."""
        head = pb.Transfer(
            kind=pb.KIND_MODEL,
            manifest=self.manifest.to_json(),
            nbytes=len(self.buffer),
            model=self.digest,
            clip=self.clip,
            exponents=self.exponents,
        )
        return tuple(frames(head, self.buffer))

    def frames_from(self, offset: int) -> Sequence[bytes]:
        """The head, and the chunks from this byte on; refuses one where no chunk ends."""
        check_offset(offset, len(self.buffer), what="a model")
        return self.frames[:1] + self.frames[1 + -(-offset // CHUNK) :]

    def prepare(self) -> None:
        """Make now what the first worker would otherwise wait for."""
        _ = self.frames

    @property
    def weights(self) -> Mapping[str, Array]:
        """The arrays, without copying."""
        return self.manifest.views(self.buffer)
