"""The operator's process on a real cluster: children made, repaired, suspended and removed, whoever is killed.

Each test goes the straight way to the API server, and some through faults, which strike a fifth of all requests and
a sixth of all events. `FLJOB_FAULT_SEEDS="4 5 6"` names other faults than those of every run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab import Lab, account, lab_of, stays
from tests.cluster.proxy.faults import ROUGH, Faults

pytestmark = pytest.mark.cluster

SEEDS = os.environ.get("FLJOB_FAULT_SEEDS", "1").split()
BY = "app.kubernetes.io/managed-by"
SHARE = 0.2
"""Of requests, that something happens to."""
THREE = ["digits-scheduler", "digits-server", "digits-worker"]


@pytest.fixture(params=["straight", *(f"faults {seed}" for seed in SEEDS)])
def lab(request: Any, installed: None, cluster: Any, namespace: str, tmp_path: Path) -> Iterator[Lab]:  # noqa: ARG001
    """A namespace without an operator."""
    _, _, seed = request.param.partition(" ")
    faults = Faults(int(seed), requests=SHARE, events=ROUGH) if seed else None
    with lab_of(cluster, namespace, tmp_path, kubeconfig=account(cluster), faults=faults) as made:
        yield made


def test_a_job_gets_its_children_and_then_there_is_quiet(lab: Lab) -> None:
    """All children, conditions and columns; then no write to any of them."""
    lab.operator(*lab.on_fake_nodes())
    lab.apply(server=lab.storage())
    lab.eventually(lambda: lab.jobs() == THREE)
    lab.eventually(lambda: lab.condition("Compiled") == ("True", "Compiled"))
    lab.calm()
    lab.eventually(lambda: "Started" in lab.reasons())
    state = "Running" if lab.cluster.level > 2 else "Starting"
    lab.eventually(lambda: state in lab.kubectl("get", "fljob", "digits"))
    time.sleep(3)  # the pods' own news are written to their Jobs
    before = lab.versions("fljobs")
    time.sleep(5)
    assert lab.versions("fljobs") == before


@pytest.mark.level(3)
def test_a_child_that_is_edited_or_deleted_comes_back(lab: Lab) -> None:
    """By hand or by accident: it is repaired, and an event says so."""
    lab.operator()
    lab.apply()
    lab.eventually(lambda: lab.jobs() == THREE)
    lab.kubectl("label", "service", "digits-server", "fljob.dev/role=nobody", "--overwrite")
    lab.eventually(
        lambda: lab.get("service", "digits-server")["metadata"]["labels"]["fljob.dev/role"] == "server"
    )
    lab.calm()  # events may be lost
    lab.kubectl("label", "service", "digits-server", "fljob.dev/role=nobody", "--overwrite")
    lab.eventually(lambda: "Repaired" in lab.reasons())
    lab.calm()
    for one in ("service/digits-server", "configmap/digits-attempt-1"):
        lab.kubectl("label", one, f"{BY}=somebody", "--overwrite")  # no watch shows it any more
        lab.eventually(lambda one=one: lab.get(one)["metadata"]["labels"][BY] == "fljob-operator")
    assert not gone(lab)
    old = lab.get("job", "digits-server")["metadata"]["uid"]
    lab.kubectl("delete", "job", "digits-server", "--wait=false", "--cascade=foreground")
    lab.eventually(
        lambda: (lab.get("job", "digits-server") or {"metadata": {"uid": old}})["metadata"]["uid"] != old
    )
    lab.eventually(lambda: gone(lab) == {"Job digits-server was gone, and is made again"})


def gone(lab: Lab) -> set[str]:
    """What events say of children that were made again."""
    return {one["message"] for one in lab.get("events") or () if "was gone" in one["message"]}


@pytest.mark.level(3)
def test_an_attempt_that_is_deleted_is_kept_again(lab: Lab) -> None:
    """What the job is made of is as it was, an event says so, and no Job is made anew."""
    lab.operator()
    lab.apply()
    lab.eventually(lambda: lab.jobs() == THREE)
    lab.calm()
    before, kept = made(lab), lab.get("configmap", "digits-attempt-1")["data"]
    lab.kubectl("delete", "configmap", "digits-attempt-1")
    lab.eventually(lambda: (lab.get("configmap", "digits-attempt-1") or {"data": None})["data"] == kept)
    lab.eventually(lambda: gone(lab) == {"ConfigMap digits-attempt-1 was gone, and is made again"})
    assert made(lab) == before


def made(lab: Lab) -> dict[str, str]:
    """The uid of each child, without what keeps them."""
    return {name: uid for name, uid in lab.children().items() if "-attempt-" not in name}


@pytest.mark.level(3)
def test_an_attempt_that_a_quota_forbids_is_told(lab: Lab) -> None:
    """Nothing is made of the job until there is room for it."""
    lab.kubectl("create", "quota", "none", "--hard=count/configmaps=1")
    lab.operator()
    lab.apply()
    lab.eventually(lambda: lab.condition("Stalled") == ("True", "ChildRefused"))
    assert lab.jobs() == []
    lab.kubectl("delete", "quota", "none")
    lab.eventually(lambda: lab.jobs() == THREE)


def test_somebody_elses_object_is_left_alone(lab: Lab) -> None:
    """A name that is taken is told in the job, and the object stays as it was; without it the job goes on."""
    taken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "digits-server"}}
    ports = [{"port": 80}]
    lab.kubectl("create", "-f", "-", stdin={**taken, "spec": {"ports": ports, "selector": {"app": "other"}}})
    lab.operator()
    lab.apply()
    lab.eventually(lambda: lab.condition("Stalled") == ("True", "NameTaken"))
    assert lab.get("service", "digits-server")["spec"]["selector"] == {"app": "other"}
    lab.kubectl("delete", "service", "digits-server")
    lab.eventually(lambda: "Service/digits-server" in lab.children())
    lab.eventually(lambda: lab.condition("Stalled") == ("False", "NotStalled"))


@pytest.mark.level(3)
def test_a_job_is_suspended_and_resumed(lab: Lab) -> None:
    """Suspended: no pods. Resumed: pods again. Made suspended: none at all."""
    lab.operator()
    lab.apply(suspend=True)
    lab.eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    assert lab.jobs() == []
    lab.apply(suspend=False)
    lab.eventually(lambda: lab.jobs() == THREE)
    lab.eventually(lambda: len(lab.get("pods")) == 6)
    lab.apply(suspend=True, suspendGraceSeconds=0)
    lab.eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    lab.eventually(lambda: not [one for one in lab.get("pods") if stays(one)])


@pytest.mark.level(3)
def test_templates_change_between_two_operators(lab: Lab) -> None:
    """Changed while no operator looks, in a job that has no pods and is resumed at once, they are in its pods."""
    first = lab.operator()
    lab.apply(suspendGraceSeconds=0)
    lab.eventually(lambda: lab.jobs() == THREE)
    lab.apply(suspend=True, suspendGraceSeconds=0)
    lab.eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    lab.calm()
    first.kill()
    template = {"metadata": {"annotations": {"example.org/newer": "yes"}}}
    workers = lab.get("fljob", "digits")["spec"]["workers"] | {"template": template}
    lab.apply(suspend=True, suspendGraceSeconds=0, workers=workers)
    lab.apply(suspend=False, suspendGraceSeconds=0, workers=workers)
    lab.operator()
    lab.eventually(
        lambda: len([pod for pod in lab.pods("worker") if newer(pod)]) == len(lab.pods("worker")) > 0
    )
    assert lab.condition("Compiled") == ("True", "Compiled")
    assert lab.get("fljob", "digits")["status"]["attempt"] == 2
    assert not gone(lab)


def newer(pod: dict[str, Any]) -> bool:
    """Whether a pod is made from the template that was changed."""
    return "example.org/newer" in pod["metadata"].get("annotations", {})


@pytest.mark.level(3)
def test_a_deleted_job_takes_all_with_it_but_the_storage(lab: Lab) -> None:
    """Deleted while its pods run, what the job owns goes; the claim that is to be kept stays."""
    lab.operator(*lab.on_fake_nodes())
    lab.apply()
    lab.eventually(lambda: len(lab.pods()) == 6)
    claim = next(name for name in lab.children() if name.startswith("PersistentVolumeClaim/"))
    lab.kubectl("delete", "fljob", "digits", "--timeout=30s")
    lab.eventually(lambda: list(lab.children()) == [claim] and not lab.get("pods"))


def test_leadership_passes_to_a_replica(lab: Lab) -> None:
    """Of two operators one works; when it is killed, the other, if it was ready, does within 20 seconds."""
    first = lab.operator(elect=True)
    lab.apply("one")
    lab.eventually(lambda: len(lab.jobs()) == 3)
    second = lab.operator(elect=True)
    lab.eventually(lambda: second.is_ready() and second.said("waiting for the lease"))
    assert not second.said("leading")
    first.process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    lab.apply("two")
    lab.eventually(lambda: second.said("leading"), within=20 - (time.monotonic() - killed))
    lab.eventually(lambda: len(lab.jobs()) == 6)
