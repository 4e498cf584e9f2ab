"""One job after another is made right on an API server, whatever happens to its namespace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fl_core.errors import SpecError
from fl_core.identity import Authority
from fl_operator import rehearsal
from fl_operator.assembly import WATCHES
from fl_operator.attempt import Attempt
from fl_operator.attempts import Attempts
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import ClusterError, ServerFailureError, refusal
from fl_operator.cluster.events import Recorder
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import (
    CONFIG_MAPS,
    EVENTS,
    FLJOBS,
    JOBS,
    NAMESPACES,
    PODS,
    SERVICES,
    Key,
    Object,
    key_of,
    resource_of,
)
from fl_operator.conditions import is_over
from fl_operator.loop import GATHER_SECONDS, Requeue
from fl_operator.metrics import OperatorMetrics
from fl_operator.progress import Progress
from fl_operator.reconcile import REFUSED_SECONDS, Reconciler
from fl_operator.rehearsal import approve_template
from fl_operator.warning_events import MOST, WarningEvents
from job_generator.names import ATTEMPT
from job_generator.settings import Images, Settings

KEY = Key("lab", "digits")
JOB: Object = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "digits", "namespace": "lab", "generation": 1},
    "spec": {"program": {"entrypoint": "digits:task"}, "rounds": 2, "workers": {"replicas": 2}},
}


def job(name: str, spec: Object) -> Object:
    return {**JOB, "metadata": {**JOB["metadata"], "name": name}, "spec": spec}


def reconciler(memory: Any) -> Reconciler:
    """A reconciler before this API server, and copies that are not followed yet."""
    connection, metrics = Connection(memory), OperatorMetrics(CollectorRegistry())
    selections = [watch.selection for watch in WATCHES]
    mirror = Mirror(connection, selections, namespaces=(), restarts=metrics.watch_restarts)
    return Reconciler(
        connection=connection,
        mirror=mirror,
        attempts=Attempts(mirror),
        recorder=Recorder(connection, "tests"),
        metrics=metrics,
        progress=Progress(Authority("tests"), lambda _: None),
        settings=Settings(),
        warnings=WarningEvents(connection),
    )


def jobs(memory: Any) -> list[str]:
    """The names of the Jobs that there are."""
    return sorted(path.rpartition("/")[2] for path in memory.objects if "/jobs/" in path)


def play(memory: Any, scene: Callable[[Reconciler], Awaitable[None]]) -> None:
    """Play a scene with a job and a reconciler whose copies are followed."""

    async def main() -> None:
        one = reconciler(memory)
        memory.put(FLJOBS.path(*KEY), JOB)
        warnings = f"{EVENTS.path('lab')}?fieldSelector=type%3DWarning&limit={MOST}"
        memory.objects[warnings] = {"items": []}
        running = asyncio.create_task(one.mirror.run())
        await one.mirror.synced()
        await scene(one)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize(
    ("going", "left"),
    [({}, ["digits-scheduler", "digits-server", "digits-worker"]), ({"deletionTimestamp": "now"}, [])],
    ids=["stays", "goes"],
)
def test_jobs_do_not_hold_their_namespace_back(memory: Any, going: Object, left: list[str]) -> None:
    """When a pod goes, its Job stays, unless the whole namespace goes, which would wait for it for ever."""

    async def scene(one: Reconciler) -> None:
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

    play(memory, scene)


def test_a_job_is_made_in_few_turns_and_then_left_alone(memory: Any) -> None:
    """What does not need another thing is asked for with it; a look at what was made finds nothing to do."""

    async def scene(one: Reconciler) -> None:
        told: list[Any] = []
        for informer in one.mirror.informers():
            informer.handlers.append(lambda old, new: told.append(new or old))
        memory.busiest = 0
        first = await one.reconcile(KEY)
        assert first is not None
        assert first.after > 1
        posted = [request for request in memory.requests if request.method == "POST"]
        kinds = [one.path.rpartition("/")[2] for one in posted if "dryRun" not in one.query]
        assert kinds[0] == "configmaps"
        assert kinds[-3:] == ["jobs"] * 3
        assert "jobs" not in kinds[:-3]
        assert memory.busiest == len(kinds) - 1 - 3
        asked = len(memory.requests)
        again = await one.reconcile(KEY)
        assert again is not None
        assert again.after > 1
        assert [request.method for request in memory.requests[asked:]] == ["GET"]
        assert told == []

    play(memory, scene)


def test_answers_that_the_watch_overtakes_wake_nobody(memory: Any) -> None:
    """What a reconcile writes is in the copies when it ends, and no news, although the watch told of it first."""
    send = memory.send

    async def scene(one: Reconciler) -> None:
        def version(thing: Object) -> Any:
            found = one.mirror.find(resource_of(thing), key_of(thing)) or {"metadata": {}}
            return found["metadata"].get("resourceVersion")

        async def late(request: Any) -> Any:
            answer = await send(request)
            writes = request.method != "GET" and "dryRun" not in request.query
            while writes and version(answer) != answer["metadata"]["resourceVersion"]:
                await asyncio.sleep(0.001)
            return answer

        told: list[Any] = []
        for informer in one.mirror.informers():
            informer.handlers.append(lambda old, new: told.append(new or old))
        memory.send = late
        await one.reconcile(KEY)
        assert len(jobs(memory)) == 3
        assert told == []

    play(memory, scene)


@pytest.mark.parametrize(
    ("code", "message"), [(403, "over quota"), (500, 'failed calling webhook "images.example.org": EOF')]
)
def test_one_refusal_does_not_keep_the_others_back(memory: Any, code: int, message: str) -> None:
    """What the API server refuses, or a webhook that does not answer it, is told and tried again later; all else is
    there.
    """
    send = memory.send

    async def refuses_policies(request: Any) -> Any:
        if request.method == "POST" and request.path.endswith("/networkpolicies"):
            raise refusal(str(request), code=code, status={"message": message})
        return await send(request)

    memory.send = refuses_policies

    async def scene(one: Reconciler) -> None:
        assert await one.reconcile(KEY) == Requeue(GATHER_SECONDS)
        assert len(jobs(memory)) == 3
        again = await one.reconcile(KEY)
        assert again == Requeue(REFUSED_SECONDS)
        stalled = next(
            condition
            for condition in memory.objects[FLJOBS.path(*KEY)]["status"]["conditions"]
            if condition["type"] == "Stalled"
        )
        assert (stalled["status"], stalled["reason"]) == ("True", "ChildRefused")
        assert message in stalled["message"]

    play(memory, scene)


def test_a_webhook_that_is_not_there_for_a_trial_keeps_nothing_back(memory: Any) -> None:
    """What is only tried teaches nothing then; what is made in earnest may be taken."""
    send = memory.send

    async def fails_trials(request: Any) -> Any:
        if "dryRun" in request.query:
            raise refusal(str(request), code=500, status={"message": "failed calling webhook x: refused"})
        return await send(request)

    memory.send = fails_trials

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        assert len(jobs(memory)) == 3

    play(memory, scene)


def test_a_child_without_the_label_by_which_it_is_watched_gets_it_back(memory: Any) -> None:
    """To the watch it is gone, to whoever makes it again it is there; an event says that it had been changed."""

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        await one.reconcile(KEY)
        for resource, name in ((SERVICES, "digits-server"), (CONFIG_MAPS, "digits-attempt-1")):
            path = resource.path("lab", name)
            before = memory.objects[path]
            await without(one, memory, resource, name)
            metadata = {**before["metadata"], "labels": {"mine": "x"}, "resourceVersion": str(memory.version)}
            memory.objects[path] = {**before, "metadata": metadata}
            await one.reconcile(KEY)
            labels = memory.objects[path]["metadata"]["labels"]
            assert before["metadata"]["labels"].items() <= labels.items()
            assert one.mirror.find(resource, Key("lab", name)) is not None
        said = [note for note in await told(one, memory) if "had been changed" in note]
        assert said == [
            "Service digits-server had been changed",
            "ConfigMap digits-attempt-1 had been changed",
        ]

    play(memory, scene)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (403, "exceeded quota: count/configmaps=20"),
        (422, "Too long: may not be more than 1048576 bytes"),
        (413, "too large"),
    ],
)
def test_nothing_is_made_of_an_attempt_that_is_refused(memory: Any, code: int, message: str) -> None:
    """A quota, or more than an object may hold: the job says so, and goes on by itself where it is taken later."""
    send, full = memory.send, [True]

    async def refuses_attempts(request: Any) -> Any:
        if full and request.method == "POST" and request.path.endswith("/configmaps"):
            raise refusal(str(request), code=code, status={"message": message})
        return await send(request)

    memory.send = refuses_attempts

    async def scene(one: Reconciler) -> None:
        before = set(memory.objects)
        assert await one.reconcile(KEY) == Requeue(GATHER_SECONDS)
        for _ in range(2):
            assert await one.reconcile(KEY) == Requeue(REFUSED_SECONDS)
            assert set(memory.objects) == before
            for kind, status in (("Compiled", "False"), ("Stalled", "True")):
                said = condition(memory, kind)
                assert (said["status"], said["reason"]) == (status, "ChildRefused")
                assert message in said["message"]
        assert "startTime" not in memory.objects[FLJOBS.path(*KEY)]["status"]
        full.clear()
        assert await one.reconcile(KEY) == Requeue(GATHER_SECONDS)
        await one.reconcile(KEY)
        assert len(jobs(memory)) == 3
        assert condition(memory, "Stalled")["status"] == "False"

    play(memory, scene)


def condition(memory: Any, kind: str) -> Object:
    """A condition of the job."""
    listed = memory.objects[FLJOBS.path(*KEY)]["status"]["conditions"]
    found: Object = next(one for one in listed if one["type"] == kind)
    return found


def test_an_attempt_that_no_copy_shows_is_met_before_anything_is_made(memory: Any) -> None:
    """What an operator with other images has kept is what the children are made from, however late it is heard of."""

    async def scene(one: Reconciler) -> None:
        job_ = memory.objects[FLJOBS.path(*KEY)]
        other = Settings(images=Images.of("9.9.9"))
        kept = Attempt.render(job_, other, number=1).object(job_)
        kept["metadata"] |= {"uid": "kept", "resourceVersion": str(memory.version + 1)}
        memory.objects[CONFIG_MAPS.path("lab", "digits-attempt-1")] = kept
        await one.reconcile(KEY)
        assert jobs(memory) == []
        await one.reconcile(KEY)
        made = memory.objects[JOBS.path("lab", "digits-server")]
        assert "9.9.9" in made["spec"]["template"]["spec"]["containers"][0]["image"]

    play(memory, scene)


def test_an_attempt_whose_status_was_not_written_is_found(memory: Any) -> None:
    """However many were kept so, the last goes on though the templates are others by then: an attempt after it."""

    def change(**spec: Any) -> int:
        path = FLJOBS.path(*KEY)
        there = memory.objects[path]
        generation = there["metadata"]["generation"] + 1
        workers = {**there["spec"]["workers"], **spec.pop("workers", {})}
        changed = {**there["spec"], **spec, "workers": workers}
        memory.put(
            path, {**there, "metadata": {**there["metadata"], "generation": generation}, "spec": changed}
        )
        return generation

    async def scene(one: Reconciler) -> None:
        async def seen(generation: int) -> None:
            while one.mirror.find(FLJOBS, KEY)["metadata"]["generation"] < generation:
                await asyncio.sleep(0.001)

        async def settled(visits: int = 6) -> None:
            for _ in range(visits):
                await one.reconcile(KEY)
                await asyncio.sleep(0.01)

        await settled()
        await seen(change(suspend=True, suspendGraceSeconds=0))
        await settled()
        assert condition(memory, "Suspended")["status"] == "True"
        send = memory.send

        async def conflicting(request: Any) -> Any:
            if request.method == "PUT":
                raise refusal(str(request), code=409, status={"message": "changed", "reason": "Conflict"})
            return await send(request)

        for kept, most in ((2, "1Gi"), (3, "2Gi"), (4, "3Gi")):
            await seen(change(workers={"template": limited(most)}))
            memory.send = conflicting
            with suppress(ClusterError):
                await one.reconcile(KEY)
            memory.send = send
            assert CONFIG_MAPS.path("lab", f"digits-attempt-{kept}") in memory.objects
        await seen(change(workers={"template": limited("4Gi")}, suspend=False))
        await settled(12)
        assert memory.objects[FLJOBS.path(*KEY)]["status"]["attempt"] == 5
        template = memory.objects[JOBS.path("lab", "digits-worker")]["spec"]["template"]
        assert template["spec"]["containers"][0]["resources"]["limits"]["memory"] == "4Gi"

    play(memory, scene)


@pytest.mark.parametrize(
    ("before", "counts"),
    [
        ({}, True),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "NoQuorum"}]}, True),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "QuorumLost"}]}, False),
        ({"training": {"round": 3}}, True),  # a fork, before its first round
        ({"training": {"round": 3, "selected": 2}}, False),  # resumed after a night
    ],
)
def test_only_the_first_quorum_is_timed(memory: Any, before: Object, counts: bool) -> None:  # noqa: FBT001
    """How long a job took to be ready says nothing of the one that lost its quorum, or was suspended."""
    one = reconciler(memory)
    made = {**JOB["metadata"], "creationTimestamp": "2026-11-21T12:00:00Z"}
    ready = {"conditions": [{"type": "Ready", "status": "True", "reason": "Quorum"}]}
    one._count({**JOB, "metadata": made, "status": before}, ready)
    timed = {sample.name: sample.value for sample in one.metrics.ready.collect()[0].samples}
    assert timed["fljob_job_ready_duration_seconds_count"] == counts


def limited(most: str) -> Object:
    return {"spec": {"containers": [{"name": "fl", "resources": {"limits": {"memory": most}}}]}}


def test_pods_of_a_job_that_is_over_go_without_its_attempt(memory: Any) -> None:
    """Its Jobs are found by their owner, where nothing says any more what they were made of."""
    kept = Key("lab", "digits-attempt-1")

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        memory.drop(CONFIG_MAPS.path(*kept))
        over = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
        status = {"attempt": 1, "conditions": [over], "completionTime": "2026-11-21T12:00:00Z"}
        memory.put(FLJOBS.path(*KEY), {**memory.objects[FLJOBS.path(*KEY)], "status": status})
        while not is_over(one.mirror.find(FLJOBS, KEY) or {}) or one.mirror.find(CONFIG_MAPS, kept):
            await asyncio.sleep(0.001)
        await one.reconcile(KEY)
        assert jobs(memory) == []

    play(memory, scene)


@pytest.mark.parametrize("name", ["Service digits-server", "ConfigMap digits-attempt-1"])
def test_a_name_that_is_free_again_is_taken(memory: Any, name: str) -> None:
    """Somebody else's object, which no copy shows, is told and left alone; soon after it is gone ours is made."""
    kind, _, called = name.partition(" ")
    resource = {"Service": SERVICES, "ConfigMap": CONFIG_MAPS}[kind]
    path = resource.path("lab", called)
    other = {
        "metadata": {"name": called, "namespace": "lab", "uid": "other"},
        "kind": kind,
        "apiVersion": "v1",
    }

    def stalled() -> tuple[str, str]:
        listed = memory.objects[FLJOBS.path(*KEY)]["status"]["conditions"]
        return next((one["status"], one["reason"]) for one in listed if one["type"] == "Stalled")

    async def scene(one: Reconciler) -> None:
        memory.objects[path] = other
        await one.reconcile(KEY)
        for _ in range(2):
            waits = await one.reconcile(KEY)
            assert (stalled(), memory.objects[path]) == (("True", "NameTaken"), other)
            assert waits is not None
            assert waits.after <= REFUSED_SECONDS
        del memory.objects[path]
        await one.reconcile(KEY)
        assert stalled() == ("False", "NotStalled")
        assert memory.objects[path]["metadata"]["uid"] != "other"

    play(memory, scene)


