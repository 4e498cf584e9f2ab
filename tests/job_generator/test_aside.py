from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from job_generator.aside import ASIDE, OF_SITES, for_this_machine, left_aside, notice
from job_generator.compiler import compile_job
from job_generator.schema import node
from job_generator.source import Document
from job_generator.spec import FLJob

Map = dict[str, Any]


def test_a_plain_job(a_job: Callable[..., FLJob]) -> None:
    """A job that says nothing of a cluster gets no notice, also with its defaults written out."""
    job = a_job()
    assert left_aside(job) == ()
    assert notice(Document(job.document()).job()) is None


def test_a_whole_job(whole_map: Callable[..., Map]) -> None:
    """A job that sets every field is told all of those that a local run leaves aside."""
    found = left_aside(Document(whole_map()).job())
    assert set(found) == {
        *(f"spec.{field}" for field in ASIDE),
        "spec.sites[0].data",
        "spec.sites[0].template",
        "spec.sites[1].external",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"suspend": True}, "spec.suspend"),
        ({"network": {"policy": "Open"}}, "spec.network"),
        ({"server": {"storage": {"size": "1Gi"}}}, "spec.server.storage"),
        (
            {"server": {"storage": {"uri": "s3://a/b", "secretName": "keys"}}},
            "spec.server.storage.secretName",
        ),
        ({"sites": [{"name": "a", "template": {}}]}, "spec.sites[0].template"),
    ],
)
def test_one_field(a_job: Callable[..., FLJob], changes: Map, field: str) -> None:
    """What is left aside is named by its path, in one sentence."""
    job = a_job(**changes)
    assert left_aside(job) == (field,)
    assert notice(job) == f"Only a cluster can do this, so it is left aside here: {field}."


def test_fields_exist() -> None:
    """Each of them is a field of the API, or the notice would be silent for ever."""
    paths = [("spec", *field.split(".")) for field in ASIDE]
    paths += [("spec", "sites", 0, field) for field in OF_SITES]
    assert [path for path in paths if node(path, {"spec": {"sites": [{}]}}) is None] == []


def test_every_field_is_decided(whole_map: Callable[..., Map]) -> None:
    """What is left aside reaches no Plan of a local run; sites do, as workers."""
    job = for_this_machine(Document(whole_map()).job())
    plan = compile_job(job)
    assert (plan.workers, plan.pool) == (22, 20)
    bare = whole_map(**{field.replace(".", "__"): None for field in ASIDE})
    bare["spec"]["sites"] = [{"name": "lab-b"}, {"name": "hospital-a"}]
    sites = [site.model_copy(update={"external": False}) for site in plan.sites]
    there = compile_job(for_this_machine(Document(bare).job()))
    assert there == plan.model_copy(update={"sites": tuple(sites)})
