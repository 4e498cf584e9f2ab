"""Requests to the API server over the official client's connection pool: paced, counted, with typed errors."""

from __future__ import annotations

import asyncio
import json
import time
from asyncio import sslproto
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from fl_operator.cluster.errors import ClusterError, TransientError, UnreachableError, refusal
from fl_operator.pace import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fl_operator.cluster.resources import Object
    from fl_operator.metrics import ClientMetrics

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0
"""An admission webhook may take as long."""

_PLAIN = {"Accept-Encoding": "identity"}
"""The API server compresses watches, too, where it may: much work for small lines, and late ones."""

MOST_AT_ONCE = 16
"""Requests that wait for answers, watches and urgent ones aside; each has a connection, whose TLS takes 0.1 MB."""

READ_AHEAD = 1 << 17
"""Bytes that a connection holds for who reads it; what a busy process has not read yet waits in the kernel."""

TLS_BUFFER = 1 << 16
"""Bytes that a connection keeps for what comes next; asyncio's own measure is four times that."""

LONGEST_RETRY_AFTER = 60.0
MOST_RETRIES = 5
"""How often a request is sent again because the server asked for it; its caller hears of the next refusal."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    accept: str = JSON
    urgent: bool = False
    """Neither paced nor sent again: its caller knows better how long it can wait."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Transport:
    """The connections to one API server; `open` makes it, `close` ends it."""

    def __init__(
        self,
        pool: Any,  # noqa: ANN401 - the official package has no types
        *,
        bucket: TokenBucket,
        metrics: ClientMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._bucket = bucket
        self._metrics = metrics
        self._clock = clock
        self._host = str(pool.configuration.host)
        self._label = urlsplit(self._host).netloc
        self._held_until = float("-inf")
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    @classmethod
    async def open(cls, kubeconfig: Path | None, *, bucket: TokenBucket, metrics: ClientMetrics) -> Transport:
        """Find the cluster by a kubeconfig, or without one by the service account of this pod."""
        return cls(await _pool(kubeconfig), bucket=bucket, metrics=metrics)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def send(self, request: Request) -> Object:
        """The answer to a request; one of `errors.py` if it is refused or does not come."""
        retries = 0
        while True:
            asked = self._clock()
            await self._pace(request)
            try:
                async with nullcontext() if request.urgent else self._places:
                    self._held(request, since=asked)
                    return await self._once(request)
            except TransientError as error:
                if error.retry_after is None or request.urgent or retries >= MOST_RETRIES:
                    raise
                retries += 1
                self._metrics.retries.labels(error.code, request.method, self._label).inc()
                self._held_until = self._clock() + min(error.retry_after, LONGEST_RETRY_AFTER)

    async def lines(self, request: Request) -> AsyncGenerator[Object]:
        """The JSON lines of a streamed answer, as they come; how long to wait is the caller's affair."""
        from aiohttp import ClientTimeout  # noqa: PLC0415 - takes a second

        with _translated(request):
            timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            answer = await self._answer(request, timeout, **_PLAIN)
            async with answer, aclosing(_lines(answer.content.iter_any())) as lines:
                self._count(request, answer.status)
                await _accept(request, answer)
                async for line in lines:
                    yield json.loads(line)

    async def _pace(self, request: Request) -> None:
        if request.urgent:
            return
        now = self._clock()
        if (wait := max(self._bucket.reserve(now), self._held_until - now)) > 0:
            await asyncio.sleep(wait)

    def _held(self, request: Request, *, since: float) -> None:
        """Measure how long a request waited for us before it was sent."""
        if not request.urgent:
            self._metrics.throttled.labels(request.method, self._label).observe(self._clock() - since)

    async def _once(self, request: Request) -> Object:
        from aiohttp import ClientTimeout  # noqa: PLC0415 - takes a second

        start = self._clock()
        try:
            with _translated(request):
                timeout = ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
                answer = await self._answer(request, timeout)
                async with answer:
                    await _accept(request, answer)
                    found: Object = json.loads(await answer.read())
        except ClusterError as error:
            self._count(request, error.code)
            raise
        else:
            self._count(request, answer.status)
            return found
        finally:
            self._metrics.duration.labels(request.method, self._label).observe(self._clock() - start)

    async def _answer(self, request: Request, timeout: Any, **more: str) -> Any:  # noqa: ANN401, ASYNC109 - aiohttp's
        headers = {
            "Accept": request.accept,
            "Content-Type": request.content_type,
            "User-Agent": "fljob-operator",
            **await self._authorization(),
            **more,
        }
        query = f"?{urlencode(request.query)}" if request.query else ""
        url = f"{self._host}{request.path}{query}"
        sent = await self._pool.request(
            request.method, url, headers=headers, body=request.body, _request_timeout=timeout
        )
        return sent.response

    async def _authorization(self) -> dict[str, str]:
        """Who we are; the package reads a token that may have expired again."""
        token = (await self._pool.configuration.auth_settings()).get("BearerToken")
        return {"Authorization": token["value"].strip()} if token and token["value"] else {}

    def _count(self, request: Request, code: int) -> None:
        self._metrics.requests.labels(code or "<error>", request.method, self._label).inc()


async def _lines(parts: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """The lines of a text that comes in parts, however long they are; the last one may lack its end."""
    begun: list[bytes] = []
    async for part in parts:
        *ends, rest = part.split(b"\n")
        for end in ends:
            yield b"".join([*begun, end])
            begun.clear()
        begun.append(rest)
    if last := b"".join(begun):
        yield last


async def _accept(request: Request, answer: Any) -> None:  # noqa: ANN401 - aiohttp's
    """Raise the error that an answer is."""
    if answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return
    text = await answer.text(errors="replace")
    try:
        status = json.loads(text)
    except ValueError:
        status = {"message": text[:300].strip()}
    after = answer.headers.get("Retry-After", "")
    raise refusal(
        str(request),
        code=answer.status,
        status=status if isinstance(status, dict) else {},
        retry_after=float(after) if after.isdecimal() else None,
    )


@contextmanager
def _translated(request: Request) -> Iterator[None]:
    """Errors of the connection, and answers that break off, as our own."""
    from aiohttp import ClientError  # noqa: PLC0415 - takes a second
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415

    try:
        yield
    except TimeoutError as error:
        raise UnreachableError(f"{request}: the API server did not answer in time") from error
    except ConfigException as error:
        raise UnreachableError(f"{request}: our own credentials cannot be read: {error}") from error
    except (ClientError, OSError, ValueError) as error:
        cause = str(error) or type(error).__name__
        raise UnreachableError(f"{request}: no whole answer from the API server: {cause}") from error


def _proxy(host: str) -> str | None:
    """The proxy that the environment names for this host."""
    url = urlsplit(host)
    return None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)


async def _pool(kubeconfig: Path | None) -> Any:  # noqa: ANN401 - the official package has no types
    """The official client's connection pool, with its TLS, proxy and token settings."""
    from kubernetes.aio.client.configuration import Configuration  # noqa: PLC0415 - takes a second
    from kubernetes.aio.client.rest import RESTClientObject  # noqa: PLC0415
    from kubernetes.aio.config import (  # noqa: PLC0415
        ConfigException,
        load_incluster_config,
        load_kube_config,
    )

    sslproto.SSLProtocol.max_size = TLS_BUFFER
    configuration = Configuration()
    # Each watch keeps a connection, so that a limit could leave none for requests.
    configuration.connection_pool_maxsize = 0
    # As Go verifies: the authorities of many clusters lack what Python 3.13 began to require.
    configuration.disable_strict_ssl_verification = True
    # Otherwise the environment and ~/.netrc are read for every request; `_proxy` reads the former once.
    configuration.client_session_kwargs = {"trust_env": False, "read_bufsize": READ_AHEAD}
    try:
        if kubeconfig is None:
            load_incluster_config(configuration)
        else:
            await load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
        configuration.proxy = configuration.proxy or _proxy(configuration.host)
        return RESTClientObject(configuration)
    except (ConfigException, OSError, ValueError, TypeError) as error:
        source = f"the kubeconfig {kubeconfig}" if kubeconfig else "a pod's service account"
        raise ClusterError(f"cannot find a cluster by {source}: {error}") from error
