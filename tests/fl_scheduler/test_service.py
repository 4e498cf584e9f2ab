"""The scheduler on loopback: who is welcome, who is ordered what, and who is told of whom."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.extensions import Extension
from fl_core.identity import Identity
from fl_core.plan import Site
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.guard import context_of
from tests.fl_scheduler.conftest import MANIFEST, Office, Worker

pytestmark = pytest.mark.timeout(30)

HALF = '[["w","\\ud800",[3]]]'
"""A manifest whose dtype is half of a character: JSON can hold that, and no message can."""
TRAIN = {"train": pb.Train(), "model": "m"}


@asynccontextmanager
async def at_work(one: Office) -> AsyncIterator[tuple[Worker, Callable[[], Any]]]:
    """The only worker of an office, ordered to train round 1, and the server's call for that round."""
    async with one.open(), one.attending(0) as worker:
        assert (await worker.hears()).HasField("welcome")
        async with one.convening(1, **TRAIN) as event:
            assert (await event()).HasField("cohort")
            assert (await worker.hears()).HasField("train")
            yield worker, event


def test_workers_are_welcome_ordered_and_released(office: Callable[..., Any]) -> None:
    """With all there, a call names the cohort and orders each; when it ends, each is released."""

    async def main() -> None:
        async with office().open() as one, AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(one.attending(index)) for index in range(3)]
            assert [(await worker.hears()).welcome.beat_seconds for worker in workers] == [3.0] * 3
            async with one.convening(5, **TRAIN) as event:
                assert list((await event()).cohort.workers) == ["worker-0", "worker-1", "worker-2"]
                orders = [await worker.hears() for worker in workers]
                assert [(order.context.round, order.train.model) for order in orders] == [(5, "m")] * 3
            assert [(await worker.hears()).WhichOneof("what") for worker in workers] == ["release"] * 3

    asyncio.run(main())


def test_the_server_hears_who_is_missing(office: Callable[..., Any]) -> None:
    """A call that has too few says how many there are, how many it waits for, and who has not come."""

    async def main() -> None:
        async with office().open() as one, one.attending(1) as worker:
            await worker.hears()
            async with one.convening(1, **TRAIN) as event:
                waiting = (await event()).waiting
                assert (waiting.live, waiting.wanted) == (1, 3)
                assert list(waiting.absent) == ["worker-0", "worker-2"]

    asyncio.run(main())


def test_only_those_that_there_are_are_waited_for(office: Callable[..., Any]) -> None:
    """A scheduler that is told of fewer workers than there may be waits for those, and for every site."""
    sites = (Site(name="lab", index=4, external=False),)

    async def main() -> None:
        made = office(2, workers=5, sites=sites, minimum=2, join_seconds=60)
        async with made.open() as one, one.attending(4) as lab:
            await lab.hears()
            async with one.convening(1, **TRAIN) as event:
                waiting = (await event()).waiting
                assert (waiting.wanted, list(waiting.absent)) == (3, ["worker-0", "worker-1"])
                async with one.attending(0), one.attending(1):
                    assert (await event()).waiting.live == 2
                    assert len((await event()).cohort.workers) == 3

    asyncio.run(main())


def test_late_joiners_are_waited_for_a_while(office: Callable[..., Any]) -> None:
    """With the minimum there, the call is answered `joinSeconds` later without the rest."""

    async def main() -> None:
        async with office().open() as one, one.attending(0) as first, one.attending(2) as second:
            assert await first.hears()
            assert await second.hears()
            async with one.convening(1, **TRAIN) as event:
                assert (await event()).waiting.live == 2
                assert list((await event()).cohort.workers) == ["worker-0", "worker-2"]

    asyncio.run(main())


def test_a_beat_with_more_steps_is_movement(office: Callable[..., Any]) -> None:
    """The server is told that a worker of its cohort moves, once for each beat that shows it."""

    async def main() -> None:
        async with at_work(office(minimum=1, workers=1)) as (worker, event):
            await worker.say(beat=pb.Beat(moved=0))
            await worker.say(beat=pb.Beat(moved=4))
            assert (await event()).moved.worker == "worker-0"

    asyncio.run(main())


