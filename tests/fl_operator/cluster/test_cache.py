"""Objects by place and by owner."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fl_operator.cluster.cache import Cache, Recent
from fl_operator.cluster.resources import Key, key_of


def nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values) | st.dictionaries(st.text(), values)


def thing(name: str, *owners: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "ownerReferences": [{"uid": uid} for uid in owners]}}


def test_found_and_forgotten() -> None:
    """What was put is found at its place, by its owners, and nowhere once it is removed."""
    cache = Cache()
    cache.put(thing("a", "x", "y"))
    assert cache.find(Key("n", "a")) == thing("a", "x", "y")
    assert cache.owned("y") == [thing("a", "x", "y")]
    for _ in range(2):
        cache.remove(Key("n", "a"))
        assert (cache.find(Key("n", "a")), cache.owned("x"), len(cache)) == (None, [], 0)


def test_what_was_not_used_for_long_is_packed() -> None:
    """It is found as it was; the newest are the very objects that were put."""
    cache = Cache(at_hand=2)
    things = {name: thing(name, "x") | {"data": {"text": f"{name} ünï" * 100}} for name in "abcd"}
    for one in things.values():
        cache.put(one)
    assert cache.find(Key("n", "d")) is things["d"]
    assert cache.find(Key("n", "a")) is not things["a"]
    assert cache.owned("x") == list(things.values())
    cache.put(thing("a"))
    for name in "bcd":
        cache.find(Key("n", name))
    assert cache.find(Key("n", "a")) == thing("a")


def test_what_objects_have_in_common_is_kept_once() -> None:
    """Objects that are much alike take a fraction of what each alone would, whoever came first; all are found."""
    draw = random.Random(7)
    cache, alike = Cache(at_hand=2), {"text": draw.randbytes(3000).hex()}
    things = [thing(f"{number:03}", "x") | {"data": {**alike, "own": str(number)}} for number in range(100)]
    for one in things:
        cache.put(one)
    assert cache.owned("x") == things
    assert sum(map(len, cache._packed.values())) < 0.1 * 100 * 3000


def test_a_version_alone_is_taken_over() -> None:
    """What else is as it was is found with its new version, packed or not; a thing that changed is not taken."""
    cache = Cache(at_hand=1)
    first, second = (versioned(thing(name, "x"), 1) for name in "ab")
    cache.put(first)
    cache.put(second)
    for one in (first, second):
        newer = versioned(one, 2)
        assert cache.renew(newer)
        assert cache.version(key_of(one)) == 2
        assert cache.find(key_of(one)) == newer
        assert not cache.renew({**newer, "data": {}})
        assert cache.find(key_of(one)) == newer
    assert not cache.renew(thing("c"))
    assert cache.version(Key("n", "c")) is None


def versioned(one: dict[str, Any], version: int) -> dict[str, Any]:
    return {**one, "metadata": {**one["metadata"], "resourceVersion": str(version)}}


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), nested)
)
def test_the_same_json_is_no_change(value: Any) -> None:
    """However an object was made, one that reads the same is recognised, and one with another value is not."""
    cache = Cache()
    cache.put({**thing("a"), "data": [value, value]})
    assert cache.renew({**thing("a"), "data": [value, json.loads(json.dumps(value))]})
    assert not cache.renew({**thing("a"), "data": [value, [value]]})


def test_recent_values() -> None:
    """Using a value keeps it; who goes is told."""
    gone: list[tuple[str, int]] = []
    recent = Recent[str, int](2, lambda key, value: gone.append((key, value)))
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert gone == [("b", 2)]
    recent.pop("a")
    recent.put("d", 4)
    assert (recent.get("a"), recent.get("c"), recent.get("d"), gone) == (None, 3, 4, [("b", 2)])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("xyz")), st.booleans())))
def test_the_index_is_what_a_search_finds(steps: list[tuple[str, set[str], bool]]) -> None:
    """After any changes, the objects by owner are those that a look at every object finds, in order."""
    cache, known = Cache(at_hand=1), {}
    for name, owners, stays in steps:
        if stays:
            known[name] = thing(name, *owners)
            cache.put(known[name])
        else:
            known.pop(name, None)
            cache.remove(Key("n", name))
    for uid in "xyz":
        searched = [known[name] for name in sorted(known) if uid in owners_of(known[name])]
        assert cache.owned(uid) == searched
    assert sorted(key.name for key in cache) == sorted(known)
    assert set(cache._owned) == {uid for one in known.values() for uid in owners_of(one)}


def owners_of(thing: dict[str, Any]) -> set[str]:
    return {owner["uid"] for owner in thing["metadata"]["ownerReferences"]}
