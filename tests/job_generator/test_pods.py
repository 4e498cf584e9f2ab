from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job_generator.compiler import compile_job
from job_generator.manifests import Rendering, children
from job_generator.settings import Images, Settings
from job_generator.source import Document

Map = dict[str, Any]
Build = Callable[..., Map]


def pods(document: Map, **more: Any) -> dict[str, Map]:
    """The pod templates of a job, by the names of their Jobs."""
    job = Document(document).job()
    objects = children(Rendering(job=job, plan=compile_job(job), **more))
    return {one["metadata"]["name"]: one["spec"]["template"] for one in objects if one["kind"] == "Job"}


def container(template: Map) -> Map:
    return next(one for one in template["spec"]["containers"] if one["name"] == "fl")


def option(template: Map, name: str) -> str | None:
    line = container(template)["args"]
    return line[line.index(name) + 1] if name in line else None


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_restricted(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """Every pod meets Pod Security `restricted`, has no rights, and can write to no more than its volumes."""
    for template in pods(data.draw(job_maps)).values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for one in spec["containers"]:
            own = one["securityContext"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_jobs_own(data: st.DataObject, job_maps: st.SearchStrategy[Map]) -> None:
    """No template takes from a pod the labels it is found by, its name in DNS, or how it is started again."""
    document = data.draw(job_maps)
    hostile = {
        "metadata": {"labels": {"fljob.dev/role": "x", "fljob.dev/job": "x"}},
        "spec": {"restartPolicy": "Always", "subdomain": "x"},
    }
    for part in ("server", "scheduler", "workers"):
        document["spec"][part]["template"] = hostile
    for name, template in pods(document).items():
        assert template["metadata"]["labels"]["fljob.dev/job"] == document["metadata"]["name"]
        assert template["metadata"]["labels"]["fljob.dev/role"] in {"server", "scheduler", "worker"}
        control = name.endswith(("-server", "-scheduler"))
        assert template["spec"]["restartPolicy"] == ("OnFailure" if control else "Never")
        assert template["spec"].get("subdomain") != "x" or not control


def test_an_end_is_heard(job_map: Build) -> None:
    """No process is the first of its pod, for which the kernel would hold SIGTERM back where nobody listens."""
    assert [template["spec"]["shareProcessNamespace"] for template in pods(job_map()).values()] == [True] * 3


def test_templates(whole_map: Build) -> None:
    """Each role has its own template laid over it, above that of the operator's settings."""
    given_to_all = {
        "metadata": {"labels": {"tier": "wood", "team": "a"}},
        "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "fl", "env": [{"name": "ALL"}]}],
        },
    }
    found = pods(whole_map(), settings=Settings(template=given_to_all))
    tiers = {name: template["metadata"]["labels"]["tier"] for name, template in found.items()}
    assert tiers == {
        "digits-server": "gold",
        "digits-scheduler": "tin",
        "digits-worker": "wood",
        "digits-site-lab-b": "zinc",
    }
    assert {template["metadata"]["labels"]["team"] for template in found.values()} == {"a"}
    assert all(template["spec"]["imagePullSecrets"] == [{"name": "pull"}] for template in found.values())
    env = {one["name"]: one.get("value") for one in container(found["digits-worker"])["env"]}
    assert env.items() >= {"HOUSE": "blue", "ALL": None, "HOME": "/tmp"}.items()  # noqa: S108 - the pod's own


def test_what_stages_remember_has_a_volume_of_its_own(job_map: Build) -> None:
    """It is as large as several models, which the limit of the pod's other scratch space is not made for."""
    given = {"secureAggregation": {"enabled": False}, "compression": [{"name": "float16"}]}
    for more, expected in ((given, {"name": "states", "emptyDir": {}}), ({}, None)):
        template = pods(job_map(**more))["digits-worker"]
        found = {one["name"]: one for one in template["spec"]["volumes"]}
        assert found.get("states") == expected
        paths = {one["name"]: one["mountPath"] for one in container(template)["volumeMounts"]}
        assert option(template, "--states") == paths.get("states")


def test_dialling(whole_map: Build) -> None:
    """Workers dial server and scheduler, the server dials the scheduler, each where it listens."""
    found = pods(whole_map())
    scheduler = "digits-scheduler-0.digits-scheduler.research.svc:7443"
    server = "digits-server-0.digits-server.research.svc:7443"
    assert option(found["digits-server"], "--scheduler") == scheduler
    for worker in ("digits-worker", "digits-site-lab-b"):
        assert (option(found[worker], "--scheduler"), option(found[worker], "--server")) == (
            scheduler,
            server,
        )
    for role in ("server", "scheduler"):
        template = found[f"digits-{role}"]
        assert option(template, "--listen") == "0.0.0.0:7443"
        ports = {port["name"]: port["containerPort"] for port in container(template)["ports"]}
        assert ports == {"grpc": 7443, "metrics": 9090, **({"external": 7444} if role == "server" else {})}


@pytest.mark.parametrize(("most", "told"), [(None, None), (2, None), (5, "2")])
def test_expected(job_map: Build, most: int | None, told: str | None) -> None:
    """Where there may be more workers than there are, the scheduler is told how many to wait for."""
    workers = {"replicas": 2, **({"maxReplicas": most} if most else {})}
    found = pods(job_map(workers=workers, selection={"perRound": 2}))
    assert option(found["digits-scheduler"], "--replicas") == told


def test_identity(whole_map: Build) -> None:
    """Each pod makes its key in memory and enrols with the operator, by a token that is good for nothing else."""
    for template in pods(whole_map(), settings=Settings(operator_namespace="ops")).values():
        assert option(template, "--enrol") == "https://fljob-operator.ops.svc:8443"
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container(template)["volumeMounts"]}
        secrets, identity = "/var/run/secrets/fljob", option(template, "--identity")
        assert volumes[mounts[identity or ""]]["emptyDir"]["medium"] == "Memory"
        token, authority = volumes[mounts[secrets]]["projected"]["sources"]
        assert token["serviceAccountToken"]["audience"] == "fljob"
        assert option(template, "--token-file") == f"{secrets}/{token['serviceAccountToken']['path']}"
        assert option(template, "--ca-file") == f"{secrets}/{authority['configMap']['items'][0]['path']}"


