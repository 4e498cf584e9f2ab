"""What the server says of a running job, and the one wish that it takes: to finish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio

from fl_core.errors import UnavailableError
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.fl_pb2_grpc import ServerStub
from job_generator.local.record import ClosedRound, Spent

STEER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the job stands: the open round, its phase, and who has done what."""

    round: int = 0
    rounds: int = 0
    attempt: int = 1
    phase: str = "Waiting"
    live: int = 0
    expected: int = 0
    selected: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    notice: str = ""
    privacy: Spent | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Who was asked and has neither answered nor dropped out."""
        settled = {*self.reported, *self.dropped}
        return tuple(name for name in self.selected if name not in settled)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the job is over, and the digest of its final model."""

    complete: bool
    reason: str
    message: str
    model: str
    recurs: bool = False
    """Whether to go on with the job as it is would end the same way."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A standing, the rounds closed since the one before, the ending once there is one, and whether more follow."""

    standing: Standing
    closed: tuple[ClosedRound, ...] = ()
    ending: Ending | None = None
    more: bool = False


@dataclass(frozen=True, slots=True)
class Observer:
    """A view of one job through its server."""

    channel: grpc.aio.Channel
    job: str
    plan: str

    @property
    def _context(self) -> pb.Context:
        return pb.Context(job=self.job, plan=self.plan)

    async def observations(self) -> AsyncIterator[Observation]:
        """One observation at once, then one for each change, until the server goes."""
        call = ServerStub(self.channel).Observe(pb.ObserveRequest(context=self._context), wait_for_ready=True)
        try:
            async for message in call:
                yield from_wire(message)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"the server can be observed no more: {error.details()}") from error
        finally:
            call.cancel()

    async def finish(self, *, last: int = 0) -> None:
        """Ask the server to end with round `last`, or the open one where that is later, write the model and stop."""
        request = pb.SteerRequest(context=self._context, finish=pb.Finish(round=last))
        try:
            await ServerStub(self.channel).Steer(request, timeout=STEER_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"the server did not agree to finish: {error.details()}") from error


def from_wire(message: pb.Observation) -> Observation:
    """Translate an observation into our own words."""
    heard, ending = message.standing, None
    if message.HasField("ending"):
        told = message.ending
        ending = Ending(told.complete, told.reason, told.message, told.model, told.recurs)
    standing = Standing(
        round=heard.round,
        rounds=heard.rounds,
        attempt=heard.attempt,
        phase=heard.phase,
        live=heard.live,
        expected=heard.expected,
        selected=tuple(heard.selected),
        reported=tuple(heard.reported),
        dropped={loss.worker: loss.reason for loss in heard.dropped},
        notice=heard.notice,
        privacy=_spent(heard.privacy) if heard.HasField("privacy") else None,
    )
    return Observation(standing, tuple(map(ClosedRound.from_json, message.closed)), ending, more=message.more)


def _spent(told: pb.Privacy) -> Spent:
    return Spent(
        epsilon=told.epsilon,
        delta=told.delta,
        budget=told.budget,
        unit=told.unit,
        neighbours=told.neighbours,
        adversary=told.adversary,
        epsilon_covers=told.epsilon_covers,
    )
