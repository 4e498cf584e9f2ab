"""Whether a cluster can run FLJobs: what the doctor reads from Deployments, pods and storage classes."""

from __future__ import annotations

from typing import Any

import pytest

from job_generator.cluster.connection import ForbiddenError, Request
from job_generator.cluster.diagnosis import Finding, diagnose
from job_generator.crd import crd
from job_generator.settings import ENROLLED_BY

Map = dict[str, Any]
OPERATOR = {
    "image": "hub/fljob:1",
    "args": ["--control-image=hub/fljob:1", "--worker-image=numpy=hub/numpy:1"],
}


class Cluster:
    """An API server of a version that is new enough, with these objects, and a user who may do everything else."""

    namespace = "lab"

    def __init__(self, **objects: list[Map]) -> None:
        self.objects = objects
        self.refused: set[str] = set()

    def send(self, request: Request) -> Any:
        kind = request.path.rpartition("/")[2]
        if {kind, request.path} & self.refused:
            raise ForbiddenError(f"you may not list {kind}")
        labels = (request.query or {}).get("labelSelector", "")
        place = request.path.partition("/namespaces/")[2].partition("/")[0]
        known: Map = {
            "version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
            "fljob.dev": {"versions": [{"version": "v1alpha1"}]},
            "fljobs.fljob.dev": crd(),
            "selfsubjectaccessreviews": {"status": {"allowed": asked_for(request) not in self.refused}},
        }
        return known.get(kind) or {
            "items": [one for one in self.objects.get(kind, ()) if fits(one, place, labels)]
        }

    def lines(self, request: Request, *, silence: float | None = None) -> Any:
        raise NotImplementedError


def asked_for(request: Request) -> str:
    """The right that a review asks for, as `patch fljobs/scale`."""
    asked = ((request.body or {}).get("spec") or {}).get("resourceAttributes", {})
    part = f"/{asked['subresource']}" if "subresource" in asked else ""
    return f"{asked.get('verb')} {asked.get('resource')}{part}"


def fits(thing: Map, namespace: str, labels: str) -> bool:
    """Whether an object is in the namespace, where one is asked for, and has the labels."""
    metadata = thing["metadata"]
    own = {f"{name}={value}" for name, value in metadata.get("labels", {}).items()}
    return namespace in {"", metadata.get("namespace")} and set(filter(None, labels.split(","))) <= own


def deployment(*words: str, namespace: str = "fljob-system", ready: int = 2, **container: Any) -> Map:
    """An operator with these words on its command line, besides the images of jobs."""
    whole = {**OPERATOR, "args": [*OPERATOR["args"], *words], **container}
    return {
        "metadata": {"namespace": namespace, "name": "fljob-operator", "labels": ENROLLED_BY},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [whole]}}},
        "status": {"readyReplicas": ready} if ready else {},
    }


def pod(namespace: str, image: str, reason: str, labels: Map, *, kind: str = "containerStatuses") -> Map:
    """A pod whose container waits."""
    status = {"image": image, "state": {"waiting": {"reason": reason}}}
    return {"metadata": {"namespace": namespace, "labels": labels}, "status": {kind: [status]}}


def found(cluster: Cluster) -> dict[str, Finding]:
    return {one.what: one for one in diagnose(cluster)}