def test_numbers(whole_map: Build) -> None:
    """A worker of the pool learns its number from Kubernetes and reads its own part of the shared claim."""
    template = pods(whole_map())["digits-worker"]
    assert option(template, "--index") == "$(JOB_COMPLETION_INDEX)"
    mount = next(
        one for one in container(template)["volumeMounts"] if one["mountPath"] == option(template, "--data")
    )
    assert (mount["subPathExpr"], mount["readOnly"]) == ("part/$(JOB_COMPLETION_INDEX)", False)


def test_a_sites_number(job_map: Build) -> None:
    """A site's number is known beforehand; a path without it is taken as it is."""
    sites = [
        {"name": "a", "data": {"claimName": "c", "subPath": "part/{index}"}},
        {"name": "b", "data": {"claimName": "c"}},
    ]
    found = pods(job_map(sites=sites))
    mounts = [
        next(one for one in container(found[f"digits-site-{name}"])["volumeMounts"] if one["name"] == "data")
        for name in "ab"
    ]
    assert mounts[0]["subPath"] == "part/4"
    assert not {"subPath", "subPathExpr"} & set(mounts[1])


@pytest.mark.parametrize(
    ("source", "image", "folder", "volume"),
    [
        (None, "fljob-worker-numpy:2", "/program", {"emptyDir": {"sizeLimit": "1Mi"}}),
        ({"configMap": {"name": "p"}}, "fljob-worker-numpy:2", "/program", {"configMap": {"name": "p"}}),
        (
            {"configMap": {"name": "p", "items": [{"key": "a.b.py", "path": "a/b.py"}]}},
            "fljob-worker-numpy:2",
            "/program",
            {"configMap": {"name": "p", "items": [{"key": "a.b.py", "path": "a/b.py"}]}},
        ),
        ({"image": {"reference": "mine:1", "path": "/app"}}, "mine:1", "/app", None),
        (
            {"persistentVolumeClaim": {"claimName": "p", "subPath": "v2"}},
            "fljob-worker-numpy:2",
            "/program",
            {"persistentVolumeClaim": {"claimName": "p", "readOnly": True}},
        ),
    ],
)
def test_program(job_map: Build, source: Map | None, image: str, folder: str, volume: Map | None) -> None:
    """The program comes from where the job says, and no other role has it."""
    found = pods(job_map(program__source=source), settings=Settings(images=Images.of("2")))
    worker = found["digits-worker"]
    assert (container(worker)["image"], option(worker, "--program")) == (image, folder)
    volumes = {one["name"]: one for one in worker["spec"]["volumes"]}
    assert volumes.get("program") == (None if volume is None else {"name": "program", **volume})
    for role in ("server", "scheduler"):
        assert container(found[f"digits-{role}"])["image"] == "fljob:2"
        assert "program" not in str(found[f"digits-{role}"]["spec"]["volumes"])


def test_any_user(job_map: Build) -> None:
    """Where the cluster chooses users itself, none is named."""
    context = pods(job_map(), settings=Settings(user=None))["digits-server"]["spec"]["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)
    assert context["runAsNonRoot"] is True


def test_a_pod_is_told_its_own_image(job_map: Build) -> None:
    """The environment names the image that the container really asks for, a template's own included."""
    other = Settings(template={"spec": {"containers": [{"name": "fl", "image": "house/fl@sha256:ab"}]}})
    for set_to in (Settings(), other):
        for template in pods(job_map(), settings=set_to).values():
            one = container(template)
            assert {"name": "FLJOB_IMAGE", "value": one["image"]} in one["env"]
    assert one["image"] == "house/fl@sha256:ab"


def test_a_worker_is_told_its_grace(job_map: Build) -> None:
    """It knows how long it has from SIGTERM to SIGKILL, as its pod has it, a template's own included."""
    longer = Settings(template={"spec": {"terminationGracePeriodSeconds": 300}})
    for set_to, seconds in ((Settings(), "30"), (longer, "300")):
        for name, template in pods(job_map(), settings=set_to).items():
            told = [
                one["value"] for one in container(template)["env"] if one["name"] == "FLJOB_GRACE_SECONDS"
            ]
            assert told == ([seconds] if "worker" in name else [])
