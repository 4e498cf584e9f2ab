"""What the API server says of a Job, as what the author of a template must change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fl_operator.attempt import Attempt
from fl_operator.cluster.errors import refusal
from fl_operator.trial import problems, trials, trials_of_all
from job_generator.settings import Settings

SITES = [{"name": "north"}, {"name": "south", "template": {"spec": {"dnsPolicy": "None"}}}]
TEMPLATE = {
    "spec": {
        "containers": [{"name": "aside", "image": "x"}, {"name": "fl", "env": [{"name": "A", "value": "b"}]}],
        "tolerations": [{"key": "gpu"}],
    }
}
SPEC: dict[str, Any] = {
    "program": {"entrypoint": "digits:task"},
    "rounds": 2,
    "server": {"template": {}},
    "workers": {"replicas": 2, "template": TEMPLATE},
    "sites": SITES,
}


def attempt(spec: dict[str, Any]) -> Attempt:
    metadata = {"name": "digits", "namespace": "lab", "uid": "u-1", "generation": 1}
    return Attempt.render({"metadata": metadata, "spec": spec}, Settings(), number=1)


def told(message: str, causes: list[dict[str, str]] | None = None) -> list[str]:
    """The problems of the workers' template, of which the API server says this."""
    trial = next(one for one in trials(attempt(SPEC), SPEC) if one.path[1] == "workers")
    status = {"reason": "Invalid", "message": message, "details": {"causes": causes or []}}
    return [str(problem) for problem in problems(trial, refusal("POST /x", code=422, status=status))]


def test_only_what_somebody_wrote_is_tried() -> None:
    """The Jobs of roles and sites that have a template, each with where that stands; of most jobs none."""
    paths = [trial.path for trial in trials(attempt(SPEC), SPEC)]
    assert paths == [("spec", "workers", "template"), ("spec", "sites", 1, "template")]
    bare = {name: SPEC[name] for name in ("program", "rounds")} | {"workers": {"replicas": 2}}
    assert trials(attempt(bare), bare) == ()


def test_the_template_of_all_jobs_is_tried_alone() -> None:
    """On each kind of Job, which nobody owns; what is wrong stands at its place in the template, at no job's."""
    template = {"spec": {"containers": [{"name": "fl", "env": [{"name": "A", "valve": "b"}]}]}}
    made = trials_of_all(replace(Settings(), template=template), "lab")
    assert [trial.job["metadata"]["name"].rpartition("-")[2] for trial in made] == [
        "scheduler",
        "server",
        "worker",
    ]
    assert all("ownerReferences" not in trial.job["metadata"] for trial in made)
    env = made[0].job["spec"]["template"]["spec"]["containers"][0]["env"]
    place = [one["name"] for one in env].index("A")
    field = f"spec.template.spec.containers[0].env[{place}].valve"
    status = {"message": f'strict decoding error: unknown field "{field}"'}
    [problem] = problems(made[0], refusal("POST /x", code=400, status=status))
    assert str(problem) == "spec.containers[0].env[0].valve: there is no such field"
    assert trials_of_all(Settings(), "lab") == ()


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("spec.template.spec.nodeSelektor", "spec.workers.template.spec.nodeSelektor"),
        ("spec.template.labels", "spec.workers.template.metadata.labels"),
        (
            "spec.template.spec.containers[0].env[9].valve",
            "spec.workers.template.spec.containers[1].env[0].valve",
        ),
        ("spec.template.spec.containers[1].image", "spec.workers.template.spec.containers[0].image"),
        (
            "spec.template.spec.tolerations[0].opperator",
            "spec.workers.template.spec.tolerations[0].opperator",
        ),
        (
            "spec.template.spec.containers[0].resources.limits[a.b/c]",
            "spec.workers.template.spec.containers[1].resources.limits.a.b/c",
        ),
    ],
)
def test_a_field_of_the_job_is_one_of_the_template(field: str, path: str) -> None:
    """Items that merge by their name are counted as the author did."""
    if "env[9]" in field:
        trial = next(one for one in trials(attempt(SPEC), SPEC) if one.path[1] == "workers")
        env = trial.job["spec"]["template"]["spec"]["containers"][0]["env"]
        field = field.replace("9", str([one["name"] for one in env].index("A")))
    assert told("no", [{"field": field, "message": "Required value"}]) == [f"{path}: Required value"]


@pytest.mark.parametrize("field", ["spec.completions", "spec.template.spec.volumes[0].name"])
def test_what_nobody_wrote_is_told_as_of_the_job(field: str) -> None:
    """What a template brought about elsewhere is told at the template, with the place in the Job."""
    said = told("no", [{"field": field, "message": "Invalid value"}])
    assert said == [f"spec.workers.template: {field} of the Job that comes of it: Invalid value"]


def test_fields_that_pods_do_not_have_are_told_one_by_one() -> None:
    """All at once, as the API server does."""
    said = 'strict decoding error: unknown field "spec.template.spec.a", unknown field "spec.template.b"'
    assert told(said) == [
        "spec.workers.template.spec.a: there is no such field",
        "spec.workers.template.b: there is no such field",
    ]


def test_what_is_not_understood_is_quoted() -> None:
    """In the API server's own words, at the template; a value of another type at its field."""
    unread = 'Job in version "v1" cannot be handled as a Job: quantities must match'
    assert told(unread) == [f"spec.workers.template: {unread}"]
    said = "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.a of type bool"
    assert told(said) == ["spec.workers.template.spec.a: a string is not accepted; expected bool"]


@pytest.mark.parametrize(
    ("said", "causes"),
    [
        (
            "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request",
            [{"message": "no spot"}],
        ),
        ('admission webhook "x" denied the request: no spot', []),
        ('admission webhook "x" does not support dry run', []),
    ],
)
def test_what_a_policy_is_against_is_not_the_authors(said: str, causes: list[dict[str, str]]) -> None:
    """Whatever code it is denied with; the Jobs are made, and made again when it has changed."""
    assert told(said, causes) == []
