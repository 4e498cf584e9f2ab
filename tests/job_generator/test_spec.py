from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fl_core.aggregation import Robust, Rule
from fl_core.extensions import build, known, resolve
from fl_core.selection import Policy
from fl_core.stages import Stage
from fl_core.strategies import Strategy
from job_generator.choices import choice
from job_generator.problems import InvalidJobError
from job_generator.source import Document
from job_generator.spec import FLJob, Metadata, Program

Map = dict[str, Any]
PROTOCOLS = {
    "fl_core.strategies": Strategy,
    "fl_core.aggregation": Rule,
    "fl_core.selection": Policy,
    "fl_core.compression": Stage,
}
EXTENSIONS = [(name, within) for within in PROTOCOLS for name in known(within)]
OPTIONS = {"mu": 0.5, "learningRate": 0.25, "hostile": 1, "trim": 0.3}


@pytest.mark.parametrize(("name", "within"), EXTENSIONS)
def test_extensions(name: str, within: str) -> None:
    """Every strategy, rule, policy and stage can be named in a job, and what the Plan holds of it builds it."""
    kind = choice(name, within=within)
    wanted = {
        field.alias: OPTIONS[str(field.alias)]
        for field in kind.model_fields.values()
        if field.alias != "name"
    }
    extension = kind.model_validate({"name": name, **wanted}).extension()
    assert extension.name == name
    assert list(extension.options.values()) == list(wanted.values())
    robust = hasattr(resolve(name, within=within), "reduce")
    assert build(extension, within=within, protocol=Robust if robust else PROTOCOLS[within])


def test_somebody_elses_class(job_map: Callable[..., Map]) -> None:
    """A class of the user's own takes the fields beside its name as they stand, and is not imported."""
    own = {"name": "house.rules:Median", "window": 3, "deep": {"a": [1]}}
    extension = Document(job_map(aggregation=own)).job().spec.aggregation.extension()
    assert (extension.name, extension.options) == ("house.rules:Median", {"window": 3, "deep": {"a": [1]}})


@pytest.mark.parametrize("name", ["a", "a-1", "digits", "a" * 40])
def test_names(name: str) -> None:
    """A name is what Kubernetes takes, and short enough for the names made of it."""
    assert Metadata(name=name).name == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "-a", "a_b", "a.b", "a" * 41, "a\n", "é"])
def test_no_names(name: str) -> None:
    """What Kubernetes would refuse is refused here."""
    with pytest.raises(ValidationError):
        Metadata(name=name)


@pytest.mark.parametrize(
    "entrypoint", ["program", "program:", ":task", "a b:c", "a..b:c", "a:b.c", "1a:b", "a:b\n", "../a:b"]
)
def test_no_entrypoints(entrypoint: str) -> None:
    """An entrypoint is a module and a function and never a path."""
    with pytest.raises(ValidationError):
        Program(entrypoint=entrypoint)


@pytest.mark.parametrize(
    "values",
    [{"rounds": "20"}, {"rounds": 20.0}, {"rounds": True}, {"seed": 2**32}, {"workers": {"replicas": "4"}}],
)  # fmt: skip
def test_nothing_is_converted(job_map: Callable[..., Map], values: Map) -> None:
    """A text is no number and a number no truth: nothing is guessed."""
    with pytest.raises(InvalidJobError):
        Document(job_map(**values)).job()


def test_whole_numbers_where_fractions_are(a_job: Callable[..., FLJob]) -> None:
    """A number of seconds may be written without a point."""
    assert a_job(selection={"joinSeconds": 5}).spec.selection.join_seconds == 5.0


def test_frozen(a_job: Callable[..., FLJob]) -> None:
    """A job does not change once it is read."""
    with pytest.raises(ValidationError, match="frozen"):
        a_job().spec.rounds = 3  # type: ignore[misc]


def test_one_spelling(job_map: Callable[..., Map]) -> None:
    """A field has one name, the one that a cluster keeps; Python's spelling is unknown."""
    for selection in ({"per_round": 2}, {"on_shortfall": {}}):
        with pytest.raises(InvalidJobError, match="there is no such field"):
            Document(job_map(selection=selection)).job()


def test_document(whole_map: Callable[..., Map]) -> None:
    """A job written out is the job that was read; nothing of its config is lost, not even a null in a list."""
    document = whole_map()
    document["spec"]["compression"] = []
    assert Document(document).job().document() == document


def test_written_out_is_complete(a_job: Callable[..., FLJob]) -> None:
    """A job written out shows the defaults that it runs with."""
    spec = a_job().document()["spec"]
    assert spec["strategy"] == {"name": "fedavg"}
    assert spec["selection"]["onShortfall"] == {"action": "Retry", "attempts": 3}
    assert "target" not in spec


def test_identified(a_job: Callable[..., FLJob]) -> None:
    """A job bound to a uid and a program differs in nothing else, and the first one stays as it was."""
    job = a_job()
    bound = job.identified(uid="4f0d", program="a" * 64)
    assert (bound.metadata.uid, bound.spec.program.sha256) == ("4f0d", "a" * 64)
    assert bound.identified(uid=None, program=None) == job


@given(st.integers(1, 100_000), st.integers(1, 100_000))
@settings(max_examples=50, deadline=None)
def test_quorum(job_map: Callable[..., Map], replicas: int, cohort: int) -> None:
    """The quorum is the smallest number that is at least two thirds of the cohort, where sums are not secure."""
    plain = {"enabled": False}
    text = json.dumps(
        job_map(workers={"replicas": replicas}, selection={"perRound": cohort}, secureAggregation=plain)
    )
    job = FLJob.model_validate_json(text)
    assert 3 * job.minimum >= 2 * job.per_round > 3 * (job.minimum - 1)
    assert job.per_round == cohort
