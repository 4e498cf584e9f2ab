"""What a user may wish of a run that goes on in another terminal: that it stops, makes room for a while,
or has more or fewer workers.

The process that holds the run's folder is sent a signal; `Session` carries the wish out.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from fl_core.errors import JobError
from fl_core.plan import Plan
from job_generator.local.folder import RunFolder, write_atomically
from job_generator.local.preflight import check_data

FINISH: Final = signal.SIGUSR1
SUSPEND: Final = signal.SIGUSR2
SCALE: Final = signal.SIGURG
"""How many workers are wished for stands in the folder; the system ignores this signal where nobody listens."""


def stop(run: RunFolder) -> str:
    """End a run with the round that is open; says what happens now. Only the run knows whether one is."""
    begun = bool(run.rounds())
    _signal(run, FINISH)
    if begun:
        return f"{run.path} ends with the round that is open and writes its model"
    return (
        f"{run.path} has no round yet: if one is open, it ends with that and writes its model; "
        "else it ends at once, without a model"
    )


def suspend(run: RunFolder) -> str:
    """End a run's processes until it is resumed; says what happens now."""
    grace = run.state().grace
    _signal(run, SUSPEND)
    return (
        f"{run.path} will have no processes; an open round has {grace:g} s to end, else it is begun again later; "
        f"to go on: fl-submit resume {run.path}"
    )


def scale(run: RunFolder, workers: int) -> str:
    """Let a run have so many workers from its next round on; says what happens now.

    Refuses what the run's plan has no room for.
    """
    pid, state, plan = run.holder(), run.state(), Plan.read(run.plan)
    if state.replicas is None:
        raise JobError(
            f"{run.path} keeps its {plan.workers} workers; only a job with spec.workers.maxReplicas can be scaled; "
            "fl-submit fork --set workers.replicas=N makes another one"
        )
    if plan.sites:
        raise JobError(
            f"{run.path} has sites that spec.sites names, and keeps them and its workers; expected a run without sites"
        )
    least, most = plan.selection.asked, plan.pool
    if not least <= workers <= most:
        raise JobError(
            f"--workers {workers}: a round asks {least} workers (spec.selection), and there is room for {most} "
            f"(spec.workers.maxReplicas); expected {least} to {most}"
        )
    check_data(state.data, workers)
    write_atomically(run.wanted, f"{workers}\n")
    _tell(run, pid, SCALE)
    return (
        f"{run.path} will have {workers} workers: who comes takes part in the next round, "
        "and who goes hands in first what it is at"
    )


def _signal(run: RunFolder, number: signal.Signals) -> None:
    _tell(run, run.holder(), number)


def _tell(run: RunFolder, pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise JobError(f"{run.path} has just ended") from None
