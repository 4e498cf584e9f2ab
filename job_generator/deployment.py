"""What an FLJob says about the cluster it runs on: where program, data and checkpoints lie, sites, the network.

A local run leaves all of it aside (see `aside.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from job_generator.part import NAME, NAME_OR_NONE, OBJECT_NAME, Part

MOST_SITES = 100
INSIDE = r"[A-Za-z0-9_{][A-Za-z0-9_.{}-]*"
STEP = "[A-Za-z0-9_][A-Za-z0-9._-]*"
STORE = f"^((s3|gs|az|abfs)://[A-Za-z0-9][A-Za-z0-9._-]*|file://)(/{STEP})+$"
FILE = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$"

ObjectName = Annotated[str, Field(pattern=OBJECT_NAME, max_length=253, examples=["fast", "lab.1"])]
SubPath = Annotated[
    str, Field(pattern=f"^{INSIDE}(/{INSIDE})*$", max_length=253, examples=["shards/{index}"])
]


# -- the program


class Item(Part):
    """A key of the ConfigMap, and the file that it holds."""

    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, examples=["model.layers.py"])]
    """The key."""

    path: Annotated[str, Field(pattern=FILE, max_length=512, examples=["model/layers.py"])]
    """The file's path in the program's folder."""


class ConfigMapSource(Part):
    """A ConfigMap whose keys are the program's files."""

    name: Annotated[ObjectName, Field(examples=["digits-program"])]
    """The ConfigMap, in the job's namespace."""

    items: Annotated[list[Item], Field(max_length=1000)] = Field(default_factory=list)
    """The file that each key becomes, as keys hold no slash; keys that are not named become none. Without it a key is
    the file's name."""


class ImageSource(Part):
    """An image of the workers that holds the program."""

    reference: Annotated[str, Field(pattern=r"^[^\s]+$", max_length=512, examples=["digits-worker:1"])]
    """The image; the workers run it, so it holds FLJob's worker too."""

    path: Annotated[str, Field(pattern=r"^/[^\s$]*$", max_length=253)] = "/program"
    """The program's folder in it."""


class ClaimSource(Part):
    """A claim on a volume that holds the program."""

    claim_name: Annotated[ObjectName, Field(examples=["programs"])]
    """The PersistentVolumeClaim, in the job's namespace; mounted for reading."""

    sub_path: SubPath | None = None
    """The program's folder in it; its root without it."""


class Source(Part):
    """Where the workers find the program's files; give one of them."""

    config_map: ConfigMapSource | None = None
    """A ConfigMap whose keys are the program's files."""

    image: ImageSource | None = None
    """An image of the workers that holds the program."""

    persistent_volume_claim: ClaimSource | None = None
    """A claim on a volume that holds the program."""


# -- volumes and pods


class Storage(Part):
    """The volume of the server, or a store of objects: checkpoints, models, the record of rounds."""

    size: (
        Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi|Ti|M|G|T)$", max_length=16, examples=["5Gi"])]
        | None
    ) = None
    """How much is claimed. 1Gi without it."""

    storage_class_name: (
        Annotated[str, Field(pattern=NAME_OR_NONE, max_length=253, examples=["fast"])] | None
    ) = None
    """The storage class; the cluster's default without it. With `""` none, for a volume made before without a class."""

    on_delete: Literal["Retain", "Delete"] = "Retain"
    """What becomes of the claim when the job is deleted."""

    existing_claim: ObjectName | None = None
    """A claim that is there already, instead of a new one; each job has a folder of its own in it."""

    uri: Annotated[str, Field(pattern=STORE, max_length=512, examples=["s3://models/digits"])] | None = None
    """A store of objects instead of a volume, and the folder in it that is this job's alone: s3://bucket/folder, or a
mounted one, file:///folder; gs, az and abfs are not tried. A local run keeps its storage there, too."""

    secret_name: ObjectName | None = None
    """The Secret, in the job's namespace, whose keys become variables of the server's environment: the store's
credentials, and AWS_ENDPOINT_URL_S3 for a store that is not Amazon's."""


class Template(Part):
    """A partial pod template, laid over the generated one: maps merge, containers, volumes and env by `name`,
    mounts by `mountPath`, everything else replaces; the generated container is called `fl`.
    """

    metadata: Annotated[dict[str, JsonValue], Field(max_length=8)] = Field(default_factory=dict)
    """Labels and annotations of the pods."""

    spec: Annotated[dict[str, JsonValue], Field(max_length=64)] = Field(default_factory=dict)
    """Fields of the pods' spec, such as nodeSelector, tolerations, or containers: [{name: fl, resources: ...}]."""


class Data(Part):
    """A claim on the volume that holds the data of workers."""

    claim_name: Annotated[ObjectName, Field(examples=["shards"])]
    """The PersistentVolumeClaim, in the job's namespace."""

    sub_path: SubPath | None = None
    """A worker's folder in it, where {index} is the worker's number; the root without it."""

    read_only: bool = True
    """Whether it is mounted for reading only."""


# -- sites and the network


class External(Part):
    """Marks a site outside the cluster; it has no fields."""


class Site(Part):
    """One worker with a place of its own: its data, its nodes, or a house outside the cluster."""

    name: Annotated[str, Field(pattern=NAME, max_length=40, examples=["hospital-a"])]
    """What the site is called in logs, records and metrics of the job."""

    data: Data | None = None
    """Its data, when it is in the cluster."""

    template: Template | None = None
    """Its pod template, when it is in the cluster."""

    external: External | None = None
    """Given as {}: the site joins from outside, through `spec.network.external`."""


class Egress(Part):
    """Addresses that the job's pods may dial."""

    cidr: Annotated[
        str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", max_length=43, examples=["10.0.0.0/8"])
    ]
    """The block of addresses."""

    ports: Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], Field(max_length=16)] = Field(
        default_factory=list
    )
    """TCP ports; all of them when none is given."""


class Listener(Part):
    """The one address at which external sites reach the job."""

    type: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    """The type of the Service."""

    hostname: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            max_length=253,
            examples=["fl.example.org"],
        ),
    ]
    """The name or the IPv4 address that sites dial."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 8443
    """The port that sites dial; with NodePort also the nodes' own, where it is one from 30000 to 32767."""


class Network(Part):
    """Who may speak with the job's pods, and whom they may dial."""

    policy: Literal["Isolated", "Open"] = "Isolated"
    """Isolated: a NetworkPolicy for each role, with what the job itself needs and nothing else. Open: none."""

    egress: Annotated[list[Egress], Field(max_length=32)] = Field(default_factory=list)
    """What else the pods may dial under Isolated, such as a store of data."""

    external: Listener | None = None
    """The address for sites outside the cluster."""
