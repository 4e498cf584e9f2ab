"""What every process serves over HTTP: /metrics for Prometheus, /healthz and /readyz for Kubernetes."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, make_wsgi_app

ALIVE_SECONDS = 2.0
"""An event loop that does not answer for so long is not alive; it waits for nothing but events."""


@dataclass(slots=True)
class Health:
    """What the probes answer."""

    ready: bool = False
    alive: Callable[[], bool] = field(default=lambda: True)


def answering(loop: asyncio.AbstractEventLoop) -> Callable[[], bool]:
    """Whether this loop still carries out what it is given, for other threads to ask."""

    def ask() -> bool:
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return False
        return answered.wait(ALIVE_SECONDS)

    return ask


def tell_expiry(registry: CollectorRegistry, moment: dt.datetime) -> None:
    """Have Prometheus know when the process's certificate ends."""
    end = Gauge(
        "fl_certificate_expiry_timestamp_seconds",
        "When the certificate ends, in seconds since 1970.",
        registry=registry,
    )
    end.set(moment.timestamp())


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds; nobody reads their log lines."""


def serve(address: str, registry: CollectorRegistry, health: Health) -> str:
    """Answer at `host:port` (port 0: any free one) in a daemon thread; returns the address."""
    host, _, port = address.rpartition(":")
    ProcessCollector(registry=registry)
    metrics = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, respond)
            return page
        if path not in ("/healthz", "/readyz"):
            return _answer(respond, "404 Not Found")
        good = health.ready if path == "/readyz" else health.alive()
        return _answer(respond, "200 OK" if good else "503 Service Unavailable")

    server = make_server(host, int(port), application, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return f"{host}:{server.server_port}"


def _answer(respond: StartResponse, status: str) -> list[bytes]:
    respond(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{status}\n".encode()]
