"""What each verb asks of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import AlreadyExistsError, ConflictError, NotFoundError
from fl_operator.cluster.resources import CONFIG_MAPS, JOBS, Key

A = Key("default", "a")
THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "a"}}
PATH = "/api/v1/namespaces/default/configmaps"


def ask(memory: Any, asked: Awaitable[Any]) -> Any:
    """The request that was sent last, and the answer."""

    async def answer() -> Any:
        return await asked

    answered = asyncio.run(answer())
    return memory.requests[-1], answered


def test_create_read_and_again(memory: Any) -> None:
    """What was created is read; creating it again is refused."""
    connection = Connection(memory)
    request, created = ask(memory, connection.create(THING))
    own = {"fieldManager": "fljob-operator"}
    assert (request.method, request.path, request.query) == ("POST", PATH, own)
    assert ask(memory, connection.read(CONFIG_MAPS, A))[1] == created
    with pytest.raises(AlreadyExistsError):
        ask(memory, connection.create(THING))


def test_only_a_trial_is_strict(memory: Any) -> None:
    """What an older operator rendered is made as far as the API server knows its fields; a trial asks about each."""
    request, _ = ask(memory, Connection(memory).create(THING, dry=True))
    strict = {"fieldManager": "fljob-operator", "dryRun": "All", "fieldValidation": "Strict"}
    assert (request.query, memory.objects) == (strict, {})


def test_apply(memory: Any) -> None:
    """Server-side apply names us as the manager and wins over others."""
    request, _ = ask(memory, Connection(memory).apply(THING))
    assert (request.method, request.path) == ("PATCH", f"{PATH}/a")
    assert request.query == {"fieldManager": "fljob-operator", "force": "true"}
    assert (request.content_type, request.body) == ("application/apply-patch+yaml", THING)


def test_replacing_what_changed(memory: Any) -> None:
    """A replacement of a version that is no longer the newest is refused, and so is one of a status."""
    connection = Connection(memory)
    _, known = ask(memory, connection.create(THING))
    ask(memory, connection.replace({**known, "data": {"x": "1"}}))
    for write in (connection.replace, connection.write_status):
        with pytest.raises(ConflictError):
            ask(memory, write(known))
    assert memory.requests[-1].path == f"{PATH}/a/status"


def test_delete(memory: Any) -> None:
    """A deletion takes dependants first and only the very object that was meant."""
    connection = Connection(memory)
    _, known = ask(memory, connection.create(THING))
    with pytest.raises(ConflictError):
        ask(memory, connection.delete(CONFIG_MAPS, A, uid="another"))
    request, _ = ask(memory, connection.delete(CONFIG_MAPS, A, uid=known["metadata"]["uid"]))
    assert request.body["propagationPolicy"] == "Foreground"
    assert request.body["preconditions"] == {"uid": known["metadata"]["uid"]}
    with pytest.raises(NotFoundError):
        ask(memory, connection.read(CONFIG_MAPS, A))


def test_pages() -> None:
    """Objects come from page after page until there is none."""

    class Pages:
        def __init__(self) -> None:
            self.requests: list[Any] = []

        async def send(self, request: Any) -> Any:
            self.requests.append(dict(request.query))
            number = len(self.requests)
            more = {"continue": "next"} if number < 3 else {}
            return {"items": [{"number": number}], "metadata": more}

    async def all_of(wire: Any) -> list[Any]:
        return [one async for one in Connection(wire).objects(JOBS, labels="a=b")]

    wire = Pages()
    assert asyncio.run(all_of(wire)) == [{"number": 1}, {"number": 2}, {"number": 3}]
    assert [query.get("continue", "") for query in wire.requests] == ["", "next", "next"]
    assert {query["labelSelector"] for query in wire.requests} == {"a=b"}


def test_urgent(memory: Any) -> None:
    """Requests of an urgent connection are marked, those of the one it came from are not."""
    connection = Connection(memory)
    memory.put("/version", {"metadata": {"name": "v"}})
    assert ask(memory, connection.urgent().document("/version"))[0].urgent
    assert not ask(memory, connection.document("/version"))[0].urgent
