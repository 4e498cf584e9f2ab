"""What the API server refuses, as errors of our own.

ClusterError                   the API server refused a request for good
├── UnauthorizedError          401  it does not know who we are
├── ForbiddenError             403  we have no right to do this, or a quota or policy is against it
│   └── NamespaceTerminatingError   the namespace is going; nothing can be created in it any more
├── NotFoundError              404  there is no such object, or no such kind
├── AlreadyExistsError         409  an object of this name exists
├── ConflictError              409  somebody changed the object meanwhile: read it again
├── GoneError                  410  this version is too old to go on from: list again
├── InvalidError               400, 413, 422  the object breaks a rule of its kind, or is too large
└── TransientError             wait and try again
    ├── TooManyRequestsError   429  with the seconds to wait
    ├── ServerFailureError     5xx
    └── UnreachableError       no answer at all, a broken or a silent connection
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fl_core.errors import FLJobError, UnavailableError


class ClusterError(FLJobError):
    """The API server refused a request; the same request will be refused again."""

    code: int = 0
    said: str = ""
    """What the API server said, in its own words."""
    causes: Sequence[tuple[str, str]] = ()
    """The fields that it names, and what is wrong with each."""

    def __init__(self, message: str, *, code: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""


class UnauthorizedError(ClusterError):
    """The API server does not know who we are."""


class ForbiddenError(ClusterError):
    """We have no right to do this, or a quota or an admission policy is against it."""


class NamespaceTerminatingError(ForbiddenError):
    """The namespace is being deleted, so that nothing can be created in it."""


class NotFoundError(ClusterError):
    """There is no such object, or no such kind."""


class AlreadyExistsError(ClusterError):
    """An object of this name exists."""


class ConflictError(ClusterError):
    """Somebody changed the object meanwhile, or it is not the one that was meant."""


class GoneError(ClusterError):
    """A watch cannot go on from this version."""


class InvalidError(ClusterError):
    """The object breaks a rule of its kind, or is too large."""


class TransientError(ClusterError, UnavailableError):
    """Nothing is wrong with the request: wait, and try again."""


class TooManyRequestsError(TransientError):
    """The API server has too much to do, or an eviction has to wait."""


class ServerFailureError(TransientError):
    """The API server failed."""


class WebhookError(ServerFailureError):
    """A webhook that the API server has to ask does not answer it, which may last."""


class UnreachableError(TransientError):
    """The API server does not answer."""


_BY_CODE: Mapping[int, type[ClusterError]] = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    422: InvalidError,
    429: TooManyRequestsError,
}

_UNKNOWN_FIELD = "failed to create typed patch object"
"""Server-side apply of a field that the kind does not have is answered with 500 (seen on 1.37)."""

_UNANSWERED = "failed calling webhook"
"""Of a webhook whose `failurePolicy` is Fail, with 500."""


def refusal(
    what: str, *, code: int, status: Mapping[str, Any], retry_after: float | None = None
) -> ClusterError:
    """The error for a `Status` that the API server answered to the request called `what`."""
    reason = str(status.get("reason") or f"code {code}")
    text = str(status.get("message") or "no message")
    kind = _BY_CODE.get(
        code, ServerFailureError if code >= HTTPStatus.INTERNAL_SERVER_ERROR else ClusterError
    )
    if reason == "AlreadyExists":
        kind = AlreadyExistsError
    elif kind is ServerFailureError and _UNKNOWN_FIELD in text:
        kind = InvalidError
    elif kind is ServerFailureError and _UNANSWERED in text:
        kind = WebhookError
    elif kind is ForbiddenError and "NamespaceTerminating" in {one.get("reason") for one in _causes(status)}:
        kind = NamespaceTerminatingError
    error = kind(f"{what}: the API server answered {reason}: {text}", code=code, retry_after=retry_after)
    error.said = text
    error.causes = [
        (one["field"], str(one.get("message", ""))) for one in _causes(status) if one.get("field")
    ]
    return error


def _causes(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return (cause for cause in causes or () if isinstance(cause, dict))
