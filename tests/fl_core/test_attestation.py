"""What a server signs at the end is read by whoever trusts its authority, and by nobody in its name."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest

from fl_core import attestation
from fl_core.attestation import (
    PREDICATE,
    STATEMENT,
    Ending,
    authority_in,
    check,
    content_of,
    signed,
    statement,
)
from fl_core.errors import MismatchError
from fl_core.identity import Authority, Identity
from fl_core.plan import Plan
from fl_core.record import Head

JOB = "job-1"
OURS = Authority(JOB)


def envelope(
    plan: Plan, *, role: str = "server", job: str = JOB, authority: Authority = OURS, days: int = 0
) -> dict[str, Any]:
    """A signed statement about a record of seven lines, that ended so many days from now."""
    index = 3 if role == "worker" else None
    ending = Ending("RoundsDone", dt.datetime.now(dt.UTC) + dt.timedelta(days=days), "ab", 7)
    content = statement(plan, Head(7, "cd"), ending, files={"metrics.jsonl": "ef", "a": "12"})
    return signed(content, authority.issue(Identity(job, role, index)))


def trusted(authority: Authority = OURS) -> list[bytes]:
    return [authority.dump()[1]]


@pytest.fixture
def job(plan: Callable[..., Plan]) -> Plan:
    return plan()


def test_the_statement_names_files_plan_and_head(job: Plan) -> None:
    """It is an in-toto statement of our own predicate, with everything that the chain is bound to."""
    made = envelope(job)
    check(made, job=JOB, authorities=trusted())
    content = content_of(made)
    assert (content["_type"], content["predicateType"]) == (STATEMENT, PREDICATE)
    assert content["subject"] == [
        {"name": "a", "digest": {"sha256": "12"}},
        {"name": "metrics.jsonl", "digest": {"sha256": "ef"}},
    ]
    said = content["predicate"]
    assert said["record"] == {"lines": 7, "last": "cd"}
    assert (said["plan"], said["model"], said["ending"]) == (job.digest, "ab", "RoundsDone")


def test_what_is_signed_is_the_envelope_of_the_standard(job: Plan) -> None:
    """The encoding is that of DSSE's own specification, by its own example."""
    assert attestation._encoded(b"hello world") == (b"DSSEv1 28 application/vnd.in-toto+json 11 hello world")
    (entry,) = envelope(job)["signatures"]
    assert entry["keyid"] == "spiffe://fljob.dev/job/job-1/server"


def changed(envelope: dict[str, Any], **predicate: Any) -> dict[str, Any]:
    """The envelope with another statement under the same signature."""
    other = copy.deepcopy(envelope)
    content = content_of(other)
    content["predicate"] |= predicate
    other["payload"] = base64.b64encode(json.dumps(content).encode()).decode()
    return other


def test_a_changed_statement_is_refused(job: Plan) -> None:
    """The signature holds for the very bytes that were signed."""
    with pytest.raises(MismatchError, match="its signature does not fit what it is said to sign"):
        check(changed(envelope(job), ending="TargetReached"), job=JOB, authorities=trusted())


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"authority": Authority(JOB)}, "no trusted authority has issued"),
        ({"role": "scheduler"}, "job-1/scheduler, which is not the server of job job-1"),
        ({"role": "worker"}, "job-1/worker/3, which is not the server of job job-1"),
        ({"job": "job-2"}, "job-2/server, which is not the server of job job-1"),
        ({"days": -1}, "a certificate that was not good at"),
        ({"days": 60}, "a certificate that was not good at"),
    ],
)
def test_a_foreign_signature_is_refused(job: Plan, how: dict[str, Any], sentence: str) -> None:
    """Another authority's, another process's, another job's, and one made with a certificate out of its time."""
    with pytest.raises(MismatchError, match=sentence):
        check(envelope(job, **how), job=JOB, authorities=trusted())


@pytest.mark.parametrize(
    "damage",
    [
        {"payload": "?"},
        {"payload": base64.b64encode(b"[]").decode()},
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": [{"sig": "", "certificate": "no PEM"}]},
        {"signatures": None},
        {"payload": base64.b64encode(b'{"_type": 1, "predicateType": 2}').decode()},
    ],
)
def test_what_is_no_envelope_ends_with_a_sentence(job: Plan, damage: dict[str, Any]) -> None:
    """Whatever is in the file, nothing but a MismatchError comes of it."""
    with pytest.raises(MismatchError):
        check(envelope(job) | damage, job=JOB, authorities=trusted())


@pytest.mark.parametrize("signatures", [None, [], [3], [{"authority": 3}]])
def test_an_authority_that_did_not_come_is_none(job: Plan, signatures: Any) -> None:
    """Whoever has no authority of their own gets a sentence, too."""
    made = envelope(job) | {"signatures": signatures}
    with pytest.raises(MismatchError):
        check(made, job=JOB, authorities=[authority_in(made)])


def test_a_time_without_a_zone_is_read(job: Plan) -> None:
    """It is another statement than the one that was signed, and nothing worse."""
    with pytest.raises(MismatchError):
        check(changed(envelope(job), at="2026-01-01"), job=JOB, authorities=trusted())