def test_templates_are_tried_before_anything_is_made(memory: Any) -> None:
    """Those of jobs that have any, with nothing kept; of the default storage class one job in a while asks for all."""

    async def scene(one: Reconciler) -> None:
        template = {"spec": {"nodeSelector": {"disk": "ssd"}}}
        workers = {"replicas": 2, "template": template}
        memory.put(FLJOBS.path("lab", "own"), job("own", {**JOB["spec"], "workers": workers}))
        while one.mirror.find(FLJOBS, Key("lab", "own")) is None:
            await asyncio.sleep(0.001)
        for name, tried in (("digits", ["PersistentVolumeClaim"]), ("own", ["Job"])):
            asked = len(memory.requests)
            await one.reconcile(Key("lab", name))
            posted = [request for request in memory.requests[asked:] if request.method == "POST"]
            dry = [request for request in posted if "dryRun" in request.query]
            assert [request.body["kind"] for request in dry] == tried
            assert posted[: len(dry)] == dry

    play(memory, scene)


@pytest.mark.parametrize(
    ("code", "message", "made"),
    [
        (400, 'strict decoding error: unknown field "spec.template.spec.a"', 0),
        (400, 'admission webhook "x" does not support dry run', 3),
        (400, 'admission webhook "x" denied the request: no spot', 3),
        (422, "jobs.batch is forbidden: ValidatingAdmissionPolicy 'p' denied request: no spot", 3),
        (403, "exceeded quota", 3),
        (409, "it is there", 3),
    ],
)
def test_what_the_api_server_says_of_a_template(memory: Any, code: int, message: str, made: int) -> None:
    """What its author must mend keeps all back and is told; what may pass or is another's to mend does not."""
    send = memory.send

    async def refuses_trials(request: Any) -> Any:
        if "dryRun" in request.query:
            reason = {403: "Forbidden", 409: "AlreadyExists"}.get(code, "BadRequest")
            raise refusal(str(request), code=code, status={"reason": reason, "message": message})
        return await send(request)

    memory.send = refuses_trials
    workers = {"replicas": 2, "template": {"spec": {"a": 1}}}

    async def scene(one: Reconciler) -> None:
        memory.put(FLJOBS.path("lab", "own"), job("own", {**JOB["spec"], "workers": workers}))
        while one.mirror.find(FLJOBS, Key("lab", "own")) is None:
            await asyncio.sleep(0.001)
        await one.reconcile(Key("lab", "own"))
        assert len(jobs(memory)) == made
        if not made:
            assert [path for path in memory.objects if "own" in path] == [FLJOBS.path("lab", "own")]
            told = (one.mirror.find(FLJOBS, Key("lab", "own")) or {})["status"]["conditions"][0]
            assert (told["status"], told["reason"]) == ("False", "InvalidSpec")
            said, _, advice = told["message"].partition("; ")
            assert said == "spec.workers.template.spec.a: there is no such field"
            assert advice == "suspend the job to change a template"

    play(memory, scene)


