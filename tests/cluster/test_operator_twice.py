"""Operators that are killed between two writes, and two that work at once: each child is made once, and quiet comes.

With faults on the way to the API server, and without any.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import UnavailableError
from tests.cluster.lab import Lab, Map, Running, account, lab_of, stays
from tests.cluster.proxy.beside import Beside
from tests.cluster.proxy.faults import ROUGH, Faults
from tests.cluster.proxy.server import Done

pytestmark = [pytest.mark.cluster, pytest.mark.level(3)]

SHARE = 0.2
JOBS = 4
KINDS = ("jobs", "configmaps", "services", "networkpolicies", "persistentvolumeclaims")
CREATED = 201
STARTS = 5
KILLED_AFTER = (1, 4, 9)
"""For each a new job comes, and an operator that is killed when it has made so many children and hears of none more."""
CHILDREN = 12
"""Of a job."""
QUIET_SECONDS = 5.0


@pytest.fixture(params=[0, 1], ids=["straight", "faults 1"])
def lab(request: Any, installed: None, cluster: Any, namespace: str, tmp_path: Path) -> Iterator[Lab]:  # noqa: ARG001
    """A namespace without an operator, and a proxy on its way."""
    faults = Faults(request.param, requests=SHARE, events=ROUGH) if request.param else Faults()
    with lab_of(cluster, namespace, tmp_path, kubeconfig=account(cluster), faults=faults) as made:
        yield made


@pytest.fixture
def proxy(lab: Lab) -> Beside:
    """The one on the way of this namespace."""
    assert lab.proxy
    return lab.proxy


def kind_of(done: Done) -> str:
    """The kind of the child that was made, or the part of a job that was written; else nothing."""
    last = done.path.rpartition("/")[2]
    return last if (done.method == "POST" and done.status == CREATED) or last == "status" else ""


def killed_after(lab: Lab, proxy: Beside, children: int) -> int:
    """The exit code of an operator that was killed when it had made so many children.

    One that ends before, as the API server refuses it, is started again, as its pod would be.
    """
    begun: list[Running] = []
    made: list[Done] = []

    def heard(done: Done) -> None:
        made.extend([done] if kind_of(done) in KINDS else [])
        if begun and len(made) == children:
            begun[-1].process.kill()

    proxy.listen(heard)
    for _ in range(STARTS):
        begun.append(lab.operator())
        lab.eventually(lambda: begun[-1].process.poll() is not None)
        if begun[-1].process.returncode != UnavailableError.exit_code:
            break
    return begun[-1].process.returncode


def test_an_operator_that_is_killed_between_two_writes_leaves_nothing_half_done(
    lab: Lab, proxy: Beside
) -> None:
    """Killed after its first, second, fourth, ... child: what is there stays as it is, and the rest is made."""
    seen: list[dict[str, str]] = []
    for jobs, children in enumerate(KILLED_AFTER, start=1):
        lab.apply(f"job-{jobs}")
        assert killed_after(lab, proxy, children) == -signal.SIGKILL
        seen.append(lab.children())
        assert 0 < len(seen[-1]) < CHILDREN * jobs
    lab.operator()
    names = [f"job-{jobs}" for jobs, _ in enumerate(KILLED_AFTER, start=1)]
    lab.eventually(lambda: all(lab.condition("Compiled", name) == ("True", "Compiled") for name in names))
    lab.eventually(lambda: len(lab.children()) == CHILDREN * len(names))
    whole = lab.children()
    assert all(one.items() <= whole.items() for one in seen)


def test_two_operators_at_once_make_each_child_once_and_come_to_rest(lab: Lab, proxy: Beside) -> None:
    """Without an election both work on each job: no child is made twice or removed, and the writes have an end."""
    wrote: list[Done] = []
    proxy.listen(wrote.append)
    both = [lab.operator(*lab.on_fake_nodes()) for _ in range(2)]
    lab.eventually(lambda: all(one.said("started") for one in both))
    names = [f"job-{number}" for number in range(JOBS)]
    lab.storage()
    for name in names:
        lab.apply(name, server={"storage": {"existingClaim": "storage"}})
    lab.eventually(
        lambda: all(lab.condition("Ready", name) == ("True", "Quorum") for name in names), within=120
    )
    proxy.calm()
    lab.kubectl("label", "service", "job-0-server", "fljob.dev/role=nobody", "--overwrite")
    lab.eventually(lambda: labelled(lab, "job-0-server") == "server")
    lab.apply("job-1", server={"storage": {"existingClaim": "storage"}}, suspend=True, suspendGraceSeconds=0)
    lab.eventually(lambda: lab.condition("Suspended", "job-1") == ("True", "Suspended"))
    lab.eventually(lambda: rests(wrote))
    made = [done for done in wrote if kind_of(done) in KINDS]
    assert len(made) == len(lab.children())
    assert not [done for done in wrote if done.method == "DELETE"]
    assert len([pod for pod in lab.get("pods") if stays(pod)]) == 6 * (JOBS - 1)
    assert [one.process.poll() for one in both] == [None, None]
    assert all(one.metric("fljob_reconcile_total") >= JOBS for one in both)


def labelled(lab: Lab, service: str) -> str:
    found: Map = lab.get("service", service)
    return str(found["metadata"]["labels"]["fljob.dev/role"])


def rests(wrote: list[Done]) -> bool:
    """Whether nobody writes for a while."""
    before = len(wrote)
    time.sleep(QUIET_SECONDS)
    return len(wrote) == before
