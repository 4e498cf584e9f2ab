"""Reading `chaos.yaml`: what is wrong with it by itself, and what does not fit the job that it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fl_core.steps import STEPS
from job_generator.local.chaos_spec import (
    KINDS,
    LONGEST_SECONDS,
    MOST_FAULTS,
    AnyFault,
    Fault,
    Faults,
    LabelFlip,
    Slow,
)
from job_generator.problems import InvalidJobError, Problem, shown
from job_generator.schema import Path as FieldPath
from job_generator.schema import alternatives
from job_generator.source import read

SHAPE = "a map with seed and faults"


def load_faults(file: Path, *, workers: int, rounds: int, framework: str) -> Faults:
    """Read and check the faults for a job of so many workers and rounds; InvalidJobError says all that is wrong."""
    document = read(file, expected=SHAPE)
    try:
        faults = Faults.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        found = (_problem(details) for details in error.errors(include_url=False))
        problems = list({problem.path: problem for problem in found}.values())
        raise InvalidJobError(document.placed(problems)) from None
    if problems := list(_unfit(faults, _Job(workers, rounds, framework))):
        raise InvalidJobError(document.placed(problems))
    return faults


@dataclass(frozen=True, slots=True)
class _Job:
    """What faults must fit."""

    workers: int
    rounds: int
    framework: str


def _unfit(faults: Faults, job: _Job) -> Iterator[Problem]:
    if not faults.faults:
        yield Problem(("faults",), f"[] is not accepted; expected {ACCEPTED['faults']}")
    for place, fault in enumerate(faults.faults):
        for field, complaint in FITTING.items():
            if sentence := complaint(fault, job):
                yield Problem(("faults", place, *field), sentence)


def _never(fault: Fault, job: _Job) -> str:
    begin, end = fault.span
    if begin > job.rounds or (end is not None and end < begin):
        return f"{shown(fault.round)} is none of the job's rounds, 1 to {job.rounds}"
    return ""


def _nobody(fault: AnyFault, job: _Job) -> str:
    found = re.fullmatch(r"worker-(\d+)", fault.who)
    if found and int(found[1]) >= job.workers:
        return f"{shown(fault.who)} is nobody; the job has worker-0 to worker-{job.workers - 1}"
    return ""


def _elsewhere(fault: AnyFault, _: _Job) -> str:
    if fault.own_step and fault.step not in {None, fault.own_step}:
        return f"{shown(fault.step)} is not accepted; {fault.fault} happens at {fault.own_step}"
    return ""


def _unlabelled(fault: Fault, job: _Job) -> str:
    """A fault of labels in a job whose programs are plain objects."""
    if isinstance(fault, LabelFlip) and job.framework == "numpy":
        return (
            "label_flip needs labels, which a plain object (spec.program.framework: numpy) keeps to itself; "
            "expected a program of paddle or sklearn, or sign_flip"
        )
    return ""


def _as_fast(fault: Fault, _: _Job) -> str:
    if isinstance(fault, Slow) and fault.kilobytes_per_second is None and not fault.delay_seconds:
        return "slow needs kilobytesPerSecond, delaySeconds or both"
    return ""


FITTING: dict[FieldPath, Callable[[AnyFault, _Job], str]] = {
    ("round",): _never,
    ("who",): _nobody,
    ("step",): _elsewhere,
    ("fault",): _unlabelled,
    (): _as_fast,
}
"""By the field of a fault that is to blame: what says why it does not fit the job; empty where it does."""

ACCEPTED = {
    "step": alternatives(STEPS),
    "round": "a round such as 3, or a range such as 2-10 or 4-",
    "fault": alternatives(list(KINDS)),
    "fault map": "a map such as {fault: kill, who: server}",
    "seconds": f"a number above 0 up to {LONGEST_SECONDS:g}",
    "probability": "a number from 0 to 1",
    "faults": f"a list of 1 to {MOST_FAULTS} faults",
}


def _problem(error: ErrorDetails) -> Problem:
    """Say what pydantic found in the words of the file."""
    location, given = error["loc"], error["input"]
    kind = KINDS.get(str(location[2])) if len(location) > 2 else None  # noqa: PLR2004 - faults, place, kind
    path = (*location[:2], *location[3:4]) if kind else location[:2]
    accepted = _accepted(kind, str(path[-1]) if path else "", otherwise=error["msg"].lower())
    match error["type"]:
        case "dict_type" | "model_attributes_type":
            return Problem(path, f"{shown(given)} is not accepted; expected {ACCEPTED['fault map']}")
        case "extra_forbidden":
            known = alternatives([_written(field) for field in (kind or Faults).model_fields])
            return Problem(path, f"there is no such field; expected {known}")
        case "union_tag_not_found":
            return Problem((*path, "fault"), f"is missing; expected {ACCEPTED['fault']}")
        case "union_tag_invalid":
            unknown = shown(given["fault"])
            return Problem((*path, "fault"), f"{unknown} is unknown; expected {ACCEPTED['fault']}")
        case "missing":
            return Problem(path, f"is missing; expected {accepted}")
    return Problem(path, f"{shown(given)} is not accepted; expected {accepted}")


def _accepted(kind: type[Fault] | None, field: str, *, otherwise: str) -> str:
    """What a field may be, in words."""
    if kind is not None and field == "who":
        return kind.whom
    return ACCEPTED.get(field, otherwise)


def _written(field: str) -> str:
    """A field's name as the file has it."""
    first, *others = field.split("_")
    return "".join([first, *(word.capitalize() for word in others)])
