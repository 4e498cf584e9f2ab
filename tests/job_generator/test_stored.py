from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from job_generator.problems import InvalidJobError
from job_generator.source import Document
from job_generator.stored import LAST_APPLIED, stored_job

Map = dict[str, Any]


def stored(document: Map, **metadata: Any) -> Map:
    """The job as the API server gives it back."""
    added: Map = {
        "uid": "4f0d-9e2a", "generation": 3, "resourceVersion": "71", "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl"}], "finalizers": ["example.org/x"], "ownerReferences": [],
        "namespace": "lab",
    }  # fmt: skip
    status = {"conditions": [], "observedGeneration": 2}
    return {**document, "metadata": {**document["metadata"], **added, **metadata}, "status": status}


def test_the_same_job(job_map: Callable[..., Map]) -> None:
    """What the API server added is left out; the job is the one that its author wrote."""
    document = job_map()
    metadata = {**document["metadata"], "uid": "4f0d-9e2a", "namespace": "lab"}
    assert stored_job(stored(document)) == Document({**document, "metadata": metadata}).job()


def test_annotations(job_map: Callable[..., Map]) -> None:
    """Annotations stay, but for the one in which kubectl keeps the whole job."""
    job = stored_job(stored(job_map(), annotations={"note": "a", LAST_APPLIED: "{}" * 9999}))
    assert job.metadata.annotations == {"note": "a"}


def test_whole_numbers(job_map: Callable[..., Map]) -> None:
    """The API server gives 60.0 back as 60; it is the same job."""
    one, other = (job_map(selection={"deadlineSeconds": number}) for number in (60, 60.0))
    assert stored_job(stored(one)) == stored_job(stored(other))


def test_what_no_schema_names(job_map: Callable[..., Map]) -> None:
    """A field that the API server keeps because anything may stand there is told as in a file."""
    with pytest.raises(InvalidJobError, match="spec.strategy.nu: there is no such field; expected mu or name"):
        stored_job(stored(job_map(strategy={"name": "fedprox", "mu": 0.1, "nu": 1})))


@pytest.mark.parametrize("broken", [{}, {"metadata": {}}, {"metadata": {"name": "a"}, "spec": None}])
def test_nothing_there(broken: Map) -> None:
    """What is no job is told in words, whatever is missing."""
    with pytest.raises(InvalidJobError):
        stored_job(broken)
