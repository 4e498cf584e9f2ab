"""Pods that really fail: the job's condition names the process, what happened to it, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import line
from tests.cluster.tenant import Map, Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

IMAGE = "registry.invalid/nobody:1"
FAILING = {
    "greedy": "def task(config, site):\n    return bytearray(b'x' * 2**31)\n",
    "leaving": "import sys\n\n\ndef task(config, site):\n    sys.exit(1)\n",
    "crashing": "import os\n\n\ndef task(config, site):\n    os._exit(1)\n",
    "telling": "import os\n\n\ndef task(config, site):\n    os.write(2, b'no licence\\n')\n    os.abort()\n",
    "absent": "def task(config, site):\n    return None\n",
}
"""Programs that take more memory than they may, ask to end their process, or end it themselves, in silence or with a
word; one without image."""
CONTAINERS: dict[str, Map] = {
    "greedy": {"resources": {"limits": {"memory": "300Mi"}, "requests": {"memory": "300Mi"}}},
    "absent": {"image": IMAGE, "imagePullPolicy": "IfNotPresent"},
}
TOLD = {
    "greedy": ("OOMKilled", "worker 0: OOMKilled (limit 300Mi); raise the memory limit in its template"),
    "crashing": (
        "CrashLoopBackOff",
        "worker 0: CrashLoopBackOff (exit code 1: it did not say why); look at its log",
    ),
    "telling": (
        "CrashLoopBackOff",
        "worker 0: CrashLoopBackOff (exit code 134, SIGABRT: no licence); look at its log",
    ),
    "absent": ("ImagePullBackOff", "worker 0: ImagePullBackOff ("),
}
"""Reason and beginning of the condition `Degraded`."""


def submit(tenant: Tenant, folder: Path, name: str) -> None:
    """A job of one worker, whose program and container are those of this failure."""
    container = {"name": "fl", **CONTAINERS.get(name, {})}
    workers = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
    job = line.write(folder / name, name=name, workers=workers, secureAggregation={"enabled": False})
    (folder / name / "program" / "__init__.py").write_text(FAILING[name], encoding="utf-8")
    tenant.fl_submit("submit", str(job))


def message_of(tenant: Tenant, name: str, kind: str, reason: str) -> str:
    """What a job's condition says when it has this reason; it may have none while a container runs again."""

    def told() -> str:
        conditions = tenant.get("fljob", name).get("status", {}).get("conditions", ())
        wanted = {"type": kind, "status": "True", "reason": reason}
        return next((str(one["message"]) for one in conditions if wanted.items() <= one.items()), "")

    return str(tenant.eventually(name, told))


def test_failures_name_who_what_and_what_to_do(tenant: Tenant, tmp_path: Path) -> None:
    """Memory, crashes, an image that cannot be pulled; a program that asks to end its process fails the job."""
    for name in FAILING:
        submit(tenant, tmp_path, name)
    messages = {}
    for name, (reason, words) in TOLD.items():
        messages[name] = message_of(tenant, name, "Degraded", reason)
        assert words in messages[name], messages
    assert IMAGE in messages["absent"]
    assert messages["absent"].endswith("; check the image's name and the pull secrets")
    failed = message_of(tenant, "leaving", "Failed", "ProgramError")
    assert failed.startswith(
        "1 of 1 workers are lost, 1 are needed; worker 0: ProgramError (the program raised SystemExit"
    )
    assert "To do by you" in tenant.fl_submit("explain", "leaving")
