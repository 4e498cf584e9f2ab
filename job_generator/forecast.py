"""What a job will need, said before anything starts: processes, bytes, and whether it can work.

Pure: it takes the Plan, the size of the program's first model where somebody measured it, and the
machine's free memory and cores where it is to run here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fl_core.aggregation import fewest, rule_of
from fl_core.plan import Plan
from fl_core.secagg.job import cohort_of, terms_of
from job_generator.processes import Role

PROCESS_BYTES = {"paddle": 350 << 20, "sklearn": 170 << 20, "numpy": 80 << 20}
"""Resident memory of an idle worker by framework, as measured on Linux with Python 3.11."""
CONTROL_BYTES = 90 << 20
"""The same of a server or scheduler."""
MODELS_PER_WORKER = 6
"""Copies at a worker's peak: model, gradients, an optimiser's state, what was received, the update."""
MODELS_PER_PART = 4
"""Copies that a server holds of each part of a round that it compares: a sum of 8 bytes per value, its mean of 8."""
MODELS_PER_SERVER = 6
"""Copies at the server's peak, whatever the cohort: the model, the wire's copy, a sum of 16 bytes per value."""


PRIVATE_MODELS = 10
"""Further copies of a float32 model while whole numbers are made and get their noise, in 64 bits each."""

EQUAL = "with differential privacy every update counts the same, however many examples it was made from"
"""What a strategy that weighs by examples does otherwise than usual."""

ALONE = "one worker is not federated: its update is the mean"


@dataclass(frozen=True, slots=True)
class Model:
    """The program's first model: bytes of its arrays, and bytes of one update on the wire."""

    arrays: int
    parameters: int
    nbytes: int
    update_nbytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has to give."""

    memory_free: int
    cores: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a careful person would want to know before the start."""

    level: Literal["note", "warning"]
    message: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `fl-submit plan` prints; what depends on a model nobody measured is None."""

    processes: int
    asked: int
    quorum: int
    losses: int
    down: int | None
    up: int | None
    total: int | None
    memory: int
    findings: tuple[Finding, ...]


def forecast(plan: Plan, *, model: Model | None = None, machine: Machine | None = None) -> Forecast:
    """Foretell a job; bytes are per round, but for `total`."""
    asked = plan.selection.asked
    down = asked * model.nbytes if model else None
    measured = -(-plan.rounds // plan.evaluation_every) if plan.evaluation_every else 0
    up = asked * update_bytes(plan, model) if model else None
    total = None
    if model and down is not None and up is not None:
        total = plan.rounds * (down + up) + measured * asked * model.nbytes
    memory = _memory(plan, model)
    return Forecast(
        processes=plan.workers + 2,
        asked=asked,
        quorum=plan.selection.minimum,
        losses=asked - plan.selection.minimum,
        down=down,
        up=up,
        total=total,
        memory=memory,
        findings=tuple(_findings(plan, memory, machine)),
    )


def update_bytes(plan: Plan, model: Model) -> int:
    """Bytes of one worker's update on its way; where sums are secure, whole numbers and two counts for each array."""
    secure = plan.secure_aggregation
    return model.parameters * secure.bits // 8 + 16 * model.arrays if secure else model.update_nbytes


def footprint(plan: Plan, role: Role, *, model: Model | None = None) -> int:
    """Bytes of resident memory that one process of this role needs at its peak."""
    size = model.nbytes if model else 0
    noisy = PRIVATE_MODELS * size if plan.privacy else 0
    if role == "worker":
        return PROCESS_BYTES[plan.program.framework] + MODELS_PER_WORKER * size + noisy
    if role == "scheduler":
        return CONTROL_BYTES
    compared = MODELS_PER_PART * _parts(plan) * size
    return CONTROL_BYTES + MODELS_PER_SERVER * size + compared + (noisy if plan.privacy else 0)


def _parts(plan: Plan) -> int:
    """How many parts of a round the server holds side by side; none where it only adds up."""
    if plan.aggregation.name == "mean":
        return 0
    return plan.secure_aggregation.buckets if plan.secure_aggregation else plan.selection.asked


