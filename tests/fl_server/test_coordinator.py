"""The server's driver with real sockets: what is taken, what survives, and how a job ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.attestation import check, content_of
from fl_core.errors import FencedError, FLJobError, JobError, ShortfallError, UnavailableError
from fl_core.plan import Target
from fl_core.record import read
from fl_core.weights import digest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.channels import open_channel
from fl_core.wire.guard import context_of
from fl_server.storage import Storage
from job_generator.local.observer import Observer
from tests.fl_server.crowd import SECURE
from tests.fl_server.recorded import recorded

ZERO = {"w": np.zeros(3, "f4")}

pytestmark = pytest.mark.timeout(30)


async def play(served: Any, *, calls: int) -> None:
    """Answer so many calls of the server as good workers would."""
    for _ in range(calls):
        await served.hand_in(await served.called())


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        await task


def test_a_job_of_two_rounds(world: Callable[..., Any]) -> None:
    """Initial weights, two rounds of the mean, measured: the last model is kept and the workers dismissed."""
    one = world()

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=5)
            await ended(task)
            assert one.scheduler.dismissed == ["RoundsDone"]
            last = served.storage.model("last")
            assert np.array_equal(last.weights["w"], np.full(3, 2, "f4"))
            assert [row["metrics"] for row in recorded(served.storage)] == [{"loss": 1.0}] * 2
            assert all(row["bytes"] == {"up": 36, "down": 0} for row in recorded(served.storage))

    asyncio.run(main())


def test_a_sender_that_goes_leaves_its_update_whole(world: Callable[..., Any]) -> None:
    """An update that has been verified is in the sum as a whole, though its sender goes before it is folded in."""
    one = world(rounds=1)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            training = await served.called()
            async with served.coordinator._aggregator._lock, served.speaking("worker-1") as client:
                push = client.push(training.context, {"w": np.full(3, 6, "f4")}, model=training.model)
                sending = asyncio.ensure_future(push)
                await taken(served, "worker-1")
                sending.cancel()
            for index in (0, 2):
                async with served.speaking(f"worker-{index}") as client:
                    await client.push(training.context, {"w": np.zeros(3, "f4")}, model=training.model)
            await play(served, calls=1)
            await ended(task)
            assert np.array_equal(served.storage.model("last").weights["w"], np.full(3, 2, "f4"))

    asyncio.run(main())


def test_a_newer_transfer_ends_an_older_one(world: Callable[..., Any]) -> None:
    """A worker that comes again, because its connection broke, holds one place and not two."""
    one, update = world(rounds=1), {"w": np.zeros(3, "f4")}

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            training = await served.called()
            async with served.speaking("worker-1") as client, served.speaking("worker-1") as again:
                half = client.stub.Push()
                head = client.head(training.context, update, model=training.model)
                await half.write(pb.Frame(transfer=head))
                while "worker-1" not in (pushing := served.service._pushing):
                    await asyncio.sleep(0.01)
                await again.push(training.context, update, model=training.model)
                assert await half.details() == "worker-1 has begun another transfer"
                assert not pushing
            for index in (0, 2):
                async with served.speaking(f"worker-{index}") as client:
                    await client.push(training.context, update, model=training.model)
            await play(served, calls=1)
            await ended(task)

    asyncio.run(main())


def test_an_extension_that_fails_fails_the_job(world: Callable[..., Any]) -> None:
    """What the scheduler's policy raised is the job's error, with its sentence."""
    one = world(rounds=1)
    one.scheduler.script = lambda _: [pb.CohortEvent(failure="house:Policy raised KeyError: 'x'")]

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            with pytest.raises(JobError, match="house:Policy raised KeyError: 'x'"):
                await task

    asyncio.run(main())


async def taken(served: Any, worker: str) -> None:
    """Wait until the server counts this worker's update."""
    async for seen in served.coordinator.board.watch():
        if worker in seen.standing.reported:
            return


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"kind": pb.KIND_MODEL}, "not a transfer of kind 1"),
        ({"kind": pb.KIND_INITIAL}, "was not asked for initial weights"),
        ({"examples": 0}, "an update's weight is 0"),
        ({"examples": 2**63}, "an update's weight is"),
        ({"model": "0" * 64}, "not this round's"),
        ({"nbytes": 11}, "11 bytes announced"),
        ({"manifest": '[["w","float64",[3]]]'}, "does not fit the model"),
        ({"manifest": '[["w","float32",[1e999]]]'}, "a manifest is a list"),
        ({"manifest": "[" * 100_000}, "a manifest is a list"),
        (
            {"metrics": '{"loss": {"kind": "macro_f1", "options": {"classes": -1}, "vector": [1]}}'},
            "measurements are a JSON object",
        ),
        (
            {"metrics": '{"loss": {"kind": "macro_f1", "options": {"classes": "x"}, "vector": [1]}}'},
            "JSON object",
        ),
        ({"metrics": "[1]"}, "measurements cannot be evaluated"),
        ({"metrics": "[" * 100_000}, "measurements cannot be evaluated"),
    ],
)
def test_a_refused_update_changes_nothing(
    world: Callable[..., Any], wrong: dict[str, Any], complaint: str
) -> None:
    """What is wrong with an update is said with a status, and its worker may still hand in the right one."""
    one = world(rounds=1)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            training = await served.called()
            async with served.speaking("worker-1") as client:
                bad, fields = {"w": np.full(3, 9, "f4")}, {"model": training.model, **wrong}
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await client.push(training.context, bad, **fields)
            assert complaint in refused.value.details()
            await served.hand_in(training)
            await play(served, calls=1)
            await ended(task)
            assert np.array_equal(served.storage.model("last").weights["w"], np.ones(3, "f4"))

    asyncio.run(main())