@pytest.mark.parametrize("what", ["decline", "leave"])
def test_a_worker_that_has_nothing_to_hand_in_is_not_waited_for(
    office: Callable[..., Any], what: str
) -> None:
    """Whether it declines the round or leaves for good, the server hears why at once; who leaves is let go."""
    said = {"decline": pb.Decline(reason="NaN")} if what == "decline" else {"leave": pb.Leave(reason="NaN")}

    async def main() -> None:
        one = office(minimum=1, workers=1)
        async with at_work(one) as (worker, event):
            await worker.say(1, **said)
            lost = (await event()).lost
            assert (lost.worker, lost.reason) == ("worker-0", "NaN")
            assert ("worker-0" in one.service.roster.members) is (what == "decline")
            if what == "leave":
                assert await worker.hears() is None

    asyncio.run(main())


def test_who_is_told_to_end_is_asked_no_more_and_let_go(office: Callable[..., Any]) -> None:
    """While it is at the open call it stays; then the server hears that it has left, and its call ends."""

    async def main() -> None:
        one = office(minimum=1, workers=1)
        async with at_work(one) as (worker, event):
            await worker.say(1, parting=pb.Parting())
            await worker.say(1, beat=pb.Beat(moved=4))
            assert (await event()).moved.worker == "worker-0"
            assert not one.service.roster.live
            await worker.say(parting=pb.Parting())
            lost = (await event()).lost
            assert (lost.worker, lost.reason) == ("worker-0", "left")
            assert await worker.hears() is None

    asyncio.run(main())


@pytest.mark.parametrize("reason", ["left", "deadline", "refused: NaN"])
def test_nobody_speaks_in_the_words_of_others(office: Callable[..., Any], reason: str) -> None:
    """A worker's own reason that sounds like the server's is told as the worker's."""

    async def main() -> None:
        async with at_work(office(minimum=1, workers=1)) as (worker, event):
            await worker.say(1, decline=pb.Decline(reason=reason))
            assert (await event()).lost.reason == f"worker-0: {reason}"

    asyncio.run(main())


def test_a_worker_that_comes_back_is_ordered_again(office: Callable[..., Any]) -> None:
    """A worker whose connection breaks in a round and who returns is told once more, and not reported lost."""

    async def main() -> None:
        async with office(minimum=1, workers=1).open() as one, AsyncExitStack() as server:
            async with one.attending(0) as worker:
                await worker.hears()
                event = await server.enter_async_context(one.convening(1, **TRAIN))
                assert (await event()).HasField("cohort")
            async with one.attending(0) as worker:
                assert (await worker.hears()).HasField("welcome")
                assert (await worker.hears()).train.model == "m"

    asyncio.run(main())


def test_a_new_scheduler_waits_for_those_who_trained(office: Callable[..., Any]) -> None:
    """A call repeated at a scheduler that was started again names all, and orders them as they come."""
    rejoin = {"rejoin": pb.Roll(workers=["worker-0", "worker-1"]), "model": "m"}

    async def main() -> None:
        async with office().open() as one, one.convening(3, **rejoin) as event:
            assert list((await event()).cohort.workers) == ["worker-0", "worker-1"]
            async with one.attending(1) as worker:
                assert (await worker.hears()).HasField("welcome")
                order = await worker.hears()
                assert (order.context.round, order.train.model) == (3, "m")

    asyncio.run(main())


