"""The logs of several pods as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fl_core.errors import UnavailableError
from job_generator.cluster import pod_logs
from job_generator.cluster.connection import ForbiddenError, Request, SilentError
from job_generator.cluster.pod_logs import INDEX, PodLogs, process
from job_generator.names import ROLE, SITE


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_logs, "LOOK_SECONDS", 0.5)


def pod(name: str, role: str, *, restarts: int = 0, **labels: str) -> dict[str, Any]:
    state = {"containerStatuses": [{"name": "fl", "state": {"running": {}}, "restartCount": restarts}]}
    metadata = {"name": name, "namespace": "n", "uid": name, "labels": {ROLE: role, **labels}}
    return {"metadata": metadata, "status": state}


class Cluster:
    """Three pods, of which one has not begun, and their lines."""

    namespace = "n"
    restarts = 0
    lines_of = {  # noqa: RUF012 - nothing changes it
        "a": ['2026-01-01T00:00:01Z {"event": "one", "timestamp": "2026-01-01T00:00:01Z"}'],
        "b": ["2026-01-01T00:00:00Z plain", '2026-01-01T00:00:02Z {"event": "two", "round": 7}'],
    }

    def send(self, request: Request) -> Any:
        assert request.path.endswith("/pods")
        waiting = pod("c", "worker", **{INDEX: "1"}) | {"status": {}}
        return {
            "items": [pod("a", "server", restarts=self.restarts), pod("b", "worker", **{INDEX: "0"}), waiting]
        }

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:  # noqa: ARG002
        return iter(self.lines_of[request.path.split("/")[-2]])


def test_merged_by_time() -> None:
    """Lines come in the order of their time; a line that is no JSON has the time that the node gave it."""
    found = list(PodLogs(Cluster(), "digits", lambda _: True).entries())
    assert [(one.process, one.event, one.round) for one in found] == [
        ("worker-0", "plain", None),
        ("server", "one", None),
        ("worker-0", "two", 7),
    ]


class Lost(Cluster):
    """The same, where one pod's node is gone: its log breaks off after so many lines."""

    def __init__(self, lines: int = 0) -> None:
        self.left = lines

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        whole = super().lines(request, silence=silence)
        if request.path.split("/")[-2] == "a":
            return whole
        return self._broken(list(whole))

    def _broken(self, whole: list[str]) -> Iterator[str]:
        yield from whole[: self.left]
        raise UnavailableError("the node does not answer")


@pytest.mark.parametrize(
    ("lines", "told"),
    [(0, ["worker-0: !", "server: one"]), (1, ["worker-0: plain", "worker-0: !", "server: one"])],
)
def test_a_log_that_cannot_be_read_hides_no_other(lines: int, told: list[str]) -> None:
    """Where one pod's log breaks off, a warning stands at that place, and all others are whole."""
    found = list(PodLogs(Lost(lines), "digits", lambda _: True).entries())
    missing = "its log cannot be read: the node does not answer"
    assert [f"{one.process}: {one.event.replace(missing, '!')}" for one in found] == told
    assert [one.level for one in found if one.event == missing] == ["warning"]


def test_where_no_log_can_be_read_the_refusal_is_told() -> None:
    """A user without the right, or one pod alone that is lost, is an error and no line."""

    class Strict(Cluster):
        def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:  # noqa: ARG002
            raise ForbiddenError("you may not get pods/log")

    with pytest.raises(ForbiddenError, match="pods/log"):
        PodLogs(Strict(), "digits", lambda _: True).entries()
    with pytest.raises(UnavailableError, match="does not answer"):
        PodLogs(Lost(), "digits", lambda name: name == "worker-0").entries()


def test_followed_until_the_job_is_over() -> None:
    """Following yields each line once, and ends when the job does."""
    alive = iter([True, False])
    found = PodLogs(Cluster(), "digits", lambda name: name == "worker-0").follow(
        lambda: next(alive, False), say=print
    )
    assert [one.event for one in found] == ["plain", "two"]


def test_a_container_that_is_started_again_is_followed() -> None:
    """The log of a container that was started again in its pod is another one, and is followed too."""
    cluster = Cluster()

    def alive() -> bool:
        cluster.restarts += 1
        return cluster.restarts == 1

    found = PodLogs(cluster, "digits", lambda name: name == "server").follow(alive, say=print)
    assert [one.event for one in found] == ["one", "one"]


class Torn(Cluster):
    """The server's log alone, which breaks after each line, with an error or none; then its container ends."""

    def __init__(self, error: UnavailableError | None) -> None:
        self.error, self.asked, self.over = error, list[str](), False
        times = ("00:00:01.5", "00:00:01.500001", "00:00:02")
        self.written = [f"2026-01-01T{time}Z line {time}" for time in times]

    def send(self, request: Request) -> Any:
        only = super().send(request)["items"][0]
        only["status"]["containerStatuses"][0]["state"] = {"terminated" if self.over else "running": {}}
        return {"items": [only]}

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        assert silence is not None
        assert request.query is not None
        since = request.query.get("sinceTime", "")
        self.asked.append(since)
        of_that_second = [line for line in self.written if line[:19] >= since[:19]]
        fresh = 0
        for line in of_that_second:
            yield line
            fresh += line.split(" ")[0].rstrip("Z") > since.rstrip("Z")
            if fresh and not self.over:
                break
        if self.error and not self.over:
            raise self.error


@pytest.mark.parametrize("error", [None, SilentError("nothing comes"), UnavailableError("connection lost")])
def test_a_log_is_read_on_where_it_broke_off(error: UnavailableError | None) -> None:
    """No line is lost and none comes twice; a break that brought something in between is told each time, once."""
    cluster = Torn(error)

    def alive() -> bool:
        cluster.over = len(cluster.asked) > 4
        return not cluster.over or len(cluster.asked) < 6

    found = [one.event for one in PodLogs(cluster, "digits", lambda _: True).follow(alive, say=print)]
    lines = ["line 00:00:01.5", "line 00:00:01.500001", "line 00:00:02"]
    assert [one for one in found if one.startswith("line")] == lines
    told = [one for one in found if not one.startswith("line")]
    loud = error is not None and not isinstance(error, SilentError)
    assert told == ["its log cannot be read: connection lost"] * (len(lines) if loud else 0)
    written = [line.split(" ")[0] for line in cluster.written]
    assert cluster.asked[:4] == ["", *written]


def test_an_api_server_that_falls_silent_ends_nothing() -> None:
    """It is told once, and the lines that come afterwards are shown."""
    answers = iter([UnavailableError("no answer"), UnavailableError("no answer"), True])

    def alive() -> bool:
        answer = next(answers, False)
        if isinstance(answer, UnavailableError):
            raise answer
        return answer

    said: list[str] = []
    found = PodLogs(Cluster(), "digits", lambda name: name == "server").follow(alive, say=said.append)
    assert [one.event for one in found] == ["one"]
    assert said == ["no answer; it is asked again and again"]


def test_names() -> None:
    """A process is called as in a local run; a site by its name."""
    assert process(pod("a", "worker", **{INDEX: "3"})) == "worker-3"
    assert process(pod("a", "worker", **{SITE: "lab"})) == "worker-lab"
