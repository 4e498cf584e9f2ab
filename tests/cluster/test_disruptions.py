"""What happens to a cluster beside its jobs: its API server stands still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.waiting import until
from tests.cluster import line
from tests.cluster.remade import check_line
from tests.cluster.steps import pids_of, resume
from tests.cluster.tenant import Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

STILL_SECONDS = 25.0
"""Longer than an operator keeps its lease."""
MEANWHILE = 5
"""Rounds that are over while nobody can ask the API server."""


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
    tenant.fl_submit("submit", str(line.write(tmp_path, rounds=60)))
    tenant.eventually("line", lambda: tenant.round("line") >= 2)
    record = tenant.storage("line") / "metrics.jsonl"
    (api,) = pids_of(f"--client-ca-file={tenant.cluster.authority.certificate}")
    with stopped(api):
        since, before = time.monotonic(), lines(record)
        assert tenant.cluster.kubectl("get", "--raw=/readyz", "--request-timeout=2s", check=False).returncode
        assert until(lambda: lines(record) >= before + MEANWHILE and time.monotonic() > since + STILL_SECONDS)
        assert lines(record) < 60
    tenant.completes("line")
    check_line(tenant, "line", tmp_path)


def lines(record: Path) -> int:
    """How many lines a server's record has."""
    return len(record.read_text(encoding="utf-8").splitlines())
