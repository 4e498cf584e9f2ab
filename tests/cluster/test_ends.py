"""What ends a job in time and what becomes of it then: deadlines, the policy for its pods, its own removal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.level(3)]

Map = dict[str, Any]
POLICIES = {"running": "Running", "all": "All", "none": "None"}
"""By the name of the job that has it."""


def ending(code: int, after: str = "1s") -> Map:
    """A template of pods that end by themselves."""
    ends = {"fake.fljob.dev/runs-for": after, "fake.fljob.dev/exit-code": str(code)}
    return {"template": {"metadata": {"annotations": ends}}}


def running(lab: Lab, name: str) -> list[str]:
    """The roles of a job's pods that run."""
    pods = (pod for pod in lab.pods(name=name) if pod.get("status", {}).get("phase") == "Running")
    return sorted(pod["metadata"]["labels"]["fljob.dev/role"] for pod in pods)


def fails(lab: Lab, name: str, reason: str) -> None:
    """Wait until a job has failed for this reason."""
    lab.eventually(lambda: lab.condition("Failed", name) == ("True", reason))


def loses_its_pods(lab: Lab, name: str) -> None:
    """Wait until a job has no pod that stays."""
    lab.eventually(lambda: not lab.pods(name=name))


def test_a_job_that_is_over_is_removed_after_its_time(lab: Lab) -> None:
    """A second after its end it goes with all it owns; one without a time stays, complete."""
    lab.operator(*lab.on_fake_nodes())
    storage = lab.storage()
    for name, time in (("stays", {}), ("goes", {"ttlSecondsAfterFinished": 1})):
        lab.apply(name, server={**storage, **ending(0)}, **time)
    lab.eventually(lambda: lab.condition("Complete", "stays")[0] == "True")
    lab.eventually(lambda: lab.get("fljob", "goes") is None)
    lab.eventually(lambda: not [name for name in lab.children() if "/goes" in name])
    loses_its_pods(lab, "goes")
    assert lab.condition("Complete", "stays")[0] == "True"


def test_the_pods_of_a_job_that_failed_go_as_the_policy_says(lab: Lab) -> None:
    """`Running` ends those that run and keeps the others, `All` removes all, `None` lets them run on."""
    lab.operator(*lab.on_fake_nodes())
    storage = lab.storage()
    for name, policy in POLICIES.items():
        workers: Map = {"replicas": 1, **ending(66)}
        lab.apply(name, server=storage, workers=workers, podCleanupPolicy=policy)
    for name in POLICIES:
        fails(lab, name, "ProgramError")
    loses_its_pods(lab, "all")
    lab.eventually(lambda: {pod["status"]["phase"] for pod in lab.pods(name="running")} == {"Failed"})
    assert [name for name in lab.jobs() if name.startswith("all-")] == []
    assert running(lab, "none") == ["scheduler", "server"]
    assert {pod["metadata"]["labels"]["fljob.dev/role"] for pod in lab.pods(name="running")} == {"worker"}


def test_deadlines_end_a_job_and_say_which(lab: Lab) -> None:
    """One that trains too long, and one whose workers do not come, fail with the field and what held them up."""
    lab.operator()
    storage = lab.storage()
    lab.apply("long", server=storage, activeDeadlineSeconds=2)
    nowhere: Map = {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "nowhere"}}}}
    lab.apply("lonely", server=storage, workers={"replicas": 2, **nowhere}, preRunningDeadlineSeconds=2)
    fails(lab, "long", "DeadlineExceeded")
    told = lab.told("Failed", "long")["message"]
    assert told == "not complete within spec.activeDeadlineSeconds (2)"
    fails(lab, "lonely", "PreRunningDeadlineExceeded")
    assert lab.told("Failed", "lonely")["message"].startswith("not ready within 0:00:02: ")
    for name in ("long", "lonely"):
        loses_its_pods(lab, name)
        assert lab.condition("Ready", name) == ("False", "Failed")


def test_a_job_of_another_controller_is_left_alone(lab: Lab) -> None:
    """It gets no child and no status, while one of the operator's own beside it, that came later, gets all."""
    lab.operator()
    lab.apply("theirs", managedBy="example.org/other")
    lab.apply("ours")
    lab.eventually(lambda: lab.condition("Compiled", "ours") == ("True", "Compiled"))
    lab.eventually(lambda: len(lab.jobs()) == 3)
    assert not [name for name in lab.children() if "/theirs" in name]
    assert not lab.get("fljob", "theirs").get("status")
