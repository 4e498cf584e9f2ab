"""The plan of a plain job: FedAvg in the clear, a checkpoint each round."""

from __future__ import annotations

from fl_core.extensions import Extension
from fl_core.plan import Checkpoint, Job, Plan, Program, Selection, Shortfall

UID = "bench-1"


def plain(
    *,
    rounds: int,
    cohort: int,
    program: Program,
    workers: int | None = None,
    evaluation_every: int = 1,
    patience_seconds: float = 60.0,
) -> Plan:
    """All of the cohort take part in each round: one with fewer would be another case."""
    selection = Selection(
        policy=Extension(name="uniform"),
        per_round=cohort,
        extra=0,
        minimum=cohort,
        join_seconds=patience_seconds,
        stall_seconds=patience_seconds,
        deadline_seconds=patience_seconds,
        on_shortfall=Shortfall(action="Fail", attempts=1),
    )
    return Plan(
        job=Job(name="bench", namespace="default", uid=UID),
        seed=0,
        rounds=rounds,
        target=None,
        program=program,
        strategy=Extension(name="fedavg"),
        aggregation=Extension(name="mean"),
        compression=(),
        selection=selection,
        evaluation_every=evaluation_every,
        checkpoint=Checkpoint(every_rounds=1, keep=3),
        workers=workers or cohort,
        ready_seconds=patience_seconds,
    )
