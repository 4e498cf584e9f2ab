"""The operator as processes: ending in order, crashes, stolen Leases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import NotFoundError
from fl_operator.cluster.resources import LEASES, Key
from tests.cluster.toy_operator import parent as config_map
from tests.cluster.way import ROOT, children, connected, persist, play

pytestmark = pytest.mark.cluster


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