def test_a_template_that_was_refused_is_tried_again(memory: Any) -> None:
    """After a while, and nothing is written meanwhile: who refused it by a field may be a webhook that changes."""
    send, cause = memory.send, {"field": "spec.template.spec.a", "message": "not on weekends"}
    status = {"reason": "Invalid", "message": "no", "details": {"causes": [cause]}}
    weekend = True

    async def refuses_trials(request: Any) -> Any:
        if weekend and "dryRun" in request.query:
            raise refusal(str(request), code=422, status=status)
        return await send(request)

    memory.send = refuses_trials
    workers = {"replicas": 2, "template": {"spec": {"a": 1}}}

    async def scene(one: Reconciler) -> None:
        nonlocal weekend
        key = Key("lab", "own")
        memory.put(FLJOBS.path(*key), job("own", {**JOB["spec"], "workers": workers}))
        while one.mirror.find(FLJOBS, key) is None:
            await asyncio.sleep(0.001)
        assert await one.reconcile(key) == Requeue(REFUSED_SECONDS)
        told = memory.objects[FLJOBS.path(*key)]
        assert await one.reconcile(key) == Requeue(REFUSED_SECONDS)
        assert memory.objects[FLJOBS.path(*key)] == told
        weekend = False
        await one.reconcile(key)
        assert len(jobs(memory)) == 3

    play(memory, scene)


