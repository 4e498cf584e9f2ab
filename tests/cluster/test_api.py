"""The FLJob as a real API server takes it: the definition, its rules, and the children of jobs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.objects import refusal
from job_generator.admission import VALIDATIONS
from job_generator.compiler import compile_job
from job_generator.crd import crd
from job_generator.manifests import Rendering, children
from job_generator.rules import broken
from job_generator.settings import Settings
from job_generator.source import Document

pytestmark = pytest.mark.cluster

Map = dict[str, Any]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]
MANIFESTS = Path(__file__).parents[2] / "manifests"
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def job(name: str = "digits", **changes: Any) -> Map:
    """A small job as a map, with changes to its spec; `selection__perRound=3` goes deeper, None removes."""
    spec: Map = {
        "program": {"entrypoint": "program:task", "framework": "numpy"},
        "rounds": 20,
        "workers": {"replicas": 4},
    }
    for path, value in changes.items():
        *way, last = path.split("__")
        place = spec
        for step in way:
            place = place.setdefault(step, {})
        place[last] = deepcopy(value)
        if value is None:
            del place[last]
    return {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def kubectl(cluster: Any) -> Kubectl:
    """Kubectl with these words; `stdin` takes one object or a list of them."""

    def call(*words: str, stdin: Any = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        text = None
        if stdin is not None:
            several = (
                {"apiVersion": "v1", "kind": "List", "items": stdin} if isinstance(stdin, list) else stdin
            )
            text = json.dumps(several)
        done: subprocess.CompletedProcess[str] = cluster.kubectl(*words, stdin=text, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    return call


@pytest.fixture(scope="module", autouse=True)
def definition(kubectl: Kubectl) -> None:
    """The definition, as plain `kubectl apply` takes it."""
    kubectl("apply", "-f", str(MANIFESTS / "crd.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")
    end = time.monotonic() + 30
    while kubectl("explain", "fljob.spec", check=False).returncode:  # the texts are published a moment later
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture
def create(cluster: Any, namespace: str) -> Callable[..., str]:
    """What the API server says of a new job: nothing when it takes it."""
    return partial(refusal, cluster, namespace)


@pytest.fixture
def change(cluster: Any, namespace: str) -> Callable[..., str]:
    """What the API server says of a change to a job that is there: nothing when it takes it."""

    def ask(spec: Map, *, name: str = "digits", dry: bool = True) -> str:
        changed = {"kind": "FLJob", "metadata": {"name": name}, "spec": spec}
        return refusal(cluster, namespace, changed, patch=True, dry=dry)

    return ask


# -- the definition


def test_explain(kubectl: Kubectl) -> None:
    """`kubectl explain` tells every part of a job and of its status."""
    assert "How many there are, sites not counted" in kubectl("explain", "fljob.spec.workers.replicas").stdout
    assert "How many have enrolled" in kubectl("explain", "fljob.status.workers").stdout


def test_no_complaints(kubectl: Kubectl) -> None:
    """The API server finds nothing wrong with the definition, and knows it by its short name and category."""
    found = json.loads(kubectl("get", "crd", "fljobs.fljob.dev", "-o", "json").stdout)
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert (conditions["NamesAccepted"], conditions.get("NonStructuralSchema")) == ("True", None)
    for word in ("flj", "fljob", "fljobs"):
        kubectl("get", word)


# -- the rules of a new job


def private(name: str, **more: Any) -> Map:
    """Differential privacy by this mechanism."""
    mechanism = {"name": name, "clip": 1, "noiseMultiplier": 2.5, **more}
    return {"mechanism": mechanism, "budget": {"epsilon": 8, "delta": 1e-5}}


EXTERNAL = {"name": "a", "external": {}}
OUTSIDE = {"external": {"hostname": "fl.example.org"}}
MEDIAN = {"name": "median", "hostile": 1}
BUCKETED: Map = {
    "workers": {"replicas": 12},
    "secureAggregation": {"buckets": 3},
    "aggregation": MEDIAN,
}
BY_EXAMPLE = {**private("dp_sgd", rate=0.1, steps=10, learningRate=0.5), "unit": "example"}
REFUSED: dict[str, tuple[Map, str, str]] = {
    "workers.replicas": (
        {"workers": {"replicas": 0}},
        "spec.workers.replicas",
        "expected at least one worker",
    ),
    "selection.perRound": (
        {"selection": {"perRound": 5}},
        "spec.selection.perRound",
        "5 is more than the workers and sites together, 4; expected at most that",
    ),
    "selection.extra": (
        {"selection": {"perRound": 3, "extra": 2}},
        "spec.selection.extra",
        "2 more than the cohort of 3 are asked, but there are 4 workers; expected fewer",
    ),
    "selection.minimum": (
        {"selection": {"minimum": 5}},
        "spec.selection.minimum",
        "5 is more than the cohort, 4; expected at most that",
    ),
    "selection.stallSeconds": (
        {"selection": {"stallSeconds": 60.5, "deadlineSeconds": 60}},
        "spec.selection.stallSeconds",
        "stallSeconds is longer than deadlineSeconds; expected at most that",
    ),
    "target.atLeast": (
        {"target": {"metric": "a", "atLeast": 1, "atMost": 1}},
        "spec.target.atLeast",
        "expected one of atLeast and atMost",
    ),
    "initialModel.persistentVolumeClaim": (
        {"initialModel": {}},
        "spec.initialModel.persistentVolumeClaim",
        "expected one of persistentVolumeClaim, configMap and store",
    ),
    "rounds": (
        {"rounds": 9, "initialModel": {"configMap": {"name": "a", "key": "b"}, "round": 9}},
        "spec.rounds",
        "9 counts all rounds, and initialModel.round says that 9 are done; expected more",
    ),
    "earlyStopping": (
        {"privacy": {**private("gaussian"), "metrics": "Suppressed"}, "earlyStopping": {}},
        "spec.earlyStopping",
        "nobody measures the model where privacy.metrics is Suppressed",
    ),
    "program.source.configMap": (
        {"program__source": {}},
        "spec.program.source.configMap",
        "expected one of configMap, image and persistentVolumeClaim",
    ),
    "workers.maxReplicas": (
        {"workers": {"replicas": 4, "maxReplicas": 3}, "selection": {"perRound": 1}},
        "spec.workers.maxReplicas",
        "3 is less than replicas, 4; expected at least that",
    ),
    "selection.perRound required": (
        {"workers": {"replicas": 4, "maxReplicas": 5}},
        "spec.selection.perRound",
        "expected a cohort, as workers.maxReplicas lets the workers change",
    ),
    "server.storage.existingClaim": (
        {"server": {"storage": {"existingClaim": "a", "size": "1Gi"}}},
        "spec.server.storage.existingClaim",
        "a claim that is there already has a size, a class and an end of its own",
    ),
    "server.storage.uri": (
        {"server": {"storage": {"uri": "s3://a/b", "existingClaim": "a"}}},
        "spec.server.storage.uri",
        "a store of objects has no volume and no claim",
    ),
    "server.storage.secretName": (
        {"server": {"storage": {"secretName": "a"}}},
        "spec.server.storage.secretName",
        "the Secret is for a store of objects",
    ),
    "network.external": (
        {"sites": [EXTERNAL]},
        "spec.network.external",
        "expected network.external when a site is external, and only then",
    ),
    "secureAggregation": (
        {"selection": {"perRound": 2}, "secureAggregation": {"enabled": True}},
        "spec.secureAggregation",
        "secure aggregation needs three in a round, not 2; expected more, or enabled: false",
    ),
    "secureAggregation.tolerate": (
        {"secureAggregation": {"tolerate": 2}},
        "spec.secureAggregation.tolerate",
        "of 4 in a round fewer than half may be lost, and in cross-device three tenths",
    ),
    "losses beside corrupt workers": (
        {"workers": {"replicas": 5}, "privacy": private("skellam"), "secureAggregation": {"tolerate": 2}},
        "spec.secureAggregation.tolerate",
        "under skellam 1 of 5 in a round may be in league with the server, and two sums of the round could open",
    ),
    "selection.minimum of a secure sum": (
        {"selection": {"minimum": 2}},
        "spec.selection.minimum",
        "2 is fewer than the 3 with whom a secure sum opens",
    ),
    "secureAggregation.buckets": (
        {"secureAggregation": {"buckets": 2}, "aggregation": MEDIAN},
        "spec.secureAggregation.buckets",
        "2 buckets leave fewer than three of 4 workers for one",
    ),
    "buckets of private sums": (
        {**BUCKETED, "aggregation": {"name": "mean"}, "privacy": private("gaussian")},
        "spec.secureAggregation.buckets",
        "with buckets the noise of differential privacy, made for the whole sum, is too little",
    ),
    "extra beside buckets": (
        {**BUCKETED, "selection": {"perRound": 11, "extra": 1}},
        "spec.selection.extra",
        "with buckets those who are asked are those who close the round; expected 0",
    ),
    "aggregation": (
        {"aggregation": MEDIAN},
        "spec.aggregation",
        "this rule compares updates, and nobody sees a single one; expected secureAggregation.buckets",
    ),
    "buckets for a mean": (
        {**BUCKETED, "aggregation": {"name": "mean"}},
        "spec.aggregation",
        "mean adds all buckets up; expected median, trimmed_mean or krum",
    ),
    "a private median": (
        {"aggregation": MEDIAN, "privacy": private("gaussian"), "secureAggregation": {"enabled": False}},
        "spec.aggregation",
        "this rule compares parts of a round, but the noise is made for its sum",
    ),
    "too many hostile workers": (
        {**BUCKETED, "aggregation": {"name": "krum", "hostile": 1}},
        "spec.aggregation",
        "1 hostile workers are more than this rule withstands among 3 buckets or updates",
    ),
    "aggregation.hostile missing": (
        {**BUCKETED, "aggregation": {"name": "median"}},
        "spec.aggregation.hostile",
        "median needs hostile",
    ),
    "compression": (
        {"compression": [{"name": "float16"}]},
        "spec.compression",
        "secure aggregation sends whole numbers already",
    ),
    "privacy.mechanism": (
        {"privacy": private("house.noise:Own")},
        "spec.privacy.mechanism",
        "no job can have a mechanism whose cost is not known",
    ),
    "privacy.unit": (
        {"privacy": {**private("gaussian"), "unit": "example"}},
        "spec.privacy.unit",
        "dp_sgd hides an example, and every other mechanism a worker",
    ),
    "program.framework": (
        {"privacy": BY_EXAMPLE, "program__framework": "paddle"},
        "spec.program.framework",
        "dp_sgd needs the gradient of each example",
    ),
    "strategy": (
        {"privacy": BY_EXAMPLE, "strategy": {"name": "fedprox", "mu": 0.1}},
        "spec.strategy",
        "dp_sgd makes the steps of the workers itself; expected fedavg",
    ),
    "strategy of a loss that a plain program keeps": (
        {"strategy": {"name": "fedprox", "mu": 0.1}},
        "spec.strategy",
        "fedprox adds a term to the loss",
    ),
    "strategy of gradients that an estimator does not give": (
        {"program__framework": "sklearn", "strategy": {"name": "fedsgd"}},
        "spec.strategy",
        "fedsgd needs the gradient of the loss",
    ),
    "privacy.mechanism in the clear": (
        {"privacy": private("skellam"), "secureAggregation": {"enabled": False}},
        "spec.privacy.mechanism",
        "skellam needs secure aggregation, with three or more in a round",
    ),
    "privacy.adaptiveClip": (
        {"privacy": {**private("local"), "adaptiveClip": {}}},
        "spec.privacy.adaptiveClip",
        "this mechanism releases no count of votes; expected gaussian or skellam",
    ),
    "privacy.adaptiveClip in the clear": (
        {
            "privacy": {**private("gaussian"), "adaptiveClip": {}},
            "secureAggregation": {"enabled": False},
        },
        "spec.privacy.adaptiveClip",
        "votes on the clip norm are counted in secure sums",
    ),
    "privacy.adaptiveClip.countNoise": (
        {"privacy": {**private("skellam"), "adaptiveClip": {"countNoise": 1.25}}},
        "spec.privacy.adaptiveClip.countNoise",
        "the votes alone cost more than noiseMultiplier allows",
    ),
    "compression of private updates": (
        {
            "privacy": private("gaussian"),
            "compression": [{"name": "float16"}],
            "secureAggregation": {"enabled": False},
        },
        "spec.compression",
        "differential privacy bounds updates and adds noise to them",
    ),
    "target": (
        {
            "privacy": {**private("gaussian"), "metrics": "Suppressed"},
            "target": {"metric": "a", "atLeast": 1},
        },
        "spec.target",
        "nobody measures the model where privacy.metrics is Suppressed",
    ),
    "network.external without a site": (
        {"network": OUTSIDE},
        "spec.network.external",
        "expected network.external when a site is external, and only then",
    ),
    "network.egress": (
        {"network": {"policy": "Open", "egress": [{"cidr": "10.0.0.0/8"}]}},
        "spec.network.egress",
        "under the policy Open every address may be dialled; expected Isolated, or no list",
    ),
    "network.egress.[].cidr": (
        {"network": {"egress": [{"cidr": "10.0.0.1/8"}]}},
        "spec.network.egress[0].cidr",
        "expected a block of addresses such as 10.0.0.0/8",
    ),
    "sites.[].external": (
        {"sites": [{**EXTERNAL, "data": {"claimName": "a"}}], "network": OUTSIDE},
        "spec.sites[0].external",
        "an external site has its own data and pods; expected no data and no template",
    ),
    "strategy.mu": (
        {"strategy": {"name": "fedavg", "mu": 1}},
        "spec.strategy.mu",
        "mu belongs to fedprox only",
    ),
    "strategy.mu missing": ({"strategy": {"name": "fedprox"}}, "spec.strategy.mu", "fedprox needs mu"),
    "sites twice": ({"sites": [{"name": "a"}, {"name": "a"}]}, "spec.sites[1]", "Duplicate value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(create: Callable[..., str], case: str) -> None:
    """What does not fit is refused with the field and the sentence; `fl-submit check` refuses it too."""
    changes, path, sentence = REFUSED[case]
    told = create(job(**changes))
    assert path in told
    assert sentence in told
    if not case.startswith(("strategy", "aggregation.")):
        assert list(broken(job(**changes))) != []


def test_a_file_of_the_users_own(create: Callable[..., str]) -> None:
    """A cluster does not take the path of a file, which only a run on the author's machine can read."""
    told = create(job(initialModel={"uri": "model.npz"}))
    assert "a cluster reads no file of yours (uri)" in told
    assert create(job(initialModel={"persistentVolumeClaim": {"claimName": "a", "path": "b/c.npz"}})) == ""


