"""What a cluster's operator is set to, as far as a job's children show it: images, its own address, defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

ENROLMENT_PORT = 8443
RESOLVERS = ("169.254.20.10/32",)
"""The usual address of NodeLocal DNSCache, which is no pod."""
ENROLLED_BY = {"app.kubernetes.io/name": "fljob", "app.kubernetes.io/component": "operator"}


@dataclass(frozen=True, slots=True)
class Images:
    """The image of server and scheduler, that of the workers for each framework, and that of servers which keep their
    storage in a store of objects, whose client the first one has not.
    """

    control: str
    workers: Mapping[str, str]
    store: str

    @classmethod
    def of(cls, tag: str, *, prefix: str = "") -> Images:
        """The project's own images with this tag."""
        workers = {name: f"{prefix}fljob-worker-{name}:{tag}" for name in ("paddle", "sklearn", "numpy")}
        return cls(f"{prefix}fljob:{tag}", workers, f"{prefix}fljob-server:{tag}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator gives to every job."""

    images: Images = field(default_factory=lambda: Images.of(version("fljob")))
    pull_policy: str | None = None
    """Kubernetes' own default without it."""

    operator_namespace: str = "fljob-system"
    operator_service: str = "fljob-operator"
    operator_labels: Mapping[str, str] = field(default_factory=lambda: ENROLLED_BY)
    """The labels of the operator's pods, which dial the servers."""

    authority: str = ""
    """The PEM text of the authority that signs the operator's certificate and the jobs'; without it the children
    lack the ConfigMap that holds it, as in what is written for review.
    """

    user: int | None = 65_532
    """The user and group that the processes run as; None where the cluster chooses them itself (OpenShift)."""

    template: Mapping[str, Any] = field(default_factory=dict)
    """A partial pod template below those of the jobs: pull secrets, priority class, node selector, tolerations."""

    scrapers: Mapping[str, Any] = field(default_factory=dict)
    """A selector of the namespaces that may read /metrics; all of them without it."""

    resolvers: tuple[str, ...] = RESOLVERS
    """Addresses of name servers that are no pods, as CIDRs."""

    @property
    def enrolment(self) -> str:
        """Where pods send their key to be signed."""
        return f"https://{self.operator_service}.{self.operator_namespace}.svc:{ENROLMENT_PORT}"
