"""Jobs as their authors write them: as a map, as text, as files in a folder."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from fl_core.attestation import Ending
from fl_core.identity import Authority, Identity
from fl_core.plan import Plan, Privacy, Program, Site
from fl_core.seals import Seal
from fl_core.weights import digest
from fl_server.checkpoints import Saved
from fl_server.storage import Storage
from job_generator.local.fetched import FetchedRecord, Origin
from job_generator.local.folder import RunFolder, RunState
from job_generator.source import Document
from job_generator.spec import FLJob

SMALLEST: dict[str, Any] = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "digits"},
    "spec": {
        "program": {"entrypoint": "program:task", "framework": "numpy"},
        "rounds": 20,
        "workers": {"replicas": 4},
    },
}
LARGEST: dict[str, Any] = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {
        "name": "digits",
        "namespace": "research",
        "uid": "4f0d-9e2a",
        "labels": {"team": "vision"},
        "annotations": {"note": "second try"},
    },
    "spec": {
        "suspend": True,
        "suspendGraceSeconds": 45,
        "managedBy": "example.org/queue",
        "activeDeadlineSeconds": 86_400,
        "ttlSecondsAfterFinished": 3_600,
        "podCleanupPolicy": "All",
        "seed": 7,
        "program": {
            "entrypoint": "package.program:task",
            "framework": "sklearn",
            "sha256": "0123456789abcdef" * 4,
            "config": {"learning_rate": 0.05, "layers": [16, None, {"width": 8}]},
            "source": {
                "configMap": {
                    "name": "digits-program",
                    "items": [{"key": "program.py", "path": "program.py"}],
                }
            },
        },
        "rounds": 50,
        "initialModel": {
            "persistentVolumeClaim": {"claimName": "models", "path": "digits/model.npz"},
            "sha256": "fedcba9876543210" * 4,
            "round": 12,
        },
        "target": {"metric": "accuracy", "atLeast": 0.97},
        "earlyStopping": {"patience": 7, "minDelta": 0.25},
        "strategy": {"name": "house.strategies:Momentum", "beta": 0.9},
        "aggregation": {"name": "house.rules:Median", "window": 3},
        "selection": {
            "policy": {"name": "house.policies:Fast", "share": 0.5},
            "perRound": 8,
            "extra": 2,
            "minimum": 7,
            "joinSeconds": 5.5,
            "stallSeconds": 60.5,
            "deadlineSeconds": 600.5,
            "onShortfall": {"action": "Skip", "attempts": 5},
        },
        "secureAggregation": {
            "enabled": True,
            "profile": "cross-silo",
            "tolerate": 2,
            "bits": 16,
            "maxExamples": 500,
            "buckets": 1,
        },
        "privacy": {
            "unit": "worker",
            "mechanism": {"name": "gaussian", "clip": 0.5, "noiseMultiplier": 3.5},
            "budget": {"epsilon": 7.5, "delta": 1e-6},
            "metrics": "Released",
        },
        "evaluation": {"everyRounds": 2},
        "preRunningDeadlineSeconds": 300.5,
        "server": {
            "checkpoint": {"everyRounds": 4, "keep": 9},
            "storage": {"size": "5Gi", "storageClassName": "fast", "onDelete": "Delete"},
            "template": {"metadata": {"labels": {"tier": "gold"}}, "spec": {"nodeName": "big"}},
        },
        "scheduler": {"template": {"metadata": {"labels": {"tier": "tin"}}, "spec": {"nodeName": "small"}}},
        "workers": {
            "replicas": 12,
            "maxReplicas": 20,
            "restartsPerWorker": 2,
            "data": {"claimName": "shards", "subPath": "part/{index}", "readOnly": False},
            "template": {
                "metadata": {"annotations": {"note": "first"}},
                "spec": {"containers": [{"name": "fl", "env": [{"name": "HOUSE", "value": "blue"}]}]},
            },
        },
        "sites": [
            {
                "name": "lab-b",
                "data": {"claimName": "lab", "subPath": "all", "readOnly": False},
                "template": {"metadata": {"labels": {"tier": "zinc"}}, "spec": {"nodeName": "lab"}},
            },
            {"name": "hospital-a", "external": {}},
        ],
        "network": {
            "policy": "Isolated",
            "egress": [{"cidr": "10.1.0.0/16", "ports": [443]}],
            "external": {"type": "NodePort", "hostname": "fl.example.org", "port": 9443},
        },
    },
}
"""Every field that can be set, none of them at its default."""

PROGRAM = "def task(config, site):\n    return None\n"


def changed(document: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with these values; `selection__perRound=3` goes into the spec, None removes."""
    copy = deepcopy(document)
    for name, value in values.items():
        *way, last = name.split("__")
        place = copy["spec"]
        for step in way:
            place = place.setdefault(step, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return copy


WORDS = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
CLAIMS = st.fixed_dictionaries(
    {"claimName": WORDS},
    optional={"subPath": st.sampled_from(["all", "part/{index}"]), "readOnly": st.booleans()},
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({"labels": st.dictionaries(WORDS, WORDS, max_size=2)}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "nodeSelector": st.dictionaries(WORDS, WORDS, max_size=2),
                "priorityClassName": WORDS,
                "containers": st.just([{"name": "fl", "env": [{"name": "X", "value": "1"}]}]),
            },
        ),
    },
)
SOURCES = st.one_of(
    st.fixed_dictionaries({"configMap": st.fixed_dictionaries({"name": WORDS})}),
    st.fixed_dictionaries({"image": st.fixed_dictionaries({"reference": WORDS})}),
    st.fixed_dictionaries(
        {"persistentVolumeClaim": CLAIMS.map(lambda claim: {"claimName": claim["claimName"]})}
    ),
)
STORAGES = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"size": st.just("5Gi"), "onDelete": st.sampled_from(["Retain", "Delete"])}
    ),
    st.fixed_dictionaries({"existingClaim": WORDS}),
)


