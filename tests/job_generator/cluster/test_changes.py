"""A job as it changes, over connections that break, fall silent, or name a version that is too old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from fl_core.errors import UnavailableError
from job_generator.cluster.changes import FIRST_PAUSE, LONGEST_PAUSE, Changes
from job_generator.cluster.connection import AbsentError, ExpiredError, ForbiddenError, Request

TOO_OLD = {"kind": "Status", "code": 410, "message": "too old resource version"}


def job(version: int, uid: str = "u") -> dict[str, Any]:
    return {"metadata": {"name": "digits", "namespace": "n", "uid": uid, "resourceVersion": str(version)}}


def event(kind: str, body: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "object": body})


class Answers:
    """An API server: each connection brings these lines or errors, each reading of the job one of these."""

    namespace = "n"

    def __init__(self, *connections: list[Any], read: tuple[Any, ...] = ()) -> None:
        self.connections, self.read = list(connections), list(read)
        self.versions: list[str] = []
        self.pauses: list[float] = []
        self.said: list[str] = []

    def send(self, _: Request) -> Any:
        return self.read.pop(0)

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        assert request.query is not None
        assert silence is not None
        self.versions.append(request.query["resourceVersion"])
        for line in self.connections.pop(0):
            if isinstance(line, Exception):
                raise line
            yield line

    def changes(self) -> Iterator[Any]:
        return iter(Changes(self, job(1), self.said.append, self.pauses.append, lambda: 1.0))  # type: ignore[arg-type]


def versions(jobs: Iterator[Any], count: int) -> list[str]:
    return [one["metadata"]["resourceVersion"] for one in islice(jobs, count)]


def test_one_connection() -> None:
    """Every change comes over one connection, which begins where the first look ended; a bookmark is none."""
    server = Answers([event("MODIFIED", job(2)), event("BOOKMARK", job(7)), event("MODIFIED", job(8))])
    assert versions(server.changes(), 3) == ["1", "2", "8"]
    assert server.versions == ["1"]
    assert server.pauses == []


def test_it_goes_on_where_it_broke_off() -> None:
    """The next connection begins after the last version that was seen, also in a bookmark; half a line is no news."""
    bookmark, half = event("BOOKMARK", job(5)), event("MODIFIED", job(6))[:20]
    server = Answers([bookmark, half], [UnavailableError("cut")], [], [event("MODIFIED", job(6))])
    assert versions(server.changes(), 2) == ["1", "6"]
    assert server.versions == ["1", "5", "5", "5"]
    assert server.pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]


def test_a_silent_server_is_told_once() -> None:
    """However long it stays away the user is told once, and it is asked ever more rarely."""
    away = [[UnavailableError("away")] for _ in range(9)]
    server = Answers(
        *away, [event("MODIFIED", job(2)), UnavailableError("again")], [event("MODIFIED", job(3))]
    )
    assert versions(server.changes(), 3) == ["1", "2", "3"]
    assert server.said == ["away", "again"]
    assert server.pauses[-2:] == [LONGEST_PAUSE, FIRST_PAUSE]


@pytest.mark.parametrize("told", [event("ERROR", TOO_OLD), ExpiredError("too old")], ids=["event", "answer"])
def test_too_old(told: Any) -> None:
    """A version that the server has forgotten makes the job be read anew, and followed from there."""
    server = Answers([told], [event("MODIFIED", job(42))], read=(job(41),))
    assert versions(server.changes(), 3) == ["1", "41", "42"]
    assert server.versions == ["1", "41"]


@pytest.mark.parametrize(
    "server",
    [Answers([event("DELETED", job(2))]), Answers([event("ERROR", TOO_OLD)], read=(job(9, uid="another"),))],
    ids=["seen", "unseen"],
)
def test_deleted(server: Answers) -> None:
    """A job that is deleted ends the watching, also when another one took its name unseen."""
    with pytest.raises(AbsentError, match="FLJob digits was deleted"):
        list(server.changes())


def test_no_right() -> None:
    """Who may not watch is told so at once."""
    with pytest.raises(ForbiddenError, match="cannot watch"):
        list(Answers([ForbiddenError("cannot watch")]).changes())
