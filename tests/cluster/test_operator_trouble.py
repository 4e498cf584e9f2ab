"""Trouble that a cluster makes: it shows in the job's conditions, and when it is over the job goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.lab import Lab, Running, fljob

pytestmark = [pytest.mark.cluster, pytest.mark.level(3)]

Map = dict[str, Any]
CROWD = 50
PROBES = 5
UNJUST = 4.0
"""So many times as long may good jobs take beside crashing ones as beside good ones, by the clock of a busy machine."""
MOST_LOOKS = 12
"""Looks at a job that crashes until its end is told; usual are six, and two at one that runs."""


def quota(**hard: str) -> Map:
    """A quota of this namespace; `jobs_batch` for `count/jobs.batch`."""
    named = {f"count/{name.replace('_', '.')}" if "_" in name else name: most for name, most in hard.items()}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": named},
    }


def set_quota(lab: Lab, **hard: str) -> None:
    """Set the quota, and wait until it counts."""
    lab.apply_all(wanted := quota(**hard))
    lab.eventually(
        lambda: lab.get("resourcequota", "few").get("status", {}).get("hard") == wanted["spec"]["hard"]
    )


def is_ready(lab: Lab) -> bool:
    return lab.condition("Ready") == ("True", "Quorum")


def test_pods_beyond_the_quota_wait_for_it_to_be_raised(lab: Lab) -> None:
    """The condition quotes the quota; once it is raised all pods come, and nothing is degraded any more."""
    set_quota(lab, pods="2")
    lab.operator(*lab.on_fake_nodes())
    lab.apply(server=lab.storage())
    lab.eventually(lambda: lab.condition("Degraded") == ("True", "FailedCreate"))
    message = lab.told("Degraded")["message"]
    assert "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2" in message
    assert "mend what the message names, or the namespace's quota or policy" in message
    assert lab.condition("Ready") == ("False", "NoQuorum")
    set_quota(lab, pods="9")
    lab.eventually(lambda: is_ready(lab), within=90)
    lab.eventually(lambda: lab.condition("Degraded") == ("False", "AllWell"))


def test_a_child_beyond_the_quota_is_made_when_it_is_raised(lab: Lab) -> None:
    """A Job that the API server refuses is told as such, and tried again until it is taken."""
    set_quota(lab, jobs_batch="2")
    lab.operator(*lab.on_fake_nodes())
    lab.apply()
    lab.eventually(lambda: lab.condition("Stalled") == ("True", "ChildRefused"))
    message = lab.told("Stalled")["message"]
    assert "exceeded quota: few, requested: count/jobs.batch=1" in message
    assert len(lab.jobs()) == 2
    set_quota(lab, jobs_batch="3")
    lab.eventually(lambda: len(lab.jobs()) == 3)
    lab.eventually(lambda: lab.condition("Stalled") == ("False", "NotStalled"))


def test_pods_that_a_policy_refuses_are_told_and_can_be_mended(lab: Lab) -> None:
    """Pod Security names the field; the template is mended while the job is suspended, and then it runs."""
    lab.cluster.kubectl("label", "namespace", lab.namespace, "pod-security.kubernetes.io/enforce=restricted")
    lab.operator(*lab.on_fake_nodes())
    spec: Map = {"server": lab.storage(), "suspendGraceSeconds": 0}
    wrong: Map = {"replicas": 4, "template": {"spec": {"hostNetwork": True}}}
    lab.apply(**spec, workers=wrong)
    lab.eventually(lambda: lab.condition("Degraded") == ("True", "FailedCreate"))
    message = lab.told("Degraded")["message"]
    assert 'violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)' in message
    lab.apply(**spec, workers=wrong, suspend=True)
    lab.eventually(lambda: lab.condition("Suspended") == ("True", "Suspended"))
    lab.apply(**spec, suspend=True)
    lab.eventually(lambda: lab.get("fljob", "digits")["status"]["attempt"] == 2)
    lab.apply(**spec, suspend=False)
    lab.eventually(lambda: is_ready(lab))


def test_a_program_claim_that_comes_later_is_waited_for(lab: Lab) -> None:
    """The condition names the claim that is missing; when it is made, the workers start."""
    lab.operator(*lab.on_fake_nodes())
    source = {"persistentVolumeClaim": {"claimName": "code"}}
    program = {"entrypoint": "program:task", "framework": "numpy", "source": source}
    lab.apply(program=program, server=lab.storage())
    lab.eventually(lambda: lab.condition("Degraded") == ("True", "Unschedulable"))
    assert 'persistentvolumeclaim "code" not found' in lab.told("Degraded")["message"]
    lab.storage("code")
    lab.eventually(lambda: is_ready(lab))
    lab.eventually(lambda: lab.condition("Degraded") == ("False", "AllWell"))


@pytest.mark.level(4)
def test_a_program_that_comes_later_is_waited_for(lab: Lab) -> None:
    """The condition names the ConfigMap that a real pod cannot mount; when it is made, the pod goes on."""
    lab.operator()
    program = {
        "entrypoint": "program:task",
        "framework": "numpy",
        "source": {"configMap": {"name": "program"}},
    }
    lab.apply(program=program)
    missing = (
        'FailedMount (MountVolume.SetUp failed for volume "program" : configmap "program" not found); '
        "check that the claim, ConfigMap or Secret exists"
    )
    lab.eventually(lambda: missing in lab.told("Degraded").get("message", ""))
    lab.kubectl("create", "configmap", "program", "--from-literal=program.py=")
    # Its image is missing, too: that a container waits for it shows that all volumes are there.
    lab.eventually(lambda: all("image" in waiting(pod) for pod in lab.pods("worker")), within=150)


@pytest.mark.level(4)
def test_an_image_that_no_node_has_is_told(lab: Lab) -> None:
    """Pulled in vain or never, by a real kubelet: the condition names who lacks which image, and what to do."""
    lab.operator("--worker-image=numpy=registry.invalid/nobody:1", "--control-image=registry.invalid/none:1")
    lab.apply("vain")
    never: Map = {"template": {"spec": {"containers": [{"name": "fl", "imagePullPolicy": "Never"}]}}}
    lab.apply("never", server=never, scheduler=never, workers={"replicas": 4, **never})
    said = {
        "vain": (
            "ImagePullBackOff",
            "registry.invalid/nobody:1",
            "check the image's name and the pull secrets",
        ),
        "never": ("ErrImageNeverPull", "registry.invalid/nobody:1", "load the image on the node"),
    }
    for name, (reason, image, advice) in said.items():
        wait_for(lab, name, f"worker 0, worker 1, worker 2 and 1 more: {reason} (")
        message = lab.told("Degraded", name)["message"]
        assert image in message
        assert advice in message
        assert lab.condition("Degraded", name) == ("True", reason)


def wait_for(lab: Lab, name: str, words: str) -> None:
    """Wait until a job's condition `Degraded` has these words."""
    lab.eventually(lambda: words in lab.told("Degraded", name).get("message", ""), within=90)


