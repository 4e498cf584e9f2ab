"""The operator's engine in front of a real API server, straight and through the fault proxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter

from fl_operator.cluster import transport
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NamespaceTerminatingError,
    NotFoundError,
    TransientError,
    UnauthorizedError,
)
from fl_operator.cluster.events import Note, Recorder
from fl_operator.cluster.informer import Informer, Selection
from fl_operator.cluster.lease import Lease, LeaseLostError, Timing
from fl_operator.cluster.resources import (
    CONFIG_MAPS,
    EVENTS,
    FLJOBS,
    LEASES,
    NAMESPACES,
    SECRETS,
    Key,
    key_of,
    uid_of,
)
from fl_operator.cluster.transport import APPLY, Request
from fl_operator.metrics import ClientMetrics
from fl_operator.pace import FullJitter
from fl_operator.run import Operator
from fl_operator.settings import Settings
from tests.cluster import toy_operator as toy
from tests.cluster.proxy.faults import ROUGH, Fault, Faults, Order
from tests.cluster.proxy.server import FaultProxy

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SEEDS = os.environ.get("FLJOB_FAULT_SEEDS", "1 2 3").split()


LIST_SECONDS = 4.0
"""A real API server may take two seconds to say that its list is whole."""


class Way:
    """How the engine gets to the API server in one test: straight, or through faults."""

    def __init__(self, kubeconfig: Path, proxy: FaultProxy | None) -> None:
        self.kubeconfig, self.proxy = kubeconfig, proxy

    def calm(self) -> None:
        """From now on nothing goes wrong any more."""
        if self.proxy:
            print(dict(self.proxy.faults.happened))  # noqa: T201 - shown when a test fails
            self.proxy.calm()


Road = Callable[..., contextlib.AbstractAsyncContextManager[Way]]


@pytest.fixture(params=["straight", *(f"faults {seed}" for seed in SEEDS)])
def road(request: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Road:
    """Each test takes the straight way and some through faults."""
    monkeypatch.setattr(transport, "REQUEST_SECONDS", 2.0)

    @asynccontextmanager
    async def way(share: float = 0.2) -> AsyncIterator[Way]:
        if request.param == "straight":
            yield Way(cluster.kubeconfig, None)
            return
        faults = Faults(int(request.param.split()[1]), requests=share, events=ROUGH)
        async with FaultProxy(cluster.kubeconfig, faults) as proxy:
            yield Way(proxy.kubeconfig, proxy)

    return way


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Connection]:
    metrics = ClientMetrics(CollectorRegistry())
    connection = await Connection.open(kubeconfig, rate=0, burst=1, metrics=metrics)
    try:
        yield connection
    finally:
        await connection.close()


def play(scene: Awaitable[None], seconds: float = 90) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await scene

    asyncio.run(limited())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def persist(call: Callable[[], Awaitable[Any]], *, but: type[ClusterError] = ClusterError) -> Any:
    """Ask until it is answered, as a level-triggered loop does; `but` is what answers, too."""
    while True:
        try:
            return await call()
        except (TransientError, ConflictError) as error:
            if isinstance(error, but) and but is not ClusterError:
                return error
            await asyncio.sleep(0.01)


def restarts() -> Counter:
    return Counter("restarts_total", "Restarts.", ("resource", "reason"), registry=CollectorRegistry())


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    return toy.parent(namespace, name, **data)


# -- the verbs


def test_writing_and_reading(road: Road, namespace: str) -> None:
    """What is applied is there, once, with our name as its manager, whatever happened to the requests."""

    async def scene() -> None:
        async with road() as way, connected(way.kubeconfig) as connection:
            for number in range(10):
                thing = config_map(namespace, "a", number=str(number))
                applied = await persist(lambda thing=thing: connection.apply(thing))
                assert applied["data"] == {"number": str(number)}
            found = await persist(lambda: connection.read(CONFIG_MAPS, Key(namespace, "a")))
            assert found["data"] == {"number": "9"}
            [managed] = found["metadata"]["managedFields"]
            assert (managed["manager"], managed["operation"]) == ("fljob-operator", "Apply")

    play(scene())


def test_lost_answers(cluster: Any, namespace: str) -> None:
    """A creation whose answer was lost has happened, and a second one says so."""

    async def scene() -> None:
        orders = [Order("POST", "/configmaps", Fault.CUT_AFTER)]
        async with (
            FaultProxy(cluster.kubeconfig, Faults(orders=orders)) as proxy,
            connected(proxy.kubeconfig) as connection,
        ):
            with pytest.raises(TransientError):
                await connection.create(config_map(namespace, "a"))
            with pytest.raises(AlreadyExistsError):
                await connection.create(config_map(namespace, "a"))

    play(scene())


def test_deleting(cluster: Any, namespace: str) -> None:
    """A deletion goes to the very object that was meant, and takes dependants first."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            made = await connection.create(config_map(namespace, "a"))
            with pytest.raises(ConflictError):
                await connection.delete(CONFIG_MAPS, key_of(made), uid="another")
            await connection.delete(CONFIG_MAPS, key_of(made), uid=uid_of(made))
            # Without controllers nobody ends it: it waits for its dependants to go first.
            going = await connection.read(CONFIG_MAPS, key_of(made))
            assert going["metadata"]["deletionTimestamp"]
            assert going["metadata"]["finalizers"] == ["foregroundDeletion"]

    play(scene())


