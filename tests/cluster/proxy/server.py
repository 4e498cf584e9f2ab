"""A TLS proxy in front of a real API server that does to requests and watches what `faults.py` decides.

Who asks keeps its own credentials where these are tokens; else the proxy shows the client certificate of the
kubeconfig that it was given.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import ClientConnectionResetError, ClientSession, ClientTimeout, TCPConnector, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.proxy.faults import WRITES, Fault, Faults, Upset

DELAY_SECONDS = 0.5
LATE_SECONDS = 1.0
SLOW_PIECES = 20
HOP = {
    "connection",
    "host",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "accept-encoding",
}
ANSWERS = {
    Fault.CONFLICT: (409, "Conflict"),
    Fault.GONE: (410, "Expired"),
    Fault.TOO_MANY: (429, "TooManyRequests"),
    Fault.FAILURE: (500, "InternalError"),
}
GONE_EVENT = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "status": "Failure",
        "code": 410,
        "reason": "Expired",
        "message": "by the proxy",
    },
}


@dataclass(frozen=True, slots=True)
class Done:
    """A write that the API server has answered; a dry run is none."""

    method: str
    path: str
    status: int


class FaultProxy:
    """`async with FaultProxy(kubeconfig, faults) as proxy` serves; `proxy.kubeconfig` leads to it."""

    def __init__(self, kubeconfig: Path, faults: Faults, *, longest_stall: float | None = None) -> None:
        self.faults = faults
        self._longest_stall = longest_stall
        """Seconds after which what hangs breaks by itself, but for a partition."""
        self.log: list[tuple[str, str]] = []
        """Method and path of all requests that reached the API server; watches are `WATCH`."""
        self.heard: Callable[[Done], None] = lambda _: None
        """Called with each write that was answered, before who asked hears of it."""
        self._folder = tempfile.TemporaryDirectory(prefix="fault-proxy-")
        self.kubeconfig = Path(self._folder.name) / "kubeconfig"
        self._above = Upstream.read(kubeconfig, Path(self._folder.name))
        self._open = asyncio.Event()
        self._open.set()
        self._broken = asyncio.Event()
        """Set whenever everything that is open shall break."""

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(ssl=self._above.context, limit=0),
            auto_decompress=False,
            read_bufsize=2**21,
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        certificate = certificate_for_this_machine(Path(self._folder.name))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        port = self._runner.addresses[0][1]
        self.kubeconfig.write_text(
            yaml.safe_dump(config_for(port, certificate, self._above.token)), encoding="utf-8"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.reconnect()
        await self._runner.cleanup()
        await self._session.close()
        self._folder.cleanup()

    def writes(self) -> list[tuple[str, str]]:
        """The writes that reached the API server."""
        return [(method, path) for method, path in self.log if method in WRITES]

    def partition(self) -> None:
        """From now on nothing comes through, and nothing is answered."""
        self._open.clear()

    def reconnect(self) -> None:
        """End a partition; what hung breaks."""
        self._open.set()
        broken, self._broken = self._broken, asyncio.Event()
        broken.set()

    def calm(self) -> None:
        """Let everything through from now on; what hangs breaks."""
        self.faults.calm()
        self.reconnect()

    # -- one request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = "watch" in request.query
        fault = self.faults.on_request(request.method, request.path, watch=watch)
        if not self._open.is_set() or fault is Fault.STALL:
            return await self._hang(request)
        if fault is Fault.CUT_BEFORE:
            return _cut(request)
        if fault in ANSWERS:
            return _refusal(*ANSWERS[fault])
        if fault is Fault.DELAY:
            await asyncio.sleep(self.faults.pause(DELAY_SECONDS))
        try:
            return await (self._watch(request) if watch else self._pass(request, fault))
        except ClientConnectionResetError:  # who asked has gone
            return _cut(request)

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._longest_stall if self._open.is_set() else None):
                await self._broken.wait()
        return _cut(request)

    def _forward(self, request: web.Request, body: bytes, method: str) -> Any:
        self.log.append((method, request.path))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        headers["Accept-Encoding"] = "identity"  # events are lines only where nothing is compressed
        return self._session.request(
            request.method,
            f"{self._above.server}{request.path_qs}",
            data=body or None,
            headers=headers,
            timeout=ClientTimeout(total=None),
        )

    async def _pass(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        async with self._forward(request, await request.read(), request.method) as above:
            body = await above.read()
        if request.method in WRITES and "dryRun" not in request.query:
            self.heard(Done(request.method, request.path, above.status))
        if fault is Fault.CUT_AFTER:
            return _cut(request)
        if not self._open.is_set():
            return await self._hang(request)
        response = web.StreamResponse(status=above.status, headers=_kept(above.headers))
        response.content_length = len(body)
        await response.prepare(request)
        size = len(body) // SLOW_PIECES + 1 if fault is Fault.SLOW else len(body) or 1
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            if fault is Fault.SLOW:
                await asyncio.sleep(self.faults.pause(2 * DELAY_SECONDS / SLOW_PIECES))
        return response

    # -- one watch

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        async with self._forward(request, b"", "WATCH") as above:
            response = web.StreamResponse(status=above.status, headers=_kept(above.headers))
            await response.prepare(request)
            async for line, upset in self._lines(above):
                if upset is Upset.STALL or not self._open.is_set():
                    return await self._hang(request)
                if upset is Upset.CUT:
                    await response.write(line[: line.index(b"\n") // 2])
                    return _cut(request)
                if upset is Upset.GONE:
                    await response.write(json.dumps(GONE_EVENT).encode() + b"\n")
                    return response
                if upset is Upset.END:
                    return response
                if upset is Upset.DELAY:
                    await asyncio.sleep(self.faults.pause(DELAY_SECONDS))
                await response.write(line * (2 if upset is Upset.TWICE else 1))
        return response

    async def _lines(self, above: Any) -> AsyncIterator[tuple[bytes, Upset]]:
        """The lines of a watch, with what happens to each; a late one comes after the next, or after a while.

        Both in one piece: that the next one comes and the late one never does is what no server can do to us.
        """
        late = b""
        reading = asyncio.ensure_future(above.content.readline())
        try:
            while True:
                await asyncio.wait({reading}, timeout=LATE_SECONDS if late else None)
                if not reading.done():
                    yield late, Upset.NONE
                    late = b""
                elif line := reading.result():
                    reading = asyncio.ensure_future(above.content.readline())
                    upset = self.faults.on_event()
                    if upset is Upset.LATE and not late:
                        late = line
                    else:
                        yield line + late, upset
                        late = b""
                else:
                    return
        finally:
            reading.cancel()


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _refusal(code: int, reason: str) -> web.Response:
    status = {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": "by the proxy",
    }
    headers = {"Retry-After": "1"} if code == HTTPStatus.TOO_MANY_REQUESTS else {}
    return web.json_response(status, status=code, headers=headers)


def _kept(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP}


class Upstream:
    """The API server behind the proxy, and how it is spoken to."""

    def __init__(self, server: str, context: ssl.SSLContext, token: str | None) -> None:
        self.server, self.context, self.token = server, context, token

    @classmethod
    def read(cls, kubeconfig: Path, folder: Path) -> Upstream:
        """What a kubeconfig's current context says."""
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]

        def file(part: dict[str, str], name: str) -> str | None:
            if f"{name}-data" in part:
                path = folder / name
                path.write_bytes(base64.b64decode(part[f"{name}-data"]))
                return str(path)
            return str(kubeconfig.parent / part[name]) if name in part else None

        tls = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if certificate := file(user, "client-certificate"):
            tls.load_cert_chain(certificate, file(user, "client-key"))
        return cls(cluster["server"].rstrip("/"), tls, user.get("token"))


def _named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


def config_for(port: int, certificate: Path, token: str | None) -> dict[str, Any]:
    """A kubeconfig that leads to the proxy."""
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": cluster}],
        "users": [{"name": "proxy", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }


def certificate_for_this_machine(folder: Path) -> Path:
    """A key and a self-signed certificate of 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fault proxy")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "proxy.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
