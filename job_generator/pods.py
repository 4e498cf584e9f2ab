"""The pods of a job's roles: one container called `fl`, that passes Pod Security `restricted`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fl_core.environment import GRACE, IMAGE
from fl_core.plan import Plan
from job_generator import names
from job_generator.containers import HOME, restoring, running
from job_generator.deployment import ConfigMapSource, Data, Source, Storage, Template
from job_generator.forecast import Model
from job_generator.initial import MOUNT, VOLUME, mounted
from job_generator.lifecycle import InitialModel
from job_generator.overlay import overlaid
from job_generator.processes import Place, Role
from job_generator.settings import Settings

Object = dict[str, Any]

CONTAINER = "fl"
AUDIENCE = "fljob"
TOKEN_SECONDS = 3600
PLAN = "/etc/fljob"
IDENTITY = "/var/run/fljob/identity"
SECRETS = "/var/run/secrets/fljob"
STORAGE = "/var/lib/fljob"
PROGRAM = "/program"
DATA = "/data"
STATES = "/states"

INHERITED = ("privacy.jsonl", "privacy.jsonl.head", "models/best.safetensors")
"""What the server of a fork reads of its parent's storage beside the checkpoint."""
LOST_NODE_SECONDS = 30
"""How long a pod stays on a node that does not answer; Kubernetes' own default is five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One kind of pod: its role, its place, what is mounted in it, and the templates laid over it.

    Server and scheduler are started again in place whatever happens; a worker, unless it ended for good.
    """

    role: Role
    place: Place
    image: str
    labels: dict[str, str]
    volumes: tuple[Object, ...] = ()
    mounts: tuple[Object, ...] = ()
    templates: tuple[Object, ...] = ()
    secret: str | None = None
    """The Secret whose keys are variables of its environment."""
    before: tuple[Object, ...] = ()
    """Containers that end before its own one starts."""


# -- the roles


def scheduler_pod(
    plan: Plan, settings: Settings, *, labels: dict[str, str], template: Template | None, replicas: int
) -> Pod:
    """The scheduler's; where there are fewer workers than there may be, it is told not to wait for the others."""
    place = replace(
        _place(settings),
        listen=f"0.0.0.0:{names.PORT}",
        replicas=str(replicas) if replicas < plan.pool else None,
    )
    return Pod(
        role="scheduler",
        place=place,
        image=settings.images.control,
        labels=labels,
        templates=_templates(settings, template),
    )


def server_pod(
    plan: Plan,
    settings: Settings,
    *,
    labels: dict[str, str],
    template: Template | None,
    storage: Storage,
    initial: InitialModel | None = None,
) -> Pod:
    """The server's, with its claim, in which each job has a folder of its own, and the model that it begins with.

    With a store of objects its folder is no longer there than the pod.
    """
    claim = storage.existing_claim or names.claim(plan.job)
    lasting: Object = {"emptyDir": {}} if storage.uri else {"persistentVolumeClaim": {"claimName": claim}}
    path, volumes, mounts = mounted(initial, storage=None if storage.uri else claim)
    before = _fetching(initial, settings.images.store)
    outside = any(site.external for site in plan.sites)
    place = replace(
        _place(settings),
        listen=f"0.0.0.0:{names.PORT}",
        relay=f"0.0.0.0:{names.RELAY_PORT}" if outside else None,
        scheduler=names.address(plan.job, "scheduler"),
        storage=f"{STORAGE}/{plan.job.name}-{plan.job.uid}",
        store=storage.uri,
        initial_model=path,
    )
    return Pod(
        role="server",
        place=place,
        image=settings.images.store if storage.uri or before else settings.images.control,
        labels=labels,
        volumes=({"name": "storage", **lasting}, *volumes),
        mounts=({"name": "storage", "mountPath": STORAGE}, *mounts),
        templates=_templates(settings, template),
        secret=storage.secret_name,
        before=before,
    )


def _fetching(initial: InitialModel | None, image: str) -> tuple[Object, ...]:
    """What copies a model that is in a store of objects, and what a fork takes over beside it."""
    if initial is None or initial.store is None:
        return ()
    given, mount = initial.store, {"name": VOLUME, "mountPath": MOUNT}
    only = (given.path, *(INHERITED if initial.round is not None else ()))
    return (restoring(image, given.uri, secret=given.secret_name, folder=MOUNT, mount=mount, only=only),)


def worker_pod(
    plan: Plan,
    settings: Settings,
    *,
    index: str,
    labels: dict[str, str],
    source: Source | None,
    data: Data | None,
    template: Template | None,
) -> Pod:
    """A worker's, of the pool or of a site; `index` is a number, or what Kubernetes puts one in place of."""
    image, program, volumes, mounts = _program(source, settings.images.workers[plan.program.framework])
    if data is not None:
        volumes.append(_claimed("data", data.claim_name, read_only=data.read_only))
        mounts.append(_data_mount(data, index))
    if plan.compression:
        volumes.append({"name": "states", "emptyDir": {}})
        mounts.append({"name": "states", "mountPath": STATES})
    place = replace(
        _place(settings),
        scheduler=names.address(plan.job, "scheduler"),
        server=names.address(plan.job, "server"),
        index=index,
        program=program,
        data=DATA if data is not None else None,
        states=STATES if plan.compression else None,
    )
    return Pod(
        role="worker",
        place=place,
        image=image,
        labels=labels,
        volumes=tuple(volumes),
        mounts=tuple(mounts),
        templates=_templates(settings, template),
    )


