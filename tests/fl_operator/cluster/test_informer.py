"""A copy that stays like the original, whatever happens to the watch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_operator.cluster.errors import UnreachableError, refusal
from fl_operator.cluster.informer import Informer, Selection, trimmed
from fl_operator.cluster.resources import CONFIG_MAPS, Key

Scene = Callable[..., None]


def key(name: str) -> Key:
    return Key("default", name)


def test_list_then_watch(scene: Scene) -> None:
    """What was there comes first, then every change; handlers get both ends of each."""

    async def play(world: Any) -> None:
        world.api.config_map("a", x="1")
        await world.informer.synced.wait()
        assert world.news() == [("came", "a")]
        world.api.config_map("a", x="2")
        path = world.api.config_map("b")
        world.api.drop(path)
        await world.until(lambda: len(world.heard) == 3)
        assert world.heard[0][0]["data"] == {"x": "1"}
        assert world.news() == [("changed", "a"), ("came", "b"), ("went", "b")]

    scene(play)


def test_one_request_for_list_and_watch(scene: Scene) -> None:
    """A quiet, healthy informer asks once, for a streamed list with bookmarks."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        [request] = world.api.requests
        assert (request.path, request.query["sendInitialEvents"]) == ("/api/v1/configmaps", "true")
        assert (request.query["allowWatchBookmarks"], request.query["resourceVersionMatch"]) == (
            "true",
            "NotOlderThan",
        )
        assert 300 <= int(request.query["timeoutSeconds"]) < 600
        assert "resourceVersion" not in request.query

    scene(play)


def test_resumes_where_it_was(scene: Scene, unreachable: Exception) -> None:
    """A broken watch goes on from the last version it saw, bookmarks included, without a new list."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        world.api.version = 500
        world.api.tell(world.api.bookmark())
        world.api.tell(unreachable)
        await world.until(lambda: len(world.api.requests) == 2)
        query = world.api.requests[1].query
        assert query["resourceVersion"] == "500"
        assert "sendInitialEvents" not in query
        assert world.restarted() == {"Unreachable": 1}

    scene(play)


@pytest.mark.parametrize("way", ["event", "answer"])
def test_gone_starts_over(scene: Scene, way: str) -> None:
    """After a 410, as an event or as an answer, the list comes anew and handlers hear the differences only."""

    async def play(world: Any) -> None:
        for name in "abc":
            world.api.config_map(name, x="1")
        await world.informer.synced.wait()
        world.news()
        if way == "answer":
            world.api.failing.append(refusal("watch", code=410, status={}))
        world.api.tell(None)
        world.api.watches, old = [], world.api.watches
        world.api.drop(CONFIG_MAPS.path("default", "b"))
        world.api.config_map("c", x="2")
        world.api.config_map("d")
        world.api.watches = old
        world.api.compact()
        await world.same()
        assert sorted(world.news()) == [("came", "d"), ("changed", "c"), ("went", "b")]
        assert world.restarted()["Gone"] == 1

    scene(play)


def test_silence_is_an_end(scene: Scene) -> None:
    """A watch that says nothing for too long is begun again."""

    async def play(world: Any) -> None:
        await world.until(lambda: world.restarted().get("Unreachable", 0) >= 2)
        assert len(world.api.watches) <= 1

    scene(play, silence=0.03)


def test_backwards_is_not_believed(scene: Scene) -> None:
    """A watch whose versions fall is begun from scratch, so that nothing old overwrites what is new."""

    async def play(world: Any) -> None:
        world.api.config_map("a", x="old")
        await world.informer.synced.wait()
        stale = {
            "type": "MODIFIED",
            "object": {"metadata": {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "1"}},
        }
        world.api.config_map("a", x="new")
        world.api.tell(stale)
        await world.until(lambda: world.restarted().get("Disorder") == 1)
        await world.same()
        assert world.news() == [("came", "a"), ("changed", "a")]

    scene(play)


def test_twice_is_once(scene: Scene) -> None:
    """The same event again tells nobody anything."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        world.api.config_map("a")
        again = {"type": "ADDED", "object": world.api.objects[CONFIG_MAPS.path("default", "a")]}
        world.api.tell(again)
        world.api.config_map("b")
        await world.same()
        assert world.news() == [("came", "a"), ("came", "b")]
        assert world.restarted() == {}

    scene(play)


