"""What the pods of a job say of who runs in them."""

from __future__ import annotations

import datetime as dt

import pytest

from fl_operator.cluster.resources import Object
from fl_operator.findings import Finding, Listener, listener_of, of_pods, sentences
from job_generator.pods import CONTAINER


def pod(
    *, ready: bool = True, host: str = "10.0.0.7", since: str = "12:00:00", turned: str = "12:00:03"
) -> Object:
    state = {"running": {"startedAt": since}}
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": turned}]
    return {
        "metadata": {"name": "server"},
        "status": {
            "podIP": host,
            "conditions": conditions,
            "containerStatuses": [{"name": CONTAINER, "state": state}],
        },
    }


def test_what_several_processes_have_alike_is_one_sentence() -> None:
    """An image that cannot be pulled is told once, with the first of those who want it; another trouble stays apart."""
    wanting = [Finding(f"worker {index}", "ImagePullBackOff", "not found") for index in range(5)]
    first, second = sentences([*wanting, Finding("server", "Evicted")])
    assert first.startswith(
        "worker 0, worker 1, worker 2 and 2 more: ImagePullBackOff (not found); check the image"
    )
    assert second.startswith("server: Evicted")


def test_a_claim_without_a_volume_is_told_with_what_to_do() -> None:
    """The server's storage needs a class, another claim or a store; somebody else's claim needs its volume."""
    detail = "0/4 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    assert str(Finding("server", "Unschedulable", detail)).endswith(
        "name another spec.server.storage.storageClassName, existingClaim or uri in another job"
    )
    assert "make the claim" in str(Finding("worker 1", "Unschedulable", detail))


def test_nobody_listens_before_the_pod_is_ready() -> None:
    """A pod that is not ready, or not placed yet, has no listener; of several the ready one has."""
    assert listener_of([]) is None
    assert listener_of([pod(ready=False), pod(host="")]) is None
    assert listener_of([pod(ready=False), pod()]) == Listener("10.0.0.7", 7443, "12:00:00 12:00:03")


def test_a_process_that_began_again_is_another_listener() -> None:
    """At the same address, too, and so is one that is ready again; otherwise the same process stays the same."""
    assert listener_of([pod()]) == listener_of([pod()])
    assert listener_of([pod(since="12:00:07")]) != listener_of([pod()])
    assert listener_of([pod(turned="12:00:09")]) != listener_of([pod()])


@pytest.mark.parametrize(("host", "address"), [("10.0.0.7", "10.0.0.7:7443"), ("fd00::7", "[fd00::7]:7443")])
def test_an_address_is_written_as_it_is_dialled(host: str, address: str) -> None:
    """Those of IPv6 stand in brackets."""
    assert Listener(host, 7443).address == address


@pytest.mark.parametrize("message", ['secret "keys" not found', ""])
def test_what_runs_before_the_server_has_troubles_too(message: str) -> None:
    """A copy of another job's storage that does not start is told as the server's, until it has ended well."""
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    one = {
        "metadata": {"labels": {"fljob.dev/role": "server"}},
        "status": {"initContainerStatuses": [{"name": "restore", "state": waiting}]},
    }
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert of_pods([one], now=now, restarts=10) == [Finding("server", "CreateContainerConfigError", message)]
    one["status"]["initContainerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}  # type: ignore[index]
    assert of_pods([one], now=now, restarts=10) == []
