"""An invitation for a site outside the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import JobError, RetryError
from fl_core.invitation import Invitation
from job_generator.cluster.connection import AbsentError, ForbiddenError, Request
from job_generator.cluster.progress import plan_of
from job_generator.cluster.sites import invite

Map = dict[str, Any]
PLACE = "/api/v1/namespaces/lab"
JOB: Map = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "scans", "namespace": "lab", "uid": "u1"},
    "spec": {
        "program": {"entrypoint": "scans:task"},
        "rounds": 3,
        "workers": {"replicas": 1},
        "sites": [{"name": "clinic"}, {"name": "hospital", "external": {}}],
        "network": {"external": {"type": "LoadBalancer", "hostname": "fl.example.org", "port": 8443}},
    },
}
PLAN = plan_of(JOB)


class Cluster:
    """One job with its configuration, and an API server that prints tokens."""

    namespace = "lab"

    def __init__(self) -> None:
        status = {"planDigest": PLAN.digest, "display": {"state": "Running"}}
        self.objects: Map = {
            "/apis/fljob.dev/v1alpha1/namespaces/lab/fljobs/scans": {**deepcopy(JOB), "status": status},
            f"{PLACE}/configmaps/scans-plan-{PLAN.digest[:10]}": {"data": {"plan.json": PLAN.to_json()}},
            f"{PLACE}/configmaps/scans-authority": {
                "data": {"ca.pem": "PEM", "enrolment": "https://operator.fljob-system.svc:8443"}
            },
        }
        self.asked: list[Map] = []

    @property
    def job(self) -> Map:
        found: Map = next(iter(self.objects.values()))
        return found

    def send(self, request: Request) -> Any:
        if request.method == "POST":
            assert request.path == f"{PLACE}/serviceaccounts/default/token"
            assert request.body is not None
            self.asked.append(request.body["spec"])
            return {"status": {"token": "secret", "expirationTimestamp": "2026-01-01T01:00:00Z"}}
        if request.path not in self.objects:
            raise AbsentError(f"{request.path} not found")
        return self.objects[request.path]

    def lines(self, request: Request) -> Iterator[str]:
        raise NotImplementedError


def test_an_invitation_is_all_that_a_site_needs(tmp_path: Path) -> None:
    """Address, endpoint, authority, Plan and token come back from the file, which nobody else may read."""
    cluster = Cluster()
    printed = invite(cluster, "scans", "hospital", seconds=3600)
    assert printed.until == "2026-01-01T01:00:00Z"
    printed.invitation.write(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert Invitation.read(tmp_path / "file") == Invitation(
        site="hospital",
        address="fl.example.org:8443",
        enrolment="https://operator.fljob-system.svc:8443",
        authority="PEM",
        plan=PLAN,
        token="secret",  # noqa: S106 - of nobody
    )
    assert "secret" not in repr(printed)


def test_a_token_is_for_one_site_of_one_job() -> None:
    """Its audience names both; it is bound to no pod, and good for as long as was asked."""
    cluster = Cluster()
    invite(cluster, "scans", "hospital", seconds=600)
    assert cluster.asked == [{"audiences": ["fljob:site:u1:hospital"], "expirationSeconds": 600}]


def without(path: str) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.objects.pop(path)


@pytest.mark.parametrize(
    ("site", "spoil", "error", "complaint"),
    [
        ("clinic", None, JobError, "clinic of FLJob scans is in the cluster.*external sites are hospital"),
        ("nowhere", None, JobError, "no site nowhere; its external sites are hospital"),
        ("hospital", lambda one: one.job["spec"].update(sites=[]), JobError, "it has no external site"),
        (
            "hospital",
            lambda one: one.job["status"].update(display={"state": "Failed"}),
            JobError,
            "is Failed",
        ),
        ("hospital", lambda one: one.job.pop("status"), RetryError, "no attempt yet"),
        ("hospital", without(f"{PLACE}/configmaps/scans-authority"), RetryError, "not whole: .*authority"),
    ],
)
def test_who_cannot_be_invited(site: str, spoil: Any, error: type[Exception], complaint: str) -> None:
    """Each reason is one sentence, and no token is printed."""
    cluster = Cluster()
    if spoil:
        spoil(cluster)
    with pytest.raises(error, match=complaint):
        invite(cluster, "scans", site, seconds=600)
    assert cluster.asked == []


def test_no_such_job() -> None:
    """A name that nobody has is told with its namespace."""
    with pytest.raises(AbsentError, match="no FLJob other in namespace lab"):
        invite(Cluster(), "other", "hospital", seconds=600)


def test_a_user_without_the_right() -> None:
    """What the API server says of the missing right is what the user reads."""

    class Strict(Cluster):
        def send(self, request: Request) -> Any:
            if request.method == "POST":
                raise ForbiddenError('cannot create resource "serviceaccounts/token"')
            return super().send(request)

    with pytest.raises(ForbiddenError, match="serviceaccounts/token"):
        invite(Strict(), "scans", "hospital", seconds=600)


def test_the_plan_is_that_of_the_attempt() -> None:
    """A site takes part in what was frozen, not in what the job says now."""
    cluster = Cluster()
    cluster.job["spec"]["rounds"] = 2
    frozen = invite(cluster, "scans", "hospital", seconds=600).invitation.plan
    assert json.loads(frozen.to_json())["rounds"] == 3