def test_a_version_alone_is_no_news(scene: Scene) -> None:
    """Where only what is not kept has changed nobody is told, and the copy has the new version."""

    async def play(world: Any) -> None:
        path = world.api.config_map("a", x="1")
        await world.informer.synced.wait()
        world.api.config_map("a", x="1")
        world.api.config_map("b")
        await world.same()
        assert world.news() == [("came", "a"), ("came", "b")]
        version = world.api.objects[path]["metadata"]["resourceVersion"]
        assert world.informer.cache.find(key("a"))["metadata"]["resourceVersion"] == version

    scene(play)


def test_another_of_the_same_name(scene: Scene) -> None:
    """An object that was replaced by another of its name while nobody looked went, and another came."""

    async def play(world: Any) -> None:
        path = world.api.config_map("a", x="first")
        await world.informer.synced.wait()
        watches, world.api.watches = world.api.watches, []
        world.api.drop(path)
        world.api.config_map("a", x="second")
        world.api.watches = watches
        world.api.compact()
        await world.same()
        assert world.news() == [("came", "a"), ("went", "a"), ("came", "a")]

    scene(play)


def test_own_writes_are_known_at_once(scene: Scene) -> None:
    """The answer to a write is in the copy before the watch tells of it; neither is news to who wrote."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        watches, world.api.watches = world.api.watches, []
        path = world.api.config_map("a", x="mine")
        world.informer.learn(world.api.objects[path])
        assert world.copied() == {"a": {"x": "mine"}}
        watches[0].put_nowait({"type": "ADDED", "object": world.api.objects[path]})
        world.api.watches = watches
        world.api.config_map("b")
        await world.same()
        assert world.news() == [("came", "b")]

    scene(play)


def test_an_own_write_of_which_the_watch_told_first_is_no_news(scene: Scene) -> None:
    """The watch may be quicker than the answer; what somebody else does meanwhile is told when the write is over."""

    async def play(world: Any) -> None:
        path = world.api.config_map("a", x="1")
        world.api.config_map("b", x="1")
        await world.informer.synced.wait()
        world.news()
        with world.informer.writing(key("a")), world.informer.writing(key("b")):
            world.api.config_map("a", x="mine")
            await world.same()
            world.informer.learn(world.api.objects[path])
            world.api.config_map("b", x="theirs")
            world.api.config_map("c")
            await world.same()
            assert world.news() == [("came", "c")]
        assert world.news() == [("changed", "b")]
        world.api.config_map("a", x="theirs")
        await world.same()
        assert world.news() == [("changed", "a")]

    scene(play)


def test_an_old_deletion_does_not_hide_what_came_after(scene: Scene) -> None:
    """An object that we created anew stays, when the watch tells only then that its predecessor went."""

    async def play(world: Any) -> None:
        path = world.api.config_map("a", x="first")
        await world.informer.synced.wait()
        watches, world.api.watches = world.api.watches, []
        world.api.drop(path)
        world.api.config_map("a", x="second")
        world.informer.learn(world.api.objects[path])
        for _, event in world.api.history[-2:]:
            watches[0].put_nowait(event)
        world.api.watches = watches
        world.api.config_map("b")
        await world.same()
        assert world.news() == [("came", "a"), ("came", "b")]

    scene(play)


def test_late_answers_do_not_raise_the_dead(scene: Scene) -> None:
    """The answer to a write that comes after the watch told of the deletion is not believed."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        path = world.api.config_map("a")
        answer = world.api.objects[path]
        world.api.drop(path)
        await world.until(lambda: len(world.heard) == 2)
        world.informer.learn(answer)
        assert world.copied() == {}

    scene(play)