def test_every_rule_has_a_case() -> None:
    """Each rule about a new job is among the cases, and each about a change among those further down."""
    fit = {".".join((*one.at, one.field)) for one in VALIDATIONS if "oldSelf" not in one.rule}
    lasting = {".".join((*one.at, one.field)) for one in VALIDATIONS if "oldSelf" in one.rule}
    assert fit - set(REFUSED) == set()
    assert lasting - set(LASTING) == set()


@given(data=st.data())
@FEW
def test_one_verdict(create: Callable[..., str], data: st.DataObject) -> None:
    """The API server refuses exactly the selections that the generator refuses, at the edges too."""
    workers = {"replicas": data.draw(st.integers(0, 4))}
    selection = {
        name: data.draw(st.integers(0 if name == "extra" else 1, 4))
        for name in ("perRound", "extra", "minimum")
        if data.draw(st.booleans())
    }
    if data.draw(st.booleans()):
        workers["maxReplicas"] = data.draw(st.integers(1, 5))
    sites = [{"name": name} for name in "ab"[: data.draw(st.integers(0, 2))]]
    document = job(workers=workers, selection=selection, sites=sites)
    assert (create(document) == "") == (list(broken(document)) == [])


def test_unknown_fields(create: Callable[..., str]) -> None:
    """A field that does not exist is named, wherever the schema is closed."""
    assert 'unknown field "spec.rnds"' in create(job(rnds=1))
    assert 'unknown field "spec.sites[0].external.a"' in create(
        job(sites=[{"name": "x", "external": {"a": 1}}])
    )


