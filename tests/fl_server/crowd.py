"""Members of secure sums without sockets: the workers' own half on the queues of the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.errors import FLJobError
from fl_core.metrics import Accuracy, Measurement, mean_of
from fl_core.plan import Plan, SecureAggregation
from fl_core.weights import Manifest, digest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_core.wire.guard import context_of
from fl_server.journal import Journal
from fl_server.protection import Protection
from fl_server.spool import Spools
from fl_server.storage import Lines
from fl_server.sums import Place, Sums
from fl_worker import protection as worker
from fl_worker.product import Product
from tests.fl_core.secagg.cast import me, trust

MODEL = {"w": np.zeros(6, "f4"), "b": np.zeros((), "f4")}
DIGEST = digest(MODEL)
MANIFEST = Manifest.of(MODEL)
SECURE = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
SELECTION = {"per_round": 4, "minimum": 3, "workers": 4}

Altered = Callable[[str, pb.HostMessage, pb.MemberMessage | None], pb.MemberMessage | None]
"""What a member says instead of what it would; a member that says nothing waits."""


def product(index: int) -> Product:
    """What worker n holds: n + 1 everywhere, from as many tens of examples."""
    update = {name: np.full_like(array, index + 1) for name, array in MODEL.items()}
    measured = {"loss": mean_of(index + 0.25, 10), "right": Measurement(Accuracy(), np.array([index, 10.0]))}
    return Product(10 * (index + 1), measured, update)


@dataclass
class Crowd:
    """A server's protection and the members that call it."""

    folder: Path
    plan: Plan
    dropped: dict[str, str] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    endings: dict[str, FLJobError | None] = field(default_factory=dict)
    altered: dict[str, Altered] = field(default_factory=dict)
    said: list[tuple[str, pb.MemberMessage]] = field(default_factory=list)
    early: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Who advertises as soon as it is ready, for a sum in these ranges."""
    told: list[tuple[str, str]] = field(default_factory=list)
    """Who was told what."""
    transferring: Collection[str] = ()
    """Whose vectors come as transfers, as long ones do."""
    returning: Collection[str] = ()
    """Whose call is cut while a vector is on its way, and who then comes back."""
    received: int = 0
    """Bytes of vectors that came as messages."""

    def __post_init__(self) -> None:
        self.journal = Journal(Lines(self.folder / "sessions.jsonl"))
        self.protection = Protection(self.plan, trust(), self.journal, dropped=self.dropped.__setitem__)
        self.sums = Sums(self.plan, self.protection)
        self.memories: dict[str, Any] = {}

    def place(self, number: int = 1, attempt: int = 1) -> Place:
        """An attempt."""
        return Place(number, attempt, DIGEST)

    @asynccontextmanager
    async def attending(self, *indices: int, place: Place | None = None) -> Any:
        """These workers are ready, and answer until the block ends; `names` are theirs."""
        tasks = [asyncio.create_task(self._attend(index, place or self.place())) for index in indices]
        await asyncio.sleep(0)
        try:
            yield [f"worker-{index}" for index in indices]
        finally:
            self.protection.dismiss()
            await asyncio.wait(tasks, timeout=5)
            for task in tasks:
                task.cancel()

    async def _attend(self, index: int, place: Place) -> None:
        name = f"worker-{index}"
        held = self.products.get(name) or product(index)
        self.memories.setdefault(name, me(index).memory)
        own = worker.Protection(self.plan, me(index, memory=self.memories[name]), MANIFEST, int)
        context = context_of(self.plan, round=place.round, attempt=place.attempt)
        part = None
        if (known := self.early.get(name)) is not None:
            part = own._expected(context, place.model, held, known)
        ready = worker._ready(DIGEST, held, part, "")
        self.sums.admit(name, ready)
        call = self.protection.join(name, pb.MemberMessage(context=context, ready=ready))
        try:
            while isinstance(message := await call.get(), pb.HostMessage):
                self.told.append((name, str(message.WhichOneof("what"))))
                if message.WhichOneof("what") == "opening":
                    part = own._part(message.opening, context, place.model, held)
                if part is not None and self._is_cut(name, message, part):
                    self.protection.leave(name, call)
                    call = self.protection.rejoin(name, context)
                    continue
                await self._answer(name, message, part, context)
            self.endings[name] = message
        except FLJobError as error:
            self.endings[name] = error
        finally:
            self.protection.leave(name, call)

    def _is_cut(self, name: str, message: pb.HostMessage, part: worker.Part) -> bool:
        """Whether a call ends here, with the vector masked; it does so once in each session."""
        if name not in self.returning or message.WhichOneof("what") != "dealt" or part.sent is not None:
            return False
        part.sent, part.returns = part._masked(dict(message.dealt.shares)), True
        return True

    async def _answer(self, name: str, message: pb.HostMessage, part: Any, context: pb.Context) -> None:
        said = await part.answer(message, lambda data: self.push(name, bytes(data), context))
        if said is not None:
            said.context.CopyFrom(context)
        if alter := self.altered.get(name):
            said = alter(str(message.WhichOneof("what")), message, said)
        if said is not None:
            self.said.append((name, said))
            self.received += self.protection.heard(name, said)

    async def push(self, name: str, data: bytes, context: pb.Context) -> pb.Masked | None:
        """Hand a vector in, or give it as a message; its end may never come."""
        if (alter := self.altered.get(name)) and alter(
            "vector", pb.HostMessage(), pb.MemberMessage()
        ) is None:
            return None
        if name not in self.transferring:
            return wire.masked_out(memoryview(data))
        due = self.protection.expects(name, context)
        assert due.layout.nbytes == len(data)
        spools = Spools(self.folder, patience=1)
        spool = await spools.admit(len(data), waited=lambda: None)
        spool.take(0, data)
        await self.protection.take(name, spool, due)
        return None


def mean(indices: Iterable[int]) -> float:
    """The weighted mean of what these workers hold."""
    held = [(index + 1, 10 * (index + 1)) for index in indices]
    return sum(value * weight for value, weight in held) / sum(weight for _, weight in held)


def silent_at(step: str, *, times: int = 1) -> Altered:
    """A member that says nothing once it has come to a step so many times, and from then on."""
    reached: list[str] = []

    def altered(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        reached.extend([what] if what == step else [])
        return None if len(reached) >= times else said

    return altered