def test_an_odd_metric_costs_nobody_an_update(world: Callable[..., Any]) -> None:
    """A worker that measures another kind of metric by the same name hands in its update like everybody."""
    one = world(rounds=1)
    odd = '{"loss": {"kind": "accuracy", "options": {}, "vector": [1, 2]}}'
    mean = '{"loss": {"kind": "mean", "options": {}, "vector": [1, 2]}}'

    async def main() -> None:
        async with one.serving() as served, served.running():
            await play(served, calls=1)
            training = await served.called()
            update = {"w": np.ones(3, "f4")}
            for worker, metrics in (("worker-0", odd), ("worker-1", mean)):
                async with served.speaking(worker) as client:
                    await client.push(training.context, update, model=training.model, metrics=metrics)
            assert served.coordinator.rounds.gathering.reported == ["worker-0", "worker-1"]

    asyncio.run(main())


def test_a_target_that_has_no_value_for_once_ends_no_job(world: Callable[..., Any]) -> None:
    """A metric of no example is not a finite number: the round's line says so, and the next one reaches the target."""
    one = world(target=Target(metric="loss", at_most=2.0))

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=2)
            request = await served.called()
            for index in range(3):
                async with served.speaking(f"worker-{index}") as client:
                    await client.measure(request, loss=0.0, examples=0)
            await play(served, calls=2)
            await ended(task)
            rows = recorded(served.storage)
            assert [(row["metrics"], row.get("notFinite")) for row in rows] == [
                ({}, ["loss"]),
                ({"loss": 1.0}, None),
            ]
            assert one.scheduler.dismissed == ["TargetReached"]

    asyncio.run(main())


def test_a_committed_round_is_recorded_after_a_crash(world: Callable[..., Any]) -> None:
    """A server that dies between commit and record asks again for that round's measurements, and records it once."""
    one = world()

    async def main() -> None:
        async with one.serving() as served:
            async with served.running():
                await play(served, calls=2)
                assert (await served.called()).WhichOneof("purpose") == "evaluate"
            assert recorded(served.storage) == []
        async with one.serving() as served, served.running() as task:
            again = await served.called()
            assert again.WhichOneof("purpose") == "evaluate"
            assert list(again.evaluate.workers) == ["worker-0", "worker-1", "worker-2"]
            await served.hand_in(again)
            await play(served, calls=2)
            await ended(task)
            assert [(row["round"], row["metrics"]) for row in recorded(served.storage)] == [
                (1, {"loss": 1.0}),
                (2, {"loss": 1.0}),
            ]
            assert recorded(served.storage)[0]["examples"] == 3
            assert served.storage.model("best").facts["round"] == 1

    asyncio.run(main())


