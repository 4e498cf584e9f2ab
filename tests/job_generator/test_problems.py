from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import SpecError
from job_generator.compiler import compile_job
from job_generator.problems import InvalidJobError, Problem, dotted, shown
from job_generator.source import Document, parse

Map = dict[str, Any]
TOP = {"apiVersion", "kind", "metadata", "spec"}
OWN = "or a class of your own, package.module:Class"


def complaints(text: str) -> list[str]:
    """What is said about a job, one line each."""
    with pytest.raises(InvalidJobError) as caught:
        parse(text, name="job.yaml").job()
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: -1", "seed: -1 is not accepted; expected a whole number from 0 to 4294967295"),
        ("seed: 1.5", "seed: 1.5 is not accepted; expected a whole number from"),
        ("seed: '1'", 'seed: "1" is not accepted; expected a whole number from'),
        ("seed: true", "seed: true is not accepted; expected a whole number from"),
        ("server: null", "server: null is not accepted; expected a map"),
        ("evaluation: 3", "evaluation: 3 is not accepted; expected a map"),
        ("target: {metric: '', atLeast: 1}", 'target.metric: "" is not accepted; expected a text of 1 to 63'),
        ("target: {metric: a, atLeast: x}", 'target.atLeast: "x" is not accepted; expected a number'),
        ("preRunningDeadlineSeconds: 0", "preRunningDeadlineSeconds: 0 is not accepted; expected a number above 0 up"),
        ("selection: {joinSeconds: -1}", "selection.joinSeconds: -1 is not accepted; expected a number from 0 to"),
        ("compression: float16", 'compression: "float16" is not accepted; expected a list of at most 8'),
        ("strategy: fedavg", 'strategy: "fedavg" is not accepted; expected a map such as {name: fedavg}'),
        ("compression: [7]", "compression[0]: 7 is not accepted; expected a map such as {name: float16}"),
        ("strategy: {mu: 1}", f"strategy.name: is missing; expected fedavg, fedprox, fedsgd {OWN}"),
        ("strategy: {name: [1]}", f"strategy.name: [1] is unknown; expected fedavg, fedprox, fedsgd {OWN}"),
        ("strategy: {name: 'a b:c'}", 'strategy.name: "a b:c" is not accepted; expected a text of at most 253'),
        ("strategy: {name: fedprox}", "strategy.mu: is missing; expected a number of at least 0"),
        ("strategy: {name: fedsgd}", "strategy.learningRate: is missing; expected a number above 0"),
        ("strategy: {name: fedavg, fedavg: 1}", "strategy.fedavg: there is no such field; expected name"),
        ("strategy: {name: fedavg, mu: 1}", "strategy.mu: there is no such field; expected name"),
    ],
)  # fmt: skip
def test_each_kind(job_text: Callable[..., str], line: str, message: str) -> None:
    """Every kind of mistake names file and line, the YAML path, the value, and what is accepted."""
    found = complaints(job_text(f"  {line}"))
    assert len(found) == 1
    assert found[0].startswith(f"job.yaml:8: spec.{message}")


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("sede: 1", "seed"),
        ("Rounds: 1", "rounds"),
        ("selection: {per_round: 2}", "perRound"),
        ("evaluation: {everyrounds: 1}", "everyRounds"),
        ("strategy: {name: FedProx, mu: 1}", "fedprox"),
        ("strategy: {name: fedsgd, learningRate: 1, learning_rate: 1}", "learningRate"),
        ("compression: [{name: float61}]", "float16"),
        ("selection: {onShortfall: {action: retry}}", "Retry"),
    ],
)
def test_nearest(job_text: Callable[..., str], line: str, near: str) -> None:
    """A word that is nearly right is answered with the right one, also one in another case."""
    assert f"(did you mean {near}?)" in complaints(job_text(f"  {line}"))[0]


def test_nothing_near(job_text: Callable[..., str]) -> None:
    """A word that is like none gets no guess, but all that would be accepted."""
    found = complaints(job_text("  zzz: 1", "  aggregation: {name: zzz}"))
    assert "did you mean" not in "".join(found)
    assert "expected activeDeadlineSeconds, aggregation, " in found[0]
    assert found[0].endswith("suspendGraceSeconds, target, ttlSecondsAfterFinished or workers")
    assert found[1].endswith(
        f'spec.aggregation.name: "zzz" is unknown; expected krum, mean, median, trimmed_mean {OWN}'
    )