def test_lists_that_break_off(scene: Scene, unreachable: Exception) -> None:
    """Half a list is no list: nothing counts as gone, and nobody is told that the copy is whole."""

    async def play(world: Any) -> None:
        world.api.failing = [unreachable, unreachable]
        world.api.config_map("a")
        await world.informer.synced.wait()
        assert world.news() == [("came", "a")]
        assert ["sendInitialEvents" in one.query for one in world.api.requests] == [True, True, True]

    scene(play)


def test_ends_at_once_are_no_loop(scene: Scene) -> None:
    """A server that ends every watch at once is asked again after waits that are drawn, never in a loop."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        for _ in range(3):
            asked = len(world.api.requests)
            world.api.tell(None)
            await world.until(lambda asked=asked: len(world.api.requests) > asked and world.api.watches)
        assert world.restarted() == {"Unreachable": 3}

    scene(play)


def test_projection_before_caching(scene: Scene) -> None:
    """What is not projected is never kept, and apiVersion and kind are there although lists lack them."""
    thing = {
        "metadata": {
            "name": "a",
            "managedFields": [1],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"},
        },
        "data": {"x": "1"},
    }
    assert trimmed(thing) == {
        "metadata": {"name": "a", "annotations": {"mine": "1"}},
        "data": {"x": "1"},
    }
    assert thing["metadata"]["managedFields"] == [1]

    async def play(world: Any) -> None:
        world.api.config_map("a", x="1")
        await world.informer.synced.wait()
        found = world.informer.cache.find(key("a"))
        assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")

    scene(play)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_the_copy_ends_like_the_original(scene: Scene, seed: int) -> None:
    """After any changes, breaks, 410s, repetitions and disorder, copy and handlers agree with the server."""
    draw = random.Random(seed)

    async def play(world: Any) -> None:
        told: dict[str, Any] = {}

        def follow(old: Any, new: Any) -> None:
            name = (new or old)["metadata"]["name"]
            assert told.get(name) == (old and old["metadata"]["resourceVersion"])
            told[name] = new and new["metadata"]["resourceVersion"]

        world.informer.handlers.append(follow)
        for _ in range(40):
            change(world.api, draw)
            spoil(world.api, draw)
            await asyncio.sleep(draw.choice([0, 0, 0, 0.001]))
        await world.same()
        held = {
            one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in world.api.objects.values()
        }
        assert {name: version for name, version in told.items() if version} == held

    scene(play)


def change(api: Any, draw: random.Random) -> None:
    name = draw.choice("abcd")
    path = CONFIG_MAPS.path("default", name)
    if path in api.objects and draw.random() < 0.4:
        api.drop(path)
    else:
        api.config_map(name, x=str(draw.random()))


def spoil(api: Any, draw: random.Random) -> None:
    match draw.randrange(12):
        case 0:
            api.compact()
        case 1:
            api.tell(UnreachableError("cut"))
        case 2:
            api.failing.append(UnreachableError("cut"))
        case 3:
            api.tell({"type": "ERROR", "object": {"code": 500}})
        case 4 | 5 if api.history:
            api.tell(draw.choice(api.history)[1])
        case 6:
            api.tell(api.bookmark())


def test_selectors_and_metadata(scene: Scene) -> None:
    """A label selector and PartialObjectMetadata are asked for; a namespace is in the path."""

    async def play(world: Any) -> None:
        await world.informer.synced.wait()
        selection = Selection(CONFIG_MAPS, namespace="team", labels="fljob.dev/job", metadata_only=True)
        informer = Informer(world.connection, selection, world.restarts)
        running = asyncio.create_task(informer.run())
        await informer.synced.wait()
        running.cancel()
        request = world.api.requests[-1]
        assert request.path == "/api/v1/namespaces/team/configmaps"
        assert request.query["labelSelector"] == "fljob.dev/job"
        assert "as=PartialObjectMetadata" in request.accept

    scene(play)
