"""What a user may wish of a run that goes on in another terminal: that it stops, or makes room for a while.

The process that holds the run's folder is sent a signal; `Session` carries the wish out.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from fl_core.errors import JobError
from job_generator.local.folder import RunFolder

FINISH: Final = signal.SIGUSR1
SUSPEND: Final = signal.SIGUSR2


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


def _signal(run: RunFolder, number: signal.Signals) -> None:
    try:
        os.kill(run.holder(), number)
    except ProcessLookupError:
        raise JobError(f"{run.path} has just ended") from None