@pytest.mark.parametrize(
    ("code", "said", "ends"),
    [
        (400, 'strict decoding error: unknown field "spec.template.spec.a"', SpecError),
        (404, "no such namespace", None),
        (409, "changed", None),
        (500, "failed calling webhook", None),
    ],
)
def test_the_template_of_all_jobs_ends_the_operator_where_it_is_wrong(
    memory: Any, monkeypatch: pytest.MonkeyPatch, code: int, said: str, ends: type[Exception] | None
) -> None:
    """With its path here and in it, also at a later try; what the API server does not say holds nobody up."""
    monkeypatch.setattr(rehearsal, "PAUSES", (0.0, 0.0))
    later = refusal("POST", code=503, status={"message": "later"})
    memory.failing = [
        *[later] * 3 * (code == 400),
        *[refusal("POST", code=code, status={"message": said})] * 9,
    ]
    settings = replace(Settings(), template={"spec": {"a": 1}})
    asked = approve_template(Connection(memory), settings, namespace="lab", path="all.yaml")
    if ends is None:
        asyncio.run(asked)
        return
    with pytest.raises(ends) as ended:
        asyncio.run(asked)
    if ends is SpecError:
        assert str(ended.value) == "--template all.yaml: spec.a: there is no such field"


def test_a_job_whose_storage_would_get_no_class_waits_for_one(memory: Any) -> None:
    """Nothing is made of it, its condition says what helps, and it goes on by itself when there is a default."""

    async def scene(one: Reconciler) -> None:
        memory.default_class = ""
        assert await one.reconcile(KEY) == Requeue(REFUSED_SECONDS)
        assert [path for path in memory.objects if "/events" not in path] == [FLJOBS.path(*KEY)]
        told = memory.objects[FLJOBS.path(*KEY)]["status"]["conditions"][0]
        assert (told["status"], told["reason"]) == ("False", "NoStorageClass")
        assert told["message"].startswith(
            "spec.server.storage: names no storage class, and the cluster has no"
        )
        assert "template" not in told["message"]
        memory.default_class = "standard"
        one.clock = lambda: time.monotonic() + REFUSED_SECONDS
        await one.reconcile(KEY)
        assert len(jobs(memory)) == 3

    play(memory, scene)


