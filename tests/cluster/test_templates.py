"""Pod templates on a real API server: what it would refuse or leave out, and values that it writes in another way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.lab import Lab

pytestmark = pytest.mark.cluster

Map = dict[str, Any]
THREE = ["digits-scheduler", "digits-server", "digits-worker"]


def within(role: str, template: Map) -> Map:
    """The part of a job's spec that gives a role this template."""
    if role == "workers":
        return {"workers": {"replicas": 4, "template": template}}
    if role == "sites[1]":
        return {"sites": [{"name": "north"}, {"name": "south", "template": template}]}
    return {role: {"template": template}}


@pytest.mark.parametrize("role", ["server", "scheduler", "workers", "sites[1]"])
def test_a_wrong_field_of_a_template_is_refused_before_anything_is_made(lab: Lab, role: str) -> None:
    """The condition has the field's path in the FLJob, nothing is created, and mending it is enough."""
    lab.operator()
    lab.apply(**within(role, {"spec": {"nodeSelektor": {"disk": "ssd"}}}))
    lab.eventually(lambda: lab.condition("Compiled") == ("False", "InvalidSpec"))
    message = lab.told("Compiled")["message"]
    assert f"spec.{role}.template.spec.nodeSelektor: there is no such field" in message
    assert lab.children() == {}
    mended = within(role, {"spec": {"nodeSelector": {"disk": "ssd"}}})
    lab.apply(**mended, suspend=True)
    lab.eventually(lambda: lab.condition("Compiled") == ("True", "Compiled"))
    lab.apply(**mended, suspend=False)
    lab.eventually(lambda: set(THREE) <= set(lab.jobs()))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"spec": {"nodeSelector": "ssd"}}, "spec.workers.template.spec.nodeSelector: "),
        ({"spec": {"volumes": [{"name": "x", "emptyDirr": {}}]}}, ".template.spec.volumes[0].emptyDirr: "),
        ({"spec": {"containers": [{"name": "aside"}]}}, ".template.spec.containers[0].image: "),
        (
            {"spec": {"dnsPolicy": "Maybe"}},
            'spec.workers.template.spec.dnsPolicy: Unsupported value: "Maybe"',
        ),
        (
            {"spec": {"containers": [{"name": "fl", "resources": {"limits": {"memory": "much"}}}]}},
            "spec.workers.template: ",
        ),
    ],
    ids=["another type", "an added volume", "an added container", "an unknown word", "no quantity"],
)
def test_what_the_api_server_says_of_a_template_is_told_at_its_path(
    lab: Lab, template: Map, said: str
) -> None:
    """Whatever is wrong with it: an item of a list is counted as in the job's file, not as in the pod."""
    lab.operator()
    lab.apply(**within("workers", template))
    lab.eventually(lambda: lab.condition("Compiled") == ("False", "InvalidSpec"))
    assert said in lab.told("Compiled")["message"]
    assert lab.children() == {}
