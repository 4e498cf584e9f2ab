"""Real requests to a real server on this machine that answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry

from fl_operator.cluster import transport as transports
from fl_operator.cluster.errors import (
    ClusterError,
    ConflictError,
    ServerFailureError,
    TooManyRequestsError,
    UnreachableError,
)
from fl_operator.cluster.transport import Request, Transport
from fl_operator.metrics import ClientMetrics
from fl_operator.pace import TokenBucket

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class World:
    """A server whose answers are taken from a list, and a transport to it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bucket = TokenBucket(0, 1)
        self.answers: list[Answer] = []
        self.asked: list[tuple[web.Request, bytes]] = []
        self.transport: Transport

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request, await request.read()))
        return await (self.answers.pop(0) if self.answers else said(200, {}))(request)

    def metric(self, name: str, **labels: str) -> float | None:
        host = {"host": self.transport._label}
        return self.registry.get_sample_value(f"rest_client_{name}", {**labels, **host})


def said(code: int, body: Any, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=text, headers=named)

    return answer


def streamed(*parts: bytes | float) -> Answer:
    """Send bytes, sleep for numbers, then break the connection off."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            if isinstance(part, bytes):
                await response.write(part)
            else:
                await asyncio.sleep(part)
        if request.transport:
            request.transport.abort()
        return response

    return answer


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Play a scene with a server and a transport that found it by a kubeconfig."""

    async def main(play: Callable[[World], Awaitable[None]]) -> None:
        world = World()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", world.answer)
        runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        config = tmp_path / "config"
        config.write_text(yaml.safe_dump(kubeconfig(runner.addresses[0][1])), encoding="utf-8")
        metrics = ClientMetrics(world.registry)
        world.transport = await Transport.open(config, bucket=world.bucket, metrics=metrics)
        try:
            async with asyncio.timeout(20):
                await play(world)
        finally:
            await world.transport.close()
            await runner.cleanup()

    return lambda play: asyncio.run(main(play))


def kubeconfig(port: int) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


NEVER = 1e6
GET = Request("GET", "/api/v1/pods/a", query={"limit": "5"})
Run = Callable[[Callable[[World], Awaitable[None]]], None]


def test_a_request(run: Run) -> None:
    """Method, path, query, token, types and body arrive; the answer comes back; both are counted."""

    async def play(world: World) -> None:
        world.answers = [said(201, {"kind": "Pod"})]
        asked = Request("PATCH", "/x", query={"force": "true"}, body={"a": 1}, content_type=transports.APPLY)
        assert await world.transport.send(asked) == {"kind": "Pod"}
        [(request, body)] = world.asked
        assert (request.method, request.path_qs, json.loads(body)) == ("PATCH", "/x?force=true", {"a": 1})
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        assert request.headers["User-Agent"] == "fljob-operator"
        assert world.metric("requests_total", code="201", method="PATCH") == 1
        assert world.metric("request_duration_seconds_count", verb="PATCH") == 1

    run(play)


def test_refusals(run: Run) -> None:
    """A Status becomes its error, and something that is no Status a sentence with its beginning."""

    async def play(world: World) -> None:
        world.answers = [
            said(409, {"kind": "Status", "reason": "Conflict", "message": "changed"}),
            said(502, "<html>bad gateway</html>"),
        ]
        with pytest.raises(ConflictError, match="GET /api/v1/pods/a: .* Conflict: changed"):
            await world.transport.send(GET)
        with pytest.raises(ServerFailureError, match="bad gateway"):
            await world.transport.send(GET)
        assert world.metric("requests_total", code="409", method="GET") == 1

    run(play)


