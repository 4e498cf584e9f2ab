from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.plan import Plan
from job_generator.compiler import compile_job
from job_generator.schema import job_schema
from job_generator.source import Document
from job_generator.spec import FLJob

Map = dict[str, Any]
Step = str | int
OUTSIDE = {
    ("metadata", "labels"),
    ("metadata", "annotations"),
    ("spec", "suspend"),
    ("spec", "suspendGraceSeconds"),
    ("spec", "managedBy"),
    ("spec", "activeDeadlineSeconds"),
    ("spec", "ttlSecondsAfterFinished"),
    ("spec", "podCleanupPolicy"),
    ("spec", "program", "source"),
    ("spec", "initialModel", "persistentVolumeClaim"),
    ("spec", "server", "storage"),
    ("spec", "server", "template"),
    ("spec", "scheduler"),
    ("spec", "workers", "replicas"),
    ("spec", "workers", "restartsPerWorker"),
    ("spec", "workers", "data"),
    ("spec", "workers", "template"),
    ("spec", "network"),
}
"""What only whoever starts the processes reads, and no process; some of it may change while the job runs."""


def plan_of(document: Map) -> Plan:
    return compile_job(Document(document).job())


def leaves(value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Every single value of a document."""
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if pairs is None:
        yield path, value
    for step, inner in pairs or ():
        yield from leaves(inner, (*path, step))


KINDS = {"fljob.dev/v1alpha1", "FLJob", "cross-silo", "worker", "gaussian", "Released"}
"""Words that the document cannot do without."""

PLAIN = {"enabled": False}


OTHERS = {"Skip": "Fail", "sklearn": "numpy", 16: 32}
"""Of fields that take a few values only."""


def other(value: Any, path: tuple[Step, ...]) -> Any:
    """Another value that the same field takes, near enough for the rules."""
    match value:
        case bool():
            return not value
        case int() | float() | str() if value in OTHERS:
            return OTHERS[value]
        case str():
            return value[::-1] if path[-1] == "sha256" else f"{value}x"
        case int() | float() if path[-1] in {"replicas", "maxReplicas", "seed", "rounds"}:
            return value + 1
        case int() | float():
            return value - 1 if value > 1 else value / 2
    return 1


def replaced(value: Any, path: tuple[Step, ...], new: Any) -> Any:
    """A copy with another value at this path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def test_every_field_matters(whole_map: Callable[..., Map]) -> None:
    """Every field that can be set reaches the Plan: another value gives another digest.

    This job cannot have buckets, as it has privacy; that they reach the Plan is seen in test_rules.py.
    """
    good = whole_map()
    before = plan_of(good).digest
    tried = [
        (path, value)
        for path, value in leaves(good)
        if value not in KINDS
        and path[-1] != "buckets"
        and not {path[:2], path[:3]} & OUTSIDE
        and not {"data", "template"} & set(path)
    ]
    digests = {path: plan_of(replaced(good, path, other(value, path))).digest for path, value in tried}
    assert [path for path, digest in digests.items() if digest == before] == []
    assert len(digests) > 30


def test_the_whole_job_is_whole(whole_map: Callable[..., Map]) -> None:
    """The job that the other tests call whole sets every field of the API, at another value than its default."""

    def unset(schema: Map, value: Any, path: str) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            if name not in value:
                yield f"{path}.{name}"
            elif isinstance(value[name], dict) and "oneOf" not in field:
                yield from unset(field, value[name], f"{path}.{name}")
            elif (
                "default" in field and field["default"] == value[name] and name not in {"apiVersion", "kind"}
            ):
                yield f"{path}.{name} is at its default"

    others = [
        ".spec.program.source.image",
        ".spec.program.source.persistentVolumeClaim",
        ".spec.initialModel.uri",
        ".spec.initialModel.configMap",
        ".spec.initialModel.store",
        ".spec.target.atMost",
        ".spec.compression",
        ".spec.secureAggregation.enabled is at its default",
        ".spec.secureAggregation.buckets is at its default",
        ".spec.privacy.unit is at its default",
        ".spec.privacy.adaptiveClip",
        ".spec.privacy.metrics is at its default",
        ".spec.server.storage.existingClaim",
        ".spec.server.storage.uri",
        ".spec.server.storage.secretName",
        ".spec.network.policy is at its default",
    ]
    assert list(unset(job_schema(), whole_map(), "")) == others


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_values_arrive(data: st.DataObject, job_map: Callable[..., Map]) -> None:
    """The numbers of a job are those of its Plan, whatever they are."""
    replicas = data.draw(st.integers(1, 100_000))
    cohort = data.draw(st.integers(1, replicas))
    extra = data.draw(st.integers(0, replicas - cohort))
    minimum = data.draw(st.integers(1, cohort))
    stall = data.draw(st.floats(0.001, 100))
    selection = {"perRound": cohort, "extra": extra, "minimum": minimum, "stallSeconds": stall}
    plan = plan_of(job_map(selection=selection, workers={"replicas": replicas}, secureAggregation=PLAIN))
    found = plan.selection
    assert (plan.workers, found.per_round, found.extra, found.minimum) == (replicas, cohort, extra, minimum)
    assert (found.stall_seconds, found.asked) == (stall, cohort + extra)


@pytest.mark.parametrize(
    ("cohort", "quorum", "secure"),
    [(1, 1, 1), (2, 2, 2), (3, 2, 3), (4, 3, 3), (5, 4, 4), (6, 4, 5), (9, 6, 7), (100_000, 66_667, 70_000)],
)
def test_quorum(a_job: Callable[..., FLJob], cohort: int, quorum: int, secure: int) -> None:
    """Without a minimum the quorum is two thirds of the cohort, rounded up, and as many as a secure sum needs."""
    plain = a_job(workers__replicas=cohort, secureAggregation=PLAIN)
    assert compile_job(plain).selection.minimum == quorum
    assert compile_job(a_job(workers__replicas=cohort)).selection.minimum == secure
    some = a_job(workers__replicas=100_000, selection__perRound=cohort)
    assert compile_job(some).selection.minimum == secure


def test_defaults(a_job: Callable[..., FLJob]) -> None:
    """The smallest job trains with FedAvg, asks every worker in every round, and measures after each."""
    plan = compile_job(a_job())
    names = (plan.strategy.name, plan.aggregation.name, plan.selection.policy.name)
    assert names == ("fedavg", "mean", "uniform")
    assert (plan.selection.per_round, plan.selection.asked, plan.evaluation_every) == (4, 4, 1)
    assert (plan.compression, plan.target, plan.program.sha256) == ((), None, None)


def test_written_out(whole_map: Callable[..., Map], job_map: Callable[..., Map]) -> None:
    """A job with all of its defaults written out gives the same Plan, byte for byte."""
    for document in (job_map(), whole_map()):
        job = Document(document).job()
        again = Document(json.loads(json.dumps(job.document()))).job()
        assert again == job
        assert compile_job(again).to_json() == compile_job(job).to_json()


def test_the_same_bytes_elsewhere(whole_map: Callable[..., Map]) -> None:
    """Another process, with other hashes, compiles the same job to the same bytes."""
    program = (
        "import json, sys; from job_generator.compiler import compile_job; "
        "from job_generator.source import Document; "
        "sys.stdout.write(compile_job(Document(json.load(sys.stdin)).job()).to_json())"
    )
    document = whole_map()
    expected = plan_of(document).to_json()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(document), capture_output=True, text=True,
            check=True, env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.stdout == expected


def test_the_order_of_fields(whole_map: Callable[..., Map]) -> None:
    """Fields in another order are the same job; whole numbers written as 1.0 are, too."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in reversed(value)}
        return value

    document = whole_map(selection__stallSeconds=60)
    assert plan_of(turned(document)).to_json() == plan_of(document).to_json()
    assert plan_of(whole_map(selection__stallSeconds=60.0)).to_json() == plan_of(document).to_json()


def test_size(job_map: Callable[..., Map]) -> None:
    """The Plan of 10,000 workers is that of 10 with longer numbers."""
    few, many = (
        plan_of(
            job_map(
                workers={"replicas": count},
                selection={"perRound": count, "minimum": count},
                secureAggregation={"profile": "cross-device"},
            )
        ).to_json()
        for count in (10, 10_000)
    )
    assert len(many) == len(few) + 3 * len("000")
    assert many.replace("10000", "10") == few


def test_uid(job_map: Callable[..., Map]) -> None:
    """Without a uid it follows from namespace and name and from nothing else; a given one is kept."""
    document = job_map()
    uid = plan_of(document).job.uid
    assert plan_of(job_map(rounds=99, seed=5)).job.uid == uid
    for change in ({"name": "other"}, {"name": "digits", "namespace": "lab"}):
        assert plan_of({**document, "metadata": change}).job.uid != uid
    assert plan_of({**document, "metadata": {"name": "digits", "uid": "4f0d"}}).job.uid == "4f0d"


def test_purity(whole_map: Callable[..., Map]) -> None:
    """Compiling leaves the job as it was, and the Plan does not share its maps."""
    job = Document(whole_map()).job()
    before = job.model_dump_json()
    plan = compile_job(job)
    plan.program.config["learning_rate"] = 9
    assert job.model_dump_json() == before
    assert Plan.from_json(compile_job(job).to_json()) == compile_job(job)


def test_stall_within_the_deadline(a_job: Callable[..., FLJob]) -> None:
    """A short deadline shortens the default stall, which nobody wrote and so nobody is blamed for."""
    assert compile_job(a_job(selection={"deadlineSeconds": 30})).selection.stall_seconds == 30
    assert compile_job(a_job(selection={"deadlineSeconds": 600})).selection.stall_seconds == 120


def test_what_may_change_is_not_in_the_plan(whole_map: Callable[..., Map]) -> None:
    """Suspending, scaling, deadlines, templates and places leave the Plan as it is, byte for byte."""
    before = plan_of(whole_map()).digest
    changes = {
        "suspend": False, "suspendGraceSeconds": 1, "activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 0,
        "podCleanupPolicy": "None", "workers__replicas": 20, "workers__template": None, "server__template": None,
        "scheduler": None, "workers__data": None, "program__source": None, "server__storage": None,
        "network__policy": "Isolated", "workers__restartsPerWorker": 99,
    }  # fmt: skip
    assert {plan_of(whole_map(**{name: value})).digest for name, value in changes.items()} == {before}


def test_sites(job_map: Callable[..., Map]) -> None:
    """Sites have the numbers after the pool's, in the order of their names, however they stand in the job."""
    sites = [{"name": "lab-b"}, {"name": "hospital-a", "external": {}}]
    workers = {"replicas": 4, "maxReplicas": 6}
    job = job_map(
        sites=sites, workers=workers, selection__perRound=5, network__external={"hostname": "fl.example.org"}
    )
    plan = plan_of(job)
    assert (plan.workers, plan.pool) == (8, 6)
    assert [(site.name, site.index, site.external) for site in plan.sites] == [
        ("hospital-a", 6, True),
        ("lab-b", 7, False),
    ]
    assert [plan.called(index) for index in (0, 5, 6, 7)] == ["worker-0", "worker-5", "hospital-a", "lab-b"]
    job["spec"]["sites"].reverse()
    assert plan_of(job).to_json() == plan.to_json()


def test_sites_alone(a_job: Callable[..., FLJob]) -> None:
    """A job may have sites and no pool; all of them are the cohort."""
    plan = compile_job(a_job(workers={"replicas": 0}, sites=[{"name": "a"}, {"name": "b"}]))
    assert (plan.workers, plan.pool, plan.selection.per_round, plan.selection.minimum) == (2, 0, 2, 2)
