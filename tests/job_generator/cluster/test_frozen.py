"""How the pods of a job's server are run, as the cluster keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fl_operator.attempt import Attempt
from job_generator.cluster.connection import AbsentError, Request
from job_generator.cluster.frozen import run_as, server_spec
from job_generator.settings import Settings

Map = dict[str, Any]
JOB: Map = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "digits", "namespace": "lab", "uid": "u-1"},
    "spec": {"program": {"entrypoint": "digits:task"}, "rounds": 3, "workers": {"replicas": 2}},
}
SETTINGS = Settings(user=None, template={"spec": {"imagePullSecrets": [{"name": "registry"}]}})


class Cluster:
    """The ConfigMap of a job's second attempt, as this operator froze it."""

    namespace = "lab"

    def __init__(self, settings: Settings) -> None:
        self.kept = Attempt.render(JOB, settings, number=2).object(JOB)

    def send(self, request: Request) -> Map:
        """That ConfigMap, and nothing else."""
        metadata = self.kept["metadata"]
        if request.path != f"/api/v1/namespaces/lab/configmaps/{metadata['name']}":
            raise AbsentError("not found")
        return self.kept

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        """Nothing is watched."""
        raise NotImplementedError


def test_what_the_operator_froze_is_read() -> None:
    """The operator's template, and whom it lets pods run as, are found in the attempt that the status names."""
    found = server_spec(Cluster(SETTINGS), {**JOB, "status": {"attempt": 2}})
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert "runAsUser" not in found["securityContext"]
    usual = server_spec(Cluster(replace(SETTINGS, user=65_532)), {**JOB, "status": {"attempt": 2}})
    assert usual["securityContext"]["runAsUser"] == 65_532


@pytest.mark.parametrize("status", [{}, {"attempt": 1}])
def test_without_an_attempt_nothing_is_known(status: Map) -> None:
    """A job that has no attempt, or whose attempt is gone, says nothing of its server's pods."""
    assert server_spec(Cluster(SETTINGS), {**JOB, "status": status}) == {}


def test_only_nodes_attract() -> None:
    """A reader goes to the server's nodes, and seeks and flees no other pods as the server does."""
    nodes: Map = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    affinity = {"nodeAffinity": nodes, "podAffinity": {}, "podAntiAffinity": {}}
    assert run_as({"affinity": affinity}, {})["affinity"] == {"nodeAffinity": nodes}
    assert run_as({"affinity": {"podAffinity": {}}}, {}) == {}