def test_a_damaged_checkpoint_is_told_to_whoever_watches(world: Callable[..., Any]) -> None:
    """A server that goes back to an older checkpoint does the round again; a watcher reads why, and from where on."""
    one = world()

    async def main() -> None:
        async with one.serving() as served, served.running():
            await play(served, calls=3)
            await served.called()
        (one.folder / "storage" / "checkpoints" / "round-0000001.safetensors").write_bytes(b"nonsense")
        async with one.serving() as served, served.running():
            assert (await served.called()).context.round == 1
            seen = await anext(served.coordinator.board.watch())
            assert seen.standing.notice == "round-0000001.safetensors is damaged and was passed over"
            (back,) = map(json.loads, seen.closed)
            assert (back["result"], back["round"]) == ("Restored", 0)
            earlier = [{"attempt": 1, "dropouts": {}, "reason": "the server went back to an older model"}]
            assert served.coordinator.ledger.row["earlier"] == earlier
        async with one.serving() as served, served.running():
            assert (await served.called()).context.round == 1
            earlier += [{"attempt": 2, "dropouts": {}, "reason": "the server was started again"}]
            assert served.coordinator.ledger.row["earlier"] == earlier

    asyncio.run(main())


def test_a_server_that_was_fenced_off_ends_at_its_next_write(world: Callable[..., Any]) -> None:
    """While a round is open another server claims the storage: the first one commits nothing and raises why."""
    one = world()

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            training = await served.called()
            Storage(one.folder / "storage", one.plan)
            await served.hand_in(training)
            with pytest.raises(FencedError, match="was claimed by a newer server"):
                await task
        assert [path.stem for path in (one.folder / "storage" / "checkpoints").iterdir()] == ["round-0000000"]

    asyncio.run(main())


def test_what_comes_before_a_restarted_server_has_opened_its_round_waits(world: Callable[..., Any]) -> None:
    """It opens the next attempt: an update for that is taken, one for the attempt before its restart is refused."""
    one, update = world(rounds=1), {"w": np.ones(3, "f4")}

    async def main() -> None:
        async with one.serving() as served, served.running():
            await play(served, calls=1)
            asked = await served.called()
        async with (
            one.serving() as served,
            served.speaking("worker-1") as quick,
            served.speaking("worker-2") as slow,
        ):
            again = context_of(one.plan, round=1, attempt=2)
            early = asyncio.ensure_future(quick.push(again, update, model=asked.model))
            late = asyncio.ensure_future(slow.push(asked.context, update, model=asked.model))
            async with served.running():
                assert (await served.called()).context == again
                await early
                with pytest.raises(
                    grpc.aio.AioRpcError, match=r"attempt 1; the server is \w+ in round 1, attempt 2"
                ):
                    await late
                assert served.coordinator.rounds.gathering.reported == ["worker-1"]

    asyncio.run(main())


def test_a_round_tells_which_draw_its_cohort_was(world: Callable[..., Any]) -> None:
    """An attempt after a restart repeats the draw of the one before, and its line says so; others leave it out."""
    one = world()

    async def main() -> None:
        async with one.serving() as served, served.running():
            await play(served, calls=1)
            await served.called()
        async with one.serving() as served, served.running() as task:
            await play(served, calls=4)
            await ended(task)
            told = [(row["attempt"], row.get("draw")) for row in recorded(served.storage)]
            assert told == [(2, 1), (1, None)]

    asyncio.run(main())


def test_an_unfinished_line_of_the_record_is_cut_off(world: Callable[..., Any]) -> None:
    """A line that a crash left unfinished is gone, so that the next one stands for itself."""
    one = world()

    async def main() -> None:
        async with one.serving() as served:
            served.storage.record({"round": 1})
            with (one.folder / "storage" / "metrics.jsonl").open("a") as record:
                record.write('{"round": 2, "mo')
            assert [row["round"] for row in recorded(served.storage)] == [1]
            served.storage.record({"round": 2})
            assert [row["round"] for row in recorded(served.storage)] == [1, 2]

    asyncio.run(main())


def waits(live: int) -> Callable[[pb.Convening], list[pb.CohortEvent]]:
    waiting = pb.Waiting(live=live, wanted=3, absent=["worker-2"])
    return lambda _: [pb.CohortEvent(waiting=waiting)]


def test_too_few_workers_are_not_waited_for_for_ever(world: Callable[..., Any]) -> None:
    """Fewer than the minimum within `readySeconds` ends the job, and names who is not there."""
    one = world(ready_seconds=0.2)
    one.scheduler.script = waits(1)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            with pytest.raises(ShortfallError, match=r"1 of 3 workers .* \(not there: worker-2\)"):
                await ended(task)

    asyncio.run(main())