def test_samples(kubectl: Kubectl, namespace: str) -> None:
    """Every sample is taken as it stands."""
    for path in sorted((MANIFESTS / "samples").glob("*.yaml")):
        done = kubectl("create", "-n", namespace, "--dry-run=server", "-f", str(path))
        assert "fljob.fljob.dev/" in done.stdout
        assert done.stderr == ""


# -- what lasts

RICH = {
    "program": {"entrypoint": "program:task", "framework": "paddle", "config": {"layers": [1]}},
    "initialModel": {"configMap": {"name": "a", "key": "b"}},
    "target": {"metric": "a", "atLeast": 1},
    "earlyStopping": {"patience": 3},
    "strategy": {"name": "fedprox", "mu": 0.5},
    "selection": {"perRound": 2},
    "workers": {
        "replicas": 4,
        "maxReplicas": 8,
        "data": {"claimName": "a"},
        "template": {"spec": {"nodeName": "a"}},
    },
    "sites": [{"name": "a", "data": {"claimName": "a"}}, {"name": "b", "external": {}}],
    "network": OUTSIDE,
    "server": {"storage": {"size": "1Gi"}},
}
FIXED = "cannot be changed; make another job"
HELD = "a template can be changed only while the job is suspended"
LASTING: dict[str, tuple[Map, str]] = {
    "managedBy": ({"managedBy": "example.org/other"}, FIXED),
    "seed": ({"seed": 3}, FIXED),
    "program": ({"program": {"entrypoint": "program:other"}}, FIXED),
    "program in what no schema names": ({"program": {"config": {"layers": [2]}}}, FIXED),
    "initialModel": ({"initialModel": {"round": 3}}, FIXED),
    "target": ({"target": None}, FIXED),
    "earlyStopping": ({"earlyStopping": {"patience": 9}}, FIXED),
    "strategy": ({"strategy": {"mu": 0.75}}, FIXED),
    "aggregation": ({"aggregation": {"name": "house.rules:Median"}}, FIXED),
    "selection": ({"selection": {"minimum": 1}}, FIXED),
    "compression": ({"compression": [{"name": "float16"}]}, FIXED),
    "secureAggregation": ({"secureAggregation": {"tolerate": 1}}, FIXED),
    "privacy": ({"privacy": private("gaussian")}, FIXED),
    "evaluation": ({"evaluation": {"everyRounds": 2}}, FIXED),
    "preRunningDeadlineSeconds": ({"preRunningDeadlineSeconds": 5}, FIXED),
    "network": ({"network": {"external": {"port": 9443}}}, FIXED),
    "server.checkpoint": ({"server": {"checkpoint": {"keep": 9}}}, FIXED),
    "server.storage": ({"server": {"storage": {"size": "2Gi"}}}, FIXED),
    "workers.maxReplicas": ({"workers": {"maxReplicas": 9}}, FIXED),
    "workers.restartsPerWorker": ({"workers": {"restartsPerWorker": 3}}, FIXED),
    "workers.data": ({"workers": {"data": None}}, FIXED),
    "sites.[].data": (
        {"sites": [{"name": "a", "data": {"claimName": "b"}}, {"name": "b", "external": {}}]},
        FIXED,
    ),
    "sites.[].external": ({"sites": [{"name": "a", "external": {}}, {"name": "b", "external": {}}]}, FIXED),
    "sites": ({"sites": [{"name": "c"}, {"name": "b", "external": {}}]}, "sites cannot come or go"),
    "workers.replicas": ({"workers": {"replicas": 3}}, "a job without maxReplicas keeps its replicas"),
    "server.template": ({"server": {"template": {"spec": {"nodeName": "a"}}}}, HELD),
    "scheduler.template": ({"scheduler": {"template": {"spec": {"nodeName": "a"}}}}, HELD),
    "workers.template": ({"workers": {"template": {"spec": {"nodeName": "other"}}}}, HELD),
    "sites in their templates": (
        {
            "sites": [
                {"name": "a", "data": {"claimName": "a"}, "template": {"spec": {"nodeName": "a"}}},
                {"name": "b", "external": {}},
            ]
        },
        "the template of a site can be changed only while the job is suspended",
    ),
    "rounds": ({"rounds": 21}, "21 is more than the 20 before; rounds can be lowered only"),
}


