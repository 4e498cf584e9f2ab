"""The messages of a session as bytes, damaged or out of place, at both ends of the wire: nothing comes of them."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from fl_core.errors import ProtocolError, RoundError
from fl_core.plan import Plan
from fl_core.secagg import job
from fl_core.secagg.server import Host
from fl_core.secagg.summands import Schema, UpdateSum
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_core.wire.guard import context_of, strange
from fl_server.protection import Opened
from fl_worker.protection import Part, Protection
from tests.fl_core.secagg.cast import Notes, me, same, state, trust
from tests.fl_server.crowd import DIGEST, MANIFEST, SECURE, SELECTION, product

Message = pb.MemberMessage | pb.HostMessage

WORKERS = range(4)
STEPS = ("opening", "roster", "dealt", "survivors", "agreement")
MUTANTS = 30
"""Tried at each end before each message of the session."""

OPAQUE = {
    "opening": ("exponents", "uncounted"),
    "roster": ("candidates", "root"),
    "dealt": ("shares",),
    "survivors": ("workers",),
    "advertisement": ("organisation", "endorsement"),
    "masked": ("crc32c", "data"),
}
"""What an end cannot know better, if it has the right form: sealed, masked, or for the server to say."""


@dataclass
class Wires:
    """Four workers and a server, as their own code holds them, with bytes between them."""

    plan: Plan
    dice: Random
    advertised: list[pb.MemberMessage] = field(default_factory=list)
    corpus: list[bytes] = field(default_factory=list)
    refused: int = 0
    reasons: set[str] = field(default_factory=set)
    borne: int = 0

    def __post_init__(self) -> None:
        """Begin a session for an update."""
        self.place = context_of(self.plan, round=2, attempt=1)
        self.products = {worker: product(worker) for worker in WORKERS}
        self.schema = Schema.of(self.products[0].metrics)
        self.summand = UpdateSum(job.ring_of(self.plan), MANIFEST, (3, 3), self.schema)
        about = {"round": 2, "attempt": 1, "purpose": "update", "model": DIGEST}
        host = Host(job.context_of(self.plan, self.summand, **about), trust())  # type: ignore[arg-type]
        self.server = Opened(host, self.summand.layout, time.monotonic() + 1000)
        self.notes = {worker: Notes() for worker in WORKERS}
        self.ways = {
            worker: Protection(self.plan, me(worker, memory=self.notes[worker]), MANIFEST, lambda n: n)
            for worker in WORKERS
        }
        self.parts: dict[int, Part] = {}

    async def run(self, corpus: list[bytes]) -> None:
        """The whole session; before each message its receiver hears damaged ones of the corpus."""
        host = self.server.host
        ends: dict[str, Callable[[], Mapping[int, pb.HostMessage]]] = {
            "opening": lambda: dict.fromkeys(WORKERS, self._opening()),
            "roster": lambda: each(lambda one: {"roster": wire.roster_out(one)}, host.freeze()),
            "dealt": lambda: each(lambda one: {"dealt": pb.SealedShares(shares=one)}, host.deal()),
            "survivors": lambda: each(
                lambda one: {"survivors": pb.Survivors(workers=one)}, dict.fromkeys(WORKERS, host.close())
            ),
            "agreement": lambda: each(
                lambda one: {"agreement": pb.Agreement(signatures=one.signatures)}, host.agree()
            ),
        }
        for step in STEPS:
            for worker, message in ends[step]().items():
                await self._exchange(worker, message.SerializeToString(), corpus)
        host.open(self.server.total, self.server.layout)

    async def _exchange(self, worker: int, shown: bytes, corpus: list[bytes]) -> None:
        """One message to a worker and its answer, each after damaged ones."""
        for damaged in self._damaged(shown, corpus):
            await self._bears(
                damaged, pb.HostMessage.FromString(shown), lambda b: self._hears(worker, b), worker
            )
        answer = await self._hears(worker, shown)
        answer.context.CopyFrom(self.place)
        said = answer.SerializeToString()
        for damaged in self._damaged(said, corpus):
            await self._bears(
                damaged, pb.MemberMessage.FromString(said), lambda b: self._takes(worker, b), worker
            )
        await self._takes(worker, said)
        await self.server.folded()
        self.corpus += [shown, said]
        self.advertised += [answer] if answer.HasField("advertisement") else []

    async def _hears(self, worker: int, message: bytes) -> pb.MemberMessage:
        """A worker's end, as `Protection.hand_in` reads."""
        said = pb.HostMessage.FromString(message)
        if where := strange(said):
            raise ProtocolError(f"the server sent fields that {where} does not have")
        if said.WhichOneof("what") == "opening":
            begun = self.ways[worker]._part(said.opening, self.place, DIGEST, self.products[worker])
            answer = await begun.answer(said, pushed)
            self.parts[worker] = begun
        elif worker not in self.parts:
            raise ProtocolError("the server has opened no session")
        else:
            answer = await self.parts[worker].answer(said, pushed)
        assert answer is not None
        return answer

    async def _takes(self, worker: int, message: bytes) -> None:
        """The server's end, as `Protection.heard` reads."""
        said = pb.MemberMessage.FromString(message)
        if where := strange(said):
            raise ProtocolError(f"worker-{worker} sent fields that {where} does not have")
        self.server.check_place(f"worker-{worker}", said.context)
        self.server.take(f"worker-{worker}", said)

    async def _bears(self, damaged: bytes, good: Message, hear: Callable[[bytes], Any], worker: int) -> None:
        """It is refused with a reason and nothing has changed, or differs from what is due in opaque parts only."""
        before = self._everything(worker)
        try:
            await hear(damaged)
        except DecodeError:
            pass
        except RoundError as error:
            self.reasons.add(str(error))
        else:
            heard = type(good).FromString(damaged)
            assert bare(heard) in self._bearable(worker, good)
            self.borne += 1
            await self._undo(before, worker)
            return
        self.refused += 1
        assert self._everything(worker)[0] == before[0]

    def _bearable(self, worker: int, good: Message) -> list[bytes]:
        """What does no harm: the message that is due, another session's opening, an advertisement of one's own."""
        own = [good, self._opening() if isinstance(good, pb.HostMessage) else good]
        if good.WhichOneof("what") == "advertisement":
            own += [said for said in self.advertised if said.advertisement.worker == worker]
        return [bare(one) for one in own]

    def _everything(self, worker: int) -> Any:
        """The state of both ends to be compared, and the part of this worker, the sum and its folds as they are."""
        part = self.parts.get(worker)
        compared = (state(self.server.host), part and state(part.member), self.server.total.digest)
        notes = dict(self.notes[worker].rows)
        return (*compared, notes, len(self.server._folds)), part, copy.deepcopy(self.server.total), notes

    async def _undo(self, before: Any, worker: int) -> None:
        """Have both ends as they were."""
        (host, member, _, _, folds), part, total, notes = before
        await self.server.folded()
        vars(self.server.host).update(host)
        self.server.total, self.notes[worker].rows = total, notes
        del self.server._folds[folds:]
        self.parts.pop(worker, None)
        if part is not None:
            vars(part.member).update({name: value for name, value in member.items() if name != "memory"})
            self.parts[worker] = part

    def _damaged(self, due: bytes, corpus: list[bytes]) -> Iterator[bytes]:
        """The message that is due and any others of the corpus, with some bytes changed; and others as they were."""
        if not corpus:
            return
        for number in range(MUTANTS):
            other = self.dice.choice(corpus)
            yield (mutated(due, self.dice), mutated(other, self.dice), other)[number % 3]

    def _opening(self) -> pb.HostMessage:
        opening = pb.Opening(purpose="update", exponents=self.summand.exponents, schema=self.schema.text)
        return pb.HostMessage(opening=opening)