def test_a_job_that_wants_no_class_is_not_asked_for_one(memory: Any) -> None:
    """A volume that was made before without a class is bound by a claim that says that it has none."""

    async def scene(one: Reconciler) -> None:
        memory.default_class = ""
        storage = {"storage": {"storageClassName": ""}}
        memory.put(FLJOBS.path(*KEY), {**JOB, "spec": {**JOB["spec"], "server": storage}})
        while "server" not in (one.mirror.find(FLJOBS, KEY) or JOB)["spec"]:
            await asyncio.sleep(0)
        await one.reconcile(KEY)
        assert len(jobs(memory)) == 3
        [claim] = [made for path, made in memory.objects.items() if "/persistentvolumeclaims/" in path]
        assert claim["spec"]["storageClassName"] == ""

    play(memory, scene)


def test_many_jobs_that_wait_for_a_class_ask_for_it_once(memory: Any) -> None:
    """What was learnt holds for all of them until they are looked at again."""

    async def scene(one: Reconciler) -> None:
        memory.default_class = ""
        for _ in range(3):
            assert await one.reconcile(KEY) == Requeue(REFUSED_SECONDS)
        dry = [request for request in memory.requests if "dryRun" in request.query]
        assert [request.path.rpartition("/")[2] for request in dry] == ["persistentvolumeclaims"]

    play(memory, scene)


