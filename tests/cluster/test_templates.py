"""Pod templates on a real API server: what it would refuse or leave out, and values that it writes in another way."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.errors import SpecError
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


def test_the_operators_own_template_is_tried_before_it_works(lab: Lab) -> None:
    """What is wrong with it ends the operator with the field's place, and is told to no job's author."""
    path = lab.folder / "wrong.yaml"
    path.write_text("spec: {nodeSelektor: {disk: ssd}, dnsPolicy: Maybe}\n", encoding="utf-8")
    operator = lab.operator("--template", str(path))
    lab.apply()
    assert operator.process.wait(timeout=60) == SpecError.exit_code
    assert f"--template {path}: spec.nodeSelektor: there is no such field" in operator.log.read_text()
    assert "status" not in lab.get("fljob", "digits")
    path.write_text("spec: {nodeSelector: {disk: ssd}}\n", encoding="utf-8")
    lab.operator("--template", str(path))
    lab.eventually(lambda: lab.jobs() == THREE)


def test_an_operator_that_starts_anew_writes_no_child(lab: Lab) -> None:
    """Quantities that the API server writes in another way are no edits, whichever operator looks at them."""
    limits = {"memory": "1024Mi", "cpu": "0.5"}
    scratch = {"name": "scratch", "emptyDir": {"sizeLimit": "2048Mi"}}
    own = {"spec": {"containers": [{"name": "fl", "resources": {"limits": limits}}], "volumes": [scratch]}}
    roles: Map = {}
    for role in ("server", "scheduler", "workers"):
        roles |= within(role, own)
    first = lab.operator()
    lab.apply(**roles)
    lab.eventually(lambda: lab.jobs() == THREE)
    container = lab.get("job", "digits-worker")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "1Gi", "cpu": "500m"}
    first.kill()
    before = lab.versions()
    second = lab.operator()
    lab.eventually(lambda: second.said("started"))
    lab.eventually(lambda: second.metric("fljob_reconcile_total") >= 1)
    assert lab.versions() == before
    lab.apply(**roles, suspend=True, suspendGraceSeconds=0)
    lab.eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    jobs = {f"Job/{name}" for name in THREE}
    after = lab.versions()
    assert {name for name in before if before[name] != after[name]} == jobs  # they were told to stop
    assert [lab.get("job", name)["metadata"]["generation"] for name in THREE] == [2, 2, 2]
    assert "Repaired" not in lab.reasons()


def test_what_was_edited_while_no_operator_ran_is_repaired(lab: Lab) -> None:
    """One that starts anew knows an edit from another way of writing a value."""
    limits = {"containers": [{"name": "fl", "resources": {"limits": {"memory": "1024Mi"}}}]}
    first = lab.operator()
    lab.apply(**within("workers", {"spec": limits}))
    lab.eventually(lambda: lab.jobs() == THREE)
    first.kill()
    lab.kubectl("label", "job", "digits-worker", "fljob.dev/role=nobody", "--overwrite")
    lab.operator()
    lab.eventually(
        lambda: lab.get("job", "digits-worker")["metadata"]["labels"]["fljob.dev/role"] == "worker"
    )
    lab.eventually(lambda: "Repaired" in lab.reasons())
