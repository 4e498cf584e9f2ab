"""The Kubernetes objects of a job: what the operator applies, and what `fl-submit compile` writes for review.

Pure: the same job, Plan and settings give the same objects, byte for byte in canonical JSON. The order is that
in which they are applied: what a pod mounts or is held back by is there before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from fl_core.errors import PERMANENT_EXIT_CODES
from fl_core.plan import Plan
from job_generator import names
from job_generator.deployment import Listener
from job_generator.forecast import Model
from job_generator.pods import CONTAINER, Object, Pod, pod_template, scheduler_pod, server_pod, worker_pod
from job_generator.policies import network_policies
from job_generator.processes import ROLES, Role
from job_generator.settings import Settings
from job_generator.spec import API_VERSION, KIND, FLJob

INDEX: Final = "$(JOB_COMPLETION_INDEX)"
"""What the Job controller gives to each pod of an Indexed Job."""
UNLIMITED: Final = 2**31 - 1
STORAGE_SIZE: Final = "1Gi"
NODE_PORTS: Final = range(30_000, 32_768)
"""Kubernetes' own default of the ports that nodes give to services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What the children of a job are made of."""

    job: FLJob
    plan: Plan
    settings: Settings = field(default_factory=Settings)
    attempt: int = 1
    model: Model | None = None

    def labels(self, role: Role) -> dict[str, str]:
        """The labels of a role's objects."""
        return names.labels(self.plan.job, role, attempt=self.attempt)


def children(of: Rendering) -> list[Object]:
    """Every object of a job; with `metadata.uid` the FLJob owns them, but for a claim that is to be kept.

    With the uid the operator's garbage collection works; a job that was never stored owns nothing.
    """
    configuration = _configuration(of)
    objects = [
        configuration,
        *_authority(of),
        *_claim(of),
        *network_policies(
            of.plan,
            of.job.spec.network,
            of.settings,
            labels={role: of.labels(role) for role in ROLES},
            stores=_stores(of.job),
        ),
        *_services(of),
        *_jobs(of, configuration["metadata"]["name"]),
    ]
    return [_owned(of, one) for one in objects]


def _stores(job: FLJob) -> list[str]:
    """The stores of objects that the server's pod dials."""
    initial = job.spec.initial_model
    found = (job.spec.server.storage.uri, initial.store.uri if initial and initial.store else None)
    return [uri for uri in found if uri is not None]


def of_role(objects: list[Object], role: Role) -> list[Object]:
    """The objects of one role."""
    return [one for one in objects if one["metadata"]["labels"].get(names.ROLE) == role]


def of_all(objects: list[Object]) -> list[Object]:
    """The objects that every role needs."""
    return [one for one in objects if names.ROLE not in one["metadata"]["labels"]]


# -- what is mounted


def _configuration(of: Rendering) -> Object:
    """The Plan, in a ConfigMap that nobody can change; its digest is in the name."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(of, names.configuration(of.plan.job, of.plan.digest)),
        "immutable": True,
        "data": {"plan.json": of.plan.to_json()},
    }


def _authority(of: Rendering) -> list[Object]:
    """Whom the pods trust, and for external sites where to enrol: what it was when the job was compiled."""
    if not of.settings.authority:
        return []
    metadata = _metadata(of, names.authority(of.plan.job))
    data = {"ca.pem": of.settings.authority, "enrolment": of.settings.enrolment}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}]


def _claim(of: Rendering) -> list[Object]:
    """The claim of the server's storage, unless there is one already, or a store of objects."""
    storage = of.job.spec.server.storage
    if storage.existing_claim or storage.uri:
        return []
    named = storage.storage_class_name
    chosen = {} if named is None else {"storageClassName": named}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size or STORAGE_SIZE}},
        **chosen,
    }
    metadata = {**_metadata(of, names.claim(of.plan.job)), "labels": _storage_labels(of)}
    return [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim}]


def _storage_labels(of: Rendering) -> dict[str, str]:
    """Without the attempt: a claim outlives it."""
    return {name: value for name, value in of.labels("server").items() if name != names.ATTEMPT}


# -- the network


def _services(of: Rendering) -> list[Object]:
    """A name in DNS for each role that is dialled, and the door for external sites."""
    doors = [_headless(of, role) for role in ROLES if role != "worker"]
    listener = of.job.spec.network.external
    if listener is not None:
        spec = {"type": listener.type, "selector": _chosen(of, "server"), "ports": [_door(listener)]}
        name = names.child(of.plan.job, "external")
        doors.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": _metadata(of, name, role="server"),
                "spec": spec,
            }
        )
    return doors


