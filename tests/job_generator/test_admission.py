from __future__ import annotations

import re
from typing import Any

import pytest

from job_generator.admission import FIT, LASTING, VALIDATIONS
from job_generator.crd import RULES as KEY
from job_generator.crd import crd
from job_generator.rules import RULES
from job_generator.validation import Validation, of_kinds

SPEC: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
PATH = re.compile(r"(?:self|oldSelf)((?:\.[a-z]\w*)+)(?!\w|\()")


def place(path: tuple[str, ...]) -> dict[str, Any]:
    """The schema on which a rule stands."""
    schema = SPEC
    for step in path:
        schema = schema["items"] if step == "[]" else schema["properties"][step]
    return schema


def exists(schema: dict[str, Any], path: str) -> bool:
    for step in path.strip(".").split("."):
        if step not in schema.get("properties", {}):
            return False
        schema = schema["properties"][step]
    return True


@pytest.mark.parametrize("one", VALIDATIONS, ids=lambda one: f"{'.'.join(one.at)}:{one.field}")
def test_fields_exist(one: Validation) -> None:
    """Each rule asks about fields of its map, and blames one of them: else the definition is refused."""
    schema = place(one.at)
    asked = {re.sub(r"\.(all|exists)$", "", path) for path in PATH.findall(f"{one.rule} {one.values}")}
    assert asked
    assert [path for path in asked if not exists(schema, path)] == []
    assert exists(schema, one.field)
    assert one.document() in schema[KEY]


@pytest.mark.parametrize("one", VALIDATIONS, ids=lambda one: f"{'.'.join(one.at)}:{one.field}")
def test_messages(one: Validation) -> None:
    """A message has a value for each %d, and beside it a sentence of its own for where they cannot be formatted."""
    document = one.document()
    assert one.message.count("%d") == len(
        [value for value in re.split(r",(?![^(]*\))", one.values) if value.strip()]
    )
    assert bool(one.plain) == bool(one.values) == ("messageExpression" in document)
    assert document["message"] == (one.plain or one.message)
    assert "%d" not in document["message"]
    assert not document["message"].startswith("it ")


def test_what_lasts() -> None:
    """Only rules about what cannot change look at the old job."""
    assert [one.field for one in FIT if "oldSelf" in one.rule] == []
    assert [one.field for one in LASTING if "oldSelf" not in one.rule] == []


def test_every_rule_is_in_both_languages() -> None:
    """What the generator refuses because fields do not fit, the API server refuses too."""
    blamed = {".".join(("spec", *one.at, one.field)) for one in FIT}
    blamed |= {path.rpartition(".")[0] for path in blamed}
    assert {rule.fields[0] for rule in RULES} - blamed == set()


def test_kinds() -> None:
    """A field belongs to the names that have it, and a name needs those without a default; own classes may all."""
    own, needed = of_kinds({"mu": ["fedprox"]}, {"fedavg": [], "fedprox": ["mu"]})
    assert own["rule"] == "!has(self.mu) || self.name in ['fedprox'] || self.name.contains(':')"
    assert needed["rule"] == "self.name != 'fedprox' || has(self.mu)"
    assert (own["message"], needed["message"]) == ("mu belongs to fedprox only", "fedprox needs mu")
    assert of_kinds({}, {"mean": []}) == []


def test_strategies() -> None:
    """The strategies of this version have their rules in the definition."""
    messages = {rule["message"] for rule in SPEC["properties"]["strategy"][KEY]}
    assert {"mu belongs to fedprox only", "fedprox needs mu", "fedsgd needs learningRate"} <= messages
