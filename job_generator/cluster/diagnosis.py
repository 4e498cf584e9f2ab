"""Whether a cluster can run FLJobs for this user: one finding per question, and what to do about each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fl_core.errors import JobError
from job_generator.cluster.connection import AbsentError, Cluster, ForbiddenError, Object, Request
from job_generator.cluster.jobs import core
from job_generator.cluster.operators import LABELS, operators
from job_generator.crd import GROUP, PLURAL, VERSION, crd

OLDEST: Final = 35
"""The minor version from which containers restart by rules."""
JOBS: Final = "app.kubernetes.io/managed-by=fljob-operator"
"""The label of all pods of jobs."""
IN_VAIN: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Why a container waits for its image."""
INSTALL: Final = "install the operator: helm install fljob helm/fljob"
RIGHTS: Final = (
    ("create", GROUP, PLURAL, "submit jobs"),
    ("get", GROUP, PLURAL, "look at jobs"),
    ("list", GROUP, PLURAL, "list jobs"),
    ("watch", GROUP, PLURAL, "watch jobs"),
    ("patch", GROUP, PLURAL, "suspend and stop jobs"),
    ("patch", GROUP, f"{PLURAL}/scale", "scale jobs"),
    ("delete", GROUP, PLURAL, "delete jobs"),
    ("patch", "", "persistentvolumeclaims", "keep the storage of jobs that you delete"),
    ("create", "", "configmaps", "submit programs"),
    ("patch", "", "configmaps", "submit programs"),
    ("get", "", "pods/log", "read logs"),
    ("list", "", "pods", "read logs"),
    ("list", "", "events", "explain jobs"),
    ("create", "", "pods", "fetch models"),
    ("get", "", "pods", "fetch models"),
    ("delete", "", "pods", "fetch models"),
    ("create", "", "pods/portforward", "fetch models"),
    ("get", "", "configmaps", "fetch models"),
    ("get", "", "configmaps", "invite sites"),
    ("create", "", "serviceaccounts/token", "invite sites"),
)
"""Verb, API group, resource, and what the user needs it for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `good` is None where the user may not look."""

    what: str
    good: bool | None
    told: str
    advice: str = ""

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"check": self.what, "ok": self.good, "message": self.told, "advice": self.advice or None}


def diagnose(cluster: Cluster) -> Iterator[Finding]:
    """All findings, in the order in which one mends them."""
    yield _version(cluster)
    for what, look in (
        ("definition", _definition),
        ("operator", _operator),
        ("storage", _storage),
        ("images", _images),
    ):
        yield _looked(what, look, cluster)
    yield from _rights(cluster)


def _looked(what: str, look: Callable[[Cluster], Finding], cluster: Cluster) -> Finding:
    """A finding, also where the user has no right to look."""
    try:
        return look(cluster)
    except ForbiddenError as error:
        return Finding(what, None, f"not seen, {error}", "ask whoever runs the cluster")


def _version(cluster: Cluster) -> Finding:
    found = cluster.send(Request("GET", "/version"))
    minor = int("".join(filter(str.isdigit, found["minor"])) or 0)
    good = int(found["major"]) > 1 or minor >= OLDEST
    advice = "" if good else f"FLJob needs Kubernetes 1.{OLDEST} or later"
    return Finding("Kubernetes", good, str(found["gitVersion"]), advice)


def _definition(cluster: Cluster) -> Finding:
    """Whether the cluster knows FLJobs, and those of this version's fields."""
    try:
        group = cluster.send(Request("GET", f"/apis/{GROUP}"))
    except AbsentError:
        return Finding("definition", False, "FLJobs are not known here", INSTALL)
    versions = [one["version"] for one in group["versions"]]
    if VERSION not in versions:
        told = f"FLJobs are served as {', '.join(versions)}, not as {VERSION}"
        return Finding("definition", False, told, "upgrade the operator, or use the fl-submit of its version")
    kept = cluster.send(
        Request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}")
    )
    fields = [_fields(one) for one in (kept, crd())]
    if unknown := sorted(fields[1] - fields[0]):
        told = f"{VERSION}, without the fields {', '.join(unknown)}"
        return Finding("definition", False, told, "apply the CRD of this version: manifests/crd.yaml")
    return Finding("definition", True, f"{GROUP}/{VERSION}")


def _fields(definition: Object) -> set[str]:
    version = next(one for one in definition["spec"]["versions"] if one["name"] == VERSION)
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return {f"spec.{name}" for name in spec["properties"]}