def test_refusals(cluster: Any, namespace: str) -> None:
    """Each kind of refusal of a real API server is its own error."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            with pytest.raises(
                NotFoundError, match=r'GET .*: the API server answered NotFound: configmaps "no"'
            ):
                await connection.read(CONFIG_MAPS, Key(namespace, "no"))
            with pytest.raises(InvalidError, match="metadata.name"):
                await connection.create(config_map(namespace, "No_Name"))
            with pytest.raises(InvalidError, match="unknown field|field not declared"):
                await connection.apply({**config_map(namespace, "a"), "dada": {}})
            made = await connection.create(config_map(namespace, "a"))
            await connection.replace({**made, "data": {"x": "1"}})
            with pytest.raises(ConflictError):
                await connection.replace({**made, "data": {"x": "2"}})

    play(scene())


def test_no_rights(cluster: Any, namespace: str, tmp_path: Path) -> None:
    """A service account without rights is told so, and a token that is none is not known."""

    async def scene() -> None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
        root = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        async with connected(cluster.kubeconfig) as connection:
            await connection.wire.send(Request("POST", root, body=account))
            asked = Request("POST", f"{root}/nobody/token", body={"spec": {}})
            token = (await connection.wire.send(asked))["status"]["token"]
        async with connected(with_token(cluster.kubeconfig, token, tmp_path)) as connection:
            with pytest.raises(ForbiddenError, match="nobody.* cannot get resource"):
                await connection.read(SECRETS, Key(namespace, "a"))
        async with connected(with_token(cluster.kubeconfig, "none", tmp_path)) as connection:
            with pytest.raises(UnauthorizedError):
                await connection.read(SECRETS, Key(namespace, "a"))

    play(scene())


def with_token(kubeconfig: Path, token: str, folder: Path) -> Path:
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    for row in config["clusters"]:
        authority = row["cluster"].get("certificate-authority")
        if authority:
            row["cluster"]["certificate-authority"] = str(kubeconfig.parent / authority)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_a_namespace_that_goes(cluster: Any, namespace: str) -> None:
    """What cannot be created because its namespace is being deleted can be told from missing rights."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await connection.create(config_map(namespace, "stays"))
            known = await connection.read(NAMESPACES, Key("", namespace))
            await connection.delete(
                NAMESPACES, Key("", namespace), uid=uid_of(known), propagation="Background"
            )
            with pytest.raises(NamespaceTerminatingError):
                await forever_more(connection, namespace)

    play(scene())


async def forever_more(connection: Connection, namespace: str) -> None:
    """Create one object after the other: the API server needs a moment to see that the namespace goes."""
    for number in count():
        await connection.create(config_map(namespace, f"new-{number}"))
        await asyncio.sleep(0.1)