def test_a_claim_of_which_nothing_is_learnt_says_nothing_of_the_next(memory: Any) -> None:
    """A quota may refuse one job's; whether the cluster has a default class is asked for the next all the same."""
    second = Key("lab", "second")
    metadata = {**JOB["metadata"], "name": second.name, "uid": "job-2"}

    async def scene(one: Reconciler) -> None:
        memory.default_class = ""
        memory.failing = [refusal("POST", code=403, status={"message": "exceeded quota"})]
        await one.reconcile(KEY)
        memory.put(FLJOBS.path(*second), {**JOB, "metadata": metadata})
        while one.mirror.find(FLJOBS, second) is None:
            await asyncio.sleep(0)
        await one.reconcile(second)
        told = memory.objects[FLJOBS.path(*second)]["status"]["conditions"][0]
        assert (told["status"], told["reason"]) == ("False", "NoStorageClass")

    play(memory, scene)


def test_an_operator_that_starts_anew_asks_before_it_repairs(memory: Any) -> None:
    """What the API server writes in its own way is no edit: nothing is written, and nothing asked twice."""
    send, policies = memory.send, "/networkpolicies"

    async def spells(request: Any) -> Any:
        if policies in request.path and request.method in {"POST", "PATCH"}:
            spec = {**request.body["spec"], "policyTypes": "as the server writes it"}
            request = replace(request, body={**request.body, "spec": spec})
        return await send(request)

    memory.send = spells

    async def scene(first: Reconciler) -> None:
        await first.reconcile(KEY)
        made = {path: one for path, one in memory.objects.items() if "/fljobs/" not in path}
        second = reconciler(memory)
        running = asyncio.create_task(second.mirror.run())
        await second.mirror.synced()
        for one, questions in (
            (first, 0),
            (second, len([path for path in made if policies in path])),
            (second, 0),
        ):
            asked = len(memory.requests)
            await one.reconcile(KEY)
            patches = [request for request in memory.requests[asked:] if request.method == "PATCH"]
            assert [patch.query["dryRun"] for patch in patches] == ["All"] * questions
        assert {path: one for path, one in memory.objects.items() if "/fljobs/" not in path} == made
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(memory, scene)


