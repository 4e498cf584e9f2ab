from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.plan import Plan, canonical
from fl_server.privacy import LEDGER
from job_generator.compiler import compile_job
from job_generator.manifests import Rendering, children, of_all, of_role
from job_generator.processes import ROLES
from job_generator.settings import Settings
from job_generator.source import Document

Map = dict[str, Any]
CLUSTER = Settings(authority="-----BEGIN CERTIFICATE-----\n")


def rendering(document: Map, **more: Any) -> Rendering:
    """What the children of a job are made of."""
    job = Document(document).job()
    return Rendering(job=job, plan=compile_job(job), settings=CLUSTER, **more)


def rendered(document: Map, **more: Any) -> dict[tuple[str, str], Map]:
    """The children of a job by kind and name."""
    objects = children(rendering(document, **more))
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def pod_of(job: Map) -> Map:
    return job["spec"]["template"]["spec"]


def container(job: Map) -> Map:
    return next(one for one in pod_of(job)["containers"] if one["name"] == "fl")


@pytest.fixture
def whole(whole_map: Callable[..., Map]) -> dict[tuple[str, str], Map]:
    """The children of the job that sets every field."""
    return rendered(whole_map())


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_same_bytes(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """The same job gives the same bytes, in whatever order its fields stand, and is left as it was."""
    document = data.draw(job_maps)
    before = deepcopy(document)
    first = canonical(children(rendering(document)))
    turned = {**document, "spec": dict(reversed(document["spec"].items()))}
    assert canonical(children(rendering(turned))) == first == canonical(children(rendering(document)))
    assert document == before


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_child(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """Each child has a name of its own, the job's namespace and labels, and is plain JSON."""
    document = data.draw(job_maps)
    objects = children(rendering(document, attempt=3))
    assert len({(one["kind"], one["metadata"]["name"]) for one in objects}) == len(objects)
    for one in objects:
        assert one["metadata"]["namespace"] == document["metadata"]["namespace"]
        assert one["metadata"]["labels"]["fljob.dev/job"] == document["metadata"]["name"]
    assert json.loads(json.dumps(objects)) == objects
    assert sorted(
        map(canonical, [*of_all(objects), *(one for role in ROLES for one in of_role(objects, role))])
    ) == (sorted(map(canonical, objects)))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_ownership(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """The FLJob owns its children, so that they go with it, but for a claim that is to be kept."""
    document = data.draw(job_maps)
    kept = document["spec"]["server"]["storage"].get("onDelete", "Retain") == "Retain"
    for one in children(rendering(document)):
        owners = one["metadata"].get("ownerReferences", [])
        if one["kind"] == "PersistentVolumeClaim" and kept:
            assert owners == []
        else:
            assert [(owner["uid"], owner["controller"]) for owner in owners] == [
                (document["metadata"]["uid"], True)
            ]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_reference_is_met(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """What a pod mounts is among the children, or was named by the author; each mount has a volume."""
    document = data.draw(job_maps)
    objects = rendered(document)
    named = json.dumps(document["spec"])
    for (kind, _), one in objects.items():
        if kind != "Job":
            continue
        pod = pod_of(one)
        assert {mount["name"] for mount in container(one)["volumeMounts"]} == {
            v["name"] for v in pod["volumes"]
        }
        for volume in pod["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            configuration = volume.get("configMap", {}).get("name")
            assert claim is None or ("PersistentVolumeClaim", claim) in objects or f'"{claim}"' in named
            assert (
                configuration is None
                or ("ConfigMap", configuration) in objects
                or f'"{configuration}"' in named
            )
        if "subdomain" in pod:
            assert ("Service", pod["subdomain"]) in objects


def test_children(whole: dict[tuple[str, str], Map]) -> None:
    """The whole job has these children, in the order in which they are applied."""
    assert [(kind, name if kind != "ConfigMap" else name.rpartition("-")[0]) for kind, name in whole] == [
        ("ConfigMap", "digits-plan"),
        ("ConfigMap", "digits"),
        ("PersistentVolumeClaim", "digits-storage-4f0d-9e2a"),
        ("NetworkPolicy", "digits-scheduler"),
        ("NetworkPolicy", "digits-server"),
        ("NetworkPolicy", "digits-worker"),
        ("Service", "digits-scheduler"),
        ("Service", "digits-server"),
        ("Service", "digits-external"),
        ("Job", "digits-scheduler"),
        ("Job", "digits-server"),
        ("Job", "digits-worker"),
        ("Job", "digits-site-lab-b"),
    ]


def test_the_plan(whole_map: Callable[..., Map]) -> None:
    """The pods mount the very Plan, in a ConfigMap that cannot change; another Plan has another name."""
    of = rendering(whole_map())
    configuration = children(of)[0]
    assert configuration["immutable"] is True
    assert Plan.from_json(configuration["data"]["plan.json"]) == of.plan
    assert of.plan.digest[:10] in configuration["metadata"]["name"]
    assert children(rendering(whole_map(seed=8)))[0]["metadata"]["name"] != configuration["metadata"]["name"]


def test_server_and_scheduler(whole: dict[tuple[str, str], Map]) -> None:
    """They are one pod each, started again in place for ever, and dialled below their headless service."""
    for role in ("server", "scheduler"):
        job = whole["Job", f"digits-{role}"]["spec"]
        assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 1, 1)
        assert job["backoffLimit"] == 2**31 - 1
        assert (job["template"]["spec"]["restartPolicy"], job["template"]["spec"]["subdomain"]) == (
            "OnFailure",
            f"digits-{role}",
        )
        service = whole["Service", f"digits-{role}"]["spec"]
        assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
        assert service["selector"].items() <= job["template"]["metadata"]["labels"].items()


def test_the_pool(whole: dict[tuple[str, str], Map]) -> None:
    """The pool is one Indexed Job of which some pods may be lost; codes of permanent errors end an index."""
    job = whole["Job", "digits-worker"]["spec"]
    assert (job["completions"], job["parallelism"], job["backoffLimitPerIndex"]) == (12, 12, 2)
    assert "maxFailedIndexes" not in job
    fail, ignore = job["podFailurePolicy"]["rules"]
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailIndex", [64, 65, 66, 67, 68, 72])
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    fl = job["template"]["spec"]["containers"][0]
    assert fl["restartPolicyRules"][0]["exitCodes"] == {
        "operator": "NotIn",
        "values": [0, 64, 65, 66, 67, 68, 72],
    }
    assert job["template"]["spec"]["restartPolicy"] == fl["restartPolicy"] == "Never"


def test_sites(whole: dict[tuple[str, str], Map]) -> None:
    """A site in the cluster is a Job of one with its own number, data and template; an external one has none."""
    job = whole["Job", "digits-site-lab-b"]
    assert job["spec"]["completions"] == 1
    assert pod_of(job)["nodeName"] == "lab"
    line = container(job)["args"]
    assert line[line.index("--index") + 1] == "21"
    assert job["metadata"]["labels"]["fljob.dev/site"] == "lab-b"
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod_of(job)["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == ["lab"]
    assert not any("hospital" in name for _, name in whole)


def test_the_door(whole: dict[tuple[str, str], Map], job_map: Callable[..., Map]) -> None:
    """External sites dial the port that the job names, behind which the server relays; without them nobody does."""
    door, server = whole["Service", "digits-external"]["spec"], whole["Job", "digits-server"]
    assert door["type"] == "NodePort"
    assert door["ports"] == [{"name": "external", "port": 9443, "targetPort": "external", "protocol": "TCP"}]
    assert {"name": "external", "containerPort": 7444, "protocol": "TCP"} in container(server)["ports"]
    line = container(server)["args"]
    assert line[line.index("--relay") + 1] == "0.0.0.0:7444"
    assert whole["ConfigMap", "digits-authority"]["data"]["enrolment"] == CLUSTER.enrolment
    plain = rendered(job_map())
    assert ("Service", "digits-external") not in plain
    assert "--relay" not in container(plain["Job", "digits-server"])["args"]


@pytest.mark.parametrize(
    ("kind", "port", "own"),
    [("NodePort", 30443, 30443), ("NodePort", 8443, None), ("ClusterIP", 30443, None)],
)
def test_a_port_of_the_nodes(job_map: Callable[..., Map], kind: str, port: int, own: int | None) -> None:
    """With NodePort a port that nodes may have is theirs, so that it is the one that sites dial."""
    external = {"type": kind, "hostname": "a.b", "port": port}
    document = job_map(sites=[{"name": "a", "external": {}}], network={"external": external})
    assert rendered(document)["Service", "digits-external"]["spec"]["ports"][0].get("nodePort") == own


def test_no_pool(job_map: Callable[..., Map]) -> None:
    """A job of sites alone has no pool."""
    objects = rendered(job_map(workers={"replicas": 0}, sites=[{"name": "a"}]))
    assert [name for kind, name in objects if kind == "Job"] == [
        "digits-scheduler",
        "digits-server",
        "digits-site-a",
    ]


@pytest.mark.parametrize(
    ("storage", "size", "owned"),
    [
        ({}, "1Gi", False),
        ({"size": "7Gi", "onDelete": "Delete"}, "7Gi", True),
        ({"existingClaim": "mine"}, None, False),
    ],
)
def test_storage(job_map: Callable[..., Map], storage: Map, size: str | None, *, owned: bool) -> None:
    """The server's claim is made, kept or owned as the job says; one that is there already is used."""
    document = job_map(server={"storage": storage})
    document["metadata"]["uid"] = "u1"
    objects = rendered(document)
    claims = {name: one for (kind, name), one in objects.items() if kind == "PersistentVolumeClaim"}
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod_of(objects["Job", "digits-server"])["volumes"]
        if "persistentVolumeClaim" in volume
    }
    if size is None:
        assert (claims, mounted) == ({}, {"mine"})
        return
    assert mounted == set(claims) == {"digits-storage-u1"}
    claim = claims["digits-storage-u1"]
    assert claim["spec"]["resources"]["requests"]["storage"] == size
    assert ("ownerReferences" in claim["metadata"]) == owned


@pytest.mark.parametrize("secret", ["keys", None])
def test_a_store_of_objects(job_map: Callable[..., Map], secret: str | None) -> None:
    """With a URI there is no claim: the server has the Secret's keys in its environment, and nobody else has."""
    given = {"uri": "s3://models/digits", **({"secretName": secret} if secret else {})}
    objects = rendered(job_map(server={"storage": given}))
    assert "PersistentVolumeClaim" not in json.dumps([[*key, one] for key, one in objects.items()])
    server = objects["Job", "digits-server"]
    assert {"name": "storage", "emptyDir": {}} in pod_of(server)["volumes"]
    line = container(server)["args"]
    assert line[line.index("--store") + 1] == "s3://models/digits"
    images = {role: container(objects["Job", f"digits-{role}"])["image"] for role in ("server", "scheduler")}
    assert images == {"server": CLUSTER.images.store, "scheduler": CLUSTER.images.control}
    assert container(server).get("envFrom", []) == ([{"secretRef": {"name": secret}}] if secret else [])
    assert not secret or json.dumps([*objects.values()]).count('"keys"') == 1


def test_a_model_from_a_store(job_map: Callable[..., Map]) -> None:
    """What another job keeps in a store is copied before the server starts, with credentials that it does not see."""
    store = {"uri": "s3://models/digits", "secretName": "keys", "path": "models/last.safetensors"}
    server = rendered(job_map(initialModel={"store": store}))["Job", "digits-server"]
    (copying,) = pod_of(server)["initContainers"]
    line = container(server)["args"]
    assert line[line.index("--initial-model") + 1] == "/initial-model/models/last.safetensors"
    assert copying["command"][3:] == [
        "--store", "s3://models/digits", "--storage", "/initial-model", "--only=models/last.safetensors"
    ]  # fmt: skip
    assert copying["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert "envFrom" not in container(server)
    assert copying["image"] == container(server)["image"] == CLUSTER.images.store
    assert {"name": "initial-model", "emptyDir": {}} in pod_of(server)["volumes"]


def test_a_fork_from_a_store_copies_what_it_takes_over(job_map: Callable[..., Map]) -> None:
    """Beside its checkpoint it has its parent's privacy ledger and best model, and no other checkpoint."""
    store = {"uri": "s3://models/digits", "path": "checkpoints/round-0000002.safetensors"}
    server = rendered(job_map(initialModel={"store": store, "round": 2}, rounds=4))["Job", "digits-server"]
    (copying,) = pod_of(server)["initContainers"]
    asked = [one.removeprefix("--only=") for one in copying["command"] if one.startswith("--only=")]
    assert asked == [store["path"], LEDGER, f"{LEDGER}.head", "models/best.safetensors"]


def test_a_mounted_store_is_mounted_where_it_is_copied(job_map: Callable[..., Map]) -> None:
    """The server's template adds a mount to what copies a model, and leaves the rest of that container as it is."""
    store = {"uri": "file:///mnt/digits", "path": "models/last.safetensors"}
    share = {"name": "share", "mountPath": "/mnt/digits"}
    over = {"spec": {"initContainers": [{"name": "restore", "volumeMounts": [share]}]}}
    given = job_map(initialModel={"store": store}, server={"template": over})
    (copying,) = pod_of(rendered(given)["Job", "digits-server"])["initContainers"]
    (plain,) = pod_of(rendered(job_map(initialModel={"store": store}))["Job", "digits-server"])[
        "initContainers"
    ]
    assert copying == {**plain, "volumeMounts": [*plain["volumeMounts"], share]}


def test_two_jobs_in_one_claim(job_map: Callable[..., Map]) -> None:
    """Jobs that share a claim have folders of their own in it, told apart by the uid."""

    def folder(uid: str) -> str:
        document = job_map(server={"storage": {"existingClaim": "mine"}})
        document["metadata"]["uid"] = uid
        line = container(rendered(document)["Job", "digits-server"])["args"]
        return str(line[line.index("--storage") + 1])

    assert folder("u1") == "/var/lib/fljob/digits-u1"
    assert folder("u2") != folder("u1")


def test_suspended(job_map: Callable[..., Map]) -> None:
    """A job that was created suspended has Jobs that make no pods."""
    for suspend in (True, False):
        jobs = [one for (kind, _), one in rendered(job_map(suspend=suspend)).items() if kind == "Job"]
        assert [one["spec"]["suspend"] for one in jobs] == [suspend] * 3


def test_before_it_is_stored(job_map: Callable[..., Map]) -> None:
    """A job without a uid owns nothing: what is rendered for review would else be collected as garbage."""
    assert not any("ownerReferences" in one["metadata"] for one in rendered(job_map()).values())


def test_no_authority(job_map: Callable[..., Map]) -> None:
    """Where no operator is known, the pods' trust is left to it."""
    job = Document(job_map()).job()
    kinds = [one["kind"] for one in children(Rendering(job=job, plan=compile_job(job)))]
    assert kinds.count("ConfigMap") == 1


def test_attempts(job_map: Callable[..., Map]) -> None:
    """Another attempt has other labels under the same names, so that the old objects must be gone first."""
    first, second = rendered(job_map(), attempt=1), rendered(job_map(), attempt=2)
    assert set(first) == set(second)
    labels = {
        one["spec"]["template"]["metadata"]["labels"]["fljob.dev/attempt"]
        for (kind, _), one in second.items()
        if kind == "Job"
    }
    assert labels == {"2"}


def test_size(job_map: Callable[..., Map]) -> None:
    """The children do not grow with the workers."""
    few, many = (
        canonical(list(rendered(job_map(workers__replicas=count)).values())) for count in (10, 99_999)
    )
    assert len(many) - len(few) < 100
