"""What can be seen of a running job from outside, and steered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fl_core.wire.channels import open_channel
from fl_operator.cluster.resources import Key
from fl_operator.findings import Listener
from fl_operator.progress import Progress
from job_generator.local.observer import Ending, Observer

pytestmark = pytest.mark.rounds


def values(page: str) -> dict[str, float]:
    """Samples by name and label values, as in `fl_rounds_total/committed`."""
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_metrics_and_probes_say_where_the_job_stands(job: Callable[..., Any]) -> None:
    """Each process counts what it did: rounds, workers, bytes, training; ready once it can do its part."""
    run = job(spec={"rounds": 500}, gate=4)
    run.begin()
    run.wait_held()
    rounds = len(run.rounds())
    assert rounds == 3
    server, scheduler, worker = (values(run.scrape(name)) for name in ("server", "scheduler", "worker-1"))
    assert server["fl_rounds_total/committed"] == rounds
    assert server["fl_round_current"] == rounds + 1
    assert server["fl_round_workers/reported"] == server["fl_round_target"] == 3
    assert server["fl_round_minimum"] == 2
    assert server["fl_message_bytes_total/received/update"] == rounds * 3 * 20
    assert server["fl_model_metric/loss"] == run.rounds()[-1]["metrics"]["loss"]
    assert server["fl_round_duration_seconds_count/total"] == rounds
    assert 0 <= server["fl_checkpoint_age_seconds"] < 60
    assert scheduler["fl_workers_live"] == 3
    assert scheduler["fl_selection_total/uniform/chosen"] >= 3 * (rounds + 1)
    assert worker["fl_training_duration_seconds_count"] == rounds
    assert worker["fl_training_examples_total"] == rounds * 11
    assert all(run.scrape(name, "/readyz") == "200 OK\n" for name in run.processes)


def test_every_line_of_a_round_can_be_found(job: Callable[..., Any]) -> None:
    """Server, scheduler and workers write job, round and attempt into each line about a round."""
    run = job()
    run.finish()
    for name, event in (("server", "round closed"), ("scheduler", "ordered"), ("worker-2", "trained")):
        lines = [line for line in run.log(name) if line["event"] == event]
        assert {1, 2, 3, 4} <= {line["round"] for line in lines}, name
        assert all(line["job"] == "toy" and line["attempt"] == 1 for line in lines), name
        assert all(line["process"] == name for line in lines)


def test_the_operator_hears_of_each_round(job: Callable[..., Any]) -> None:
    """Its stream tells the newest round, asks the server to finish, and leaves one that is lost for the next."""
    run = job(spec={"rounds": 500}, gate=3)
    news, key = [], Key("lab", "toy")

    async def follow() -> None:
        progress = Progress(run.authority, news.append)
        progress.follow(key, run.plan, Listener("127.0.0.1", 1))
        run.begin()
        host, _, port = run.announced["server"]["address"].rpartition(":")
        progress.follow(key, run.plan, Listener(host, int(port)))
        while (report := progress.report(run.plan.job.uid)) is None or report.standing.round < 3:
            await asyncio.sleep(0.01)
        told = report.training(run.plan.rounds)
        assert told["round"] == 2
        assert told["rounds"] == 500
        assert told["reported"] == told["selected"] == 3
        assert told["metrics"]["loss"] == run.rounds()[1]["metrics"]["loss"]
        assert set(news) == {key}
        run.wait_held()
        await progress.finish(run.plan.job.uid, last=3)
        run.release()
        while run.processes["server"].poll() is None:
            await asyncio.sleep(0.01)
        await progress.forget(run.plan.job.uid)

    asyncio.run(follow())
    assert len(run.rounds()) == 3


@pytest.mark.parametrize(("last", "rounds"), [(0, 1), (4, 4)])
def test_finish_ends_the_job_with_the_open_round(job: Callable[..., Any], last: int, rounds: int) -> None:
    """Asked to finish while workers train, the server closes that round, or trains on to a later one that was wished
    for, however short rounds are; it keeps the model, and all end with 0.
    """
    run = job(spec={"rounds": 500}, gate=1)
    run.begin()
    run.wait_held()

    async def steer() -> Ending:
        identity = run.identity("observer")
        async with open_channel(run.announced["server"]["address"], identity, peer="server") as channel:
            observer = Observer(channel, run.plan.job.uid, run.plan.digest)
            await observer.finish(last=last)
            run.release()
            async for observation in observer.observations():
                if observation.ending is not None:
                    return observation.ending
        raise AssertionError

    ending = asyncio.run(steer())
    assert (ending.complete, ending.reason, ending.model) == (True, "Stopped", run.rounds()[-1]["model"])
    assert len(run.rounds()) == rounds
    assert {run.code(name) for name in run.processes} == {0}
    assert (run.storage / "models" / "last.safetensors").exists()
