"""What happens to a cluster beside its jobs: its API server stands still, its node is drained."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.node import NODE
from harness.waiting import until
from tests.cluster import line
from tests.cluster.remade import check_line
from tests.cluster.steps import pids_of, resume
from tests.cluster.tenant import OVER, Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

STILL_SECONDS = 25.0
"""Longer than an operator keeps its lease."""
MEANWHILE = 5
"""Rounds that are over while nobody can ask the API server."""
LONG_SECONDS = 10.0
"""What each worker trains in a round in whose midst all pods are told to end."""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        resume(pid)


def test_rounds_go_on_while_the_api_server_stands_still(tenant: Tenant, tmp_path: Path) -> None:
    """By the server's own record rounds are committed in that time; the job completes, and each model is that of the
    round's recorded workers.
    """
    tenant.fl_submit("submit", str(line.write(tmp_path, rounds=90)))
    tenant.eventually("line", lambda: tenant.round("line") >= 2)
    record = tenant.storage("line") / "metrics.jsonl"
    (api,) = pids_of(f"--client-ca-file={tenant.cluster.authority.certificate}")
    with stopped(api):
        since, before = time.monotonic(), lines(record)
        assert tenant.cluster.kubectl("get", "--raw=/readyz", "--request-timeout=2s", check=False).returncode
        assert until(lambda: lines(record) >= before + MEANWHILE and time.monotonic() > since + STILL_SECONDS)
        assert lines(record) < 90
    tenant.completes("line")
    check_line(tenant, "line", tmp_path)


def test_a_drain_of_the_node_loses_nothing_that_was_committed(tenant: Tenant, tmp_path: Path) -> None:
    """All pods of a job are evicted in mid-round, and come back when the node may be used again: what was on the record
    stays as it was, each round is committed once, and each model is that of the round's recorded workers.
    """
    program = {"entrypoint": "program:task", "framework": "numpy", "config": {"seconds": LONG_SECONDS}}
    tenant.fl_submit("submit", str(line.write(tmp_path, rounds=4, program=program)))
    tenant.eventually("line", lambda: tenant.round("line") >= 1)
    record, evicted = tenant.storage("line") / "metrics.jsonl", staying(tenant)
    assert len(evicted) == 5
    before = lines(record)
    assert until(lambda: lines(record) > before)
    kept = record.read_text(encoding="utf-8")
    only = ("--pod-selector=fljob.dev/job=line", "--timeout=180s")
    drain = ("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", *only)
    try:
        with tenant.beside(*tenant.cluster.kubectl_command(*drain)) as draining:
            tenant.eventually("line", lambda: staying(tenant).isdisjoint(evicted))
            assert record.read_text(encoding="utf-8").startswith(kept)
            assert draining.wait(200) == 0
        assert tenant.shown("line")["state"] not in OVER
    finally:
        tenant.cluster.kubectl("uncordon", NODE)
    tenant.completes("line")
    check_line(tenant, "line", tmp_path)
    assert record.read_text(encoding="utf-8").startswith(kept)


def lines(record: Path) -> int:
    """How many lines a server's record has."""
    return len(record.read_text(encoding="utf-8").splitlines())


def staying(tenant: Tenant) -> set[str]:
    """The job's pods that are not told to end."""
    pods = [pod["metadata"] for pod in tenant.get("pods", "-l", "fljob.dev/job=line")]
    return {pod["uid"] for pod in pods if "deletionTimestamp" not in pod}
