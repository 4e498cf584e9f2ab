from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import MismatchError
from fl_core.plan import canonical
from job_generator.compiler import compile_job
from job_generator.frozen import freeze, lasting_digest, templates_digest, thaw
from job_generator.manifests import Rendering, children
from job_generator.source import Document
from job_generator.spec import FLJob

Map = dict[str, Any]
Whole = Callable[..., Map]


def job_of(document: Map) -> FLJob:
    return Document(document).job()


def frozen(document: Map, *, attempt: int = 1) -> Map:
    """The ConfigMap of an attempt of a job."""
    job = job_of(document)
    of = Rendering(job=job, plan=compile_job(job), attempt=attempt)
    return freeze(of, children(of))


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_thawed(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """What was frozen comes back as it was, through the JSON of the API server too."""
    job = job_of(data.draw(job_maps))
    of = Rendering(job=job, plan=compile_job(job), attempt=2)
    objects = children(of)
    kept = json.loads(json.dumps(freeze(of, objects)))
    assert canonical(thaw(kept)) == canonical(objects)
    assert kept == freeze(of, objects)


def test_frozen(whole_map: Whole) -> None:
    """An attempt is immutable, belongs to its job, and its name tells its number and its contents."""
    first, second = frozen(whole_map()), frozen(whole_map(), attempt=2)
    assert first["immutable"] is True
    assert first["metadata"]["ownerReferences"][0]["uid"] == "4f0d-9e2a"
    assert first["metadata"]["name"].startswith("digits-attempt-1-")
    assert second["metadata"]["name"].startswith("digits-attempt-2-")
    other = frozen(whole_map(server__storage__size="9Gi"))
    assert other["metadata"]["name"] != first["metadata"]["name"]


def test_room(job_map: Whole) -> None:
    """A hundred sites with long templates fit into the mebibyte of a ConfigMap."""
    env = [{"name": f"VARIABLE_{number}", "value": "x" * 200} for number in range(40)]
    template = {"spec": {"containers": [{"name": "fl", "env": env}]}}
    sites = [{"name": f"site-{number}", "template": template} for number in range(100)]
    assert len(json.dumps(frozen(job_map(sites=sites)))) < 1 << 20


@pytest.mark.parametrize("spoilt", [{}, {"binaryData": {}}, {"binaryData": {"children.json.gz": "bm8="}}])
def test_spoilt(spoilt: Map) -> None:
    """A ConfigMap that keeps no attempt is told as that."""
    with pytest.raises(MismatchError, match="keeps no attempt"):
        thaw(spoilt)


@pytest.mark.parametrize(
    "change",
    [
        {"suspend": False},
        {"rounds": 3},
        {"workers__replicas": 20},
        {"activeDeadlineSeconds": 5},
        {"podCleanupPolicy": "None"},
        {"server__template": None},
        {"workers__template": None},
    ],
)
def test_what_may_change(whole_map: Whole, change: Map) -> None:
    """What may change leaves the digest of what lasts; only templates change that of the templates."""
    before, after = job_of(whole_map()), job_of(whole_map(**change))
    assert lasting_digest(before) == lasting_digest(after)
    assert (templates_digest(before) == templates_digest(after)) != any("template" in name for name in change)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"program__config": {"learning_rate": 0.06}},
        {"strategy": {"name": "fedavg"}},
        {"aggregation": {"name": "house.rules:Median", "window": 4}},
        {"workers__maxReplicas": 21},
        {"workers__data": {"claimName": "others"}},
        {"server__storage__size": "6Gi"},
        {"network__egress": []},
        {"managedBy": "example.org/other"},
    ],
)
def test_what_lasts(whole_map: Whole, change: Map) -> None:
    """What may not change changes the digest, also where no schema names it and CEL does not see it."""
    assert lasting_digest(job_of(whole_map(**change))) != lasting_digest(job_of(whole_map()))


def test_sites(whole_map: Whole) -> None:
    """Sites in another order are the same; another template of a site is a template, another claim is not."""
    document = whole_map()
    lab, hospital = document["spec"]["sites"]
    turned = job_of(whole_map(sites=[hospital, lab]))
    before = job_of(document)
    assert (lasting_digest(turned), templates_digest(turned)) == (
        lasting_digest(before),
        templates_digest(before),
    )
    moved = job_of(whole_map(sites=[{**lab, "template": {"spec": {"nodeName": "b"}}}, hospital]))
    assert lasting_digest(moved) == lasting_digest(before)
    assert templates_digest(moved) != templates_digest(before)
    other = job_of(whole_map(sites=[{**lab, "data": {"claimName": "b"}}, hospital]))
    assert lasting_digest(other) != lasting_digest(before)
