"""What the API server says of a job's pod templates and of its claim, before anything of the job is made.

The schema keeps any field in a template; which ones pods have, and what may stand there, only the API server knows.
So it is with the storage class that a claim gets which names none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from fl_operator.attempt import Attempt
from fl_operator.cluster.errors import ClusterError
from fl_operator.cluster.resources import Object
from job_generator.names import ROLE, SITE
from job_generator.overlay import KEYS
from job_generator.problems import InvalidJobError, Problem, dotted
from job_generator.schema import Path
from job_generator.settings import Settings

IN_JOB: Final = ("spec", "template")
OF_METADATA: Final = ("labels", "annotations")
"""Fields that the API server names without the `metadata` in which they are."""

UNCLASSED: Final = Problem(
    ("spec", "server", "storage"),
    "names no storage class, and the cluster has no default: give it one, or submit the job with storageClassName, "
    'existingClaim or uri; storageClassName: "" is for a volume that has no class either',
)

_UNKNOWN: Final = re.compile(r'unknown field "([^"]+)"')
_MISTYPED: Final = re.compile(r"cannot unmarshal (\S+) into Go struct field \w+\.(\S+) of type (\S+)")
_UNREAD: Final = "cannot be handled as a"
"""What the API server says of a body that it cannot read; admission, which comes after that, does not say it."""
_STEPS: Final = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True)
class Trial:
    """A Job into which an author wrote: where their template stands in the FLJob, the template, and the Job."""

    path: Path
    template: Mapping[str, Any]
    job: Object


def trials(attempt: Attempt, spec: Mapping[str, Any]) -> tuple[Trial, ...]:
    """The Jobs that the API server is asked about: those of roles that have a template."""
    jobs = [child for child in attempt.children if child["kind"] == "Job"]
    found = ((_path(job["metadata"]["labels"], spec), job) for job in jobs)
    return tuple(Trial(path, own, job) for path, job in found if (own := _at(spec, path[1:])))


def trials_of_all(settings: Settings, namespace: str) -> tuple[Trial, ...]:
    """The Jobs of a job that has no template itself, with that which the operator lays below those of all jobs."""
    program = {"entrypoint": "program:task"}
    spec = {"program": program, "rounds": 1, "workers": {"replicas": 1}}
    metadata = {"name": "template-trial", "namespace": namespace, "uid": str(UUID(int=0))}
    made = Attempt.render({"metadata": metadata, "spec": spec}, settings, number=1).children
    jobs = (_unowned(child) for child in made if child["kind"] == "Job")
    return tuple(Trial((), settings.template, job) for job in jobs) if settings.template else ()


def _unowned(thing: Object) -> Object:
    metadata = {name: value for name, value in thing["metadata"].items() if name != "ownerReferences"}
    return {**thing, "metadata": metadata}


def unclassed(attempt: Attempt) -> Object | None:
    """The claim of the server's storage where it names no storage class, and gets the default from the API server."""
    claims = (child for child in attempt.children if child["kind"] == "PersistentVolumeClaim")
    return next((claim for claim in claims if "storageClassName" not in claim["spec"]), None)


def problems(trial: Trial, refused: ClusterError) -> Iterator[Problem]:
    """What the author of a template must change, by what the API server said of the Job; nothing where it names no
    field and could read it: then it was a policy that denied it, which may be another's to change.
    """
    if unknown := _UNKNOWN.findall(refused.said):
        for field in unknown:
            yield _problem(trial, field, "there is no such field")
    elif refused.causes:
        for field, message in refused.causes:
            yield _problem(trial, field, message)
    elif mistyped := _MISTYPED.search(refused.said):
        seen, field, wanted = mistyped.groups()
        yield _problem(trial, field, f"a {seen} is not accepted; expected {wanted}")
    elif _UNREAD in refused.said:
        yield Problem(trial.path, refused.said)


def verdict(wrong: Sequence[Problem]) -> tuple[str, str]:
    """Reason and message for what was found wrong before anything was made."""
    told = str(InvalidJobError(wrong))
    if UNCLASSED in wrong:
        return "NoStorageClass", told
    return "InvalidSpec", f"{told}; suspend the job to change a template"


def _path(labels: Mapping[str, str], spec: Mapping[str, Any]) -> Path:
    """Where a Job's template would stand in the FLJob."""
    if (site := labels.get(SITE)) is not None:
        places = (place for place, one in enumerate(spec["sites"]) if one["name"] == site)
        return ("spec", "sites", next(places), "template")
    return ("spec", "workers" if labels[ROLE] == "worker" else labels[ROLE], "template")


def _problem(trial: Trial, field: str, message: str) -> Problem:
    steps = _steps(field)
    inner = steps[len(IN_JOB) :]
    if inner[:1] and inner[0] in OF_METADATA:
        inner = ("metadata", *inner)
    own = _authored(inner, trial.template, trial.job["spec"]["template"])
    if steps[: len(IN_JOB)] != IN_JOB or own is None:
        return Problem(trial.path, f"{dotted(steps)} of the Job that comes of it: {message}")
    return Problem((*trial.path, *own), message)


def _steps(field: str) -> Path:
    found = (index or name for index, name in _STEPS.findall(field))
    return tuple(int(step) if step.isdecimal() else step for step in found)


def _authored(path: Path, own: Any, made: Any) -> Path | None:  # noqa: ANN401 - any JSON values
    """A path in the pod as one in the template that was laid over it; None where it leads to an item of ours."""
    told: list[str | int] = []
    for step in path:
        place: str | int | None = step
        if isinstance(step, int):
            place = _place(own, made, step, key=KEYS.get(str(told[-1])) if told else None)
        if place is None:
            return None
        told.append(place)
        own, made = _at(own, (place,)), _at(made, (step,))
    return tuple(told)


def _place(own: Any, made: Any, step: int, *, key: str | None) -> int | None:  # noqa: ANN401 - any JSON values
    """Where an item of the pod's list stands in the template's; lists without a key were replaced as a whole."""
    if key is None:
        return step
    name = (_at(made, (step,)) or {}).get(key)
    names = [one.get(key) for one in own] if isinstance(own, list) else []
    return names.index(name) if name in names else None


def _at(value: Any, path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """What lies at a path; None where nothing does."""
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
