"""An attempt: the children of a job as they were rendered once, kept in an object that nobody can change.

An operator of another version, with other images or another renderer, compares the live children with the
frozen ones and never with its own rendering, so that its upgrade touches no running job (the pattern of
ControllerRevision).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from fl_core.plan import Plan
from fl_operator.cluster.resources import CLAIMS, Object, owner_of, uid_of
from job_generator import names
from job_generator.compiler import compile_job
from job_generator.manifests import Rendering, children
from job_generator.settings import Settings
from job_generator.source import Document
from job_generator.spec import API_VERSION, KIND

PLAN: Final = "plan.json"
SPEC_DIGEST: Final = "fljob.dev/spec-digest"

MUTABLE: Final = (
    ("suspend",),
    ("suspendGraceSeconds",),
    ("managedBy",),
    ("preRunningDeadlineSeconds",),
    ("activeDeadlineSeconds",),
    ("ttlSecondsAfterFinished",),
    ("podCleanupPolicy",),
    ("rounds",),
    ("workers", "replicas"),
)
"""What may change while a job runs; the operator reads it anew each time."""


@dataclass(frozen=True)
class Attempt:
    """One frozen rendering of a job."""

    number: int
    plan: Plan
    children: tuple[Object, ...]
    spec_digest: str

    @classmethod
    def render(cls, job: Object, settings: Settings, *, number: int, rounds: int | None = None) -> Attempt:
        """Compile and render a job as the API server holds it; raises InvalidJobError.

        `rounds` are those of the job's plan, where it has one: its author may have lowered them since.
        """
        whole = bare(job)
        spec = whole["spec"] if rounds is None else {**whole["spec"], "rounds": rounds}
        typed = Document({**whole, "spec": spec}).job()
        plan = compile_job(typed)
        made = children(Rendering(job=typed, plan=plan, settings=settings, attempt=number))
        return cls(number, plan, tuple(made), spec_digest(job))

    @classmethod
    def thaw(cls, kept: Object) -> Attempt:
        """Read what `object` wrote."""
        annotations, data = kept["metadata"]["annotations"], kept["data"]
        return cls(
            number=int(kept["metadata"]["labels"][names.ATTEMPT]),
            plan=Plan.model_validate_json(data[PLAN]),
            children=tuple(json.loads(data[names.CHILDREN])),
            spec_digest=annotations[SPEC_DIGEST],
        )

    def object(self, job: Object) -> Object:
        """The immutable ConfigMap that holds the attempt."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names.attempt(self.plan.job, self.number),
                "namespace": job["metadata"]["namespace"],
                "labels": {**names.of_job(self.plan.job), names.ATTEMPT: str(self.number)},
                "annotations": {SPEC_DIGEST: self.spec_digest, names.PLAN_DIGEST: self.plan.digest},
                "ownerReferences": [owned_by(job)],
            },
            "immutable": True,
            "data": {PLAN: self.plan.to_json(), names.CHILDREN: _json(list(self.children))},
        }

    def wanted(self, spec: Mapping[str, Any], *, suspended: bool) -> list[Object]:
        """The children as they should be now: the frozen ones with what may change laid over them."""
        return [self._now(child, spec, suspended=suspended) for child in self.children]

    @cached_property
    def job_labels(self) -> dict[str, Mapping[str, str]]:
        """The labels of each Job by its name."""
        jobs = (one["metadata"] for one in self.children if one["kind"] == "Job")
        return {metadata["name"]: metadata["labels"] for metadata in jobs}

    @cached_property
    def images(self) -> dict[str, str]:
        """The image of each role."""
        pods = ((one["metadata"]["labels"][names.ROLE], one) for one in self.children if one["kind"] == "Job")
        return {role: one["spec"]["template"]["spec"]["containers"][0]["image"] for role, one in pods}

    def _now(self, child: Object, spec: Mapping[str, Any], *, suspended: bool) -> Object:
        if child["kind"] != "Job":
            return child
        now = {"suspend": suspended}
        if child["metadata"]["name"] == names.child(self.plan.job, "worker"):
            replicas = spec["workers"]["replicas"]
            now |= {"completions": replicas, "parallelism": replicas}
        return {**child, "spec": {**child["spec"], **now}}


def owned_by(job: Object) -> Object:
    """The owner reference of what goes with a job."""
    metadata = job["metadata"]
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
    return {**owner, "controller": True, "blockOwnerDeletion": True}


def belongs(thing: Object, job: Object) -> bool:
    """Whether an object is this very job's; a claim that is kept has no owner, but the uid in its name."""
    if (owner := owner_of(thing)) is not None:
        return bool(owner["uid"] == uid_of(job))
    labels = thing["metadata"].get("labels") or {}
    kept = thing["kind"] == CLAIMS.kind and thing["metadata"]["name"].endswith(uid_of(job))
    return bool(kept and labels.get(names.JOB) == job["metadata"]["name"])


def holds_attempt(thing: Object) -> bool:
    """Whether an object is one in which an attempt is kept."""
    return SPEC_DIGEST in thing["metadata"].get("annotations", {})


def is_of_another(wanted: Object, live: Object) -> bool:
    """Whether a live child is one of another attempt than the wanted one."""
    attempts = [one["metadata"].get("labels", {}).get(names.ATTEMPT) for one in (wanted, live)]
    return attempts[1] is not None and attempts[0] != attempts[1]


def bare(job: Object) -> Object:
    """A job without what the API server adds to it."""
    metadata = {name: job["metadata"][name] for name in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": job["spec"]}


def spec_digest(job: Object) -> str:
    """The digest of what may not change."""
    spec = job["spec"]
    for path in MUTABLE:
        spec = _without(spec, path)
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


def _without(value: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """The map without what lies at the path."""
    step, *rest = path
    if step not in value:
        return value
    if not rest:
        return {name: one for name, one in value.items() if name != step}
    return {**value, step: _without(value[step], rest)}


def canonical(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON in one way only; the API server gives 1.0 back as 1."""
    return _json(_whole(value))


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