def test_a_server_that_was_replaced_is_refused(office: Callable[..., Any]) -> None:
    """With an older claim to the storage it may neither convene nor dismiss, and the newer one hears all the same."""

    async def main() -> None:
        async with office(minimum=1, workers=1).open() as one, one.convening(2, **TRAIN, epoch=2) as newer:
            assert (await newer()).HasField("waiting")
            async with one.convening(2, **TRAIN, epoch=1) as older:
                with pytest.raises(grpc.aio.AioRpcError, match=r"has epoch 2, this one's 1\)") as refused:
                    await older()
            assert refused.value.code() == grpc.StatusCode.ABORTED
            async with one.speaking(Identity("job-1", "server")) as stub:
                with pytest.raises(
                    grpc.aio.AioRpcError, match=r"a newer server .* start the scheduler again"
                ):
                    await stub.Dismiss(pb.Dismissal(context=context_of(one.plan), reason="mine", epoch=1))
            assert not one.service.dismissed.is_set()
            async with one.attending(0):
                assert list((await newer()).cohort.workers) == ["worker-0"]

    asyncio.run(main())


def test_a_later_call_ends_the_one_before(office: Callable[..., Any]) -> None:
    """A server whose call was superseded hears that it ended; its going takes nothing from the later one."""

    async def main() -> None:
        async with office(minimum=1, workers=1).open() as one, AsyncExitStack() as stack:
            async with one.convening(1, **TRAIN, epoch=1) as older:
                assert (await older()).HasField("waiting")
                newer = await stack.enter_async_context(one.convening(1, **TRAIN, epoch=2))
                assert (await newer()).HasField("waiting")
                assert await older() is None
            async with one.attending(0):
                assert list((await newer()).cohort.workers) == ["worker-0"]

    asyncio.run(main())


def test_a_new_scheduler_waits_for_all_in_the_next_round(office: Callable[..., Any]) -> None:
    """After a repeated call the roster is as patient as in the first round, so that no cohort is smaller for it."""
    rejoin = {"rejoin": pb.Roll(workers=["worker-0"]), "model": "m"}

    async def main() -> None:
        async with office(join_seconds=30, minimum=1).open() as one, one.attending(0) as worker:
            await worker.hears()
            async with one.convening(3, **rejoin) as event:
                assert (await event()).HasField("cohort")
            async with one.convening(4, **TRAIN) as event:
                waiting = (await event()).waiting
                assert (waiting.live, waiting.wanted) == (1, 3)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"program": "other"}, "the program's digest is 'other'"),
        ({"manifest": "no json"}, "a manifest is a list"),
        ({"manifest": ""}, "a manifest is a list"),
        ({"manifest": HALF}, r"array 'w' has dtype '\\ud800'"),
    ],
)
def test_a_worker_that_does_not_fit_is_refused(
    office: Callable[..., Any], changes: dict[str, Any], complaint: str
) -> None:
    """Another program, or a manifest that is none, ends the call with a sentence that says so."""

    async def main() -> None:
        async with office().open() as one, one.attending(0, **changes) as worker:
            with pytest.raises(grpc.aio.AioRpcError, match=complaint) as refused:
                await worker.hears()
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert one.service.roster.members == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            Manifest.from_json(MANIFEST).digest,
            "the job's: array w float32[4] should be w float32[3]; every worker",
        ),
        ("nobody's", "than the job's; every worker"),
    ],
)
def test_who_has_another_model_is_told_what_is_wrong_with_it(
    office: Callable[..., Any], model: str, words: str
) -> None:
    """The array, its shape and the one that it must have, if anybody who enrolled has the job's."""
    wide = Manifest.of({"w": np.zeros(4, "f4")}).to_json()

    async def main() -> None:
        async with (
            office().open() as one,
            one.attending(0) as fitting,
            one.attending(1, manifest=wide) as odd,
        ):
            assert (await fitting.hears()).HasField("welcome")
            assert (await odd.hears()).HasField("welcome")
            async with one.convening(1, train=pb.Train(), manifest=model):
                assert words in (await odd.hears()).refusal.sentence

    asyncio.run(main())