def test_all_is_well() -> None:
    """With an operator that is ready and a default class every finding is good."""
    default = {
        "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    }
    findings = found(Cluster(deployments=[deployment()], storageclasses=[default]))
    assert {one.good for one in findings.values()} == {True}
    assert (
        findings["operator"].told == "fljob-system/fljob-operator looks after every namespace, 2 of 2 ready"
    )
    assert findings["images"].told == "hub/fljob:1, numpy=hub/numpy:1"
    assert findings["storage"].told == "class fast is the default"


@pytest.mark.parametrize(
    ("words", "container"),
    [
        (["--watch-namespace=team-a,team-b"], {}),
        (["--watch-namespace", "team-a", "--watch-namespace", "team-b"], {}),
        ([], {"env": [{"name": "FLJOB_WATCH_NAMESPACES", "value": "team-a team-b"}]}),
    ],
)
def test_an_operator_of_other_namespaces(words: list[str], container: Map) -> None:
    """However it is told which namespaces it looks after: where this is none of them, they are named, with advice."""
    told = found(Cluster(deployments=[deployment(*words, **container)]))["operator"]
    assert (told.good, told.told) == (
        False,
        "none looks after namespace lab: fljob-system/fljob-operator looks after team-a, team-b",
    )
    assert told.advice == "add lab to watchNamespaces of its chart, or submit with -n team-a"


def test_the_operator_of_this_namespace_is_found_among_others() -> None:
    """Of several, those of other namespaces count for nothing, however ready they are."""
    other = deployment("--watch-namespace=team-a")
    mine = deployment("--watch-namespace=team-b,lab", namespace="mine", ready=1)
    told = found(Cluster(deployments=[other, mine]))["operator"]
    assert (told.good, told.told) == (True, "mine/fljob-operator looks after namespace lab, 1 of 2 ready")
    mine["status"] = {}
    told = found(Cluster(deployments=[other, mine]))["operator"]
    assert (told.good, told.told) == (False, "mine/fljob-operator has no ready replica of 2")
    assert told.advice == "look at: kubectl logs -n mine deployment/fljob-operator"


def test_no_operator() -> None:
    """Without a Deployment the advice is to install one, and nothing is known of images."""
    findings = found(Cluster())
    assert [(findings[what].good, findings[what].advice) for what in ("operator", "images")] == [
        (False, "install the operator: helm install fljob helm/fljob"),
        (None, "install the operator: helm install fljob helm/fljob"),
    ]


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"]
)
def test_images_that_cannot_be_pulled(reason: str) -> None:
    """Those of the operator and of jobs of this namespace are named; pods of others and what only starts are not."""
    jobs = {"app.kubernetes.io/managed-by": "fljob-operator"}
    waiting = [
        pod("fljob-system", "hub/fljob:1", reason, ENROLLED_BY),
        pod("lab", "hub/numpy:1", reason, jobs),
        pod("lab", "hub/store:1", reason, jobs, kind="initContainerStatuses"),
        pod("lab", "hub/paddle:1", "ContainerCreating", jobs),
        pod("lab", "somebody/else:1", reason, {}),
        pod("other", "hub/sklearn:1", reason, jobs),
    ]
    told = found(Cluster(deployments=[deployment()], pods=waiting))["images"]
    assert (told.good, told.told) == (
        False,
        "cannot be pulled: hub/fljob:1 of the operator, hub/numpy:1 of a job, hub/store:1 of a job",
    )
    assert "pull secrets" in told.advice


def test_storage() -> None:
    """Without a default class the classes are named, and without any the advice is to name a claim."""
    told = found(Cluster(storageclasses=[{"metadata": {"name": "slow"}}, {"metadata": {"name": "fast"}}]))
    assert (told["storage"].good, told["storage"].told) == (False, "no default class among slow, fast")
    assert "spec.server.storage.storageClassName" in told["storage"].advice
    told = found(Cluster())
    assert (told["storage"].good, told["storage"].told) == (False, "no storage class")
    assert "spec.server.storage.existingClaim" in told["storage"].advice


def test_what_the_user_may_not_see_is_not_called_bad() -> None:
    """Who may not list Deployments is told whom to ask; the other findings are made all the same."""
    cluster = Cluster(deployments=[deployment()])
    cluster.refused = {"deployments"}
    findings = found(cluster)
    assert (findings["operator"].good, findings["operator"].advice) == (None, "ask whoever runs the cluster")
    assert findings["rights"].good


@pytest.mark.parametrize(
    ("words", "good", "told"),
    [
        (["--watch-namespace=lab"], True, "lab/fljob-operator looks after namespace lab, 2 of 2 ready"),
        (["--watch-namespace=team-a"], None, "not seen, you may not list deployments"),
    ],
)
def test_who_sees_one_namespace_is_told_of_the_operator_in_it(
    words: list[str], *, good: bool | None, told: str
) -> None:
    """An operator beside the jobs is found by who may look no further; where it is not theirs, another may be."""
    cluster = Cluster(deployments=[deployment(*words, namespace="lab")])
    cluster.refused = {"/apis/apps/v1/deployments"}
    findings = found(cluster)
    assert (findings["operator"].good, findings["operator"].told) == (good, told)
    assert findings["images"].good is good


@pytest.mark.parametrize(
    ("right", "purpose"),
    [
        ("get fljobs", "look at jobs"),
        ("patch fljobs/scale", "scale jobs"),
        ("patch persistentvolumeclaims", "keep the storage of jobs that you delete"),
        ("get pods", "fetch models"),
        ("delete pods", "fetch models"),
    ],
)
def test_a_right_that_is_missing(right: str, purpose: str) -> None:
    """It is named with what it is for, and nobody is told that everything is allowed."""
    cluster = Cluster(deployments=[deployment()])
    cluster.refused = {right}
    told = found(cluster)["rights"]
    assert (told.good, told.told) == (False, f"you may not {purpose} in lab: {right}")
