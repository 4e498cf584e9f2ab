"""A session at the server: what comes in it, the sum that it fills, and of whom something is still waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from fl_core.errors import ProtocolError
from fl_core.gathering import Gathering
from fl_core.secagg import flat
from fl_core.secagg.masks import Layout, Vector
from fl_core.secagg.server import Host, Step
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_server.spool import Spool


class Opened:
    """A session with the sum that it fills, and what it waits for until its deadline."""

    def __init__(self, host: Host, layout: Layout, deadline: float) -> None:
        self.host = host
        self.layout = layout
        self.deadline = deadline
        self.total = Vector.zeros(layout)
        self.due: Gathering | None = None
        self.asked: Mapping[str, pb.HostMessage] = {}
        self.enough: Callable[[], bool] = lambda: False
        self.news = asyncio.Event()
        self.refused: dict[str, str] = {}
        self._folds: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()

    def expects(self, worker: str) -> bool:
        """Whether this worker owes an answer."""
        return self.due is not None and worker in self.due.missing

    def awaits_transfer(self, worker: str) -> bool:
        """Whether this worker owes a vector that comes as a transfer, over as many calls as it takes."""
        is_long = self.layout.nbytes > wire.SHORT
        return is_long and self.host.step == Step.VECTORS and self.expects(worker)

    def answered(self, worker: str) -> None:
        """The answer has come."""
        if self.due is not None:
            self.due.report(worker)
        self._tell()

    def lost(self, worker: str, reason: str) -> None:
        """No answer will come."""
        if self.due is not None:
            self.due.drop(worker, reason)
        self._tell()

    def _tell(self) -> None:
        """Wake who waits for the answers, if there is something to decide: not for each of them."""
        if self.due is None or self.due.over or self.enough():
            self.news.set()

    def why(self, worker: str, reason: str) -> str:
        """Why this worker is out: whoever was refused goes for that, even if it owed nothing just then."""
        return self.refused.get(worker, reason)

    def moved(self, worker: str) -> None:
        """The answer is on its way."""
        if self.due is not None:
            self.due.moved[worker] = time.monotonic()

    def check_place(self, worker: str, said: pb.Context) -> None:
        """Refuse what is said of another job, round or attempt."""
        here = self.host.context
        if (said.job, said.plan, said.round, said.attempt) != (here.job, here.plan, here.round, here.attempt):
            raise ProtocolError(
                f"{worker} speaks of round {said.round}, attempt {said.attempt} of job {said.job!r}; "
                f"the open session is {here}"
            )

    def take(self, worker: str, message: pb.MemberMessage) -> None:
        """Hand a member's message to the protocol."""
        who = number(worker)
        match message.WhichOneof("what"):
            case "advertisement":
                self.host.advertised(who, wire.entry_in(message.advertisement))
            case "shares":
                self.host.shared_by(who, dict(message.shares.shares))
            case "masked":
                self._take_short(who, message.masked)
            case "signature":
                self.host.signed(who, message.signature.signature)
            case "unmasking":
                self.host.unmasked(who, wire.unmasking_in(message.unmasking))
            case other:
                raise ProtocolError(f"{worker} sends {other or 'nothing'}, which no session expects")

    def fold(self, worker: str, spool: Spool) -> asyncio.Task[None]:
        """Count a whole vector in, and add it as soon as it is its turn."""
        self.host.arrived(number(worker))
        task = asyncio.create_task(self._fold(spool))
        self._folds.append(task)
        return task

    def _take_short(self, who: int, said: pb.Masked) -> None:
        """Count a vector in that came as one message; so short a one is added without a thread."""
        self.host.expects_vector(who)
        data = wire.masked_in(said, nbytes=self.layout.nbytes)
        self.host.arrived(who)
        self._folds.append(asyncio.create_task(self._fold_short(data)))

    async def folded(self) -> None:
        """All that was counted in is in the sum."""
        await asyncio.gather(*self._folds)

    async def _fold(self, spool: Spool) -> None:
        with spool:
            async with self._lock:
                await asyncio.to_thread(flat.add, self.total, self.layout, spool.chunks())

    async def _fold_short(self, data: bytes) -> None:
        async with self._lock:
            flat.add(self.total, self.layout, [(0, memoryview(data))])


def name(worker: int) -> str:
    """As logs, records and certificates call a worker."""
    return f"worker-{worker}"


def number(worker: str) -> int:
    """The number in a worker's name."""
    return int(worker.removeprefix("worker-"))
