"""What others may hear of a failure at this worker: where sums are secure or private, fixed words.

What a program raises, and what is wrong with an update, may name what is in the data, which sums or noise are to hide.
So the whole text stands in the worker's own log alone. What a worker says of an order, of its peers and of their
protocol holds nothing of its data, and leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fl_core.errors import JobError, OrderError, ProgramError, ProtocolError, RoundError
from fl_core.plan import Plan

ENDED = "the program raised an error, or its worker did, which the worker's own log tells"
"""Of one that attends no more."""

NOTHING = "'s part of the round cannot be handed in; its own log says why"
"""Of one that stays, after its name."""


@dataclass(frozen=True, slots=True)
class Discretion:
    """How much one worker says of itself; `secret` where its job hides single workers."""

    worker: str
    secret: bool

    @classmethod
    def of(cls, plan: Plan, *, worker: str) -> Discretion:
        """That of a worker of this job."""
        return cls(worker, secret=plan.secure_aggregation is not None or plan.privacy is not None)

    def declining(self, error: RoundError) -> str:
        """Why a round gets nothing of this worker."""
        if self.secret and not isinstance(error, OrderError | ProtocolError):
            return f"{self.worker}{NOTHING}"
        return str(error)

    def leaving(self, error: Exception) -> str:
        """Why this worker attends no more, in one line."""
        return ENDED if self.secret else str(error).partition("\n")[0]

    @contextmanager
    def last_words(self) -> Iterator[None]:
        """Let no error that may tell of the data be what a pod's status shows of it."""
        try:
            yield
        except (JobError, RoundError) as error:
            if self.secret and (type(error) in {JobError, ProgramError} or isinstance(error, RoundError)):
                error.outside = ENDED
            raise