def _place(settings: Settings) -> Place:
    """What all have in common; for its certificate a process makes a key and shows the pod's token."""
    return Place(
        plan=f"{PLAN}/plan.json",
        identity=IDENTITY,
        metrics=f"0.0.0.0:{names.METRICS_PORT}",
        enrol=settings.enrolment,
        token_file=f"{SECRETS}/token",
        ca_file=f"{SECRETS}/ca.pem",
    )


def _templates(settings: Settings, template: Template | None) -> tuple[Object, ...]:
    return (dict(settings.template), template.model_dump(mode="json") if template else {})


def _program(source: Source | None, image: str) -> tuple[str, str, list[Object], list[Object]]:
    """The image, the program's folder, and what is mounted there."""
    mount: Object = {"name": "program", "mountPath": PROGRAM, "readOnly": True}
    if source is not None and source.image is not None:
        return source.image.reference, source.image.path, [], []
    if source is not None and source.config_map is not None:
        return image, PROGRAM, [{"name": "program", "configMap": _files(source.config_map)}], [mount]
    if source is not None and source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        inside = {"subPath": claim.sub_path} if claim.sub_path else {}
        return image, PROGRAM, [_claimed("program", claim.claim_name, read_only=True)], [{**mount, **inside}]
    return image, PROGRAM, [{"name": "program", "emptyDir": {"sizeLimit": "1Mi"}}], [mount]


def _files(source: ConfigMapSource) -> Object:
    """The keys as files; one that is named nowhere is none where paths are given."""
    items = [item.model_dump() for item in source.items]
    return {"name": source.name, **({"items": items} if items else {})}


def _claimed(volume: str, claim: str, *, read_only: bool) -> Object:
    return {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}


def _data_mount(data: Data, index: str) -> Object:
    """A worker's own part of a shared claim; Kubernetes fills the index in where it knows it alone."""
    path = (data.sub_path or "").replace("{index}", index)
    inside = {"subPathExpr" if "$(" in path else "subPath": path} if path else {}
    return {"name": "data", "mountPath": DATA, "readOnly": data.read_only, **inside}


# -- the pod template


def pod_template(
    pod: Pod, plan: Plan, settings: Settings, *, configuration: str, model: Model | None
) -> Object:
    """The template of a Job, with the partial templates laid over it.

    What the job's own working rests on stays as it is: the labels that services, policies and the operator
    look for, the name under which a pod is dialled, and how it is started again.
    """
    template: Object = {
        "metadata": {"labels": pod.labels, "annotations": {names.PLAN_DIGEST: plan.digest}},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # So that ours is not the first process, which hears SIGTERM only where it listens for it.
            "shareProcessNamespace": True,
            "securityContext": _pod_security(settings),
            "tolerations": [_tolerated("not-ready"), _tolerated("unreachable")],
            "terminationGracePeriodSeconds": 30,
            **(
                {"initContainers": [{**one, **_pulled(settings)} for one in pod.before]} if pod.before else {}
            ),
            "containers": [_container(pod, plan, settings, model)],
            "volumes": [*_volumes(plan, configuration), *pod.volumes],
        },
    }
    for over in pod.templates:
        template = overlaid(template, over)
    template["metadata"]["labels"] = {**template["metadata"].get("labels", {}), **pod.labels}
    template["spec"] |= _fixed(pod, plan)
    grace = template["spec"].get("terminationGracePeriodSeconds") if pod.role == "worker" else None
    template["spec"]["containers"] = [_told(one, grace) for one in template["spec"]["containers"]]
    return template


def _told(container: Object, grace: int | None) -> Object:
    """Our own container is told what a template may have changed: its image, which the record names; its grace."""
    if container.get("name") != CONTAINER:
        return container
    env = [{"name": IMAGE, "value": container["image"]}]
    if grace is not None:
        env.append({"name": GRACE, "value": str(grace)})
    return dict(overlaid(container, {"env": env}))


def _fixed(pod: Pod, plan: Plan) -> Object:
    """A pod of one that is dialled has a name in DNS, below the service of its role."""
    if pod.role == "worker":
        return {"restartPolicy": "Never"}
    return {"restartPolicy": "OnFailure", "subdomain": names.child(plan.job, pod.role)}


def _container(pod: Pod, plan: Plan, settings: Settings, model: Model | None) -> Object:
    mounts = [
        {"name": "plan", "mountPath": PLAN, "readOnly": True},
        {"name": "identity", "mountPath": IDENTITY},
        {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
        {"name": "tmp", "mountPath": HOME},
        *pod.mounts,
    ]
    secret = {"envFrom": [{"secretRef": {"name": pod.secret}}]} if pod.secret else {}
    return {
        "name": CONTAINER,
        "image": pod.image,
        **_pulled(settings),
        **running(pod.role, pod.place, plan, model=model),
        **secret,
        "volumeMounts": mounts,
    }


def _pulled(settings: Settings) -> Object:
    return {"imagePullPolicy": settings.pull_policy} if settings.pull_policy else {}


def _pod_security(settings: Settings) -> Object:
    who = {"runAsUser": settings.user, "runAsGroup": settings.user, "fsGroup": settings.user}
    return {
        "runAsNonRoot": True,
        **(who if settings.user is not None else {}),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _tolerated(state: str) -> Object:
    return {
        "key": f"node.kubernetes.io/{state}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": LOST_NODE_SECONDS,
    }


def _volumes(plan: Plan, configuration: str) -> list[Object]:
    token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    authority = {"name": names.authority(plan.job), "items": [{"key": "ca.pem", "path": "ca.pem"}]}
    return [
        {"name": "plan", "configMap": {"name": configuration}},
        {"name": "identity", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {
            "name": "secrets",
            "projected": {"sources": [{"serviceAccountToken": token}, {"configMap": authority}]},
        },
        {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
    ]