def _beginning(plan: Plan) -> Iterator[Finding]:
    """With how many a secure sum begins, where fewer are enough for its end."""
    cohort, terms = cohort_of(plan), terms_of(plan)
    begins = next(terms.sessions(cohort)).n
    if begins > terms.floor:
        yield Finding(
            "note",
            f"a secure sum of {cohort} workers begins with at least {begins} of them, and ends with at least "
            f"{terms.survivors(cohort)}: where more than {cohort - begins} are late or lost before it begins, the "
            "attempt fails; see spec.secureAggregation.tolerate and profile",
        )


def _stoppable(plan: Plan, buckets: int) -> list[Finding]:
    """Whether hostile workers can keep every round from closing, each by breaking the sum of its own bucket."""
    if ":" in plan.aggregation.name:
        return []
    hostile, needed = int(str(plan.aggregation.options["hostile"])), fewest(rule_of(plan.aggregation))
    left = plan.selection.per_round - hostile * -(-plan.selection.per_round // buckets)
    if buckets < needed + hostile:
        cure = f"with spec.secureAggregation.buckets: {needed + hostile} they cannot"
    elif left < plan.selection.minimum:
        cure = f"the others have {left} workers; with spec.selection.minimum: {left} they cannot"
    else:
        return []
    return [
        Finding(
            "note",
            f"as many hostile workers as {plan.aggregation.name} withstands ({hostile}) can stop the job, by breaking "
            f"the sums of their buckets; {cure}",
        )
    ]


def _bucketed(plan: Plan, buckets: int) -> list[Finding]:
    """What buckets take away from those who are in them, and from the job."""
    cohort, least = cohort_of(plan), terms_of(plan).survivors(cohort_of(plan))
    sentence = (
        f"spec.secureAggregation.buckets: in each round the server learns {buckets} sums of about {cohort} "
        f"workers, at least {least} in each, and not only one of all {plan.selection.per_round}; "
        "each worker is hidden among those of its bucket alone"
    )
    return [Finding("note", sentence), *_stoppable(plan, buckets)]


def _memory(plan: Plan, model: Model | None) -> int:
    workers = plan.workers * footprint(plan, "worker", model=model)
    return workers + footprint(plan, "server", model=model) + footprint(plan, "scheduler", model=model)


def _findings(plan: Plan, memory: int, machine: Machine | None) -> list[Finding]:
    buckets = plan.secure_aggregation.buckets if plan.secure_aggregation else 1
    return [
        *(_crowded(plan, memory, machine) if machine else ()),
        *_unforgiving(plan),
        *(_bucketed(plan, buckets) if buckets > 1 else ()),
        *(_beginning(plan) if plan.secure_aggregation else ()),
        *([Finding("note", EQUAL)] if plan.privacy else ()),
        *([Finding("note", ALONE)] if plan.workers == 1 else ()),
    ]


def _crowded(plan: Plan, memory: int, machine: Machine) -> Iterator[Finding]:
    """What the machine has too little of."""
    if memory > machine.memory_free:
        yield Finding(
            "warning",
            f"all {plan.workers} workers need about {memory >> 20:,} MiB here and {machine.memory_free >> 20:,} "
            "MiB are free; lower spec.workers.replicas, or run on a cluster",
        )
    if plan.workers > 2 * machine.cores:
        shared = plan.workers / machine.cores
        yield Finding("note", f"{plan.workers} workers share {machine.cores} cores, {shared:.1f} to each")


def _unforgiving(plan: Plan) -> Iterator[Finding]:
    """Which workers the job cannot do without."""
    if plan.selection.minimum == plan.workers and plan.workers > 1:
        yield Finding(
            "warning",
            "the quorum is all workers: one that is lost for good ends the job; see spec.selection.minimum",
        )
    if plan.selection.asked == plan.selection.minimum < plan.workers:
        yield Finding(
            "note", "no worker of a round may be late or lost; see spec.selection.extra and minimum"
        )