def test_enough_workers_may_be_joined_by_others(world: Callable[..., Any]) -> None:
    """While the minimum is there and the scheduler waits for the rest, `readySeconds` ends nothing."""
    one = world(ready_seconds=0.1)
    one.scheduler.script = waits(2)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await served.called()
            done, _ = await asyncio.wait({task}, timeout=0.5)
            assert not done

    asyncio.run(main())


def test_a_scheduler_that_was_never_there_is_not_a_lack_of_workers(world: Callable[..., Any]) -> None:
    """When nobody answers within `readySeconds` the server asks to be tried again, and fails no job."""
    one = world(ready_seconds=0.2)

    async def main() -> None:
        async with one.serving() as served:
            served.coordinator._summons._stub = unreachable()
            async with served.running() as task:
                with pytest.raises(
                    UnavailableError, match="the scheduler has been silent for 0.2 s"
                ) as error:
                    await ended(task)
                assert error.value.exit_code == 75

    asyncio.run(main())


def unreachable() -> Any:
    return fl_pb2_grpc.SchedulerStub(grpc.aio.insecure_channel("127.0.0.1:1"))


def test_another_worker_is_asked_for_initial_weights(world: Callable[..., Any]) -> None:
    """When the worker that was asked goes, the server calls again; when all fail it says why."""
    one = world()
    lost = pb.CohortEvent(lost=pb.Loss(worker="worker-0", reason="the program raised ValueError"))
    one.scheduler.script = lambda _: [pb.CohortEvent(cohort=pb.Cohort(workers=["worker-0"])), lost]

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            with pytest.raises(ShortfallError, match="worker-0: the program raised ValueError"):
                await ended(task)
            assert one.scheduler.calls.qsize() == 3

    asyncio.run(main())


def test_a_job_that_is_asked_to_make_room_before_a_round_ends_at_once(world: Callable[..., Any]) -> None:
    """`finish` without a round, while the scheduler looks for workers, ends the job with the model that there is."""
    one = world()
    usual = one.scheduler.script
    one.scheduler.script = lambda request: (
        usual(request) if request.WhichOneof("purpose") == "initialise" else []
    )

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            await served.called()
            served.coordinator.finish()
            await ended(task)
            assert one.scheduler.dismissed == ["Stopped"]
            assert served.storage.model("last").facts["round"] == 0
            assert recorded(served.storage) == []

    asyncio.run(main())


def test_a_job_that_is_stopped_before_a_round_ends_with_that(world: Callable[..., Any]) -> None:
    """Asked to end with round 1 while it looks for workers, it says so, trains that round and no other."""
    one = world(rounds=3)
    usual, silent = one.scheduler.script, [True]
    one.scheduler.script = lambda request: (
        [] if request.WhichOneof("purpose") == "train" and silent else usual(request)
    )

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            await served.called()
            assert (await told(served)).rounds == 3
            async with open_channel(served.address, one.identity("observer"), peer="server") as channel:
                await Observer(channel, one.plan.job.uid, one.plan.digest).finish(last=1)
            assert (await told(served)).rounds == 1
            silent.clear()
            one.scheduler.break_off()
            await play(served, calls=2)
            await ended(task)
            assert one.scheduler.dismissed == ["Stopped"]
            assert [row["round"] for row in recorded(served.storage)] == [1]
            assert served.storage.model("last").facts["round"] == 1

    asyncio.run(main())


async def told(served: Any) -> pb.Standing:
    """The standing, as whoever watches is told now."""
    async for seen in served.coordinator.board.watch():
        return seen.standing
    raise AssertionError


