"""The operators of a cluster, as their Deployments tell: which namespaces they look after, with which images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from job_generator.cluster.connection import Cluster, ForbiddenError, Object, Request
from job_generator.settings import ENROLLED_BY

LABELS: Final = ",".join(f"{name}={value}" for name, value in ENROLLED_BY.items())
"""Of the Deployment and of its pods."""
WATCHED: Final = "--watch-namespace"
WATCHED_BY_VARIABLE: Final = "FLJOB_WATCH_NAMESPACES"
IMAGES: Final = ("--control-image", "--store-image", "--worker-image")


@dataclass(frozen=True, slots=True)
class Operator:
    """One Deployment of the operator."""

    namespace: str
    name: str
    ready: int
    wanted: int
    image: str
    watches: tuple[str, ...]
    """The namespaces that it looks after; all of them if empty."""
    images: tuple[str, ...]
    """What jobs get where their templates name no image: `IMAGE` or `FRAMEWORK=IMAGE`."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def looks_after(self, namespace: str) -> bool:
        """Whether it looks after FLJobs of this namespace."""
        return not self.watches or namespace in self.watches


def operators(cluster: Cluster) -> list[Operator]:
    """Those of the whole cluster; for who may not see so far, those of the namespace that is meant.

    Raises ForbiddenError where none of them looks after it, for then there may be others.
    """
    try:
        return _listed(cluster, "")
    except ForbiddenError:
        here = _listed(cluster, f"/namespaces/{cluster.namespace}")
        if not any(one.looks_after(cluster.namespace) for one in here):
            raise
        return here


def _listed(cluster: Cluster, place: str) -> list[Operator]:
    found = cluster.send(Request("GET", f"/apis/apps/v1{place}/deployments", {"labelSelector": LABELS}))
    return [_operator(one) for one in found["items"]]


def _operator(deployment: Object) -> Operator:
    metadata, spec = deployment["metadata"], deployment["spec"]
    container = spec["template"]["spec"]["containers"][0]
    words = [*container.get("command", ()), *container.get("args", ())]
    variables = {one["name"]: str(one.get("value", "")) for one in container.get("env", ())}
    # As for the operator itself, an option counts before its variable.
    watches = (
        list(_values(words, WATCHED)) or variables.get(WATCHED_BY_VARIABLE, "").replace(",", " ").split()
    )
    return Operator(
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=deployment.get("status", {}).get("readyReplicas", 0),
        wanted=spec.get("replicas", 1),
        image=container["image"],
        watches=tuple(watches),
        images=tuple(image for option in IMAGES for image in _values(words, option)),
    )


def _values(words: Sequence[str], option: str) -> Iterator[str]:
    """The values of an option of a command line, one argument or two, several with commas between them."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            given = value if equals else " ".join(words[number + 1 : number + 2])
            yield from given.replace(",", " ").split()