def test_retry_after(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that the server asks to wait for is sent again no sooner, and others wait with it."""
    monkeypatch.setattr(transports, "LONGEST_RETRY_AFTER", 0.2)

    async def play(world: World) -> None:
        world.answers = [said(429, {"reason": "TooManyRequests"}, Retry_After="1")]
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = asyncio.create_task(world.transport.send(GET))
        while world.transport._held_until < 0:
            await asyncio.sleep(0.001)
        await world.transport.send(GET)
        await first
        assert loop.time() - began >= 0.19
        assert len(world.asked) == 3
        assert world.metric("request_retries_total", code="429", verb="GET") == 1

    run(play)


def test_patience_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is always told to wait hears of it in the end, with the seconds to wait; the urgent at once."""
    monkeypatch.setattr(transports, "LONGEST_RETRY_AFTER", 0.01)

    async def play(world: World) -> None:
        world.answers = [said(429, {}, Retry_After="1") for _ in range(8)]
        with pytest.raises(TooManyRequestsError) as refused:
            await world.transport.send(GET)
        assert (len(world.asked), refused.value.retry_after) == (6, 1.0)
        with pytest.raises(TooManyRequestsError):
            await world.transport.send(Request("GET", "/x", urgent=True))
        assert len(world.asked) == 7

    run(play)


def test_our_own_pace(run: Run) -> None:
    """Requests go no faster than the bucket allows, the urgent ones excepted."""

    async def play(world: World) -> None:
        world.transport._bucket = TokenBucket(rate=20, burst=1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(world.transport.send(GET) for _ in range(5)))
        assert 0.19 <= loop.time() - began < 2
        began = loop.time()
        await asyncio.gather(*(world.transport.send(Request("GET", "/x", urgent=True)) for _ in range(5)))
        assert loop.time() - began < 0.1
        assert (world.metric("rate_limiter_duration_seconds_sum", verb="GET") or 0) >= 0.4

    run(play)


def test_waits_for_a_place_are_measured(run: Run) -> None:
    """As those for the rate are, and apart from what the API server takes."""

    async def play(world: World) -> None:
        places = world.transport._places = asyncio.Semaphore(1)
        async with places:
            sent = asyncio.create_task(world.transport.send(GET))
            await asyncio.sleep(0.3)
        await sent
        waited = world.metric("rate_limiter_duration_seconds_sum", verb="GET") or 0
        assert waited >= 0.25
        assert (world.metric("request_duration_seconds_sum", verb="GET") or 0) < waited

    run(play)


def test_so_many_at_once(run: Run) -> None:
    """Requests wait for one another where there are many, but neither watches nor the urgent for them."""

    async def play(world: World) -> None:
        world.transport._places = asyncio.Semaphore(2)
        world.answers = [streamed(NEVER), streamed(NEVER)]
        waiting = [asyncio.create_task(world.transport.send(GET)) for _ in range(5)]
        while len(world.asked) < 2:
            await asyncio.sleep(0.01)
        await world.transport.send(Request("GET", "/x", urgent=True))
        assert [line async for line in world.transport.lines(GET)] == [{}]
        assert [request.path for request, _ in world.asked] == [GET.path, GET.path, "/x", GET.path]
        for task in waiting[:2]:
            task.cancel()
        assert await asyncio.gather(*waiting[2:]) == [{}, {}, {}]

    run(play)


@pytest.mark.parametrize("way", ["cut", "no JSON", "silent", "refused"])
def test_no_whole_answer(run: Run, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """An answer that breaks off, is no JSON or does not come at all is one and the same: unreachable."""
    monkeypatch.setattr(transports, "REQUEST_SECONDS", 0.2)

    async def play(world: World) -> None:
        ways = {"cut": streamed(b'{"kind":'), "no JSON": said(200, "hello"), "silent": streamed(1.0)}
        world.answers = [ways.get(way, said(200, {}))]
        if way == "refused":
            world.transport._host = "http://127.0.0.1:1"
        with pytest.raises(UnreachableError, match="GET /api/v1/pods/a: "):
            await world.transport.send(GET)
        assert world.metric("requests_total", code="<error>", method="GET") == 1

    run(play)


def test_lines(run: Run) -> None:
    """A stream gives its lines as they come, whatever pieces they come in, and says when it broke."""

    async def play(world: World) -> None:
        world.answers = [streamed(b'{"a": 1}\n{"a"', 0.05, b': 2}\n{"a": 3')]
        lines = world.transport.lines(GET)
        assert [await anext(lines), await anext(lines)] == [{"a": 1}, {"a": 2}]
        with pytest.raises(UnreachableError, match="no whole answer"):
            await anext(lines)
        assert world.asked[0][0].headers["Accept-Encoding"] == "identity"
        assert world.metric("requests_total", code="200", method="GET") == 1

    run(play)


def test_long_lines(run: Run) -> None:
    """An object as large as etcd takes comes through in one line."""

    async def play(world: World) -> None:
        world.answers = [streamed(json.dumps({"a": "x" * 3_000_000}).encode() + b"\n", 0.05)]
        lines = world.transport.lines(GET)
        assert len((await anext(lines))["a"]) == 3_000_000
        await lines.aclose()

    run(play)


def test_refused_streams(run: Run) -> None:
    """A watch that is refused raises as any request does."""

    async def play(world: World) -> None:
        world.answers = [said(503, {}, Retry_After="3")]
        with pytest.raises(ServerFailureError) as refused:
            await anext(world.transport.lines(GET))
        assert refused.value.retry_after == 3

    run(play)


def test_no_cluster(tmp_path: Path) -> None:
    """Without a cluster to be found, a sentence says where it was looked for."""
    bucket, metrics = TokenBucket(0, 1), ClientMetrics(CollectorRegistry())
    broken = tmp_path / "config"
    broken.write_text("clusters: 5", encoding="utf-8")
    for where, said in ((None, "a pod's service account"), (broken, "the kubeconfig")):
        with pytest.raises(ClusterError, match=f"cannot find a cluster by {said}"):
            asyncio.run(Transport.open(where, bucket=bucket, metrics=metrics))