def test_metadata() -> None:
    """What stands beside the spec is checked as strictly, and with the same words."""
    fields = "annotations, labels, name, namespace or uid"
    text = "metadata: {name: Digits, labels: {a: 1}, colour: red}\nspec: 1\napiVersion: v1\nkind: Job\n"
    name, *others = complaints(text)
    assert name.startswith(
        'job.yaml:1: metadata.name: "Digits" is not accepted; expected a text of at most 40'
    )
    assert others == [
        "job.yaml:1: metadata.labels.a: 1 is not accepted; expected a text",
        f"job.yaml:1: metadata.colour: there is no such field; expected {fields}",
        "job.yaml:2: spec: 1 is not accepted; expected a map",
        'job.yaml:3: apiVersion: "v1" is not accepted; expected fljob.dev/v1alpha1',
        'job.yaml:4: kind: "Job" is not accepted; expected FLJob',
    ]


def test_all_at_once(job_text: Callable[..., str]) -> None:
    """One look at a job finds all of its mistakes, fields and rules, in the order of their lines."""
    text = job_text("  evaluation: {everyRounds: 0}", "  sede: 1", rounds=0, selection__minimum=9)
    places = [line.split(": ")[:2] for line in complaints(text)]
    assert places == [
        ["job.yaml:6", "spec.rounds"],
        ["job.yaml:8", "spec.selection.minimum"],
        ["job.yaml:9", "spec.evaluation.everyRounds"],
        ["job.yaml:10", "spec.sede"],
    ]


def test_missing(job_text: Callable[..., str]) -> None:
    """A field that is missing is shown at the map that it is missing from."""
    found = complaints(job_text(rounds=None, program={"framework": "numpy"}))
    assert found[0].startswith("job.yaml:4: spec.rounds: is missing; expected a whole number from 1 to")
    assert found[1].startswith("job.yaml:5: spec.program.entrypoint: is missing; expected a text")


def test_words() -> None:
    """A path is written as people write it, and a long value is cut."""
    assert dotted(("spec", "compression", 0, "name")) == "spec.compression[0].name"
    assert shown("é" * 100) == '"' + "é" * 59 + "…"
    assert str(Problem(("a",), "is wrong")) == "a: is wrong"
    assert str(InvalidJobError([Problem(("a",), "x", "f:1"), Problem((), "y")])) == "f:1: a: x\ny"
    assert InvalidJobError([]).exit_code == 65


# -- any value at any place


def paths_of(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in pairs:
        yield from paths_of(inner, (*path, step))


def with_value(document: Any, path: tuple[int | str, ...], value: Any) -> Any:
    """A copy with another value at this path."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = with_value(document[path[0]], path[1:], value)
    return copy


WORDS = st.sampled_from(
    ["name", "fedavg", "fedprox", "installed", "mu", "a:B", "float16", "metric", "atLeast", "", "<<", "perRound"]
)  # fmt: skip
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_any_value_anywhere(whole_map: Callable[..., Map], data: st.DataObject) -> None:
    """Whatever stands at whatever place: the job is good, or every problem is at a place of the job."""
    good = whole_map()
    path = data.draw(st.sampled_from([path for path in paths_of(good) if path]))
    document = with_value(good, path, data.draw(ANY))
    for problem in problems_of(document):
        assert problem.path[0] in TOP
        assert problem.path[0] != "spec" or path[0] == "spec"
        assert "expected" in problem.message


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_field_anywhere(whole_map: Callable[..., Map], data: st.DataObject) -> None:
    """A field more in any map is told by its own path, or is one that its map takes."""
    good = whole_map()
    maps = [path for path in paths_of(good) if isinstance(at(good, path), dict)]
    path, name = data.draw(st.sampled_from(maps)), data.draw(WORDS | st.just("apiVersion"))
    document = with_value(good, path, {**at(good, path), name: data.draw(ANY)})
    wrong = [problem.path for problem in problems_of(document)]
    assert not wrong or name == "name" or any(one[: len(path)] == path for one in wrong)


def problems_of(document: Any) -> tuple[Problem, ...]:
    """What is wrong with a job: nothing, or at least one thing."""
    try:
        compile_job(Document(document).job())
    except InvalidJobError as error:
        return error.problems or (Problem((), "an error without a problem"),)
    return ()


def at(value: Any, path: tuple[int | str, ...]) -> Any:
    """What stands at this path."""
    for step in path:
        value = value[step]
    return value


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | ANY.map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_any_text(text: str) -> None:
    """Whatever a file holds is a job or a SpecError, never another exception."""
    with contextlib.suppress(SpecError):
        assert parse(text, name="job.yaml").job().metadata.name