def test_status(cluster: Any, namespace: str) -> None:
    """A status is written whole and alone, and only over the version that was looked at."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await define(connection)
            text = (ROOT / "examples" / "digits" / "job.yaml").read_text(encoding="utf-8")
            job = yaml.safe_load(text)
            job["metadata"]["namespace"] = namespace
            made = await connection.create(job)
            slim = {name: made[name] for name in ("apiVersion", "kind")}
            names = ("namespace", "name", "resourceVersion")
            slim["metadata"] = {name: made["metadata"][name] for name in names}
            first = await connection.write_status({**slim, "status": {"attempt": 1, "observedGeneration": 1}})
            assert (first["status"], first["spec"]) == ({"attempt": 1, "observedGeneration": 1}, made["spec"])
            with pytest.raises(ConflictError):
                await connection.write_status({**slim, "status": {"attempt": 2}})
            slim["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
            second = await connection.write_status({**slim, "status": {"attempt": 2}})
            assert second["status"] == {"attempt": 2}
            listed = [one async for one in connection.objects(FLJOBS, namespace=namespace)]
            assert [key_of(one) for one in listed] == [key_of(made)]

    play(scene())


async def define(connection: Connection) -> None:
    """Install the definition of FLJobs, and wait until the API server serves them."""
    crd = yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text(encoding="utf-8"))
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    query = {"fieldManager": "tests", "force": "true"}
    await connection.wire.send(Request("PATCH", path, query=query, body=crd, content_type=APPLY))
    while True:
        with contextlib.suppress(NotFoundError, TransientError):
            await connection.document(FLJOBS.path())
            return
        await asyncio.sleep(0.05)


# -- copies


def test_the_copy_ends_like_the_original(road: Road, cluster: Any, namespace: str) -> None:
    """Whatever happened to its watch, the copy is the original in the end, and handlers heard each step's ends."""

    async def scene() -> None:
        draw = random.Random(5)
        told: dict[str, str | None] = {}

        def follow(old: Any, new: Any) -> None:
            name = (new or old)["metadata"]["name"]
            assert told.get(name) == (old and old["metadata"]["resourceVersion"])
            told[name] = new and new["metadata"]["resourceVersion"]

        async with (
            road(share=0.5) as way,
            connected(cluster.kubeconfig) as direct,
            connected(way.kubeconfig) as through,
        ):
            selection = Selection(CONFIG_MAPS, namespace=namespace, labels="toy")
            backoff = FullJitter(draw, first=0.02, most=0.2)
            informer = Informer(through, selection, restarts(), silence=LIST_SECONDS, backoff=backoff)
            informer.handlers.append(follow)
            running = asyncio.create_task(informer.run())
            for turn in range(300):
                await change(direct, namespace, draw, turn)
                await asyncio.sleep(draw.choice([0, 0, 0.05, 0.1]))
            way.calm()
            held = {
                one["metadata"]["name"]: one["metadata"]["resourceVersion"]
                async for one in direct.objects(CONFIG_MAPS, namespace=namespace, labels="toy")
            }
            await until(lambda: held == {name: version for name, version in told.items() if version})
            copied = {key.name: informer.cache.find(key) for key in informer.cache}
            assert held == {name: one["metadata"]["resourceVersion"] for name, one in copied.items() if one}
            assert not [one for one in copied.values() if one and "managedFields" in one["metadata"]]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


async def change(connection: Connection, namespace: str, draw: random.Random, turn: int) -> None:
    key = Key(namespace, f"thing-{draw.randrange(12)}")
    if draw.random() < 0.3:
        with contextlib.suppress(NotFoundError):
            known = await connection.read(CONFIG_MAPS, key)
            await connection.delete(CONFIG_MAPS, key, uid=uid_of(known), propagation="Background")
    else:
        await connection.apply(config_map(namespace, key.name, turn=str(turn)))


def test_a_version_that_is_too_old(cluster: Any, namespace: str) -> None:
    """A real 410 makes the informer list anew, and it reports only what changed."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await connection.apply(config_map(namespace, "a"))
            counter = restarts()
            informer = Informer(connection, Selection(CONFIG_MAPS, namespace=namespace), counter)
            informer._version = 1
            running = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced.wait(), 20)
            reasons = {one.labels["reason"] for metric in counter.collect() for one in metric.samples}
            assert reasons == {"Gone"}
            assert informer.cache.find(Key(namespace, "a"))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


def test_metadata_only(cluster: Any, namespace: str) -> None:
    """Of kinds whose content nobody reads only the metadata come, under the kind's own name."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as connection:
            await connection.apply(config_map(namespace, "a", much="x" * 1000))
            selection = Selection(CONFIG_MAPS, namespace=namespace, metadata_only=True)
            informer = Informer(connection, selection, restarts())
            running = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced.wait(), 20)
            found = informer.cache.find(Key(namespace, "a"))
            assert found
            assert (found["kind"], found["apiVersion"], "data" in found) == ("ConfigMap", "v1", False)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scene())


