"""Answers of the API server as errors of our own."""

from __future__ import annotations

import pytest

from fl_core.errors import RetryError
from fl_operator.cluster import errors
from fl_operator.cluster.errors import ClusterError, TransientError, refusal


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.InvalidError),
        (401, "Unauthorized", errors.UnauthorizedError),
        (403, "Forbidden", errors.ForbiddenError),
        (404, "NotFound", errors.NotFoundError),
        (405, "MethodNotAllowed", ClusterError),
        (409, "Conflict", errors.ConflictError),
        (409, "AlreadyExists", errors.AlreadyExistsError),
        (410, "Expired", errors.GoneError),
        (422, "Invalid", errors.InvalidError),
        (429, "TooManyRequests", errors.TooManyRequestsError),
        (500, "InternalError", errors.ServerFailureError),
        (503, "ServiceUnavailable", errors.ServerFailureError),
        (504, "Timeout", errors.ServerFailureError),
    ],
)
def test_kinds(code: int, reason: str, kind: type[ClusterError]) -> None:
    """Each code is its own error, with one sentence that says what was asked and what was answered."""
    error = refusal("GET /x", code=code, status={"reason": reason, "message": "because"})
    assert type(error) is kind
    assert str(error) == f"GET /x: the API server answered {reason}: because"
    assert error.code == code


def test_what_may_be_tried_again() -> None:
    """Only too many requests, failures and silence are errors to wait and try again for."""
    transient = {
        code for code in range(400, 600) if isinstance(refusal("", code=code, status={}), RetryError)
    }
    assert transient == {429, *range(500, 600)}
    assert issubclass(errors.UnreachableError, TransientError)


def test_a_namespace_that_goes() -> None:
    """A 403 whose cause is NamespaceTerminating can be told from missing rights."""
    details = {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}
    going = refusal("POST /x", code=403, status={"reason": "Forbidden", "details": details})
    assert type(going) is errors.NamespaceTerminatingError
    assert type(refusal("", code=403, status={"details": {"causes": None}})) is errors.ForbiddenError


def test_a_field_that_is_none() -> None:
    """Server-side apply of an unknown field is refused for good, although the API server calls it its own failure."""
    message = "failed to create typed patch object (n/a; batch/v1, Kind=Job): .spec.nodeSelektor: field not declared"
    assert type(refusal("PATCH /x", code=500, status={"message": message})) is errors.InvalidError


def test_an_answer_without_a_word() -> None:
    """An answer that is no Status gives a sentence all the same."""
    assert str(refusal("GET /x", code=502, status={})) == (
        "GET /x: the API server answered code 502: no message"
    )
