"""How the operator does with many jobs, on whatever cluster a kubeconfig names: `make cluster LEVEL=3` gives one.

    python -m bench.operator_scale --kubeconfig ... --jobs 1000

Creates the jobs and a volume for each, starts an operator, and measures from outside: seconds until all children
exist and until all jobs are ready, seconds of a reconcile with and without its waits, memory, writes while nothing
happens, and seconds of an end and of a start beside jobs that exist already. Namespace and volumes are removed
afterwards.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import AlreadyExistsError, NotFoundError
from fl_operator.cluster.resources import FLJOBS, JOBS, NAMESPACES, Key, Object
from fl_operator.cluster.transport import Request
from fl_operator.metrics import ClientMetrics

NAMESPACE = "fljob-bench"
VOLUMES = "/api/v1/persistentvolumes"
AT_ONCE = 16
JOBS_EACH = 3
LOOK_SECONDS = 2.0
SETTLE_SECONDS = 150.0
"""What was written last has been seen by then, events are told, and so is who was silent for two minutes."""
END_SECONDS = 60.0
"""An operator that has not ended by then is killed."""
WRITES = ("POST", "PUT", "PATCH", "DELETE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Operator:
    """An operator's process, seen from outside."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        """Where its metrics are, once it has said so."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and (said := json.loads(line)).get("event") == "started":
                return str(said["metrics"])
        return ""

    def samples(self) -> dict[str, float]:
        """All samples of its metrics, by name and labels."""
        page = self.read("/metrics")
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    def running(self) -> float:
        """How many jobs are ready, as it says."""
        self.check()
        return sum(
            value
            for key, value in self.samples().items()
            if key.startswith("fljob_jobs[") and "'Running'" in key
        )

    def is_ready(self) -> bool:
        """Whether its copies are whole."""
        self.check()
        try:
            return bool(self.address) and self.read("/readyz").startswith("200")
        except OSError:
            return False

    def check(self) -> None:
        """Raises where it is over, with its last words."""
        if (code := self.process.poll()) is not None:
            words = "\n".join(self.log.read_text().splitlines()[-5:])
            raise click.ClickException(f"the operator ended with {code}: {words}")

    def read(self, path: str) -> str:
        """A page of its web server."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as page:
            return str(page.read().decode())

    def end(self) -> float:
        """Seconds from being told to end until it has."""
        began = time.perf_counter()
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.perf_counter() - began

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        return cpu_of(Path(f"/proc/{self.process.pid}"))

    def peak_mebibytes(self) -> float:
        """The most memory it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


