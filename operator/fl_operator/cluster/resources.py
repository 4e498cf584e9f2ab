"""The kinds of objects that the operator touches, where they are found in the API, and how objects are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Object = dict[str, Any]
"""An object of the API, as its JSON says."""


class Key(NamedTuple):
    """Where an object is."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object, as the API calls it."""

    kind: str
    plural: str
    version: str
    group: str = ""

    @property
    def api_version(self) -> str:
        """As in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", *, subresource: str = "") -> str:
        """The path of an object, of a namespace's objects, or of all (no namespace, no name)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if namespace else ""
        end = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{place}/{self.plural}{end}"


FLJOBS = Resource("FLJob", "fljobs", "v1alpha1", "fljob.dev")
JOBS = Resource("Job", "jobs", "v1", "batch")
PODS = Resource("Pod", "pods", "v1")
NODES = Resource("Node", "nodes", "v1")
SERVICES = Resource("Service", "services", "v1")
CONFIG_MAPS = Resource("ConfigMap", "configmaps", "v1")
SECRETS = Resource("Secret", "secrets", "v1")
CLAIMS = Resource("PersistentVolumeClaim", "persistentvolumeclaims", "v1")
NETWORK_POLICIES = Resource("NetworkPolicy", "networkpolicies", "v1", "networking.k8s.io")
EVENTS = Resource("Event", "events", "v1", "events.k8s.io")
LEASES = Resource("Lease", "leases", "v1", "coordination.k8s.io")
NAMESPACES = Resource("Namespace", "namespaces", "v1")

_ALL = (
    FLJOBS,
    JOBS,
    PODS,
    NODES,
    SERVICES,
    CONFIG_MAPS,
    SECRETS,
    CLAIMS,
    NETWORK_POLICIES,
    EVENTS,
    LEASES,
    NAMESPACES,
)
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in _ALL}


def resource_of(thing: Mapping[str, Any]) -> Resource:
    """The resource of an object that says its `apiVersion` and `kind`."""
    named = (str(thing.get("apiVersion")), str(thing.get("kind")))
    if named not in _BY_KIND:
        raise ValueError(f"{named[0]} {named[1]} is no kind that the operator knows")
    return _BY_KIND[named]


def key_of(thing: Mapping[str, Any]) -> Key:
    """Where an object is."""
    metadata = thing["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def uid_of(thing: Mapping[str, Any]) -> str:
    """What tells an object from an earlier one of the same name."""
    return str(thing["metadata"].get("uid", ""))


def owner_of(thing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of an object's controller."""
    owners = thing["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def version_of(thing: Mapping[str, Any]) -> int:
    """An object's `resourceVersion`; within one resource a later one is greater (since Kubernetes 1.35)."""
    return int(thing["metadata"].get("resourceVersion") or 0)