def waiting(pod: Map) -> str:
    """Why a pod's container waits, in the kubelet's words."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((one["state"].get("waiting", {}).get("message", "") for one in statuses), "")


def test_a_node_that_vanishes_costs_its_pods_only(lab: Lab) -> None:
    """What ran on it runs elsewhere in the end, under the same index; the quorum is kept, and the status counts."""
    lab.operator(*lab.on_fake_nodes())
    host = "kubernetes.io/hostname"
    here: Map = {"template": {"spec": {"nodeSelector": {host: "fake-1"}}}}
    workers: Map = {"replicas": 4, "template": {"spec": spread_but_for(host, "fake-1")}}
    lab.apply(
        server={**lab.storage(), **here},
        scheduler=here,
        selection={"minimum": 1},
        secureAggregation={"enabled": False},
        workers=workers,
    )
    lab.eventually(lambda: is_ready(lab) and counted(lab) == 4)
    before = {pod["metadata"]["uid"] for pod in lab.pods("worker")}
    gone = lab.pods("worker")[0]["spec"]["nodeName"]
    node = lab.get("node", gone)
    lab.kubectl("delete", "node", gone, "--wait=false")
    shown = {4}

    def replaced() -> bool:
        shown.add(counted(lab))
        assert is_ready(lab)
        pods = lab.pods("worker")
        return len(pods) == 4 and all(pod["spec"].get("nodeName") not in {gone, None} for pod in pods)

    lab.eventually(replaced, within=150)
    lab.eventually(lambda: counted(lab) == 4)
    assert min(shown) < 4
    assert before & {pod["metadata"]["uid"] for pod in lab.pods("worker")}
    own = {name: node["metadata"][name] for name in ("name", "annotations", "labels")}
    spec = {"taints": [one for one in node["spec"].get("taints", ()) if one["key"].startswith("kwok")]}
    lab.apply_all({"apiVersion": "v1", "kind": "Node", "metadata": own, "spec": spec})


def spread_but_for(host: str, node: str) -> Map:
    """A pod's spec that keeps off this node, and shares the others with its like."""
    elsewhere = {"matchExpressions": [{"key": host, "operator": "NotIn", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [elsewhere]}}
    alike = {"matchLabels": {"fljob.dev/role": "worker"}}
    even = {"maxSkew": 1, "topologyKey": host, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": alike}
    return {"affinity": {"nodeAffinity": required}, "topologySpreadConstraints": [even]}


def counted(lab: Lab) -> int:
    """How many workers the status says are ready."""
    return int(lab.get("fljob", "digits").get("status", {}).get("workers", {}).get("ready", 0))


def test_a_namespace_can_be_deleted_while_jobs_run_in_it(lab: Lab) -> None:
    """Running, suspended, over: nothing of a job holds its namespace back."""
    lab.operator(*lab.on_fake_nodes())
    lab.apply(server=lab.storage())
    lab.apply("later", suspend=True)
    lab.apply("over", workers=crashing())
    lab.eventually(lambda: is_ready(lab))
    lab.eventually(lambda: lab.condition("Failed", "over") == ("True", "ProgramError"))
    lab.cluster.kubectl("delete", "namespace", lab.namespace, "--wait=false")
    lab.eventually(lambda: lab.get("namespace", lab.namespace) is None, within=90)
    # Its fixture deletes it, too.
    lab.cluster.kubectl("create", "namespace", lab.namespace)


def test_jobs_that_crash_do_not_slow_good_ones(lab: Lab) -> None:
    """Good jobs are looked at after those that were there before them, once each, and before what happens to those that
    crash, whatever the clock says; the crashing ones cost no more looks than it takes to tell their end.
    """
    operator = lab.operator(*lab.on_fake_nodes(), "--log-level", "debug")
    lab.storage()
    good = {"replicas": 1}
    lab.apply_all(crowded("first", workers=good))
    lab.eventually(lambda: len(lab.jobs()) == 3)
    beside_good = seconds_for(lab, "calm", workers=good)
    beside_bad = seconds_for(lab, "crash", workers={**crashing(), **good})
    lab.eventually(lambda: failed(lab) == CROWD)
    for name in ("calm", "crash"):
        assert made_for(lab, name) == 3 * PROBES
        assert max(behind(operator, f"{name}-good")) < CROWD + PROBES
    looks = {name: len(list(behind(operator, f"{name}-", first=False))) for name in ("calm", "crash")}
    told = f"{beside_good:.1f} s beside good ones, {beside_bad:.1f} s beside crashing ones; looks: {looks}"
    print(told)  # noqa: T201
    assert looks["crash"] <= MOST_LOOKS * (CROWD + PROBES), told
    assert beside_bad < UNJUST * beside_good, told


def behind(operator: Running, name: str, *, first: bool = True) -> Iterator[int]:
    """Behind how many others each job with such a name was looked at for the first time, or each time."""
    known: set[str] = set()
    for line in operator.said("looked at"):
        job = line["job"].partition("/")[2]
        if job.startswith(name) and not (first and job in known):
            known.add(job)
            yield int(line["behind"])


def seconds_for(lab: Lab, name: str, **spec: Any) -> float:
    """How long good jobs wait for their children when they come behind a crowd of others."""
    many = [crowded(f"{name}-{number}", **spec) for number in range(CROWD)]
    good = [crowded(f"{name}-good-{number}", workers={"replicas": 1}) for number in range(PROBES)]
    began = time.monotonic()
    lab.apply_all(*many, *good)
    lab.eventually(lambda: made_for(lab, name) == 3 * PROBES)
    return time.monotonic() - began


def crowded(name: str, **spec: Any) -> Map:
    """A job that shares its storage with others, each of which has a folder of its own there."""
    return fljob(name, server={"storage": {"existingClaim": "storage"}}, **spec)


def made_for(lab: Lab, name: str) -> int:
    """How many Jobs the good jobs behind this crowd have."""
    good = ",".join(f"{name}-good-{number}" for number in range(PROBES))
    return len(lab.get("jobs", "", "-l", f"fljob.dev/job in ({good})"))


def failed(lab: Lab) -> int:
    """How many jobs failed for their programs."""
    shown = [one.get("status", {}).get("display", {}) for one in lab.get("fljobs")]
    return sum(display.get("reason") == "ProgramError" for display in shown)


def crashing() -> Map:
    """Workers whose program raises at once, as a fake pod does it."""
    ends = {"fake.fljob.dev/runs-for": "1s", "fake.fljob.dev/exit-code": "66"}
    return {"replicas": 4, "template": {"metadata": {"annotations": ends}}}
