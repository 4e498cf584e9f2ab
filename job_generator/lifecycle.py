"""What an FLJob says about where its training begins and when it ends sooner."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from job_generator.deployment import FILE, STORE, ObjectName
from job_generator.part import Part

# -- the beginning


class ClaimedModel(Part):
    """A claim on a volume that holds a model's file, such as that of another job's storage."""

    claim_name: Annotated[ObjectName, Field(examples=["models"])]
    """The PersistentVolumeClaim, in the job's namespace; mounted for reading, in the server's pod alone."""

    path: Annotated[str, Field(pattern=FILE, max_length=512, examples=["digits/last.safetensors"])]
    """The file in it."""


class PackedModel(Part):
    """A ConfigMap that holds a small model's file."""

    name: Annotated[ObjectName, Field(examples=["digits-model"])]
    """The ConfigMap, in the job's namespace."""

    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, examples=["model.safetensors"])]
    """The key, whose value is the file; `kubectl create configmap digits-model --from-file=model.npz` makes one."""


class StoredModel(Part):
    """A store of objects that holds another job's storage, as `spec.server.storage.uri` names it there."""

    uri: Annotated[str, Field(pattern=STORE, max_length=512, examples=["s3://models/digits"])]
    """The store; the file is copied when the server's pod starts, and the store left as it is."""

    secret_name: ObjectName | None = None
    """The Secret, in the job's namespace, whose keys become variables of what copies: that store's credentials."""

    path: Annotated[str, Field(pattern=FILE, max_length=512, examples=["models/last.safetensors"])]
    """The file in that storage."""


class InitialModel(Part):
    """A model's file from which the first round begins: safetensors or npz, as `fl-submit model` writes them.

    Give one of `uri`, `persistentVolumeClaim`, `configMap` and `store`.
    """

    uri: Annotated[str, Field(min_length=1, max_length=2048, examples=["models/last.safetensors"])] | None = (
        None
    )
    """A file on this machine, for a local run: a path beside the job file, or file:///absolute/path."""

    persistent_volume_claim: ClaimedModel | None = None
    """A claim on a volume that holds the file, for a job on a cluster."""

    config_map: PackedModel | None = None
    """A ConfigMap that holds the file, for a job on a cluster; it has room for less than a mebibyte."""

    store: StoredModel | None = None
    """A store of objects that holds the storage of the job that made the file, for a job on a cluster."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The file's digest, as sha256sum prints it; the server checks it. A local run fills it in."""

    round: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """The file is another job's checkpoint of this round, and rounds are counted on from there, with what strategy and
stages remember at the server; `fl-submit fork` writes it. Without it only the arrays are taken; rounds begin with 1."""


# -- the end


class Target(Part):
    """The value of a metric that ends the job before its last round; give one side."""

    metric: Annotated[str, Field(min_length=1, max_length=63)]
    """A metric of the program, as the workers measure it on the global model."""

    at_least: float | None = None
    """Reached at this value or above."""

    at_most: float | None = None
    """Reached at this value or below."""


class EarlyStopping(Part):
    """Ends the job when the model gets no better, by the metric of `target`, or else by the loss."""

    patience: Annotated[int, Field(ge=1, le=100_000)] = 5
    """So many measured rounds in a row without progress end the job."""

    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Progress is a value that is better than the best one before by more than this."""