# -- leaders


def test_never_two_leaders(road: Road, namespace: str) -> None:
    """Replicas that are cut off, stalled and refused take turns, and no two of them ever lead at once."""
    timing = Timing(duration=3, deadline=2, retry=0.2, request=0.7)
    leading: list[str] = []
    turns: list[str] = []

    async def replica(connection: Connection, name: str, stop: asyncio.Event) -> None:
        async def work() -> None:
            assert leading == []
            leading.append(name)
            turns.append(name)
            try:
                await asyncio.sleep(0.5)
            finally:
                leading.remove(name)

        while not stop.is_set():
            with contextlib.suppress(LeaseLostError):
                await Lease(connection, Key(namespace, "operator"), name, timing).lead(work)
            await asyncio.sleep(0.3)

    async def scene() -> None:
        async with road(share=0.15) as way, connected(way.kubeconfig) as connection:
            stop = asyncio.Event()
            replicas = [asyncio.create_task(replica(connection, name, stop)) for name in "abc"]
            await until(lambda: len(turns) >= 8)
            way.calm()
            stop.set()
            await asyncio.gather(*replicas)
            assert len(set(turns)) == 3
            lease = await connection.read(LEASES, Key(namespace, "operator"))
            assert "holderIdentity" not in lease["spec"]

    play(scene(), 150)


def test_a_leader_behind_a_partition(cluster: Any, namespace: str) -> None:
    """A leader that is cut off stops before the next one begins."""
    timing = Timing(duration=3, deadline=2, retry=0.2, request=0.7)
    history: list[str] = []

    async def work(name: str) -> None:
        history.append(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            history.append(f"{name} ends")

    async def scene() -> None:
        async with (
            FaultProxy(cluster.kubeconfig, Faults()) as proxy,
            connected(proxy.kubeconfig) as cut_off,
            connected(cluster.kubeconfig) as direct,
        ):
            key = Key(namespace, "operator")
            first = asyncio.create_task(Lease(cut_off, key, "first", timing).lead(lambda: work("first")))
            await until(lambda: history)
            second = asyncio.create_task(Lease(direct, key, "second", timing).lead(lambda: work("second")))
            proxy.partition()
            with pytest.raises(LeaseLostError):
                await first
            await until(lambda: len(history) == 3)
            assert history == ["first begins", "first ends", "second begins"]
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)

    play(scene())


# -- events


def test_events(road: Road, namespace: str) -> None:
    """Events are on the object as the API server wants them, and a repeated one is a series."""

    async def scene() -> None:
        async with road(share=0) as way, connected(way.kubeconfig) as connection:
            thing = await persist(lambda: connection.apply(config_map(namespace, "a")))
            recorder = Recorder(connection, "tests")
            running = asyncio.create_task(recorder.run())
            for _ in range(3):
                recorder.record(Note.on(thing, "WorkerLost", "ä" * 2000, warning=True))
            recorder.record(Note.on(thing, "Begun", "it began"))
            await recorder.drain()
            running.cancel()
            found = [one async for one in connection.objects(EVENTS, namespace=namespace)]
            told = {one["reason"]: one for one in found}
            assert set(told) == {"WorkerLost", "Begun"}
            assert told["WorkerLost"]["series"]["count"] == 2
            assert told["WorkerLost"]["regarding"]["uid"] == uid_of(thing)
            assert "series" not in told["Begun"]

    play(scene())


# -- the whole engine


def test_every_parent_gets_its_child(road: Road, cluster: Any, namespace: str) -> None:
    """Whatever goes wrong on the way, in the end every parent has its child, and then nothing is written any more."""

    async def scene() -> None:
        async with road() as way, connected(cluster.kubeconfig) as direct:
            operator = toy_operator(way.kubeconfig, namespace)
            running = asyncio.create_task(operator.run())
            parents = {f"p-{number}": "0" for number in range(30)}
            for name in parents:
                await direct.apply(config_map(namespace, name, x="0"))
            for turn, name in enumerate(random.Random(3).choices(list(parents), k=60)):
                parents[name] = str(turn)
                await direct.apply(config_map(namespace, name, x=str(turn)))
                await asyncio.sleep(0.02)
            way.calm()
            while await children(direct, namespace) != parents:
                assert not running.done(), running
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.0)  # events may still be on their way
            before, began = await versions(direct, namespace), len(way.proxy.log) if way.proxy else 0
            await asyncio.sleep(4.0)
            assert await versions(direct, namespace) == before
            if way.proxy:
                late = [
                    path
                    for method, path in way.proxy.log[began:]
                    if method in {"POST", "PUT", "PATCH", "DELETE"}
                ]
                assert late
                assert {path.rpartition("/leases/")[1] for path in late} == {"/leases/"}
            operator.stop.set()
            await running

    play(scene())