def test_a_repair_that_is_refused_is_asked_about_once(memory: Any) -> None:
    """From then on each visit only tries it in earnest."""
    send, path = memory.send, SERVICES.path("lab", "digits-server")

    async def refuses(request: Any) -> Any:
        if request.method == "PATCH" and request.path == path:
            memory.requests.append(request)
            raise refusal(str(request), code=403, status={"reason": "Forbidden", "message": "no"})
        return await send(request)

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        memory.send = refuses
        memory.put(path, {**memory.objects[path], "spec": {"ports": []}})
        while (one.mirror.find(SERVICES, Key("lab", "digits-server")) or {})["spec"]["ports"]:
            await asyncio.sleep(0.001)
        for dry in ([True, False], [False], [False]):
            asked = len(memory.requests)
            await one.reconcile(KEY)
            patches = [request for request in memory.requests[asked:] if request.method == "PATCH"]
            assert ["dryRun" in request.query for request in patches] == dry

    play(memory, scene)


def test_counts_of_pods_are_no_news(memory: Any) -> None:
    """While a Job only counts its pods nobody is told; what it came to is told, and kept."""

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        told: list[Any] = []
        for informer in one.mirror.informers(JOBS):
            informer.handlers.append(lambda old, new: told.append((new or old)["status"]))
        path = JOBS.path("lab", "digits-server")
        for status in ({"active": 1, "ready": 0}, {"active": 1, "ready": 1}, {"active": 0, "succeeded": 1}):
            memory.put(path, {**memory.objects[path], "status": status})
        while not told:
            await asyncio.sleep(0.001)
        assert told == [{"succeeded": 1}]

    play(memory, scene)