def _door(listener: Listener) -> Object:
    """The relay's port; a node's own is the one that sites dial, where nodes may have it."""
    own = {"nodePort": listener.port} if listener.type == "NodePort" and listener.port in NODE_PORTS else {}
    return {"name": "external", "port": listener.port, "targetPort": "external", "protocol": "TCP", **own}


def _headless(of: Rendering, role: Role) -> Object:
    """Found before it is ready: workers wait for a server that is starting."""
    ports = [("grpc", names.PORT), ("metrics", names.METRICS_PORT)]
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": _chosen(of, role),
        "ports": [
            {"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports
        ],
    }
    metadata = _metadata(of, names.child(of.plan.job, role), role=role)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _chosen(of: Rendering, role: Role) -> dict[str, str]:
    return {names.JOB: of.plan.job.name, names.ROLE: role}


# -- the Jobs


def _jobs(of: Rendering, configuration: str) -> list[Object]:
    spec = of.job.spec
    scheduler = scheduler_pod(
        of.plan,
        of.settings,
        labels=of.labels("scheduler"),
        template=spec.scheduler.template,
        replicas=spec.workers.replicas,
    )
    server = server_pod(
        of.plan,
        of.settings,
        labels=of.labels("server"),
        template=spec.server.template,
        storage=spec.server.storage,
        initial=spec.initial_model,
    )
    pool = [(names.child(of.plan.job, "worker"), _pool_pod(of), spec.workers.replicas)]
    here = [site for site in of.plan.sites if not site.external]
    pool += [
        (names.child(of.plan.job, "site", site.name), _site_pod(of, site.name, site.index), 1)
        for site in here
    ]
    return [
        _control_job(of, scheduler, configuration),
        _control_job(of, server, configuration),
        *(_worker_job(of, pod, configuration, name=name, count=count) for name, pod, count in pool if count),
    ]


def _pool_pod(of: Rendering) -> Pod:
    workers = of.job.spec.workers
    return worker_pod(
        of.plan,
        of.settings,
        index=INDEX,
        labels=of.labels("worker"),
        source=of.job.spec.program.source,
        data=workers.data,
        template=workers.template,
    )


def _site_pod(of: Rendering, name: str, index: int) -> Pod:
    site = next(one for one in of.job.spec.sites if one.name == name)
    return worker_pod(
        of.plan,
        of.settings,
        index=str(index),
        labels={**of.labels("worker"), names.SITE: name},
        source=of.job.spec.program.source,
        data=site.data,
        template=site.template,
    )


def _control_job(of: Rendering, pod: Pod, configuration: str) -> Object:
    """One pod, replaced whenever it is lost; that two may live for a moment is the server's to bear."""
    return _job(
        of,
        pod,
        configuration,
        name=names.child(of.plan.job, pod.role),
        count=1,
        more={"backoffLimit": UNLIMITED},
    )


def _worker_job(of: Rendering, pod: Pod, configuration: str, *, name: str, count: int) -> Object:
    """Pods of which some may be lost: each has its own limit, and a node's drain does not count.

    There is no `maxFailedIndexes`: one loss too many would kill the survivors before the operator decides.
    """
    for_good = {"containerName": CONTAINER, "operator": "In", "values": list(PERMANENT_EXIT_CODES)}
    rules = [
        {"action": "FailIndex", "onExitCodes": for_good},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    more = {
        "backoffLimitPerIndex": of.job.spec.workers.restarts_per_worker,
        "podFailurePolicy": {"rules": rules},
        "podReplacementPolicy": "Failed",
    }
    return _job(of, pod, configuration, name=name, count=count, more=more)


def _job(of: Rendering, pod: Pod, configuration: str, *, name: str, count: int, more: Object) -> Object:
    template = pod_template(pod, of.plan, of.settings, configuration=configuration, model=of.model)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": pod.labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": count,
            "suspend": of.job.spec.suspend,
            **more,
            "template": template,
        },
    }


# -- what all have in common


def _metadata(of: Rendering, name: str, *, role: Role | None = None) -> Object:
    return {"name": name, "labels": of.labels(role) if role else names.of_job(of.plan.job)}


def _owned(of: Rendering, one: Object) -> Object:
    """The object in the job's namespace, and under its ownership."""
    metadata = {**one["metadata"], "namespace": of.plan.job.namespace}
    kept = one["kind"] == "PersistentVolumeClaim" and of.job.spec.server.storage.on_delete == "Retain"
    if of.job.metadata.uid is not None and not kept:
        metadata["ownerReferences"] = [_owner(of.job)]
    return {**one, "metadata": metadata}


def _owner(job: FLJob) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
