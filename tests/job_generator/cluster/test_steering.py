"""What a user may change in a job of a cluster that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from job_generator.cluster.connection import Request
from job_generator.cluster.steering import scale, stop

Map = dict[str, Any]


@dataclass
class Cluster:
    """An API server with one job, that keeps what is asked of it."""

    job: Map
    namespace: str = "lab"
    asked: list[Map | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def send(self, request: Request) -> Map:
        """The job, whatever is asked."""
        self.asked += [request.body] if request.method == "PATCH" else []
        self.paths += [request.path] if request.method == "PATCH" else []
        return self.job

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        """Nothing is watched."""
        raise NotImplementedError


@pytest.mark.parametrize(
    ("status", "origin", "last"),
    [
        ({}, {}, 1),
        ({"training": {"round": 4}}, {}, 5),
        ({}, {"initialModel": {"round": 12}}, 13),
        ({"training": {"round": 0}}, {"initialModel": {"round": 12}}, 13),
        ({"training": {"round": 14}}, {"initialModel": {"round": 12}}, 15),
        ({"training": {"round": 4}}, {"initialModel": {"sha256": "a" * 64}}, 5),
    ],
)
def test_a_job_ends_with_the_round_that_is_open(status: Map, origin: Map, last: int) -> None:
    """A fork's first is the one after its parent's, also where nobody has reported of it yet."""
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"rounds": 30, **origin}, "status": status})
    assert stop(cluster, "digits") == f"digits ends with round {last} and writes its model"
    assert cluster.asked == [{"spec": {"rounds": last}}]


def test_a_job_is_scaled_as_kubectl_does() -> None:
    """By the scale of the FLJob, and not at all where it has so many already."""
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"workers": {"replicas": 4}}})
    assert scale(cluster, "digits", 8).startswith("digits will have 8 workers: ")
    assert scale(cluster, "digits", 4) == "digits has 4 workers already"
    assert (cluster.asked, cluster.paths) == (
        [{"spec": {"replicas": 8}}],
        ["/apis/fljob.dev/v1alpha1/namespaces/lab/fljobs/digits/scale"],
    )


def test_a_job_in_its_last_round() -> None:
    """Nothing is changed of what ends by itself."""
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"rounds": 13, "initialModel": {"round": 12}}})
    assert stop(cluster, "digits") == "digits ends with round 13 already"
    assert cluster.asked == []
