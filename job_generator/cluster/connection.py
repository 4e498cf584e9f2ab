"""The API server as the user reaches it: a kubeconfig's context, plain requests, and refusals as sentences.

FLJobError
├── JobError
│   ├── RefusedError         the cluster refuses this for good: you or its administrator must act
│   │   ├── AbsentError      404  there is no such object, or no such kind
│   │   ├── ExpiredError     410  what was seen so long ago cannot be gone on from; read it anew
│   │   └── ForbiddenError   403  you have no right to do this, or a quota or policy is against it
│   └── SpecError            400, 422  the object breaks a rule of its kind
└── UnavailableError         the API server does not answer, or asks to wait
    └── SilentError              an answer brought nothing for as long as was waited
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from fl_core.errors import JobError, SpecError, UnavailableError

Object = dict[str, Any]

MANAGER: Final = "fl-submit"
"""Who the fields belong to that this command applies."""
JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class RefusedError(JobError):
    """The cluster refuses this request for good."""


class AbsentError(RefusedError):
    """There is no such object, or no such kind."""


class ExpiredError(RefusedError):
    """The server no longer knows what came after the version that was named."""


class ForbiddenError(RefusedError):
    """The user has no right to do this, or a quota or policy is against it."""


class SilentError(UnavailableError):
    """An answer brought nothing for as long as was waited."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `body` is sent as JSON."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Object | None = None
    content_type: str = JSON


class Cluster(Protocol):
    """Where requests are sent, and the namespace that is meant where none is named."""

    @property
    def namespace(self) -> str:
        """The namespace of the context, or the one that was asked for."""

    def send(self, request: Request) -> Object:
        """The answer to a request; raises what the head of this file lists."""

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        """The lines of an answer as they come; after `silence` seconds without any the connection is given up."""


class Connection:
    """A real API server, through the connection pool of the official client."""

    def __init__(self, configuration: Any, namespace: str) -> None:  # noqa: ANN401 - the official package has no types
        from kubernetes.client.rest import RESTClientObject

        self.configuration = configuration
        self.namespace = namespace
        self._pool = RESTClientObject(configuration).pool_manager

    @classmethod
    def open(cls, *, kubeconfig: Path | None, context: str | None, namespace: str | None) -> Connection:
        """Find the cluster as kubectl does; one sentence where there is none."""
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise RefusedError(
                "speaking to a cluster needs the package kubernetes; install it with: pip install 'fljob[cluster]'"
            ) from error
        configuration = client.Configuration()
        # As Go verifies: the authorities of many clusters lack what Python 3.13 began to require.
        configuration.disable_strict_ssl_verification = True
        file = str(kubeconfig) if kubeconfig else None
        try:
            if file is None and context is None and _in_pod():
                config.load_incluster_config(configuration)
                own = POD_NAMESPACE.read_text(encoding="utf-8").strip()
            else:
                config.load_kube_config(
                    file, context=context, client_configuration=configuration, persist_config=False
                )
                own = _namespace(file, context)
        except (config.ConfigException, OSError, ValueError, TypeError) as error:
            raise RefusedError(
                f"there is no cluster to speak to: {str(error).rstrip('. ')}; "
                "name its file with --kubeconfig or KUBECONFIG"
            ) from error
        return cls(configuration, namespace or own)

    def send(self, request: Request) -> Object:
        """The answer to a request, as JSON."""
        with _translated(self.configuration.host):
            answer = self._ask(request, read=ANSWER_SECONDS, preload_content=True)
            _accept(answer.status, answer.data)
            found: Object = json.loads(answer.data) if answer.data else {}
            return found

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        """The lines of an answer as they come; without `silence` the waiting has no end."""
        with _translated(self.configuration.host):
            answer = self._ask(request, read=silence, preload_content=False)
            try:
                if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                    _accept(answer.status, answer.read())
                rest = b""
                for piece in answer.stream(1 << 14):
                    *whole, rest = (rest + piece).split(b"\n")
                    yield from (line.decode(errors="replace") for line in whole)
                if rest:
                    yield rest.decode(errors="replace")
            finally:
                answer.close()

    def _ask(self, request: Request, *, read: float | None, preload_content: bool) -> Any:  # noqa: ANN401 - urllib3's
        from urllib3 import Timeout

        token = self.configuration.auth_settings().get("BearerToken")
        headers = {"Accept": JSON, "Content-Type": request.content_type, "User-Agent": MANAGER}
        if not preload_content:
            headers["Accept"] = "*/*"
        if token and token["value"]:
            headers["Authorization"] = token["value"].strip()
        query = f"?{urlencode(request.query)}" if request.query else ""
        return self._pool.request(
            request.method,
            f"{self.configuration.host}{request.path}{query}",
            body=None if request.body is None else json.dumps(request.body).encode(),
            headers=headers,
            preload_content=preload_content,
            retries=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=read),
        )


def _in_pod() -> bool:
    """Whether this runs in a pod and nobody named another cluster."""
    named = os.environ.get("KUBECONFIG") or (Path.home() / ".kube" / "config").exists()
    return not named and "KUBERNETES_SERVICE_HOST" in os.environ


def _namespace(file: str | None, context: str | None) -> str:
    """The namespace of this context, or of the current one, as kubectl finds it."""
    from kubernetes.config import kube_config

    merged = kube_config.KubeConfigMerger(file or kube_config.KUBE_CONFIG_DEFAULT_LOCATION).config
    loaded = kube_config.KubeConfigLoader(config_dict=merged, active_context=context)
    return str(loaded.current_context["context"].get("namespace") or "default")


@contextmanager
def _translated(host: str) -> Iterator[None]:
    """Errors of the connection as our own."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    try:
        yield
    except (HTTPError, OSError) as error:
        kind = SilentError if isinstance(error, ReadTimeoutError) else UnavailableError
        raise kind(
            f"the API server at {host} does not answer ({type(error).__name__}: {error}); "
            "is the cluster running, and is this the right --context?"
        ) from error
    except ValueError as error:
        raise UnavailableError(f"what answers at {host} is no API server: {error}") from error


def _accept(code: int, body: bytes) -> None:
    """Raise the error that an answer is."""
    if code < HTTPStatus.MULTIPLE_CHOICES:
        return
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body[:300].decode(errors="replace").strip()
    raise refusal(code=code, message=message)


def refusal(*, code: int, message: str) -> JobError | UnavailableError:
    """What an answer other than a good one means to the user."""
    if code == HTTPStatus.NOT_FOUND and message.startswith("404 page"):
        return AbsentError("this cluster knows no FLJobs; install the operator: docs/how-to/install.md")
    if code == HTTPStatus.UNAUTHORIZED:
        return RefusedError("the cluster does not know you; renew the credentials of your kubeconfig")
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"the API server asks to try again later ({code}): {message}")
    kind = REFUSALS.get(code, RefusedError)
    return kind(f"the cluster refuses this ({code}): {message}" if kind is RefusedError else message)


REFUSALS: Final[Mapping[int, type[JobError]]] = {
    HTTPStatus.BAD_REQUEST: SpecError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.GONE: ExpiredError,
    HTTPStatus.NOT_FOUND: AbsentError,
    HTTPStatus.UNPROCESSABLE_ENTITY: SpecError,
}
