"""What was changed in a live object, and what the API server only writes in another way."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fl_operator.drift import differs, projected, respelled

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.sampled_from(["1024Mi", "0.5", "same", 3, True]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)
WANTED = st.dictionaries(NAMES, VALUES, min_size=1)
SPELLINGS = {"1024Mi": "1Gi", "0.5": "500m"}


def stored(value: Any) -> Any:
    """A value as a server keeps it that has its own way to write, and fills in what is missing."""
    if isinstance(value, dict):
        return {**{name: stored(one) for name, one in value.items()}, "filled in": "by the server"}
    if isinstance(value, list):
        return [stored(one) for one in value]
    return SPELLINGS.get(value, value)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    return [path] if items is None else [leaf for step, one in items for leaf in leaves(one, (*path, step))]


@given(WANTED, st.data())
def test_another_way_of_writing_is_no_change_and_an_edit_is_one(wanted: Any, data: st.DataObject) -> None:
    """With the server's answer at hand its own copy does not differ; with any one value edited it does."""
    live = stored(wanted)
    answer = projected(wanted, live)
    assert not differs(wanted, respelled(live, wanted, answer))
    edited = deepcopy(live)
    *way, last = data.draw(st.sampled_from(leaves(wanted)))
    inner = edited
    for step in way:
        inner = inner[step]
    inner[last] = data.draw(st.sampled_from(["edited", "2Gi", 0, ["edited"]]))
    assert differs(wanted, respelled(edited, wanted, answer))


def test_a_field_that_the_server_does_not_keep_is_no_change() -> None:
    """One that it leaves out, as behind a feature that is off, is not missed; one that somebody removed is."""
    wanted = {"a": {"off": "x", "on": "1024Mi"}}
    answer = {"a": {"off": None, "on": "1Gi"}}
    assert not differs(wanted, respelled({"a": {"on": "1Gi"}}, wanted, answer))
    assert differs(wanted, respelled({"a": {}}, wanted, answer))
    assert differs(wanted, respelled({}, wanted, answer))


def test_what_else_changes_leaves_the_spelling_known() -> None:
    """A Job that is told to stop is not thereby one whose memory was changed."""
    before, after = {"suspend": False, "memory": "1024Mi"}, {"suspend": True, "memory": "1024Mi"}
    live = {"suspend": False, "memory": "1Gi"}
    told = respelled(live, after, {"suspend": True, "memory": "1Gi"})
    assert told == before
