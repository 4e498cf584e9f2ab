"""What is generated for the chart is what git holds, and what it is made from is read rightly."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> Any:
    """The script."""
    spec = importlib.util.spec_from_file_location("helm_generate", ROOT / "helm" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


SOURCE = """\
# Of the file.

# What a is.
a: {x: 1}
b:
  # What c is,
  # on two lines.
  c: [1]
  # What d is.
  d:
    # Inside of d.
    e: 2
  f:
    # What g is.
    g: x
"""


def test_values_are_those_with_a_comment(generate: Any) -> None:
    """A comment makes a value a row, with its path and its default; what lies inside a row is none of its own."""
    assert [(one.path, one.default, one.text) for one in generate.values(SOURCE)] == [
        ("a", {"x": 1}, "What a is."),
        ("b.c", [1], "What c is, on two lines."),
        ("b.d", {"e": 2}, "What d is."),
        ("b.f.g", "x", "What g is."),
    ]


def test_every_value_is_documented(generate: Any) -> None:
    """Each value of the chart is in the table, by itself or as a part of one that is."""
    source = (ROOT / "helm/fljob/values.yaml").read_text()
    rows = {one.path for one in generate.values(source)}

    def leaves(tree: Any, path: str) -> list[str]:
        if path in rows or not isinstance(tree, dict) or not tree:
            return [path]
        return [leaf for name, value in tree.items() for leaf in leaves(value, f"{path}.{name}".lstrip("."))]

    assert set(leaves(yaml.safe_load(source), "")) == rows


def test_git_holds_what_is_generated(generate: Any, helm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart's copies, the pages and the manifests are what the script would write now."""
    monkeypatch.setenv("PATH", str(Path(helm).parent), prepend=":")
    written = generate.files()
    assert {"manifests/operator.yaml", "manifests/roles-for-people.yaml"} <= set(written)
    assert [name for name, text in written.items() if (ROOT / name).read_text() != text] == []


def test_the_manifests_are_the_chart_with_its_defaults(generate: Any, helm: str) -> None:
    """They bring a namespace that allows restricted pods only, and neither the definition nor a test."""
    objects = list(yaml.safe_load_all(generate.operator(helm)))
    assert objects[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    kinds = {one["kind"] for one in objects}
    assert {"Namespace", "Deployment", "Service", "ClusterRole", "NetworkPolicy"} <= kinds
    assert not kinds & {"CustomResourceDefinition", "Pod", "ConfigMap"}
    assert {one["metadata"].get("namespace", "fljob-system") for one in objects} == {"fljob-system"}


def test_the_roles_for_people_are_those_of_the_manifests(generate: Any, helm: str) -> None:
    """Who installs for some namespaces only gets the same two roles, and nothing else, from a file of their own."""
    alone = list(yaml.safe_load_all(generate.roles(helm)))
    assert [one["metadata"]["name"].rpartition("-")[2] for one in alone] == ["viewer", "editor"]
    whole = list(yaml.safe_load_all(generate.operator(helm)))
    assert [one for one in whole if one in alone] == alone
