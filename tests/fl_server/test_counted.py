"""Which of a worker's updates are in the models: what it is told before it trains, by one server after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.extensions import Extension
from fl_core.plan import Checkpoint, Plan
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.guard import context_of
from fl_server.counted import Counted
from tests.fl_server.conftest import WORKERS, willing
from tests.fl_server.recorded import recorded

pytestmark = pytest.mark.timeout(30)

HALF = {"compression": (Extension(name="float16"),)}
ZERO, ONE, TWO = WORKERS


@pytest.fixture
def counted(plan_of: Callable[..., Plan]) -> Counted:
    """Of a job whose stages remember."""
    return Counted(plan_of(**HALF))


def test_for_each_checkpoint_the_last_round_before_it(counted: Counted) -> None:
    """And the newest of all; rounds of others, and checkpoints of before the first round, count for nothing."""
    for number in (2, 3, 7, 8, 11, 12):
        counted.add(number, [ZERO])
    counted.add(13, [ONE])
    counted.checkpoints = (13, 10, 5, 1)
    assert [counted.of(worker) for worker in WORKERS] == [(3, 8, 12), (13,), ()]


def test_what_no_checkpoint_needs_is_forgotten(counted: Counted) -> None:
    """However many rounds there are, of each only those that may be asked for stay, and these are told again."""
    for number in range(1, 100):
        counted.add(number, [ZERO])
        counted.checkpoints = range(number // 10 * 10, number // 10 * 10 - 20, -10)
        assert counted.of(ZERO) == counted.of(ZERO)
        assert len(counted._rounds[ZERO]) <= 3
    counted.checkpoints = (90,)
    assert counted.of(ZERO) == (90, 99)


def test_only_committed_rounds_count(counted: Counted) -> None:
    """A skipped one has no reporters, and no model that its updates could be in."""
    rows = [(1, "Committed"), (2, "Skipped"), (3, "Committed"), (4, "Skipped")]
    counted.restore({"round": number, "result": result, "reporters": [ZERO]} for number, result in rows)
    assert counted.of(ZERO) == (3,)


def test_nothing_is_noted_where_no_stage_could_remember(plan_of: Callable[..., Plan]) -> None:
    """A job without compression does not grow with its rounds."""
    counted = Counted(plan_of())
    counted.add(1, [ZERO])
    assert (counted._rounds, counted.of(ZERO)) == ({}, ())


def convening(cohorts: Mapping[int, Sequence[str]]) -> Callable[[pb.Convening], Sequence[pb.CohortEvent]]:
    """A scheduler that chooses these workers in these rounds, and all in others."""

    def script(request: pb.Convening) -> Sequence[pb.CohortEvent]:
        if request.WhichOneof("purpose") != "train":
            return willing(request)
        return [pb.CohortEvent(cohort=pb.Cohort(workers=cohorts.get(request.context.round, WORKERS)))]

    return script


async def recalled(served: Any, asked: pb.Convening, worker: str) -> list[int] | str:
    """What the server tells this worker in an attempt, or why it does not."""
    context = context_of(served.world.plan, round=asked.context.round, attempt=asked.context.attempt)
    async with served.speaking(worker) as client:
        try:
            said = await client.stub.Recall(pb.RecallRequest(context=context), wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        return list(said.rounds)


async def trained(served: Any, asked: pb.Convening, workers: Sequence[str] = WORKERS) -> dict[str, Any]:
    """Let these workers train; gives what each was told before."""
    told = {worker: await recalled(served, asked, worker) for worker in workers}
    for worker in workers:
        async with served.speaking(worker) as client:
            await client.push(asked.context, {"w": np.ones(3, "f2")}, model=asked.model)
    return told


@asynccontextmanager
async def at_work(one: Any, cohorts: Mapping[int, Sequence[str]]) -> AsyncIterator[Any]:
    """A server that is killed where the block ends, and a scheduler that chooses these."""
    one.scheduler.script = convening(cohorts)
    async with one.serving() as served, served.running():
        yield served


def test_each_server_counts_what_is_in_its_model(world: Callable[..., Any]) -> None:
    """Nothing of rounds that were given up when the server went back, and a committed round without a line, too."""
    one = world(
        rounds=9, minimum=1, evaluation_every=4, checkpoint=Checkpoint(every_rounds=2, keep=1), **HALF
    )

    async def main() -> None:
        async with at_work(one, {2: [ZERO, ONE], 3: [ZERO, TWO]}) as served:
            await served.hand_in(await served.called())
            assert await trained(served, await served.called()) == {ZERO: [], ONE: [], TWO: []}
            assert await trained(served, await served.called(), [ZERO, ONE]) == {ZERO: [1], ONE: [1]}
            assert await trained(served, asked := await served.called(), [ZERO, TWO]) == {ZERO: [2], TWO: [1]}
            fourth = await served.called()
            assert [await recalled(served, fourth, worker) for worker in WORKERS] == [[2, 3], [2], [1, 3]]
            over = f"{ZERO} speaks of round 3, attempt 1; the server is Training in round 4, attempt 1"
            assert await recalled(served, asked, ZERO) == over
        async with at_work(one, {3: [ZERO, ONE]}) as served:
            third = await served.called()
            assert [row["round"] for row in recorded(served.storage)] == [1, 2]
            assert await recalled(served, third, TWO) == f"nothing (more) is expected of {TWO} in round 3"
            assert await trained(served, third, [ZERO, ONE]) == {ZERO: [2], ONE: [2]}
            fourth = await served.called()
            assert await trained(served, fourth) == {ZERO: [2, 3], ONE: [2, 3], TWO: [1]}
            assert (await served.called()).WhichOneof("purpose") == "evaluate"
        async with at_work(one, {}) as served:
            await served.hand_in(await served.called())
            assert await trained(served, await served.called()) == {ZERO: [4], ONE: [4], TWO: [4]}

    asyncio.run(main())
