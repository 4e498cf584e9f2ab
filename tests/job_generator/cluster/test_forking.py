from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_core.errors import SpecError
from job_generator.cluster.forking import forked
from job_generator.compiler import compile_job

Map = dict[str, Any]


@pytest.fixture
def parent(job_map: Callable[..., Map]) -> Map:
    """An FLJob as the API server keeps it."""
    job = job_map(suspend=True)
    job["metadata"] = {"name": "digits", "namespace": "research", "uid": "u-1", "resourceVersion": "7"}
    job["metadata"] |= {"labels": {"team": "vision"}, "annotations": {"kubectl.kubernetes.io/x": "{}"}}
    return {**job, "status": {"conditions": []}}


def test_a_fork_reads_its_parents_claim(parent: Map) -> None:
    """The checkpoint is named where the parent's server puts it; the fork has the parent's labels, is no longer
    suspended, and knows no uid.
    """
    job = forked(parent, name="digits-2", round=12, changes=["rounds=30"])
    assert job.document()["spec"]["initialModel"] == {
        "persistentVolumeClaim": {
            "claimName": "digits-storage-u-1",
            "path": "digits-u-1/checkpoints/round-0000012.safetensors",
        },
        "round": 12,
    }
    assert (job.metadata.name, job.metadata.namespace, job.metadata.uid) == ("digits-2", "research", None)
    assert (job.metadata.labels, job.metadata.annotations) == ({"team": "vision"}, {})
    assert (job.spec.suspend, job.spec.rounds, compile_job(job).done) == (False, 30, 12)


def test_a_claim_that_was_there_already(parent: Map) -> None:
    """The parent's storage is in the claim that it names."""
    parent["spec"]["server"] = {"storage": {"existingClaim": "shared"}}
    origin = forked(parent, name="digits-2", round=3, changes=[]).spec.initial_model
    assert origin is not None
    assert origin.persistent_volume_claim is not None
    assert origin.persistent_volume_claim.claim_name == "shared"


def test_a_fork_reads_its_parents_store(parent: Map) -> None:
    """Where the parent's storage is in a store of objects the fork is told where, and needs another for itself."""
    parent["spec"]["server"] = {"storage": {"uri": "s3://models/digits", "secretName": "keys"}}
    with pytest.raises(SpecError, match=r"spec.server.storage.uri: s3://models/digits is the parent's"):
        forked(parent, name="digits-2", round=3, changes=[])
    job = forked(parent, name="digits-2", round=3, changes=["server.storage.uri=s3://models/digits-2"])
    assert job.document()["spec"]["initialModel"] == {
        "store": {
            "uri": "s3://models/digits",
            "secretName": "keys",
            "path": "checkpoints/round-0000003.safetensors",
        },
        "round": 3,
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [("rounds=12", "spec.rounds: 12 counts all rounds"), ("selection.minimum=9", "spec.selection.minimum")],
)
def test_a_change_that_cannot_be(parent: Map, change: str, complaint: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(SpecError) as error:
        forked(parent, name="digits-2", round=12, changes=[change])
    assert complaint in str(error.value)
