"""What must be there before the first process starts: the program, its framework, the workers' data."""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, PathFinder
from importlib.util import find_spec
from pathlib import Path

from fl_core.errors import MismatchError, ProgramError, SpecError
from fl_core.extensions import FIELDS
from fl_core.plan import Plan
from job_generator.program import program_digest

PACKAGES = {"paddle": "paddle", "sklearn": "sklearn"}
"""The module that each framework needs; the extra of the distribution is called as the framework."""


def check_program(plan: Plan, folder: Path, *, again: str, fork: str = "") -> None:
    """Refuse to go on with another program than the plan was compiled for; `again` starts a new run, `fork` goes on."""
    digest = program_digest(folder, plan.program.module)
    if digest != plan.program.sha256:
        onward = f"go on from its last round with the new files: {fork}, or " if fork else ""
        raise MismatchError(
            f"the program in {folder} has changed since this run began (now {_short(digest)}, then "
            f"{_short(plan.program.sha256)}); put the old files back, {onward or 'or '}start a new run: {again}"
        )


def check_framework(framework: str) -> None:
    """Refuse a framework that this Python does not have."""
    module = PACKAGES.get(framework)
    if module is not None and find_spec(module) is None:
        raise ProgramError(
            f"spec.program.framework: {framework} is not installed in this Python; "
            f"install it with: pip install 'fljob[{framework}]'"
        )


def check_extensions(plan: Plan) -> None:
    """Refuse a class of the user's own whose module the processes, started here, would not find."""
    named = [
        ("fl_core.strategies", plan.strategy),
        ("fl_core.aggregation", plan.aggregation),
        ("fl_core.selection", plan.selection.policy),
        *(("fl_core.compression", stage) for stage in plan.compression),
    ]
    for package, extension in named:
        module, _, own = extension.name.partition(":")
        top = module.partition(".")[0]
        if own and not _found(top):
            raise SpecError(
                f"{FIELDS[package]}: {extension.name}: this Python finds no module {top}; expected it "
                f"in the folder that you start from, {Path.cwd()}, installed with pip, or in a folder of PYTHONPATH"
            )


def _found(top: str) -> bool:
    """Whether a process that is started in this folder can import it; nothing is imported here."""
    places = [str(Path.cwd()), *sys.path]
    return any(
        finder is not None for finder in (PathFinder.find_spec(top, places), BuiltinImporter.find_spec(top))
    )


def check_data(template: str | None, workers: int, *, first: int = 0) -> None:
    """Refuse data paths that do not exist, naming the first and counting the others."""
    if template is None:
        return
    paths = [data_path(template, index) for index in range(first, first + workers)]
    missing = [path for path in paths if not path.exists()]
    if not missing:
        return
    hint = "" if "{index}" in template else "; write {index} where the worker's number belongs"
    raise ProgramError(
        f"--data {template}: {missing[0]} does not exist"
        + (f", nor do {len(missing) - 1} more of the {workers} workers' paths" if len(missing) > 1 else "")
        + hint
    )


def shared_data(template: str | None, workers: int) -> str:
    """Say that all workers find the same data, where they do; else nothing."""
    if template is None or "{index}" in template or workers == 1:
        return ""
    return f"--data {template} has no {{index}}: all {workers} workers get this same path."


def data_path(template: str, index: int) -> Path:
    """Give the place of one worker's data."""
    return Path(template.replace("{index}", str(index))).absolute()


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "an installed module"