def cpu_seconds(word: str) -> float:
    """Processor time of all processes whose command line begins with a program of this name."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            if command.rpartition("/")[2] == word:
                total += cpu_of(folder)
        except OSError:
            continue
    return total


def cpu_of(folder: Path) -> float:
    """Processor time of the process with this folder in /proc."""
    fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def operator(kubeconfig: str) -> Iterator[Operator]:
    """Run an operator for the benchmark's namespace; the only one, which no starved cluster may cost its Lease."""
    command = [
        sys.executable,
        "-m",
        "fl_operator",
        "run",
        "--kubeconfig",
        kubeconfig,
        "--namespace",
        NAMESPACE,
        "--no-leader-election",
    ]
    options = ["--watch-namespace", NAMESPACE, "--metrics", "127.0.0.1:0", "--enrolment", "127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen([*command, *options], stdout=file, stderr=file)
        started = Operator(process, log)
        try:
            yield started
        finally:
            started.end()


async def until(what: Callable[[], Any]) -> float:
    """Seconds until it is true."""
    began = time.perf_counter()
    while not await asyncio.to_thread(what):
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


@asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator[Connection]:
    """A connection without a limit of its own."""
    metrics = ClientMetrics(CollectorRegistry())
    connection = await Connection.open(Path(kubeconfig), rate=0, burst=1, metrics=metrics)
    try:
        yield connection
    finally:
        await connection.close()


async def create(connection: Connection, jobs: int) -> None:
    """Create the namespace and the jobs."""
    try:
        await connection.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    except AlreadyExistsError:
        raise click.ClickException(f"namespace {NAMESPACE} exists already; remove it first") from None
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await connection.wire.send(Request("POST", VOLUMES, body=_volume(number)))
            await connection.create(_job(number))

    await asyncio.gather(*map(one, range(jobs)))


def _job(number: int) -> Object:
    spec = {
        "program": {"entrypoint": "program:task", "framework": "numpy"},
        "rounds": 2,
        "workers": {"replicas": 1},
        "server": {"storage": {"storageClassName": NAMESPACE}},
    }
    metadata = {"name": f"job-{number}", "namespace": NAMESPACE}
    return {"apiVersion": FLJOBS.api_version, "kind": FLJOBS.kind, "metadata": metadata, "spec": spec}


def _volume(number: int) -> Object:
    """A volume for a server's claim, which nobody but the jobs of this benchmark asks for."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": f"/var/lib/{NAMESPACE}"},
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": NAMESPACE,
    }
    metadata = {"name": f"{NAMESPACE}-{number}", "labels": {NAMESPACE: "volume"}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


async def remove(connection: Connection) -> None:
    """Delete the namespace, wait until it is gone, and delete the volumes."""
    key = Key("", NAMESPACE)
    with suppress(NotFoundError):
        found = await connection.read(NAMESPACES, key)
        await connection.delete(NAMESPACES, key, uid=found["metadata"]["uid"])
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await connection.read(NAMESPACES, key)
    await connection.wire.send(Request("DELETE", VOLUMES, query={"labelSelector": NAMESPACE}))


async def count(connection: Connection) -> int:
    """How many Jobs there are, without reading them."""
    listed = await connection.document(f"{JOBS.path(NAMESPACE)}?limit=1")
    return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount", 0))


async def measure(kubeconfig: str, *, jobs: int, quiet: float) -> None:
    """Print each figure as soon as it is known."""
    async with connected(kubeconfig) as connection:
        await create(connection, jobs)
        try:
            async for name, value in _measure(connection, kubeconfig, jobs=jobs, quiet=quiet):
                click.echo(f"{name:50} {value:10.3f}")
        finally:
            with operator(kubeconfig):  # without one the namespace would wait for its Jobs for ever
                await remove(connection)


async def _measure(
    connection: Connection, kubeconfig: str, *, jobs: int, quiet: float
) -> AsyncIterator[tuple[str, float]]:
    with operator(kubeconfig) as first:
        server = cpu_seconds("kube-apiserver")
        began = time.perf_counter()
        while await count(connection) < JOBS_EACH * jobs:
            first.check()
            await asyncio.sleep(LOOK_SECONDS)
        created = time.perf_counter() - began
        spent = cpu_seconds("kube-apiserver") - server
        worked = first.cpu_seconds()
        ready = created + await until(lambda: first.running() >= jobs)
        yield "jobs", jobs
        yield "seconds until all Jobs exist", created
        yield "processor seconds of the operator meanwhile", worked
        yield "processor milliseconds a job", 1000 * worked / jobs
        yield "processor seconds of the API server meanwhile", spent
        yield "seconds until all jobs are ready", ready
        yield "processor seconds of the operator until then", first.cpu_seconds()
        for name, value in {**_reconciles(first.samples()), **_waits(first.samples())}.items():
            yield name, value
        yield "peak MiB", first.peak_mebibytes()
        await asyncio.sleep(SETTLE_SECONDS)
        before, used = _writes(first.samples()), first.cpu_seconds()
        await asyncio.sleep(quiet)
        yield "quiet seconds", quiet
        yield "writes in quiet seconds", _writes(first.samples()) - before
        yield "processor seconds in quiet seconds", first.cpu_seconds() - used
        yield "peak MiB after them", first.peak_mebibytes()
        yield "seconds of its end", first.end()
    with operator(kubeconfig) as second:
        yield "seconds of a start beside them, to ready", await until(second.is_ready)
        yield "processor seconds of it", second.cpu_seconds()
        await asyncio.sleep(SETTLE_SECONDS)
        yield "peak MiB after it", second.peak_mebibytes()


def _reconciles(samples: dict[str, float]) -> dict[str, float]:
    """How long reconciles took, and of that the operator's own time."""
    whole, own = "fljob_reconcile_duration_seconds", "fljob_reconcile_cpu_seconds"
    total = samples[f"{whole}_count[]"]
    return {
        "reconciles": total,
        "p99 of a reconcile, at most seconds": _p99(samples, whole),
        "p99 of its own processor time, at most seconds": _p99(samples, own),
        "mean of a reconcile, seconds": samples[f"{whole}_sum[]"] / total,
        "mean of its own processor time, seconds": samples[f"{own}_sum[]"] / total,
    }


def _waits(samples: dict[str, float]) -> dict[str, float]:
    """What a reconcile waits for: answers of the API server, and before that the operator's own limits."""

    def mean(name: str, verb: str) -> float:
        total, count = (
            sum(
                value
                for key, value in samples.items()
                if key.startswith(f"{name}_{part}[") and f"'{verb}'" in key
            )
            for part in ("sum", "count")
        )
        return total / count if count else 0.0

    answer, own = "rest_client_request_duration_seconds", "rest_client_rate_limiter_duration_seconds"
    return {
        f"mean of {words} a {verb}, seconds": mean(name, verb)
        for verb in ("POST", "PUT", "GET")
        for name, words in ((answer, "the answer to"), (own, "our own limits before"))
    }


def _p99(samples: dict[str, float], name: str) -> float:
    """The bound of the histogram's bucket with which 99 % are reached."""
    bounds = sorted(
        (float(key.split("'")[3]), value)
        for key, value in samples.items()
        if key.startswith(f"{name}_bucket") and "Inf" not in key
    )
    total = samples[f"{name}_count[]"]
    return next((bound for bound, value in bounds if value >= 0.99 * total), float("inf"))


def _writes(samples: dict[str, float]) -> float:
    """Requests that change something, the status of a job (a PUT) too; without an election no Lease is renewed."""
    name = "rest_client_requests_total"
    return sum(
        value
        for key, value in samples.items()
        if key.startswith(name) and any(f"'{verb}'" in key for verb in WRITES)
    )


@click.command(help=__doc__)
@click.option("--kubeconfig", required=True, envvar="KUBECONFIG")
@click.option("--jobs", default=1000, show_default=True)
@click.option("--quiet", default=60.0, show_default=True, help="Seconds in which nothing should be written.")
def main(kubeconfig: str, jobs: int, quiet: float) -> None:
    """Print one figure a line."""
    asyncio.run(measure(kubeconfig, jobs=jobs, quiet=quiet))


if __name__ == "__main__":
    main()
