"""One job after another is made right on an API server, whatever happens to its namespace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fl_core.identity import Authority
from fl_operator.assembly import WATCHES
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.events import Recorder
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import EVENTS, FLJOBS, JOBS, NAMESPACES, PODS, Key, Object
from fl_operator.metrics import OperatorMetrics
from fl_operator.progress import Progress
from fl_operator.reconcile import Reconciler
from fl_operator.warning_events import MOST, WarningEvents
from job_generator.settings import Settings

KEY = Key("lab", "digits")
JOB: Object = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "digits", "namespace": "lab", "generation": 1},
    "spec": {"program": {"entrypoint": "digits:task"}, "rounds": 2, "workers": {"replicas": 2}},
}


def reconciler(memory: Any) -> Reconciler:
    """A reconciler before this API server, and copies that are not followed yet."""
    connection, metrics = Connection(memory), OperatorMetrics(CollectorRegistry())
    selections = [watch.selection for watch in WATCHES]
    return Reconciler(
        connection=connection,
        mirror=Mirror(connection, selections, namespaces=(), restarts=metrics.watch_restarts),
        recorder=Recorder(connection, "tests"),
        metrics=metrics,
        progress=Progress(Authority("tests"), lambda _: None),
        settings=Settings(),
        warnings=WarningEvents(connection),
    )


def jobs(memory: Any) -> list[str]:
    """The names of the Jobs that there are."""
    return sorted(path.rpartition("/")[2] for path in memory.objects if "/jobs/" in path)


@pytest.mark.parametrize(
    ("going", "left"),
    [({}, ["digits-scheduler", "digits-server", "digits-worker"]), ({"deletionTimestamp": "now"}, [])],
    ids=["stays", "goes"],
)
def test_jobs_do_not_hold_their_namespace_back(memory: Any, going: Object, left: list[str]) -> None:
    """When a pod goes, its Job stays, unless the whole namespace goes, which would wait for it for ever."""

    async def scene() -> None:
        one = reconciler(memory)
        memory.put(FLJOBS.path(*KEY), JOB)
        warnings = f"{EVENTS.path('lab')}?fieldSelector=type%3DWarning&limit={MOST}"
        memory.objects[warnings] = {"items": []}
        running = asyncio.create_task(one.mirror.run())
        await one.mirror.synced()
        await one.reconcile(KEY)
        assert len(jobs(memory)) == 3
        memory.put(NAMESPACES.path("", "lab"), {"metadata": {"name": "lab", **going}})
        worker = memory.objects[JOBS.path("lab", "digits-worker")]["metadata"]["uid"]
        owner = {"kind": "Job", "name": "digits-worker", "uid": worker, "controller": True}
        pod = {"name": "p", "namespace": "lab", "ownerReferences": [owner], "deletionTimestamp": "now"}
        memory.put(PODS.path("lab", "p"), {"metadata": pod})
        while one.mirror.find(PODS, Key("lab", "p")) is None:
            await asyncio.sleep(0.001)
        await one.reconcile(KEY)
        assert jobs(memory) == left
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scene(), 20))
