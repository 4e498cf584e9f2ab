"""What a process answers over HTTP."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from fl_core import serving
from fl_core.serving import Health, answering, serve


def status(address: str, page: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address}{page}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_metrics_are_those_of_the_registry() -> None:
    """/metrics shows the registry's values as they are now."""
    registry = CollectorRegistry()
    counter = Counter("things", "Things.", registry=registry)
    address = serve("127.0.0.1:0", registry, Health())
    counter.inc(3)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        assert "things_total 3.0" in answer.read().decode()


def test_probes_follow_the_health() -> None:
    """/readyz and /healthz answer 200 or 503, and change with the process; there is nothing else."""
    health = Health()
    address = serve("127.0.0.1:0", CollectorRegistry(), health)
    assert (status(address, "/readyz"), status(address, "/healthz")) == (503, 200)
    health.ready, health.alive = True, lambda: False
    assert (status(address, "/readyz"), status(address, "/healthz")) == (200, 503)
    assert status(address, "/") == 404


def test_a_loop_is_alive_while_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that runs answers; one that is blocked, or closed, is not alive."""
    monkeypatch.setattr(serving, "ALIVE_SECONDS", 0.2)
    blocked, release = threading.Event(), threading.Event()

    async def main() -> None:
        alive = answering(asyncio.get_running_loop())
        assert await asyncio.to_thread(alive)
        asked = asyncio.get_running_loop().run_in_executor(None, lambda: blocked.wait(5) and alive())
        blocked.set()
        release.wait(0.5)  # the loop is stuck here
        assert await asked is False

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert answering(loop)() is False
