"""How long a user waits from `kubectl apply` to the first round, on a cluster with an operator and its images.

    python -m bench.first_round --kubeconfig ... --times 5

Applies `manifests/samples/first.yaml` (4 workers) under a new name each time, follows its status as `kubectl get
--watch` would, and prints when each step showed there; news of the training are written every five seconds at most, so
that what is shown may be older. The jobs are removed afterwards.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import click
import yaml

from bench.operator_scale import connected
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.resources import FLJOBS, key_of, resource_of

SAMPLE = Path(__file__).parents[1] / "manifests/samples/first.yaml"
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 300.0


def steps(job: dict[str, Any]) -> dict[str, bool]:
    """What has happened to a job so far."""
    status = job.get("status", {})
    holds = {one["type"]: one["status"] == "True" for one in status.get("conditions", ())}
    return {
        "children created": "startTime" in status,
        "server ready": holds.get("ServerReady", False),
        "quorum": holds.get("Ready", False),
        "first round": status.get("training", {}).get("round", 0) >= 1,
        "complete": holds.get("Complete", False),
    }


async def once(connection: Connection, *, namespace: str, name: str) -> dict[str, float]:
    """Seconds from applying one job to each step."""
    things = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    for thing in things:
        thing["metadata"] |= {
            "namespace": namespace,
            "name": thing["metadata"]["name"].replace("first", name),
        }
    job = things[-1]
    job["spec"]["program"]["source"]["configMap"]["name"] = things[0]["metadata"]["name"]
    began, reached = time.perf_counter(), dict[str, float]()
    for thing in things:
        await connection.create(thing)
    try:
        while "complete" not in reached:
            seen = steps(await connection.read(FLJOBS, key_of(job)))
            passed = time.perf_counter() - began
            reached |= {step: passed for step, done in seen.items() if done and step not in reached}
            if passed > PATIENCE_SECONDS:
                raise click.ClickException(f"{name} is not complete after {passed:.0f} s: {reached}")
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        for thing in things:
            live = await connection.read(resource_of(thing), key_of(thing))
            await connection.delete(resource_of(thing), key_of(thing), uid=live["metadata"]["uid"])
    return reached


async def measure(kubeconfig: str, *, namespace: str, times: int) -> dict[str, float]:
    """The median of each step."""
    async with connected(kubeconfig) as connection:
        runs = [
            await once(connection, namespace=namespace, name=f"bench-{time.time_ns():x}")
            for _ in range(times)
        ]
    return {step: statistics.median(run[step] for run in runs) for step in runs[0]}


@click.command(help=__doc__)
@click.option("--kubeconfig", required=True, envvar="KUBECONFIG")
@click.option("--namespace", default="default", show_default=True)
@click.option("--times", default=5, show_default=True, type=click.IntRange(1))
def main(kubeconfig: str, namespace: str, times: int) -> None:
    """Print one figure a line."""
    for step, seconds in asyncio.run(measure(kubeconfig, namespace=namespace, times=times)).items():
        click.echo(f"{step:20} {seconds:8.2f} s")


if __name__ == "__main__":
    main()
