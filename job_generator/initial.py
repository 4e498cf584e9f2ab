"""The file of `spec.initialModel`: where it lies on this machine, and where it is mounted on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from fl_core.digests import file_digest
from fl_core.errors import SpecError, StorageError, UpdateError
from fl_core.models import StoredModel, read_model
from fl_core.weights import check_finite
from job_generator.lifecycle import InitialModel
from job_generator.spec import FLJob

FIELD: Final = "spec.initialModel"
MOUNT: Final = "/initial-model"
VOLUME: Final = "initial-model"

Object = dict[str, Any]


def located(job: FLJob, folder: Path) -> FLJob:
    """The job with the whole path of its file, as seen from `folder`, and the file's digest; refuses another digest."""
    given = job.spec.initial_model
    if given is None:
        return job
    path = _path(given, folder)
    try:
        digest = file_digest(path)
    except OSError as error:
        raise SpecError(f"{FIELD}.uri: {path} cannot be read: {error.strerror}") from error
    if given.sha256 not in {None, digest}:
        raise SpecError(
            f"{FIELD}.sha256: {given.sha256} is not the digest of {path}, which is {digest}; "
            "put the right file there, or leave the field out"
        )
    placed = given.model_copy(update={"uri": str(path), "sha256": digest})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"initial_model": placed})})


def opened(job: FLJob) -> StoredModel | None:
    """Read the file of a job that `located` has found, which may be large; refuses one that no server could read."""
    given = job.spec.initial_model
    if given is None or given.uri is None:
        return None
    path = Path(given.uri)
    try:
        found = read_model(path) if given.round is None else StoredModel.read(path)
        check_finite(
            {name: one for name, one in found.arrays.items() if one.dtype.kind == "f"}, whose=str(path)
        )
    except UpdateError as error:
        what = str(error).partition(";")[0]
        raise SpecError(f"{FIELD}.uri: {what}; expected a model that a job can begin with") from error
    except StorageError as error:
        accepted = (
            "safetensors, or npz as numpy.savez and fl-submit model write it; from another format: "
            "numpy.savez('model.npz', **arrays), with the arrays by their names in the program"
        )
        if given.round is not None:
            accepted = "a checkpoint, which is safetensors; for the arrays of an npz alone leave round out"
        raise SpecError(f"{FIELD}.uri: {error}; expected {accepted}") from error
    return found


def _path(given: InitialModel, folder: Path) -> Path:
    if given.uri is None:
        where = "configMap" if given.config_map else "store" if given.store else "persistentVolumeClaim"
        raise SpecError(
            f"{FIELD}.{where}: only a cluster has it; for a run on this machine expected uri, the path of the file, "
            f"as in -f local.yaml with spec: {{initialModel: {{{where}: null, uri: model.npz}}}}"
        )
    scheme, host, path, *_ = urlsplit(given.uri)
    if scheme not in {"", "file"} or host not in {"", "localhost"}:
        raise SpecError(
            f"{FIELD}.uri: {given.uri} is on no disk of this machine; expected a path, or file:///absolute/path"
        )
    named = Path(unquote(path)) if scheme else Path(given.uri)
    return (folder / named).absolute()


def mounted(
    given: InitialModel | None, *, storage: str | None
) -> tuple[str | None, list[Object], list[Object]]:
    """The file's path in the server's pod, its volumes and its mounts, where `storage` is the claim of the volume
    of that name, if it has one: a pod that names a claim twice may never start.
    """
    if given is None or given.uri is not None:
        return None, [], []
    mount: Object = {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}
    if given.store is not None:
        return f"{MOUNT}/{given.store.path}", [{"name": VOLUME, "emptyDir": {}}], [mount]
    if given.config_map is not None:
        items = [{"key": given.config_map.key, "path": given.config_map.key}]
        volume: Object = {"name": VOLUME, "configMap": {"name": given.config_map.name, "items": items}}
        return f"{MOUNT}/{given.config_map.key}", [volume], [mount]
    claim = given.persistent_volume_claim
    path = f"{MOUNT}/{claim.path}" if claim else None
    if claim is None or claim.claim_name == storage:
        return path, [], [{**mount, "name": "storage"}]
    source = {"claimName": claim.claim_name, "readOnly": True}
    return path, [{"name": VOLUME, "persistentVolumeClaim": source}], [mount]