def each(said: Callable[[Any], dict[str, Any]], messages: Mapping[int, Any]) -> dict[int, pb.HostMessage]:
    """What each worker is shown, as messages."""
    return {worker: pb.HostMessage(**said(one)) for worker, one in messages.items()}


async def pushed(data: memoryview) -> pb.Masked:
    """A vector goes as a message."""
    return wire.masked_out(data)


def bare(whole: Message) -> bytes:
    """A message without what is opaque to its receiver: of shares and signatures the names stay."""
    message = copy.deepcopy(whole)
    if isinstance(message, pb.MemberMessage):
        message.ClearField("context")  # checked by itself
    what = str(message.WhichOneof("what"))
    said = getattr(message, what)
    for name in OPAQUE.get(what, ()):
        said.ClearField(name)
    if what in {"shares", "unmasking"}:
        for name in ("shares",) if what == "shares" else ("seeds", "mask_keys"):
            for other in (held := getattr(said, name)):
                held[other] = b""
    return message.SerializeToString(deterministic=True)


def mutated(message: bytes, dice: Random) -> bytes:
    """The message with some bytes changed, cut off or put in."""
    body = bytearray(message)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(body) + 1)
        body[place : place + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
    return bytes(body[: dice.randint(0, len(body))]) if dice.random() < 0.2 else bytes(body)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_change_nothing_at_either_end(seed: int, plan_of: Callable[..., Plan]) -> None:
    """At each step both ends hear changed, cut, strange and late bytes; each is refused, and the sum is everybody's."""
    plan = plan_of(**SELECTION, secure_aggregation=SECURE)
    honest = Wires(plan, Random(seed))
    asyncio.run(honest.run([]))
    tried = Wires(plan, Random(seed), honest.advertised)
    asyncio.run(tried.run(honest.corpus))
    assert len(honest.corpus) == 2 * len(STEPS) * len(WORKERS)
    assert same(tried.server.total, honest.server.total)
    assert "" not in tried.reasons
    assert tried.refused > 8 * tried.borne
    assert tried.refused + tried.borne == MUTANTS * len(honest.corpus)