async def told(one: Reconciler, memory: Any) -> list[str]:
    """What the events say that were recorded until now."""
    writing = asyncio.create_task(one.recorder.run())
    await one.recorder.drain()
    writing.cancel()
    return [thing["note"] for path, thing in memory.objects.items() if "/events/" in path]


async def without(one: Reconciler, memory: Any, resource: Any, name: str) -> None:
    """Let somebody delete an object, and wait until the copy shows it."""
    if resource.path("lab", name) in memory.objects:
        memory.drop(resource.path("lab", name))
    while one.mirror.find(resource, Key("lab", name)) is not None:
        await asyncio.sleep(0.001)


def test_an_event_tells_of_a_child_that_was_deleted(memory: Any) -> None:
    """Once it is made again; none tells of one that the operator itself removed, to make it anew."""

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        await one.reconcile(KEY)
        await without(one, memory, SERVICES, "digits-server")
        await one.reconcile(KEY)
        assert SERVICES.path("lab", "digits-server") in memory.objects
        path, expected = (
            JOBS.path("lab", "digits-worker"),
            "Service digits-server was gone, and is made again",
        )
        job_ = memory.objects[path]
        labels = {**job_["metadata"]["labels"], ATTEMPT: "7"}
        memory.put(path, {**job_, "metadata": {**job_["metadata"], "labels": labels}})
        while one.mirror.find(JOBS, Key("lab", "digits-worker"))["metadata"]["labels"] != labels:  # type: ignore[index]
            await asyncio.sleep(0.001)
        await one.reconcile(KEY)
        await without(one, memory, JOBS, "digits-worker")
        await one.reconcile(KEY)
        assert path in memory.objects
        assert [said for said in await told(one, memory) if "Job" in said or "Service" in said] == [expected]

    play(memory, scene)


def test_what_was_repaired_is_told_though_something_else_failed(memory: Any) -> None:
    """The event goes with the repair: the next visit finds nothing to repair, and would not tell of it."""
    send, path = memory.send, SERVICES.path("lab", "digits-server")

    async def fails_for_jobs(request: Any) -> Any:
        if request.method == "POST" and request.path.endswith("/jobs"):
            raise refusal(str(request), code=500, status={"message": "no"})
        return await send(request)

    async def scene(one: Reconciler) -> None:
        await one.reconcile(KEY)
        await one.reconcile(KEY)
        memory.put(path, {**memory.objects[path], "spec": {"ports": []}})
        await without(one, memory, JOBS, "digits-worker")
        while (one.mirror.find(SERVICES, Key("lab", "digits-server")) or {})["spec"]["ports"]:
            await asyncio.sleep(0.001)
        memory.send = fails_for_jobs
        with pytest.raises(ServerFailureError):
            await one.reconcile(KEY)
        memory.send = send
        await one.reconcile(KEY)
        said = await told(one, memory)
        assert said.count("Service digits-server had been changed") == 1
        assert said.count("Job digits-worker was gone, and is made again") == 1

    play(memory, scene)
