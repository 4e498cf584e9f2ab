"""Admission policies that refuse or change what the operator makes: the job says so, and nobody fights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.lab import Lab, Running

pytestmark = pytest.mark.cluster

Map = dict[str, Any]
API = "admissionregistration.k8s.io/v1"
THREE = ["digits-scheduler", "digits-server", "digits-worker"]
MIRROR = "mirror.invalid/"
APPROVED = "has(object.metadata.labels) && 'team' in object.metadata.labels"
CONTAINERS = (
    "object.spec.template.spec.containers.map(one, Object.spec.template.spec.containers{name: one.name, image: "
    f"one.image.startsWith('{MIRROR}') ? one.image : '{MIRROR}' + one.image}})"
)
MIRRORED = (
    "Object{spec: Object.spec{template: Object.spec.template{spec: "
    f"Object.spec.template.spec{{containers: {CONTAINERS}}}}}}}}}"
)


def policy(lab: Lab, kind: str, rule: Map, **binding: Any) -> tuple[Map, Map]:
    """A policy about the Jobs of this namespace, and its binding."""
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": lab.namespace}}}
    jobs = {"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"]}
    about = {"resourceRules": [{**jobs, "operations": ["CREATE", "UPDATE"]}], **here}
    metadata = {"name": lab.namespace}
    spec = {"failurePolicy": "Fail", "matchConstraints": about, **rule}
    bound = {"policyName": lab.namespace, **binding}
    return (
        {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec},
        {"apiVersion": API, "kind": f"{kind}Binding", "metadata": metadata, "spec": bound},
    )


def tried(lab: Lab) -> str:
    """What the API server says of a Job that is not kept: its image, or why it is refused."""
    container = {"name": "x", "image": "x"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "dry"},
        "spec": {"template": template},
    }
    words = ("-n", lab.namespace, "create", "--dry-run=server", "-o", "json", "-f", "-")
    done = lab.cluster.kubectl(*words, stdin=json.dumps(job), check=False)
    if done.returncode:
        return str(done.stderr)
    return str(json.loads(done.stdout)["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.fixture
def refusing(lab: Lab) -> Iterator[None]:
    """Jobs without the label `team` are denied, by a policy that the API server already heeds."""
    rule = {"validations": [{"expression": APPROVED, "message": "a Job needs the label team"}]}
    made = policy(lab, "ValidatingAdmissionPolicy", rule, validationActions=["Deny"])
    lab.cluster.apply(*made)
    lab.eventually(lambda: "needs the label team" in tried(lab))
    yield
    remove(lab, made)


@pytest.fixture
def changing(lab: Lab) -> Iterator[None]:
    """Images of Jobs are taken from a mirror, by a policy that the API server already heeds."""
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": MIRRORED}}
    rule = {"mutations": [mutation], "reinvocationPolicy": "Never"}
    made = policy(lab, "MutatingAdmissionPolicy", rule)
    lab.cluster.apply(*made)
    lab.eventually(lambda: tried(lab) == f"{MIRROR}x")
    yield
    remove(lab, made)


def remove(lab: Lab, made: tuple[Map, Map]) -> None:
    for one in made:
        lab.cluster.kubectl("delete", one["kind"], lab.namespace, "--ignore-not-found")


def asked(operator: Running) -> tuple[float, float]:
    """How often the operator looked, and how often it tried to make something or to change it."""
    writes = (
        operator.metric("rest_client_requests_total", method=one) for one in ("POST", "PATCH", "DELETE")
    )
    return operator.metric("fljob_reconcile_total"), sum(writes)


@pytest.mark.usefixtures("refusing")
def test_a_policy_that_refuses_children_is_told_and_asked_again_in_peace(lab: Lab) -> None:
    """The condition quotes the policy; the refused are tried together every quarter of a minute, until it is gone."""
    operator = lab.operator()
    lab.apply()
    lab.eventually(lambda: lab.condition("Stalled") == ("True", "ChildRefused"))
    assert "denied request: a Job needs the label team" in lab.told("Stalled")["message"]
    assert lab.jobs() == []
    looked, written = asked(operator)
    lab.eventually(lambda: asked(operator)[1] >= written + 3)
    lab.eventually(lambda: asked(operator)[1] >= written + 6)
    looks, writes = asked(operator)
    assert looks - looked <= 6
    assert writes - written <= 3 * 4
    lab.cluster.kubectl("delete", "ValidatingAdmissionPolicyBinding", lab.namespace)
    lab.eventually(lambda: lab.jobs() == THREE)
    lab.eventually(lambda: lab.condition("Stalled") == ("False", "NotStalled"))


@pytest.mark.usefixtures("changing")
def test_a_policy_that_changes_children_is_not_fought(lab: Lab) -> None:
    """What it made of them stays, unwritten and unreported, also under an operator that starts anew."""
    first = lab.operator()
    lab.apply()
    lab.eventually(lambda: lab.jobs() == THREE)
    containers = lab.get("job", "digits-worker")["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"].startswith(MIRROR)
    before = _writings(lab)
    first.kill()
    second = lab.operator()
    lab.eventually(lambda: second.said("started"))
    lab.eventually(lambda: second.metric("fljob_reconcile_total") >= 1)
    lab.apply(rounds=19)  # which is looked at, and changes no child
    lab.eventually(lambda: lab.get("fljob", "digits")["status"]["observedGeneration"] == 2)
    assert _writings(lab) == before
    assert "Repaired" not in lab.reasons()
    lab.kubectl("label", "job", "digits-worker", "fljob.dev/role=nobody", "--overwrite")
    lab.eventually(
        lambda: lab.get("job", "digits-worker")["metadata"]["labels"]["fljob.dev/role"] == "worker"
    )
    assert lab.get("job", "digits-worker")["metadata"]["generation"] == 1


def _writings(lab: Lab) -> Map:
    """Of each Job whatever somebody wrote of it last, and when, but its status, which others go on to write."""
    return {
        one["metadata"]["name"]: [
            each for each in one["metadata"]["managedFields"] if each.get("subresource") != "status"
        ]
        for one in lab.get("jobs")
    }
