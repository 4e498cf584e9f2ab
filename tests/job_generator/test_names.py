from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fl_core.plan import Job
from job_generator import names
from job_generator.deployment import MOST_SITES
from job_generator.part import NAME
from job_generator.spec import LONGEST_NAME

WORDS = st.from_regex(NAME, fullmatch=True).filter(lambda text: len(text) <= LONGEST_NAME)
JOBS = st.builds(Job, name=WORDS, namespace=st.just("lab"), uid=st.uuids().map(str))
DNS_LABEL = r"[a-z]([-a-z0-9]*[a-z0-9])?"


@given(job=JOBS, site=WORDS)
def test_fit(job: Job, site: str) -> None:
    """Every name is a DNS label, with room for the index and the five letters that a Job adds to its pods."""
    for words in (
        ("scheduler",),
        ("server",),
        ("worker",),
        ("site", site),
        ("plan", "0123456789"),
        ("attempt-99",),
    ):
        name = names.child(job, *words)
        assert re.fullmatch(DNS_LABEL, name)
        assert len(f"{name}-{99_999}-abcde") <= 63
    assert len(names.claim(job)) <= 253
    assert re.fullmatch(DNS_LABEL, names.used_token(job, site))
    assert len(names.used_token(job, site)) <= 253
    assert MOST_SITES <= 1000


@given(job=JOBS, one=WORDS, other=WORDS)
def test_distinct(job: Job, one: str, other: str) -> None:
    """Two sites never share a name, however long theirs are; and no site is called like a role."""
    first, second = (names.child(job, "site", site) for site in (one, other))
    assert (first == second) == (one == other)
    assert {first, second} & {names.child(job, role) for role in ("scheduler", "server", "worker")} == set()


def test_the_longest() -> None:
    """The longest job with the longest site still fits, and no role's name is cut."""
    job = Job(name="d" * LONGEST_NAME, namespace="lab", uid="u1")
    assert len(f"{names.child(job, 'site', 's' * 40)}-99999-abcde") == 63
    assert names.child(job, "scheduler") == "d" * LONGEST_NAME + "-scheduler"


def test_readable() -> None:
    """What fits is the job's name and the child's own, and a cut name shows what it was."""
    job = Job(name="digits", namespace="lab", uid="u1")
    assert names.child(job, "site", "hospital-a") == "digits-site-hospital-a"
    long = names.child(job.model_copy(update={"name": "d" * 40}), "site", "hospital-a")
    assert long.startswith("d" * 40 + "-s")
    assert names.claim(job) == "digits-storage-u1"


def test_address() -> None:
    """A pod of an Indexed Job is called <job>-<index>, below its service."""
    job = Job(name="digits", namespace="lab", uid="u1")
    assert names.address(job, "server") == "digits-server-0.digits-server.lab.svc:7443"


def test_selector() -> None:
    """A selector finds the pods whose labels it is made from, and those of no other role or job."""
    job = Job(name="digits", namespace="lab", uid="u1")
    found = names.selector(job, "server", "worker")
    assert found["matchLabels"] == {"fljob.dev/job": "digits"}
    assert found["matchExpressions"] == [
        {"key": "fljob.dev/role", "operator": "In", "values": ["server", "worker"]}
    ]
    labels = names.labels(job, "server", attempt=3)
    assert (labels["fljob.dev/job"], labels["fljob.dev/role"]) == ("digits", "server")
    assert labels["fljob.dev/attempt"] == "3"