@pytest.mark.parametrize("case", LASTING)
def test_lasting(create: Callable[..., str], change: Callable[..., str], case: str) -> None:
    """What cannot change is refused with the field and the sentence."""
    spec, sentence = LASTING[case]
    without_room = {name: RICH[name] for name in RICH if name not in {"workers", "selection"}}
    assert create(job(**(without_room if case == "workers.replicas" else RICH)), dry=False) == ""
    told = change(spec)
    assert sentence in told
    field = case.partition(" ")[0].replace(".[]", "[0]")
    assert f"spec.{field}" in told


def test_what_appears_or_goes(create: Callable[..., str], change: Callable[..., str]) -> None:
    """A field that was not there cannot come, and one that was cannot go: both are changes."""
    assert create(job(), dry=False) == ""
    for spec in ({"target": {"metric": "a", "atLeast": 1}}, {"workers": {"maxReplicas": 4}}):
        assert FIXED in change(spec)
    assert create(job("other", **RICH), dry=False) == ""
    assert FIXED in change({"selection": {"perRound": None}}, name="other")


@pytest.mark.parametrize(
    "spec",
    [
        {"suspend": True},
        {"suspendGraceSeconds": 5},
        {"rounds": 19},
        {"activeDeadlineSeconds": 60},
        {"ttlSecondsAfterFinished": 0},
        {"podCleanupPolicy": "All"},
        {"workers": {"replicas": 8}},
        {"sites": [{"name": "b", "external": {}}, {"name": "a", "data": {"claimName": "a"}}]},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_mutable(create: Callable[..., str], change: Callable[..., str], spec: Map) -> None:
    """What may change is taken; sites may stand in another order."""
    assert create(job(**RICH), dry=False) == ""
    assert change(spec) == ""


def test_suspended(create: Callable[..., str], change: Callable[..., str]) -> None:
    """A suspended job has no pods, so its templates may change, and not once it goes on."""
    assert create(job(suspend=True, **RICH), dry=False) == ""
    template = {"spec": {"nodeName": "b"}}
    sites = [{"name": "a", "data": {"claimName": "a"}, "template": template}, {"name": "b", "external": {}}]
    assert change({"workers": {"template": template}, "sites": sites}, dry=False) == ""
    assert change({"suspend": False}, dry=False) == ""
    assert HELD in change({"workers": {"template": None}})


def test_scale(kubectl: Kubectl, namespace: str, create: Callable[..., str]) -> None:
    """`kubectl scale` works between the cohort and maxReplicas, and is told why beyond."""
    assert create(job(selection={"perRound": 3}, workers={"replicas": 4, "maxReplicas": 6}), dry=False) == ""

    def scale(count: int) -> str:
        return kubectl("scale", "fljob", "digits", "-n", namespace, f"--replicas={count}", check=False).stderr

    assert scale(6) == ""
    assert "6 is less than replicas, 7; expected at least that" in scale(7)
    assert "3 is more than the workers and sites together, 2" in scale(2)
    found = kubectl("get", "fljob", "digits", "-n", namespace, "-o", "jsonpath={.spec.workers.replicas}")
    assert found.stdout == "6"


# -- what is shown


def test_columns(kubectl: Kubectl, namespace: str, create: Callable[..., str]) -> None:
    """`kubectl get` shows the texts of the status; a field selector finds jobs by their state."""
    assert create(job(), dry=False) == ""
    display = {
        "state": "Running",
        "reason": "Training",
        "round": "7/20",
        "cohort": "3/4",
        "metric": "accuracy=0.97",
    }
    patch = json.dumps({"status": {"display": display, "workers": {"replicas": 4, "selector": "a=b"}}})
    kubectl("patch", "fljob", "digits", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    head, row = kubectl("get", "flj", "-n", namespace, "-o", "wide").stdout.splitlines()
    assert head.split() == [
        "NAME",
        "STATE",
        "ROUND",
        "COHORT",
        "METRIC",
        "EPSILON",
        "STRATEGY",
        "REASON",
        "AGE",
    ]
    assert row.split()[:5] == ["digits", "Running", "7/20", "3/4", "accuracy=0.97"]
    for selector, count in (("status.display.state=Running", 1), ("spec.suspend=true", 0)):
        found = kubectl("get", "flj", "-n", namespace, "--field-selector", selector, "-o", "name").stdout
        assert len(found.split()) == count


def test_conditions(kubectl: Kubectl, namespace: str, create: Callable[..., str]) -> None:
    """Conditions are known by their type: two writers of different ones do not overwrite each other."""
    assert create(job(), dry=False) == ""
    for manager, kind in (("one", "Ready"), ("two", "Degraded")):
        condition = {
            "type": kind, "status": "True", "reason": "Because", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        document = {**job(), "status": {"conditions": [condition]}}
        del document["spec"]
        words = (
            "apply",
            "--server-side",
            "--subresource=status",
            "--field-manager",
            manager,
            "-n",
            namespace,
        )
        kubectl(*words, "-f", "-", stdin=document)
    found = kubectl(
        "get", "flj", "digits", "-n", namespace, "-o", "jsonpath={.status.conditions[*].type}"
    ).stdout
    assert sorted(found.split()) == ["Degraded", "Ready"]


def test_what_is_stored(kubectl: Kubectl, namespace: str, create: Callable[..., str]) -> None:
    """The Plan of a job as the API server gives it back is that of the job as it was written."""
    written = job(
        program__config={"rate": 1.0, "layers": [16, None, {"width": 8}]}, selection={"deadlineSeconds": 60.0}
    )
    assert create(written, dry=False) == ""
    found = json.loads(kubectl("get", "flj", "digits", "-n", namespace, "-o", "json").stdout)
    metadata = {name: found["metadata"][name] for name in ("name", "namespace", "uid")}
    stored = Document({**written, "metadata": metadata, "spec": found["spec"]}).job()
    given_ = Document({**written, "metadata": metadata}).job()
    assert compile_job(stored).to_json() == compile_job(given_).to_json()


# -- the children

FULL = {
    **RICH,
    "program__source": {"configMap": {"name": "program"}},
    "workers__template": {"spec": {"containers": [{"name": "fl", "env": [{"name": "A", "value": "b"}]}]}},
    "network__egress": [{"cidr": "10.1.0.0/16", "ports": [443]}],
}


@pytest.fixture
def rendered(kubectl: Kubectl, restricted: str) -> Callable[..., list[Map]]:
    """The children of a job that is there: without their owner the garbage collector would take them."""

    def of(changes: Map) -> list[Map]:
        document = job(**changes)
        stored = json.loads(
            kubectl("create", "-n", restricted, "-o", "json", "-f", "-", stdin=document).stdout
        )
        metadata = {name: stored["metadata"][name] for name in ("name", "namespace", "uid")}
        typed = Document({**document, "metadata": metadata}).job()
        return children(Rendering(job=typed, plan=compile_job(typed), settings=Settings(authority="a")))

    return of


@pytest.fixture
def restricted(kubectl: Kubectl, namespace: str) -> str:
    """A namespace that enforces Pod Security `restricted`, and warns about Jobs whose pods would be refused."""
    kubectl(
        "label",
        "ns",
        namespace,
        *(f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")),
    )
    return namespace


@pytest.mark.parametrize("changes", [{}, FULL], ids=["smallest", "full"])
def test_children(
    kubectl: Kubectl, restricted: str, rendered: Callable[..., list[Map]], changes: Map
) -> None:
    """Every child is taken by server-side apply without a warning, and a second apply changes nothing.

    Of a new claim the API server itself counts the next write, whatever it says.
    """
    objects = rendered(changes)
    words = ("apply", "--server-side", "--field-manager=fljob-operator", "--force-conflicts", "-f", "-")
    assert kubectl(*words, "--dry-run=server", stdin=objects).stderr == ""
    assert kubectl(*words, stdin=objects).stderr == ""

    def versions() -> list[str]:
        kinds = "jobs,services,configmaps,networkpolicies"
        words = ("get", kinds, "-n", restricted, "-l", "fljob.dev/job=digits", "-o", "json")
        found = [(one["kind"], one["metadata"]) for one in json.loads(kubectl(*words).stdout)["items"]]
        # What has a status has a generation, which counts changes of everything else.
        counted = [(kind, own, own.get("generation", own["resourceVersion"])) for kind, own in found]
        return sorted(f"{kind}/{own['name']}/{version}" for kind, own, version in counted)

    before = versions()
    kubectl(*words, stdin=objects)
    assert versions() == before
    assert len(before) == len(objects) - 1


@pytest.mark.parametrize("changes", [{}, FULL], ids=["smallest", "full"])
def test_pod_security(
    kubectl: Kubectl, restricted: str, rendered: Callable[..., list[Map]], changes: Map
) -> None:
    """A namespace that enforces Pod Security `restricted` takes every pod; without its context it would not."""
    kubectl(
        "create", "serviceaccount", "default", "-n", restricted, check=False
    )  # where no controller makes it
    templates = [one["spec"]["template"] for one in rendered(changes) if one["kind"] == "Job"]
    assert len(templates) == (4 if changes else 3)
    for number, template in enumerate(templates):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {**template["metadata"], "name": f"pod-{number}", "namespace": restricted}
        done = kubectl("create", "--dry-run=server", "-f", "-", stdin=pod, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        pod["spec"] = {**pod["spec"], "securityContext": {}}
        done = kubectl("create", "--dry-run=server", "-f", "-", stdin=pod, check=False)
        assert 'violates PodSecurity "restricted' in done.stderr


@pytest.mark.level(3)
def test_pods_are_made(kubectl: Kubectl, restricted: str, rendered: Callable[..., list[Map]]) -> None:
    """The Jobs' pods are made, none is refused, and those that are dialled have the names that the others dial."""
    objects = rendered({"program__source": {"configMap": {"name": "program"}}})
    kubectl("apply", "--server-side", "-f", "-", stdin=objects)
    selector = ("-n", restricted, "-l", "fljob.dev/job=digits")
    end = time.monotonic() + 60
    while len(pods := json.loads(kubectl("get", "pods", *selector, "-o", "json").stdout)["items"]) < 6:
        assert time.monotonic() < end, kubectl("get", "events", "-n", restricted).stdout
        time.sleep(0.2)
    called = {f"{pod['spec']['hostname']}.{pod['spec'].get('subdomain', '')}" for pod in pods}
    assert called == {
        "digits-server-0.digits-server",
        "digits-scheduler-0.digits-scheduler",
        *(f"digits-worker-{number}." for number in range(4)),
    }
    indexes = [
        variable["valueFrom"]["fieldRef"]["fieldPath"]
        for pod in pods
        for variable in pod["spec"]["containers"][0]["env"]
        if variable["name"] == "JOB_COMPLETION_INDEX"
    ]
    assert set(indexes) == {"metadata.labels['batch.kubernetes.io/job-completion-index']"}
    assert len(indexes) == 6
    assert "FailedCreate" not in kubectl("get", "events", "-n", restricted).stdout


def test_kustomize(kubectl: Kubectl) -> None:
    """`kubectl apply -k manifests` brings the definition, as it is generated."""
    brought = list(yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS)).stdout))
    assert [one for one in brought if one["kind"] == "CustomResourceDefinition"] == [crd()]
