"""A worker's conversation: what it says of itself, which orders it takes, and when it tries again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from fl_core.errors import MismatchError, ProgramError, UpdateError
from fl_core.extensions import Extension
from fl_core.plan import Plan
from fl_core.weights import pack
from fl_core.wire import fl_pb2 as pb
from fl_worker import session as module
from fl_worker.product import Product
from fl_worker.session import Work
from tests.fl_worker.loopback import DIGEST, MODEL, World

pytestmark = pytest.mark.timeout(30)


def test_an_order_is_pulled_made_and_handed_in(world: World, tmp_path: Path) -> None:
    """The main thread gets the model and the round; the server gets the update with examples and metrics."""

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order(4)
            head, chunk = await world.server.pushed.get()
            assert (head.transfer.context.round, head.transfer.examples) == (4, 7)
            assert '"loss"' in head.transfer.metrics
            assert chunk.chunk.data == bytes(pack(MODEL))
            world.order(4, evaluate=pb.Evaluate(model=DIGEST))
            assert (await world.server.measured.get()).model == DIGEST
        assert [(work.kind, work.round) for work in world.works] == [("train", 4), ("evaluate", 4)]
        assert np.array_equal(world.works[0].weights["w"], MODEL["w"])
        assert [work.clip for work in world.works] == [0.25, 0.25]

    asyncio.run(main())


def test_a_worker_is_ready_while_it_is_enrolled(world: World, tmp_path: Path) -> None:
    """It introduces itself first, is ready from the welcome on, and no more when the job is over."""

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            assert not world.health.ready
            assert (await world.scheduler.said.get()).enrolment.weights == DIGEST
            world.order()
            await world.server.pushed.get()
            assert world.health.ready
            world.order(stop=pb.Stop(reason="done"))
            assert not await task
            assert not world.health.ready

    asyncio.run(main())


def test_a_beat_tells_that_a_worker_moves_and_not_how_much(world: World, tmp_path: Path) -> None:
    """However many steps lie between two beats, which would tell how much data it has, the number grows by one."""
    world.scheduler.beat_seconds = 0.02

    async def after(steps: int) -> int:
        world.steps += steps
        heard = len(world.scheduler.beats)
        while len(world.scheduler.beats) < heard + 3:
            await asyncio.sleep(0.01)
        return world.scheduler.beats[-1]

    async def main() -> None:
        async with world.attending(tmp_path):
            assert [await after(steps) for steps in (0, 1, 1000, 0, 3)] == [0, 1, 2, 2, 3]

    asyncio.run(main())


def test_a_silent_server_is_tried_again(world: World, tmp_path: Path) -> None:
    """A push that finds no server is repeated, without training again."""
    world.server.answers = [(grpc.StatusCode.UNAVAILABLE, "away")] * 2

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            await world.server.pushed.get()
            assert len(world.works) == 1

    asyncio.run(main())


def test_a_refused_update_is_declined(world: World, tmp_path: Path) -> None:
    """The scheduler hears at once that nothing more comes, and why, so that no round waits for its deadline."""
    world.server.answers = [(grpc.StatusCode.INVALID_ARGUMENT, "training has diverged")]

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(2)
            said = await world.scheduler.said.get()
            assert said.decline.reason == "the server refused: training has diverged"
            assert said.context.round == 2

    asyncio.run(main())


def test_no_more_rounds_are_trained_than_the_plan_has(world: World, tmp_path: Path) -> None:
    """A server that asks for a round after the last, or before the first, gets no update and no measurement."""

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            for number in (10, 0):
                world.order(number)
                told = (await world.scheduler.said.get()).decline.reason
                assert f"round {number} is asked for; only the 9 that the plan has are trained" in told
                world.order(number, evaluate=pb.Evaluate(model=DIGEST))
                assert (await world.scheduler.said.get()).decline.reason == told
            world.order(9)
            await world.server.pushed.get()
        assert [work.round for work in world.works] == [9]

    asyncio.run(main())


def test_an_order_without_a_model_gets_nothing(world: World, tmp_path: Path) -> None:
    """Who is told to train or measure, and not what, does neither: what would it hand in then, and how protected?"""

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            for what in ({"train": pb.Train()}, {"evaluate": pb.Evaluate()}):
                world.order(4, **what)
                told = (await world.scheduler.said.get()).decline.reason
                assert (
                    told == f"an order to {next(iter(what))} in round 4 names no model; expected its digest"
                )
        assert world.works == []

    asyncio.run(main())


def test_other_arrays_than_those_of_the_start_do_not_leave_as_initial(world: World, tmp_path: Path) -> None:
    """An order for initial weights, in whatever round, gets those that the worker enrolled with or nothing."""
    given = [MODEL, {"w": MODEL["w"] + 1}, {}]
    world.outcome = lambda work: Product(0, {}, given[work.round - 4])

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(4, initialise=pb.Initialise())
            head, _ = await world.server.pushed.get()
            assert head.transfer.kind == pb.KIND_INITIAL
            for number in (5, 6):
                world.order(number, initialise=pb.Initialise())
                told = (await world.scheduler.said.get()).decline.reason
                assert f"this worker enrolled with {DIGEST[:12]}" in told
            assert world.server.pushed.empty()

    asyncio.run(main())


def test_a_refused_order_may_come_again(world: World, tmp_path: Path) -> None:
    """A server that was restarted and has not opened its round yet refuses; when it orders the same, it gets it."""
    world.server.answers = [(grpc.StatusCode.INVALID_ARGUMENT, "the server is Waiting")]

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order()
            assert (await world.scheduler.said.get()).HasField("decline")
            world.order()
            await world.server.pushed.get()
            assert len(world.works) == 1

    asyncio.run(main())


def test_a_spoilt_round_is_declined(world: World, tmp_path: Path) -> None:
    """A worker that has nothing to hand in says why, and stays."""

    def spoilt(_: Work) -> Product:
        raise UpdateError("not finite")

    world.outcome = spoilt

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            await world.scheduler.said.get()
            world.order()
            assert (await world.scheduler.said.get()).decline.reason == "not finite"
            assert not task.done()

    asyncio.run(main())


@pytest.mark.parametrize("error", [UpdateError("patient 17 is NaN"), ProgramError("KeyError: patient 17")])
def test_where_workers_are_hidden_their_words_are_fixed(
    world: World, tmp_path: Path, error: Exception
) -> None:
    """Nothing that a program raises or an update holds is in what leaves the worker, whether it stays or goes."""
    world.secret = True

    def spoilt(_: Work) -> Product:
        raise error

    world.outcome = spoilt

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order()
            said = await world.scheduler.said.get()
            assert "own log" in said.decline.reason + said.leave.reason
            assert b"patient" not in said.SerializeToString()

    asyncio.run(main())


def test_a_damaged_model_is_no_secret(world: World, tmp_path: Path) -> None:
    """What is wrong with what came is said in full also where workers are hidden: nothing of the data is in it."""
    world.secret = True
    world.server.model = {"w": np.arange(4, dtype="f4")}

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order()
            assert "own log" not in (await world.scheduler.said.get()).decline.reason

    asyncio.run(main())


def test_a_failed_program_takes_its_leave(world: World, tmp_path: Path) -> None:
    """A worker whose program fails says so in one line, without the traceback, and attends no more."""

    def failed(_: Work) -> Product:
        raise ProgramError("the program raised KeyError\nTraceback: secret")

    world.outcome = failed

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            await world.scheduler.said.get()
            world.order()
            assert (await world.scheduler.said.get()).leave.reason == "the program raised KeyError"
            world.scheduler.orders.put_nowait(None)
            with pytest.raises(ProgramError):
                await task

    asyncio.run(main())


def test_what_was_trained_is_handed_in_again(world: World, tmp_path: Path) -> None:
    """A server that was restarted asks for the same round: it gets the same update, made once."""

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            first = await world.server.pushed.get()
            world.order(release=pb.Release())
            world.order()
            assert await world.server.pushed.get() == first
            assert len(world.works) == 1

    asyncio.run(main())


@pytest.mark.parametrize("remembers", [True, False])
def test_before_it_trains_a_worker_hears_what_counts(
    world: World, tmp_path: Path, *, remembers: bool
) -> None:
    """Where stages remember it is asked for, once for what is made once, and for no measurement."""
    compression = (Extension(name="float16"),) if remembers else ()
    world.plan = world.plan.model_copy(update={"compression": compression})
    world.server.counted = [2, 3]

    async def main() -> None:
        async with world.attending(tmp_path):
            for _ in range(2):
                world.order(4)
                await world.server.pushed.get()
                world.order(release=pb.Release())
            world.order(4, evaluate=pb.Evaluate(model=DIGEST))
            await world.server.measured.get()
        assert [work.counted for work in world.works] == [(2, 3) if remembers else (), ()]
        assert world.server.recalled == ([4] if remembers else [])

    asyncio.run(main())


@pytest.mark.parametrize("secret", [False, True])
def test_only_earlier_updates_count(world: World, tmp_path: Path, *, secret: bool) -> None:
    """A worker that is told to go on from what it has still to train does not, and says so: it is the server's word."""
    world.secret = secret
    world.plan = world.plan.model_copy(update={"compression": (Extension(name="float16"),)})
    world.server.counted = [2, 4]

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(4)
            told = (await world.scheduler.said.get()).decline.reason
            assert told == "the server counts an update of round 4 in round 4; expected one from 1 to 3"
        assert world.works == []

    asyncio.run(main())