@pytest.mark.parametrize(
    "identity",
    [Identity("job-1", "worker", 0), Identity("job-1", "observer"), Identity("job-2", "server")],
    ids=str,
)
def test_only_the_server_convenes_and_dismisses(office: Callable[..., Any], identity: Identity) -> None:
    """A worker, an observer or another job's server is refused by its certificate, and nothing is changed."""

    async def main() -> None:
        async with office().open() as one, one.speaking(identity) as stub:
            with pytest.raises(grpc.aio.AioRpcError, match="may not make this call"):
                await stub.Dismiss(pb.Dismissal(context=context_of(one.plan), reason="mine"))
            with pytest.raises(grpc.aio.AioRpcError, match="may not make this call"):
                await stub.Convene(pb.Convening(context=context_of(one.plan))).read()
            assert not one.service.dismissed.is_set()

    asyncio.run(main())


def test_when_the_job_is_over_all_are_told_to_stop(office: Callable[..., Any]) -> None:
    """Those who attend hear Stop, those who come later too, and the scheduler may go once they have gone."""

    async def main() -> None:
        async with office().open() as one:
            async with one.attending(0) as first, one.speaking(Identity("job-1", "server")) as stub:
                await first.hears()
                await stub.Dismiss(pb.Dismissal(context=context_of(one.plan), reason="RoundsDone"))
                assert (await first.hears()).stop.reason == "RoundsDone"
                async with one.attending(1) as late:
                    assert (await late.hears()).HasField("welcome")
                    assert (await late.hears()).HasField("stop")
            async with asyncio.timeout(5):
                await one.service.drained()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("raise KeyError('x')", "house:Policy raised KeyError: 'x'"),
        ("return ['worker-9']", "it chose worker-9, who is no candidate"),
    ],
)
def test_a_policy_that_fails_is_told_to_the_server(
    office: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, complaint: str
) -> None:
    """The server hears which class failed and how; the scheduler goes on."""
    policy = f"class Policy:\n    def choose(self, candidates, count, randomness):\n        {body}\n"
    (tmp_path / "house.py").write_text(policy)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "house", raising=False)

    async def main() -> None:
        house = office(policy=Extension(name="house:Policy"), minimum=1, workers=1)
        async with house.open() as one, one.attending(0) as worker:
            assert (await worker.hears()).HasField("welcome")
            async with one.convening(1, **TRAIN) as event:
                assert complaint in (await event()).failure

    asyncio.run(main())


def test_what_no_message_can_carry_hides_nobody(office: Callable[..., Any]) -> None:
    """A refused worker whose words are half a character is told of like any other, and the cohort is named."""

    async def main() -> None:
        whole = office(per_round=1, extra=0, minimum=1, workers=3, join_seconds=0)
        async with whole.open() as one, one.attending(0) as first:
            assert (await first.hears()).HasField("welcome")
            async with one.attending(1, manifest=HALF) as odd:
                with pytest.raises(grpc.aio.AioRpcError):
                    await odd.hears()
            one.service._note("worker-2", "half \ud800")
            async with one.convening(1, **TRAIN) as event:
                cohort = (await event()).cohort
        assert list(cohort.workers) == ["worker-0"]
        assert "\\ud800" in cohort.refused[0].reason
        assert cohort.refused[1].reason == "half \\ud800"

    asyncio.run(main())


def test_the_server_hears_of_those_who_were_not_chosen(office: Callable[..., Any]) -> None:
    """With the cohort come those passed over, those away, and those refused with the reason."""

    async def main() -> None:
        whole = office(per_round=1, extra=0, minimum=1, workers=3, join_seconds=0)
        async with whole.open() as one, one.attending(0) as first, one.attending(1) as second:
            for worker in (first, second):
                assert (await worker.hears()).HasField("welcome")
            async with one.attending(2, program="other") as third:
                with pytest.raises(grpc.aio.AioRpcError):
                    await third.hears()
            async with one.convening(1, **TRAIN) as event:
                cohort = (await event()).cohort
        assert (cohort.live, list(cohort.absent), cohort.away) == (2, ["worker-2"], 1)
        assert {*cohort.workers, *cohort.passed_over} == {"worker-0", "worker-1"}
        (refused,) = cohort.refused
        assert (refused.worker, "program's digest" in refused.reason) == ("worker-2", True)

    asyncio.run(main())
