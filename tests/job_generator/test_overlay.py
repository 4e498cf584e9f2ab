from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_generator.overlay import KEYS, overlaid

SCALARS = st.none() | st.booleans() | st.integers(0, 9) | st.text("abc", max_size=2)
ITEMS = st.fixed_dictionaries(
    {"name": st.sampled_from("abc")}, optional={"image": SCALARS, "env": st.just([])}
)
VALUES = st.recursive(
    SCALARS | st.lists(ITEMS, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["spec", "containers", "x"]), inner, max_size=3),
    max_leaves=12,
)
MAPS = st.dictionaries(st.sampled_from(["metadata", "spec", "containers", "volumes"]), VALUES, max_size=3)


@pytest.mark.parametrize(
    ("below", "over", "result"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "d": 4}}, {"a": {"b": 1, "c": 3, "d": 4}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": 1}, {"a": {"b": None, "c": 2}}, {"a": {"c": 2}}),
        ({}, {"containers": [{"name": "x"}]}, {"containers": [{"name": "x"}]}),
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "b"}]},
        ),
    ],
)
def test_values(below: Any, over: Any, result: Any) -> None:
    """Maps merge, null removes, and every other value replaces."""
    assert overlaid(below, over) == result


def test_by_name() -> None:
    """Containers, volumes, env and mounts keep their order, change by their name, and new ones come last."""
    below = {
        "containers": [
            {"name": "fl", "image": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    over = {
        "containers": [
            {"name": "extra"},
            {
                "name": "fl",
                "env": [{"name": "Y", "value": "3"}, {"name": "Z"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            },
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "v"}],
    }
    merged = overlaid(below, over)
    assert [one["name"] for one in merged["containers"]] == ["fl", "extra"]
    fl = merged["containers"][0]
    assert fl["image"] == "a"
    assert fl["env"] == [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}, {"name": "Z"}]
    assert fl["volumeMounts"] == [{"name": "v", "mountPath": "/v"}]
    assert merged["volumes"] == [
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}},
        {"name": "v"},
    ]


def test_mounts_by_path() -> None:
    """A mount is known by its path, for a volume may be mounted twice."""
    below = {"volumeMounts": [{"mountPath": "/a", "name": "v"}, {"mountPath": "/b", "name": "v"}]}
    over = {"volumeMounts": [{"mountPath": "/b", "name": "w"}]}
    assert overlaid(below, over)["volumeMounts"] == [
        {"mountPath": "/a", "name": "v"},
        {"mountPath": "/b", "name": "w"},
    ]


def test_the_lists_that_merge() -> None:
    """Nothing else merges: a list of tolerations replaces the generated one."""
    assert set(KEYS) == {
        "containers", "initContainers", "ephemeralContainers", "volumes", "env", "imagePullSecrets", "volumeMounts",
    }  # fmt: skip


@given(below=MAPS, over=MAPS)
def test_nothing_is_changed(below: Any, over: Any) -> None:
    """Neither side is changed, and laying the same template on twice is laying it on once."""
    before = deepcopy((below, over))
    once = overlaid(below, over)
    assert (below, over) == before
    assert overlaid(once, over) == once


@given(below=MAPS)
def test_nothing_over(below: Any) -> None:
    """An empty template changes nothing."""
    assert json.dumps(overlaid(below, {})) == json.dumps(below)
