"""A fork of a job on a cluster: a new FLJob whose server reads a checkpoint from its parent's claim."""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.errors import SpecError
from fl_core.models import checkpoint_name
from job_generator.amend import fork_of
from job_generator.cluster.connection import Object
from job_generator.cluster.jobs import claim, store
from job_generator.compiler import compile_job
from job_generator.spec import FLJob


def forked(parent: Object, *, name: str, round: int, changes: Sequence[str]) -> FLJob:
    """The new job, as its author would have written it; refuses what cannot be.

    Whether the checkpoint is still kept, and fits the program, its server finds when it starts.
    """
    metadata = parent["metadata"]
    if (kept := store(parent)) is not None:
        raise SpecError(
            f"spec.server.storage.uri: the checkpoints of {metadata['name']} are in {kept['uri']}, which a fork on a "
            "cluster cannot read; begin another job with spec.initialModel and the file that `fl-submit model "
            f"{metadata['name']} -o model.safetensors` writes"
        )
    storage = f"{metadata['name']}-{metadata['uid']}"
    before = {
        "apiVersion": parent["apiVersion"],
        "kind": parent["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": {**parent["spec"], "suspend": False},
    }
    origin = {
        "persistentVolumeClaim": {
            "claimName": claim(parent),
            "path": f"{storage}/checkpoints/{checkpoint_name(round)}",
        },
        "round": round,
    }
    job = fork_of(before, changes, name=name, origin=origin)
    compile_job(job)
    return job