def _operator(cluster: Cluster) -> Finding:
    """Whether one runs that looks after the namespace that is meant."""
    found, here = operators(cluster), cluster.namespace
    if not found:
        return Finding("operator", False, "no Deployment of the operator was found", INSTALL)
    mine = [one for one in found if one.looks_after(here)]
    if not mine:
        told = "; ".join(f"{one} looks after {', '.join(one.watches)}" for one in found)
        advice = f"add {here} to watchNamespaces of its chart, or submit with -n {found[0].watches[0]}"
        return Finding("operator", False, f"none looks after namespace {here}: {told}", advice)
    best = max(mine, key=lambda one: one.ready)
    if not best.ready:
        place = f"kubectl logs -n {best.namespace} deployment/{best.name}"
        return Finding(
            "operator", False, f"{best} has no ready replica of {best.wanted}", f"look at: {place}"
        )
    where = f"namespace {here}" if best.watches else "every namespace"
    return Finding("operator", True, f"{best} looks after {where}, {best.ready} of {best.wanted} ready")


def _storage(cluster: Cluster) -> Finding:
    classes = cluster.send(Request("GET", "/apis/storage.k8s.io/v1/storageclasses"))["items"]
    note = "storageclass.kubernetes.io/is-default-class"
    default = [
        one["metadata"]["name"]
        for one in classes
        if one["metadata"].get("annotations", {}).get(note) == "true"
    ]
    if default:
        return Finding("storage", True, f"class {default[0]} is the default")
    names = ", ".join(one["metadata"]["name"] for one in classes)
    if names:
        return Finding(
            "storage",
            False,
            f"no default class among {names}",
            "name one in spec.server.storage.storageClassName",
        )
    return Finding("storage", False, "no storage class", "name a claim in spec.server.storage.existingClaim")


def _images(cluster: Cluster) -> Finding:
    """Which images jobs get; that one cannot be pulled shows only where a pod asks for it, of operator or job."""
    found = operators(cluster)
    if not found:
        return Finding("images", None, "known once the operator is installed", INSTALL)
    one = next((one for one in found if one.looks_after(cluster.namespace)), found[0])
    waiting = [f"{image} of the operator" for image in _not_pulled(cluster, one.namespace, LABELS)]
    waiting += [f"{image} of a job" for image in _not_pulled(cluster, cluster.namespace, JOBS)]
    if waiting:
        advice = "check the image's name, the registry in the chart's values, and the pull secrets"
        return Finding("images", False, f"cannot be pulled: {', '.join(waiting)}", advice)
    return Finding("images", True, ", ".join(dict.fromkeys([one.image, *one.images])))


def _not_pulled(cluster: Cluster, namespace: str, labels: str) -> list[str]:
    """The images for which pods with these labels wait in vain."""
    pods = cluster.send(Request("GET", core(namespace, "pods"), {"labelSelector": labels}))["items"]
    statuses = [
        status
        for pod in pods
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod.get("status", {}).get(kind, ())
    ]
    return sorted(
        {one["image"] for one in statuses if one.get("state", {}).get("waiting", {}).get("reason") in IN_VAIN}
    )


def _rights(cluster: Cluster) -> Iterator[Finding]:
    """What the user may do: in every namespace, or in the one that is meant."""
    refused: dict[str, list[str]] = {}
    everywhere = True
    for verb, group, resource, purpose in RIGHTS:
        if _allowed(cluster, verb, group, resource, namespace=""):
            continue
        everywhere = False
        if not _allowed(cluster, verb, group, resource, namespace=cluster.namespace):
            refused.setdefault(purpose, []).append(f"{verb} {resource}")
    for purpose, rights in refused.items():
        told = f"you may not {purpose} in {cluster.namespace}: {', '.join(rights)}"
        yield Finding("rights", False, told, "ask for the role edit in this namespace")
    if not refused:
        where = "in every namespace" if everywhere else f"in {cluster.namespace}"
        yield Finding("rights", True, f"you may do everything {where}")


def _allowed(cluster: Cluster, verb: str, group: str, resource: str, *, namespace: str) -> bool:
    plural, _, part = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    asked |= {"subresource": part} if part else {}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    said = cluster.send(Request("POST", path, body=review)).get("status")
    if said is None:
        raise JobError("the cluster does not say what you may do")
    return bool(said["allowed"])
