"""Somebody with a worker's key who says in a session what he likes, over real sockets."""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import copy
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

import google_crc32c
import grpc
import numpy as np

from fl_core.identity import Credentials, wall_time
from fl_core.secagg import flat
from fl_core.secagg import job as secagg
from fl_core.secagg.messages import Agreement
from fl_core.secagg.ring import public_dither
from fl_core.secagg.session import Context
from fl_core.secagg.signing import AuthorityTrust, CertifiedSigner
from fl_core.secagg.summands import Schema, UpdateSum
from fl_core.secagg.worker import Me, Member
from fl_core.weights import Manifest, digest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_core.wire.guard import context_of
from tests.rounds.secure import Clear, SecureRun


class Forgetful:
    """A memory that remembers nothing."""

    def bind(self, context: Context, candidacy: bytes, content: bytes) -> None: ...

    def sign(self, context: Context, statement: bytes) -> None: ...


class Imposter:
    """Somebody with a worker's key, who speaks for himself in one round's session."""

    def __init__(self, run: SecureRun, opened: grpc.Channel, *, index: int, clear: Clear, round: int) -> None:
        self.run, self.index, self.round = run, index, round
        self.place = context_of(run.plan, round=round, attempt=1)
        self._opened = opened
        self._model = digest(clear.weights)
        self._manifest = Manifest.of(clear.weights)
        self._update = clear.trained([index], round)[index]
        self._schema = Schema.of(self._update.metrics)
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._heard = self._method("stream_stream", "Protect")(iter(self._outbox.get, None), timeout=60)

    def say(self, unknown: bytes = b"", **what: Any) -> None:
        """Send a message of the session."""
        place = what.pop("context", self.place)
        self.shout(pb.MemberMessage(context=place, **what).SerializeToString() + unknown)

    def shout(self, message: bytes) -> None:
        """Send any bytes."""
        self._outbox.put(message)

    def come(self, schema: str | None = None) -> None:
        """Say that a result is there."""
        self.say(ready=pb.Ready(model=self._model, schema=self._schema.text if schema is None else schema))

    def hear(self) -> pb.HostMessage:
        """The server's next message."""
        return pb.HostMessage.FromString(next(self._heard))

    def advertise(self) -> pb.Advertisement:
        """Come, hear the opening, and give an honest advertisement to be sent."""
        self.come()
        opening = self.hear().opening
        plan, own = self.run.plan, Credentials.read(self.run.folder / f"worker-{self.index}")
        me = Me(
            CertifiedSigner(own),
            AuthorityTrust.of(plan.job.uid, own.authority, clock=wall_time),
            Forgetful(),
            random=random.randbytes,
        )
        ring, exponents, counted = secagg.ring_of(plan), tuple(opening.exponents), not opening.uncounted
        self.summand = UpdateSum(ring, self._manifest, exponents, self._schema, counted=counted)
        place = {"round": self.round, "attempt": 1, "purpose": "update", "model": self._model}
        self.member = Member(me, secagg.context_of(plan, self.summand, **place))  # type: ignore[arg-type]
        return wire.entry_out(self.member.advertise())

    def share(self) -> dict[int, bytes]:
        """Advertise, and give honest shares to be sent."""
        self.say(advertisement=self.advertise())
        return dict(self.member.share(wire.roster_in(self.hear().roster)))

    def dealt(self) -> dict[int, bytes]:
        """Advertise, share, and give what the others have shared."""
        self.say(shares=pb.SealedShares(shares=self.share()))
        return dict(self.hear().dealt.shares)

    def masked(self, counts: Mapping[int, int] = MappingProxyType({})) -> bytes:
        """Do all that comes before a vector, and give one to be handed in: an honest one but for these `counts`."""
        dealt = self.dealt()
        vector = self.summand.encode(
            self._update.update,
            weight=self._update.examples,
            examples=self._update.examples,
            metrics=self._update.metrics,
            dither=public_dither(self.run.plan.seed, round=self.round, worker=self.index),
        )
        for place, count in counts.items():
            vector.header[place] = np.int64(count).view(np.uint64)
        self.member.mask(vector, self.summand.layout, dealt)
        return bytes(flat.pack(vector))

    def signed(self, data: bytes) -> Agreement:
        """Hand these bytes in, sign whose vectors are in the sum, and give the proof that others did."""
        assert self.push(data) == ""
        survivors = list(self.hear().survivors.workers)
        self.say(signature=pb.Signature(signature=self.member.sign(survivors)))
        return wire.agreement_in(self.hear().agreement)

    def push(self, data: bytes, *, announced: int | None = None, place: pb.Context | None = None) -> str:
        """Hand bytes in as a vector; the words that the call ends with."""
        head = pb.Transfer(context=place or self.place, kind=pb.KIND_MASKED)
        head.nbytes = len(data) if announced is None else announced
        chunk = pb.Chunk(offset=0, crc32c=google_crc32c.value(data), data=data)
        frames = [pb.Frame(transfer=head), pb.Frame(chunk=chunk)]
        try:
            self._method("stream_unary", "Push")(
                iter([one.SerializeToString() for one in frames]), timeout=30
            )
        except grpc.RpcError as error:
            return str(error.details())
        return ""

    def ending(self) -> str:
        """The words that the call ends with."""
        try:
            for _ in self._heard:
                pass
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"

    def hang_up(self) -> None:
        """Say nothing more."""
        self._outbox.put(None)

    def again(self) -> Imposter:
        """Another call of the same worker."""
        other = copy(self)
        other._outbox = SimpleQueue()
        other._heard = other._method("stream_stream", "Protect")(iter(other._outbox.get, None), timeout=60)
        return other

    def _method(self, kind: str, name: str) -> Any:
        return getattr(self._opened, kind)(f"/fljob.v1.Server/{name}")