@pytest.mark.parametrize("step", ["_restoring.opening", "spending.asking"])
def test_nobody_is_asked_by_a_job_that_was_told_to_finish_while_its_round_opened(
    world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What is noted before a round may take long; who is told to finish in that time orders no training any more."""
    one = world()

    async def main() -> None:
        async with one.serving() as served:
            owner, name = step.split(".")
            part = getattr(served.coordinator, owner)
            noted = getattr(part, name)

            async def told(*place: Any, **more: Any) -> Any:
                done = await noted(*place, **more)
                served.coordinator.finish()
                return done

            monkeypatch.setattr(part, name, told)
            asked: list[tuple[int, int]] = []
            if owner == "_restoring":

                async def asking(*place: int) -> None:
                    asked.append(place)

                monkeypatch.setattr(served.coordinator.spending, "asking", asking)
            async with served.running() as task:
                await play(served, calls=1)
                await ended(task)
            assert (one.scheduler.dismissed, asked) == (["Stopped"], [])
            assert one.scheduler.calls.empty()
            assert served.storage.model("last").facts["round"] == 0

    asyncio.run(main())


def test_a_broken_call_is_made_again_for_the_same_cohort(world: Callable[..., Any]) -> None:
    """A call that breaks off while workers train names those still missing, and the attempt goes on."""
    one = world(rounds=1)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=1)
            training = await served.called()
            await ready(served)
            async with served.speaking("worker-0") as client:
                await client.push(training.context, {"w": np.zeros(3, "f4")}, model=training.model)
            one.scheduler.break_off()
            again = await served.called()
            assert list(again.rejoin.workers) == ["worker-1", "worker-2"]
            for index in (1, 2):
                async with served.speaking(f"worker-{index}") as client:
                    await client.push(training.context, {"w": np.ones(3, "f4")}, model=training.model)
            await play(served, calls=1)
            await ended(task)
            assert recorded(served.storage)[0]["attempt"] == 1

    asyncio.run(main())


async def ready(served: Any) -> None:
    """Wait until a round trains."""
    async for seen in served.coordinator.board.watch():
        if seen.standing.phase == "Training":
            return


def test_the_record_is_signed_when_the_job_ends(world: Callable[..., Any]) -> None:
    """The signature is the server's own, over the head of its record and the file of the last model."""
    one = world()

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=5)
            await ended(task)

    asyncio.run(main())
    storage = one.folder / "storage"
    envelope = json.loads((storage / "record.sig.json").read_text())
    check(envelope, job=one.plan.job.uid, authorities=[one.authority.dump()[1]])
    content = content_of(envelope)
    record = read((storage / "metrics.jsonl").read_bytes(), one.plan.digest)
    assert content["predicate"]["record"] == {"lines": 2, "last": record.head.digest}
    assert (content["predicate"]["ending"], content["predicate"]["round"]) == ("RoundsDone", 2)
    assert content["predicate"]["model"] == record.rows()[1]["model"]
    assert {one["name"]: one["digest"]["sha256"] for one in content["subject"]} == {
        name: hashlib.sha256((storage / name).read_bytes()).hexdigest()
        for name in ("metrics.jsonl", "models/last.safetensors")
    }


def test_a_job_that_fails_is_signed_and_a_server_that_may_go_on_is_not(world: Callable[..., Any]) -> None:
    """Too few workers end the job; a scheduler that is silent ends this process only."""
    one, other = world(ready_seconds=0.2), world(ready_seconds=0.2)
    one.scheduler.script = waits(1)

    async def main(one: Any, *, silent: bool) -> None:
        async with one.serving() as served:
            if silent:
                served.coordinator._summons._stub = unreachable()
            async with served.running() as task:
                with pytest.raises(FLJobError):
                    await ended(task)

    signature = one.folder / "storage" / "record.sig.json"
    asyncio.run(main(other, silent=True))
    assert not signature.exists()
    asyncio.run(main(one, silent=False))
    assert content_of(json.loads(signature.read_text()))["predicate"]["ending"] == "ShortfallError"


def test_a_round_names_the_model_that_it_was_made_from(world: Callable[..., Any]) -> None:
    """Each round's base is the model of the round before it, the first one's the initial model."""
    one = world()

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await play(served, calls=5)
            await ended(task)
            first, second = recorded(served.storage)
            assert (first["base"], second["base"]) == (digest(ZERO), first["model"])

    asyncio.run(main())


def test_measurements_are_taken_within_secure_sums_only(world: Callable[..., Any]) -> None:
    """Whoever hands them in beside a sum would count alone in the model's figures, whatever the round's phase."""
    one = world(secure_aggregation=SECURE)

    async def main() -> None:
        async with one.serving() as served, served.speaking("worker-0") as worker:
            with pytest.raises(grpc.aio.AioRpcError, match="within a secure sum only"):
                await worker.measure(pb.Convening(context=pb.Context(round=1, attempt=1)), loss=0.0)

    asyncio.run(main())
