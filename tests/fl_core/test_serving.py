"""The probes and the metrics page answer what is, and nothing else is served."""

from __future__ import annotations

from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from fl_core.serving import Health, serve


def answer(address: str, path: str) -> tuple[int, str]:
    connection = HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


@pytest.mark.parametrize(("ready", "alive"), [(True, True), (False, True), (True, False)])
def test_probes_answer_what_is(ready: bool, alive: bool) -> None:  # noqa: FBT001
    """Ready and alive are asked for at each probe and told apart by the status alone."""
    health = Health()
    address = serve("127.0.0.1:0", CollectorRegistry(), health)
    health.ready, health.alive = ready, lambda: alive
    assert answer(address, "/readyz")[0] == (200 if ready else 503)
    assert answer(address, "/healthz")[0] == (200 if alive else 503)


def test_metrics_are_those_of_this_registry() -> None:
    """The page holds the process's own metrics, and no other path exists."""
    registry = CollectorRegistry()
    Counter("rounds", "Rounds closed.", registry=registry).inc(3)
    address = serve("127.0.0.1:0", registry, Health())
    status, page = answer(address, "/metrics")
    assert (status, "rounds_total 3.0" in page) == (200, True)
    assert [answer(address, path)[0] for path in ("/", "/metrics/", "/../etc/passwd")] == [404] * 3
