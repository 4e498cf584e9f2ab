"""Every error FLJob raises on purpose, in branches by who must act.

FLJobError
├── JobError             somebody must change something, mostly the job's author; never retried
│   ├── SpecError        the FLJob is wrong: the YAML path, the value, what is accepted
│   ├── ProgramError     the user's program cannot be loaded, raises, or returns nonsense
│   ├── MismatchError    this process is not what the job was compiled for: plan, program, model, certificate
│   ├── ShortfallError   too few workers, and the spec says that this fails the job
│   └── UnusableError    what was kept is damaged, or the store of objects cannot be used as it is named
├── RoundError           this round's attempt is spoilt; another one may go well
│   ├── UpdateError      one worker's update or measurement is refused; nothing changed
│   │   └── OrderError   a worker does not do what it was told to, or cannot; nothing of its data is in the message
│   └── ProtocolError    a message of secure aggregation that the protocol does not allow; nothing changed
│       └── UnmaskError  shares or masks do not fit: a secure sum cannot be opened
└── RetryError           wait and try again
    ├── UnavailableError a peer does not answer
    ├── StorageError     a disk is full, or a file cannot be read or written now
    └── FencedError      a newer process has taken over, and this one ends
"""

from __future__ import annotations

from typing import ClassVar


class FLJobError(Exception):
    """The root: `except FLJobError` catches what FLJob itself reports."""

    exit_code: ClassVar[int] = 70
    outside: str = ""
    """What a pod's status shows of it instead, where the message is for the process's own log alone."""


class JobError(FLJobError):
    """Only a person can mend this, mostly the author of the job, so nothing is tried again."""

    exit_code = 64


class SpecError(JobError):
    """One or more fields of the FLJob are wrong; each line of the message names one."""

    exit_code = 65


class ProgramError(JobError):
    """The user's program could not be loaded, raised, or gave something unusable."""

    exit_code = 66


class MismatchError(JobError):
    """A process is not what this job was compiled for."""

    exit_code = 67


class ShortfallError(JobError):
    """Fewer workers than `selection.minimum`, and `onShortfall` says to fail.

    It `recurs` where all causes lie in the job itself, so that to go on with it as it is would end the same way.
    """

    exit_code = 68

    def __init__(self, sentence: str, *, recurs: bool = False) -> None:
        super().__init__(sentence)
        self.recurs = recurs


class UnusableError(JobError):
    """What was kept of the job is damaged, or its store cannot be used as it is named: who owns that must mend it."""

    exit_code = 72


class RoundError(FLJobError):
    """This attempt of the round is spoilt; another one may go well.

    `short` is for the record, where what was sent is at fault: fixed words, with nothing in them of that.
    """

    def __init__(self, sentence: str = "", *, short: str = "") -> None:
        super().__init__(sentence)
        self.short = short


class UpdateError(RoundError):
    """What one worker sent is refused; the state of the round did not change."""


class OrderError(UpdateError):
    """A worker does not do what it was told to, or cannot: for what was said, not for what is in its data."""


class ProtocolError(RoundError):
    """The protocol of secure aggregation does not allow a message: who, what, what was expected; nothing changed."""

    def __init__(
        self, sentence: str = "", *, short: str = "the protocol does not allow what it sent"
    ) -> None:
        super().__init__(sentence, short=short)


class UnmaskError(ProtocolError):
    """A secure sum cannot be opened: shares or masks do not fit what was advertised."""


class RetryError(FLJobError):
    """Nothing is wrong with the job: wait, and try again."""

    exit_code = 75


class UnavailableError(RetryError):
    """A peer does not answer."""


class StorageError(RetryError):
    """A disk is full, a file cannot be read or written now, or one that is only read here is damaged or missing."""

    exit_code = 74


class FencedError(RetryError):
    """A newer process of the same job has taken over what this one kept; there is nothing to mend."""

    exit_code = 76


PERMANENT_EXIT_CODES = tuple(
    sorted(
        kind.exit_code
        for kind in (JobError, SpecError, ProgramError, MismatchError, ShortfallError, UnusableError)
    )
)
"""A process that ends with one of these is not started again."""

TERMINATED_EXIT_CODE = 143
"""SIGTERM: what was committed is safe; zero is kept for the end of the job."""
