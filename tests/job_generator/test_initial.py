from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import SpecError
from job_generator.initial import located, mounted
from job_generator.lifecycle import InitialModel
from job_generator.spec import FLJob

Build = Callable[..., FLJob]
CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "a/m.npz"}}


@pytest.mark.parametrize("form", ["m.npz", "./m.npz", "{folder}/m.npz", "file://{folder}/m.npz"])
def test_a_file_is_found_beside_the_job(a_job: Build, tmp_path: Path, form: str) -> None:
    """A path is seen from the job's folder; the job then holds it whole, with the digest of the file."""
    (tmp_path / "m.npz").write_bytes(b"arrays")
    job = located(a_job(initialModel={"uri": form.format(folder=tmp_path)}), tmp_path)
    assert job.spec.initial_model == InitialModel(
        uri=str(tmp_path / "m.npz"), sha256=hashlib.sha256(b"arrays").hexdigest()
    )


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"uri": "gone.npz"}, "gone.npz cannot be read: No such file or directory"),
        ({"uri": "m.npz", "sha256": "a" * 64}, f"{'a' * 64} is not the digest of"),
        ({"uri": "s3://bucket/m.npz"}, "is on no disk of this machine; expected a path, or file://"),
        ({"uri": "file://elsewhere/m.npz"}, "is on no disk of this machine"),
        (CLAIM, "persistentVolumeClaim: only a cluster has it; for a run on this machine expected uri"),
        ({"configMap": {"name": "m", "key": "m.npz"}}, "configMap: only a cluster has it"),
        ({"store": {"uri": "s3://a/b", "path": "m.npz"}}, "store: only a cluster has it"),
    ],
)
def test_what_is_not_here_is_refused(
    a_job: Build, tmp_path: Path, given: dict[str, Any], complaint: str
) -> None:
    """A run does not begin with another model than the one that is meant, nor without it."""
    (tmp_path / "m.npz").write_bytes(b"arrays")
    with pytest.raises(SpecError, match="spec.initialModel") as error:
        located(a_job(initialModel=given), tmp_path)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("given", "path", "volumes", "mounted_from"),
    [
        (
            CLAIM,
            "/initial-model/a/m.npz",
            [
                {
                    "name": "initial-model",
                    "persistentVolumeClaim": {"claimName": "models", "readOnly": True},
                }
            ],
            ["initial-model"],
        ),
        (
            {"persistentVolumeClaim": {"claimName": "own", "path": "a/m.npz"}},
            "/initial-model/a/m.npz",
            [],
            ["storage"],
        ),
        (
            {"configMap": {"name": "packed", "key": "m.npz"}},
            "/initial-model/m.npz",
            [
                {
                    "name": "initial-model",
                    "configMap": {"name": "packed", "items": [{"key": "m.npz", "path": "m.npz"}]},
                }
            ],
            ["initial-model"],
        ),
        (None, None, [], []),
    ],
)
def test_a_cluster_mounts_it_for_reading(
    given: dict[str, Any] | None, path: str | None, volumes: list[Any], mounted_from: list[str]
) -> None:
    """The file lies where the server looks for it, read-only; a claim that the pod has already is not named twice."""
    model = InitialModel.model_validate(given) if given else None
    found, added, mounts = mounted(model, storage="own")
    assert (found, added, [mount["name"] for mount in mounts]) == (path, volumes, mounted_from)
    assert all(mount["readOnly"] and mount["mountPath"] == "/initial-model" for mount in mounts)