def toy_operator(kubeconfig: Path, namespace: str) -> Operator:
    settings = Settings(
        namespace=namespace, watch_namespaces=(namespace,), kubeconfig=kubeconfig, metrics="127.0.0.1:0"
    )
    return Operator(settings, toy.WATCHES, toy.assemble)


async def children(connection: Connection, namespace: str) -> dict[str, str]:
    found = connection.objects(CONFIG_MAPS, namespace=namespace, labels="toy")
    return {
        one["metadata"]["ownerReferences"][0]["name"]: one["data"]["x"]
        async for one in found
        if "ownerReferences" in one["metadata"]
    }


async def versions(connection: Connection, namespace: str) -> dict[str, str]:
    found = connection.objects(CONFIG_MAPS, namespace=namespace, labels="toy")
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] async for one in found}


# -- the process


@pytest.fixture
def process(cluster: Any, namespace: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the toy operator as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        flags = [f"--namespace={namespace}", f"--watch-namespace={namespace}", "--metrics=127.0.0.1:0"]
        command = [
            sys.executable,
            "-m",
            "tests.cluster.toy_operator",
            "run",
            f"--kubeconfig={cluster.kubeconfig}",
        ]
        path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}
        started.append(subprocess.Popen([*command, *flags], cwd=ROOT, env={**os.environ, **path}, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


async def holder(connection: Connection, namespace: str) -> str | None:
    with contextlib.suppress(NotFoundError):
        lease = await connection.read(LEASES, Key(namespace, "fljob-operator"))
        return lease["spec"].get("holderIdentity")  # type: ignore[no-any-return]
    return None


async def held(connection: Connection, namespace: str, *, not_by: str | None = None) -> str:
    """Wait until somebody (else) leads, and say who."""
    while (found := await holder(connection, namespace)) in (None, not_by):
        await asyncio.sleep(0.1)
    return str(found)


def test_ending_in_order(cluster: Any, namespace: str, process: Callable[[], subprocess.Popen[str]]) -> None:
    """SIGTERM ends the process with 0 and frees the Lease, and the next replica leads within seconds."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as direct:
            first = process()
            one = await held(direct, namespace)
            process()
            await asyncio.sleep(2)
            first.send_signal(signal.SIGTERM)
            began = time.monotonic()
            await held(direct, namespace, not_by=one)
            assert time.monotonic() - began < 6
            assert await asyncio.to_thread(first.wait, 10) == 0

    play(scene())


def test_a_crash_is_waited_out(
    cluster: Any, namespace: str, process: Callable[[], subprocess.Popen[str]]
) -> None:
    """A leader that is killed is followed when its Lease has run out, and its work goes on."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as direct:
            first = process()
            one = await held(direct, namespace)
            process()
            await asyncio.sleep(2)
            first.kill()
            await direct.apply(config_map(namespace, "a", x="1"))
            began = time.monotonic()
            await held(direct, namespace, not_by=one)
            assert 10 < time.monotonic() - began < 25
            while await children(direct, namespace) != {"a": "1"}:
                await asyncio.sleep(0.1)

    play(scene())


def test_a_stolen_lease_ends_the_process(
    cluster: Any, namespace: str, process: Callable[[], subprocess.Popen[str]]
) -> None:
    """A process whose Lease was stolen ends within seconds, with the code that says: try again."""

    async def scene() -> None:
        async with connected(cluster.kubeconfig) as direct:
            first = process()
            await held(direct, namespace)
            key = Key(namespace, "fljob-operator")
            await persist(lambda: direct.merge(LEASES, key, {"spec": {"holderIdentity": "thief"}}))
            assert await asyncio.to_thread(first.wait, 8) == 75
            assert await holder(direct, namespace) == "thief"

    play(scene())