def test_training_outlives_a_release(world: World, tmp_path: Path) -> None:
    """An order that is taken back while the program trains and given again finds the training that goes on."""
    world.free.clear()

    async def main() -> None:
        async with world.attending(tmp_path):
            world.order()
            world.order(release=pb.Release())
            world.order()
            await world.scheduler.said.get()
            world.free.set()
            await world.server.pushed.get()
            assert len(world.works) == 1

    asyncio.run(main())


def test_a_busy_program_declines_the_next_round(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not come back costs later rounds a moment, and takes part again once it is free."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    world.plan = with_deadline(world.plan, 0.01)
    world.free.clear()

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(1, initialise=pb.Initialise())
            world.order(2)
            reason = (await world.scheduler.said.get()).decline.reason
            assert reason == "the program is still busy: initialise, round 1"
            world.free.set()
            world.order(3)
            head, _ = await world.server.pushed.get()
            assert head.transfer.context.round == 3

    asyncio.run(main())


def test_a_slow_program_is_waited_for(world: World, tmp_path: Path) -> None:
    """An order of the next round waits for the training that goes on, and is carried out after it."""
    world.free.clear()

    async def main() -> None:
        async with world.attending(tmp_path):
            await world.scheduler.said.get()
            world.order(1, initialise=pb.Initialise())
            world.order(2)
            world.order(3, release=pb.Release())
            world.order(4)
            await asyncio.to_thread(world.begun.wait)
            world.free.set()
            head, _ = await world.server.pushed.get()
            assert head.transfer.context.round == 4
            assert world.scheduler.said.empty()

    asyncio.run(main())


def with_deadline(plan: Plan, seconds: float) -> Plan:
    selection = plan.selection.model_copy(update={"deadline_seconds": seconds})
    return plan.model_copy(update={"selection": selection})


def test_a_worker_enrols_again(world: World, tmp_path: Path) -> None:
    """A scheduler that ends the call is dialled again, and gets the whole introduction."""

    async def main() -> None:
        async with world.attending(tmp_path):
            first = await world.scheduler.said.get()
            world.scheduler.orders.put_nowait(None)
            assert await world.scheduler.said.get() == first

    asyncio.run(main())


def test_a_refusal_ends_the_worker(world: World, tmp_path: Path) -> None:
    """A worker that does not fit ends with the scheduler's sentence, for good."""

    async def main() -> None:
        async with world.attending(tmp_path) as task:
            world.order(refusal=pb.Refusal(sentence="other arrays"))
            with pytest.raises(MismatchError, match="other arrays"):
                await task

    asyncio.run(main())