@st.composite
def cluster_jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A good job for a cluster, as a map: any pool, sites, volumes, templates and network."""
    inside = st.fixed_dictionaries({"name": WORDS}, optional={"data": CLAIMS, "template": TEMPLATES})
    outside = st.fixed_dictionaries({"name": WORDS, "external": st.just({})})
    sites = draw(st.lists(inside | outside, max_size=4, unique_by=lambda site: site["name"]))
    replicas = draw(st.integers(0 if sites else 1, 50))
    workers: dict[str, Any] = {"replicas": replicas}
    selection: dict[str, Any] = {}
    if draw(st.booleans()):
        workers["maxReplicas"] = replicas + draw(st.integers(1, 50))
        selection["perRound"] = draw(st.integers(1, replicas + len(sites)))
    for name, values in {"data": CLAIMS, "template": TEMPLATES}.items():
        if draw(st.booleans()):
            workers[name] = draw(values)
    network: dict[str, Any] = {"policy": draw(st.sampled_from(["Isolated", "Open"]))}
    if any("external" in site for site in sites):
        network["external"] = {"hostname": "fl.example.org"}
    return {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "metadata": {"name": draw(WORDS), "namespace": draw(WORDS), "uid": str(draw(st.uuids()))},
        "spec": {
            "program": {"entrypoint": "program:task", "framework": "numpy", "source": draw(SOURCES)},
            "rounds": draw(st.integers(1, 100)),
            "suspend": draw(st.booleans()),
            "selection": selection,
            "server": {"storage": draw(STORAGES), "template": draw(TEMPLATES)},
            "scheduler": {"template": draw(TEMPLATES)},
            "workers": workers,
            "sites": sites,
            "network": network,
        },
    }


@pytest.fixture(scope="session")
def job_maps() -> st.SearchStrategy[dict[str, Any]]:
    """Any good job for a cluster, as a map."""
    return cluster_jobs()


@pytest.fixture(scope="session")
def job_map() -> Callable[..., dict[str, Any]]:
    """The smallest job as a map, with changes to its spec."""
    return lambda **values: changed(SMALLEST, **values)


@pytest.fixture(scope="session")
def whole_map() -> Callable[..., dict[str, Any]]:
    """A job that sets every field, as a map, with changes to its spec."""
    return lambda **values: changed(LARGEST, **values)


@pytest.fixture(scope="session")
def a_job() -> Callable[..., FLJob]:
    """The smallest job, with changes to its spec."""
    return lambda **values: Document(changed(SMALLEST, **values)).job()


@pytest.fixture(scope="session")
def job_text() -> Callable[..., str]:
    """The smallest job as YAML, one top-level field a line, with changes to its spec and lines at its end."""

    def build(*more: str, **values: Any) -> str:
        document = changed(SMALLEST, **values)
        spec = document.pop("spec")
        lines = [f"{name}: {json.dumps(value)}" for name, value in document.items()]
        lines += ["spec:", *(f"  {name}: {json.dumps(value)}" for name, value in spec.items())]
        return "\n".join([*lines, *more, ""])

    return build


@pytest.fixture
def job_file(tmp_path: Path, job_text: Callable[..., str]) -> Callable[..., Path]:
    """A folder with a job and its program; gives the path of job.yaml."""

    def write(*more: str, program: str = PROGRAM, **values: Any) -> Path:
        folder = tmp_path / "job"
        folder.mkdir(exist_ok=True)
        (folder / "program.py").write_text(program, encoding="utf-8")
        (folder / "job.yaml").write_text(job_text(*more, **values), encoding="utf-8")
        return folder / "job.yaml"

    return write


@pytest.fixture
def finished(tmp_path: Path, plan_of: Callable[..., Plan]) -> Callable[..., RunFolder]:
    """Make the folder of a run of so many rounds, as its server leaves it, without a process; rows may be changed."""

    def made(
        rounds: int = 10,
        *,
        signed: bool = True,
        program: str | None = None,
        privacy: Privacy | None = None,
        sites: tuple[Site, ...] = (),
        store: str | None = None,
        **changes: dict[str, Any],
    ) -> RunFolder:
        code = Program(entrypoint="toy:task", framework="numpy", sha256=program)
        plan = plan_of(rounds=rounds, workers=4, program=code, privacy=privacy, sites=sites)
        folder, authority = RunFolder(tmp_path / "runs" / "toy"), Authority(plan.job.uid)
        folder.prepare(job="", plan=plan)
        folder.trust(authority.dump()[1])
        credentials = authority.issue(Identity(plan.job.uid, "server"))
        storage = Storage(folder.storage, plan, store=store, seal=Seal(credentials))
        models = [{"w": np.full(3, number, "f4")} for number in range(rounds + 1)]
        for number in range(1, rounds + 1):
            base, model = (digest(one) for one in models[number - 1 : number + 1])
            facts = {"round": number, "plan": plan.digest, "digest": model, "metrics": {}}
            storage.checkpoints.save(Saved(models[number], facts))
            storage.record(row_of(number, base, model) | changes.get(f"round_{number}", {}))
        storage.keep_model("last", Saved(models[-1], facts))
        if signed:
            ending = Ending("RoundsDone", dt.datetime.now(dt.UTC), model, rounds)
            storage.sign(ending, credentials)
        now = dt.datetime.now(dt.UTC)
        state = RunState(job="toy", state="Complete", started=now, ended=now, program=".", restarts=1)
        folder.write(state.model_copy(update={"exit_code": 0, "store": store}))
        return folder

    return made


def fetched_from(run: RunFolder, folder: Path, **spec: Any) -> Path:
    """The folder that `fl-submit record fetch` makes of a job on a cluster, with this spec and this run's record."""
    plan = Plan.read(run.plan)
    source = {"configMap": {"name": "toy-program"}}
    fields = {
        "program": {"entrypoint": "toy:task", "framework": "numpy", "source": source},
        "rounds": plan.rounds,
        "workers": {"replicas": 4, "restartsPerWorker": 7},
    }
    job = {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "metadata": {**plan.job.model_dump(), "generation": 1, "managedFields": []},
        "spec": {**fields, **spec},
        "status": {"display": {"state": "Complete"}},
    }
    now = dt.datetime.now(dt.UTC)
    origin = Origin(job=plan.job.name, namespace=plan.job.namespace, state="Complete", fetched=now)
    FetchedRecord(folder).write(
        origin, job, plan, authority=run.authorities.read_text(), storage=lines_alone(run, folder.parent)
    )
    return folder


def lines_alone(run: RunFolder, folder: Path) -> Path:
    """What a reader's pod gives of a storage: the record and its signature, and no model."""
    found = folder / f"{run.path.name}-reader"
    found.mkdir()
    for path in (run.record, run.signature):
        if path.exists():
            shutil.copy(path, found)
    return found


def row_of(number: int, base: str, model: str) -> dict[str, Any]:
    """A round of which three of four workers were asked and two have reported."""
    return {
        "round": number,
        "attempt": 1,
        "result": "Committed",
        "base": base,
        "model": model,
        "cohort": ["worker-0", "worker-1", "worker-2"],
        "selection": {"live": 4, "passedOver": ["worker-3"]},
        "reporters": ["worker-0", "worker-1"],
        "dropouts": {"worker-2": "no heartbeat"},
        "examples": 20,
        "metrics": {"loss": 1 / number},
        "train": {},
        "seconds": {"total": 0.5},
        "bytes": {"up": 1, "down": 2},
    }
