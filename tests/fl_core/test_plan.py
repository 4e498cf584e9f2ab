"""The same plan is the same bytes; another version's plan and unknown fields are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fl_core.errors import MismatchError, SpecError
from fl_core.plan import Plan, Program, Target, canonical

Build = Callable[..., Plan]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
configs = st.dictionaries(st.text(max_size=4), json_values, max_size=4)


def with_config(config: dict[str, Any]) -> Program:
    return Program(entrypoint="toy:task", framework="numpy", config=config)


@settings(deadline=None, max_examples=50)
@given(configs)
def test_a_plan_comes_back_from_its_text(plan: Build, config: dict[str, Any]) -> None:
    """Read and written again, a plan has the same bytes and the same digest, whatever the program's config."""
    made = plan(program=with_config(config))
    again = Plan.from_json(made.to_json())
    assert again.to_json() == made.to_json()
    assert again.digest == made.digest


@settings(deadline=None, max_examples=50)
@given(configs, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(config: dict[str, Any], random: Any) -> None:
    """Canonical JSON sorts keys, and says the same value as plain JSON does."""
    turned = list(config.items())
    random.shuffle(turned)
    assert canonical(dict(turned)) == canonical(config)
    assert json.loads(canonical(config)) == config


@settings(deadline=None, max_examples=50)
@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_float_is_a_whole_number(number: int) -> None:
    """1.0 is written as 1, at any depth, because the Kubernetes API server does so too."""
    assert canonical({"a": [float(number)]}) == canonical({"a": [number]}) == f'{{"a":[{number}]}}'


def test_a_plans_digest_does_not_know_float_from_int(plan: Build) -> None:
    """A config of 1.0 and one of 1 are the same plan."""
    one, other = (plan(program=with_config({"rate": rate})) for rate in (1.0, 1))
    assert one.digest == other.digest


def test_a_plan_of_an_earlier_version_keeps_its_digest(plan: Build) -> None:
    """Fields that plans did not always have are not in the text while they say nothing."""
    text = plan().to_json()
    assert not {"initial_model", "early_stopping"} & json.loads(text).keys()
    assert Plan.from_json(text).to_json() == text


def test_the_text_is_fixed() -> None:
    """No spaces, keys sorted, text as it is: this is what every digest of earlier runs stands on."""
    assert canonical({"b": 1.5, "a": ["é", None, True, -0.0]}) == '{"a":["é",null,true,0],"b":1.5}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_know_is_refused(value: float) -> None:
    """NaN and infinity have no canonical form."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": value})


def test_every_field_is_in_the_digest(plan: Build) -> None:
    """Plans that differ in one field are different plans."""
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 8},
        {"rounds": 4},
        {"target": Target(metric="loss", at_most=1)},
        {"evaluation_every": 2},
        {"workers": 4},
        {"ready_seconds": 61},
    ]
    assert len({plan(**change).digest for change in changes}) == len(changes)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("version",), 2, "version"),
        (("version",), 0, "version"),
        (("surprise",), 1, "surprise"),
        (("selection", "quorum"), 1, "selection.quorum"),
        (("selection", "on_shortfall", "action"), "Ignore", "'Retry', 'Skip' or 'Fail'"),
        (("rounds",), "many", "rounds"),
        (("ready_seconds",), float("inf"), "ready_seconds"),
        (("selection", "stall_seconds"), float("nan"), "selection.stall_seconds"),
    ],
)
def test_what_is_no_plan_of_this_version_is_refused(
    plan: Build, path: tuple[str, ...], value: object, told: str
) -> None:
    """Another version, unknown fields and wrong values are refused, and the message names the field."""
    rows = json.loads(plan().to_json())
    place = rows
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(MismatchError, match=told):
        Plan.from_json(json.dumps(rows))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["program.config.deep.0.rate", "strategy.options.mu"])
def test_a_number_that_is_not_finite_is_refused_anywhere(plan: Build, place: str, number: str) -> None:
    """Also where any JSON value may stand: such a plan has no digest."""
    rows = json.loads(plan().to_json())
    rows["program"]["config"] = {"deep": [{"rate": "X"}]} if place.startswith("program") else {}
    rows["strategy"]["options"] = {"mu": "X"} if place.startswith("strategy") else {}
    with pytest.raises(MismatchError, match=rf"plan\.{place} is -?(nan|inf); expected a finite number"):
        Plan.from_json(json.dumps(rows).replace('"X"', number))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"plan"', "{}"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    """Half a file is no plan."""
    with pytest.raises(MismatchError, match="not a plan of version 1"):
        Plan.from_json(text)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe{", b'{"version"'])
def test_a_file_that_cannot_be_read_says_so(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty, torn or binary file is the author's to mend, not a traceback."""
    if content is not None:
        (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(MismatchError, match="plan"):
        Plan.read(tmp_path / "plan.json")


def test_a_plan_is_not_changed(plan: Build) -> None:
    """No field of a plan can be assigned."""
    with pytest.raises(ValidationError, match="frozen"):
        plan().rounds = 9


@settings(deadline=None, max_examples=40)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False))
def test_a_target_is_reached_from_its_side(goal: float, value: float) -> None:
    """`at_least` is reached from below, `at_most` from above, and neither is reached by NaN."""
    assert Target(metric="m", at_least=goal).reached(value) == (value >= goal)
    assert Target(metric="m", at_most=goal).reached(value) == (value <= goal)
    assert not Target(metric="m", at_most=goal).reached(float("nan"))


def test_a_target_must_be_measured() -> None:
    """A program that measures other metrics than the target is refused, by their names; none says nothing."""
    target = Target(metric="auc", at_least=0.9)
    target.check(["loss", "auc"])
    target.check([])
    with pytest.raises(
        SpecError, match="spec.target.metric: 'auc' is not among .* metrics, accuracy, loss; name"
    ):
        target.check(["loss", "accuracy"])
