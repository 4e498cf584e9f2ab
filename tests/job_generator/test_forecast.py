from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.plan import Plan
from fl_core.secagg.job import terms_of
from job_generator.compiler import compile_job
from job_generator.forecast import PROCESS_BYTES, Machine, Model, footprint, forecast
from job_generator.processes import ROLES
from job_generator.spec import FLJob, Program

Build = Callable[..., FLJob]
MODEL = Model(arrays=2, parameters=1000, nbytes=4000, update_nbytes=2000)
PLENTY = Machine(memory_free=1 << 50, cores=1 << 20)


def warnings(plan: Plan, machine: Machine | None = None) -> list[str]:
    """What a careful person is told."""
    return [f"{one.level}: {one.message}" for one in forecast(plan, machine=machine).findings]


def test_figures(a_job: Build) -> None:
    """A job's figures follow from its Plan: processes, who is asked, who may be lost."""
    plan = compile_job(a_job(workers__replicas=10, selection={"perRound": 6, "extra": 2, "minimum": 5}))
    found = forecast(plan)
    assert (found.processes, found.asked, found.quorum, found.losses) == (12, 8, 5, 3)


@pytest.mark.parametrize(
    ("rounds", "every", "measured"), [(10, 1, 10), (10, 3, 4), (9, 3, 3), (1, 5, 1), (10, 10, 1)]
)
def test_bytes(a_job: Build, rounds: int, every: int, measured: int) -> None:
    """Bytes are those of each asked worker: model down, update up, and the model again where it is measured."""
    plain = {"enabled": False}
    plan = compile_job(a_job(rounds=rounds, evaluation={"everyRounds": every}, secureAggregation=plain))
    found = forecast(plan, model=MODEL)
    assert (found.down, found.up) == (4 * 4000, 4 * 2000)
    assert found.total == rounds * 4 * 6000 + measured * 4 * 4000
    assert len([n for n in range(1, rounds + 1) if n % every == 0 or n == rounds]) == measured


def test_nobody_measured(a_job: Build) -> None:
    """What depends on a model nobody measured is left open rather than called zero."""
    found = forecast(compile_job(a_job()))
    assert (found.down, found.up, found.total) == (None, None, None)


def test_every_framework() -> None:
    """The memory of a worker is known for every framework of the API."""
    assert set(get_args(Program.model_fields["framework"].annotation)) == set(PROCESS_BYTES)


@given(st.integers(1, 1000), st.integers(0, 1 << 34))
@settings(max_examples=40, deadline=None)
def test_memory(a_job: Build, workers: int, size: int) -> None:
    """Memory grows with the workers and with the model, and is never less than the processes by themselves."""
    plan, more = (compile_job(a_job(workers__replicas=count)) for count in (workers, workers + 1))
    model = Model(arrays=1, parameters=1, nbytes=size, update_nbytes=size)
    found = forecast(plan, model=model).memory
    assert found >= forecast(plan).memory >= workers * PROCESS_BYTES["numpy"]
    assert forecast(more, model=model).memory - found >= size + PROCESS_BYTES["numpy"]


def test_nothing_to_say(a_job: Build) -> None:
    """An ordinary job on a large machine needs no word."""
    assert warnings(compile_job(a_job()), PLENTY) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": {"minimum": 4}}, "warning: the quorum is all workers"),
        ({"selection": {"perRound": 2, "minimum": 2}}, "note: no worker of a round may be late or lost"),
        ({"workers": {"replicas": 1}}, "note: one worker is not federated"),
    ],
)
def test_findings(a_job: Build, changes: dict[str, Any], message: str) -> None:
    """What will make a round fail is said before it starts, once."""
    found = warnings(compile_job(a_job(**changes)), PLENTY)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_a_small_machine(a_job: Build) -> None:
    """A machine without the memory is a warning, one with few cores a note; without a machine neither is said."""
    plan = compile_job(a_job(workers__replicas=9))
    found = warnings(plan, Machine(memory_free=100 << 20, cores=4))
    assert found[0].startswith("warning: all 9 workers need about 900 MiB here and 100 MiB are free; lower")
    assert found[1] == "note: 9 workers share 4 cores, 2.2 to each"
    assert warnings(plan) == []


