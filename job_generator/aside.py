"""What of an FLJob only a cluster can do: a run on this machine leaves it aside, and says so."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from job_generator.spec import FLJob, Metadata, Program, Spec, Workers

ASIDE: Final[tuple[str, ...]] = (
    "suspend",
    "managedBy",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "podCleanupPolicy",
    "program.source",
    "server.storage",
    "server.template",
    "scheduler.template",
    "workers.data",
    "workers.template",
    "network",
)
"""The fields of the spec; of the storage a run has its `uri`. Of a site only its name counts: it is one worker more."""
OF_SITES: Final = ("data", "template", "external")


def left_aside(job: FLJob) -> tuple[str, ...]:
    """The fields of this job that a local run leaves aside, as YAML paths; those at their default are not named."""
    spec = job.document()["spec"]
    spec["server"]["storage"].pop("uri", None)
    secret = spec["server"]["storage"].pop("secretName", None)
    found = [f"spec.{field}" for field in ASIDE if _at(spec, field) != _at(_plain(), field)]
    found += ["spec.server.storage.secretName"] if secret else []
    for number, site in enumerate(spec["sites"]):
        found += [f"spec.sites[{number}].{field}" for field in OF_SITES if field in site]
    return tuple(found)


def for_this_machine(job: FLJob) -> FLJob:
    """The job as a local run takes it: its program lies here."""
    program = job.spec.program.model_copy(update={"source": None})
    spec = job.spec.model_copy(update={"program": program})
    return job.model_copy(update={"spec": spec})


def notice(job: FLJob) -> str | None:
    """One sentence for the user of a local run; None when nothing was left aside."""
    fields = left_aside(job)
    return f"Only a cluster can do this, so it is left aside here: {', '.join(fields)}." if fields else None


@cache
def _plain() -> dict[str, Any]:
    """The spec of a job that says nothing of a cluster."""
    spec = Spec(program=Program(entrypoint="program:task"), rounds=1, workers=Workers(replicas=1))
    whole: dict[str, Any] = FLJob(metadata=Metadata(name="plain"), spec=spec).document()["spec"]
    return whole


def _at(spec: Any, path: str) -> Any:  # noqa: ANN401 - any JSON value
    for step in path.split("."):
        spec = spec.get(step, {})
    return spec