def test_footprints(a_job: Build) -> None:
    """The memory of a job is that of its processes: what one of each role is given on a cluster."""
    plan = compile_job(a_job())
    for model in (None, MODEL):
        sizes = {role: footprint(plan, role, model=model) for role in ROLES}
        whole = plan.workers * sizes["worker"] + sizes["server"] + sizes["scheduler"]
        assert forecast(plan, model=model).memory == whole
    assert footprint(plan, "server", model=MODEL) > footprint(plan, "server")
    assert footprint(plan, "scheduler", model=MODEL) == footprint(plan, "scheduler")


def test_buckets_are_said_aloud(a_job: Build) -> None:
    """Among how many a worker is hidden is a finding, before anything starts."""
    changes = {"secureAggregation": {"buckets": 3}, "aggregation": {"name": "median", "hostile": 1}}
    found = warnings(compile_job(a_job(workers__replicas=12, **changes)))
    assert (
        "note: spec.secureAggregation.buckets: in each round the server learns 3 sums of about 4 workers, at least 3 "
        "in each, and not only one of all 12; each worker is hidden among those of its bucket alone"
    ) in found


@pytest.mark.parametrize(
    ("workers", "secure", "begins"),
    [
        (10, {}, 0),
        (10, {"tolerate": 3}, 0),
        (10, {"tolerate": 4}, 9),
        (6, {"profile": "cross-device"}, 5),
        (8, {"profile": "cross-device"}, 0),
        (101, {}, 0),
    ],
)
def test_a_sum_that_begins_with_more_than_end_it_is_told(
    a_job: Build, workers: int, secure: dict[str, Any], begins: int
) -> None:
    """Where a roster of the quorum could have no safe parameters, with how many one can; else nothing."""
    plan = compile_job(a_job(workers__replicas=workers, secureAggregation=secure))
    told = [line for line in warnings(plan) if "begins with" in line]
    if begins:
        (line,) = told
        assert f"a secure sum of {workers} workers begins with at least {begins} of them" in line
        assert (
            f"ends with at least {plan.selection.minimum}: where more than {workers - begins} are late"
            in line
        )
    else:
        assert not told
    terms = terms_of(plan)
    assert [made.n for made in terms.sessions(workers)] == list(range(begins or terms.floor, workers + 1))


@pytest.mark.parametrize(("buckets", "said"), [(3, True), (4, False)])
def test_hostile_workers_may_stop_a_job(a_job: Build, buckets: int, *, said: bool) -> None:
    """Where a bucket less is one too few for the rule, the number that helps is named."""
    changes = {"secureAggregation": {"buckets": buckets}, "aggregation": {"name": "median", "hostile": 1}}
    found = [
        line
        for line in warnings(compile_job(a_job(workers__replicas=12, **changes)))
        if "can stop the job" in line
    ]
    assert [line.endswith("with spec.secureAggregation.buckets: 4 they cannot") for line in found] == [
        True
    ] * said


def test_a_quorum_may_be_what_hostile_workers_stop(a_job: Build) -> None:
    """Where they sit in the largest buckets the others are too few for the quorum, which is named."""
    median = {"aggregation": {"name": "median", "hostile": 3}, "secureAggregation": {"buckets": 10}}
    found = [
        line
        for line in warnings(compile_job(a_job(workers__replicas=33, **median)))
        if "can stop the job" in line
    ]
    assert [line.partition("; ")[2] for line in found] == [
        "the others have 21 workers; with spec.selection.minimum: 21 they cannot"
    ]


def test_parts_that_are_compared_take_memory(a_job: Build) -> None:
    """A server that compares holds every part of a round: each bucket's, or in the clear each worker's."""
    median = {"aggregation": {"name": "median", "hostile": 1}}
    jobs = (
        {},
        {**median, "secureAggregation": {"buckets": 3}},
        {**median, "secureAggregation": {"enabled": False}},
    )
    none, buckets, single = (
        footprint(compile_job(a_job(workers__replicas=12, **job)), "server", model=MODEL) for job in jobs
    )
    assert (buckets - none, single - none) == (3 * 4 * 4000, 12 * 4 * 4000)
