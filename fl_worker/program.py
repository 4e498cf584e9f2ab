"""Loading the user's program: check its digest, import it, call its function, find its backend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any

from fl_core.bundle import bundle, bundle_digest
from fl_core.errors import MismatchError, ProgramError
from fl_core.extensions import build, known, resolve
from fl_core.plan import Plan, Program
from fl_core.strategies import LocalWork, Strategy
from fl_worker.backends import Backend
from fl_worker.border import user_code
from fl_worker.descent import WORK, Descent, mechanism_for
from fl_worker.streams import derived
from fl_worker.task import Site

BACKENDS = "fl_worker.backends"


def load(plan: Plan, *, folder: Path, site: Site) -> Backend:
    """Load the program in `folder` for this site, ready to train under the plan's strategy.

    Nothing of the program is imported before its digest has been found to be the plan's.
    """
    check_digest(plan.program, folder)
    check_data(site)
    kind = backend_class(plan.program.framework)
    work: LocalWork = build(plan.strategy, within="fl_core.strategies", protocol=Strategy).local
    private = mechanism_for(plan, work)
    seed = derived(plan.seed, "model")
    kind.reseed(seed)
    task = import_function(plan.program, folder)
    kind.reseed(seed)
    with user_code(f"`{plan.program.function}(config, site)` ran", folder):
        made = task(dict(plan.program.config), site)
    with user_code("its task was made ready", folder):
        backend: Backend = kind(made, site=site, work=work if private is None else WORK)
    check_rows(plan, backend)
    return backend if private is None else Descent(backend, private)


def check_digest(program: Program, folder: Path) -> None:
    """Refuse files that are not those that the job was compiled for."""
    if program.sha256 is None:
        return
    if (found := bundle_digest(bundle(folder, program.module))) != program.sha256:
        raise MismatchError(
            f"the program in {folder} has the digest {found}, but the job was compiled for {program.sha256}; "
            "give every worker the same files, or compile the job again"
        )


def check_data(site: Site) -> None:
    """Refuse a data path that leads nowhere."""
    if site.data is not None and not site.data.exists():
        raise ProgramError(
            f"{site.name}: there is no data at {site.data}; give --data a path that exists there"
        )


def check_rows(plan: Plan, backend: Backend) -> None:
    """Refuse rows that one worker alone may move where sums are to hide who moved what, and no noise does."""
    name = getattr(backend, "sparse", "")
    if name and plan.secure_aggregation is not None and plan.privacy is None:
        raise ProgramError(
            f"{name} is a sparse Embedding: a row that one worker alone looks up stands alone in the secure sum; "
            "build it with sparse=False, of rows that many workers have in common, or give the job spec.privacy"
        )


def backend_class(framework: str) -> Any:  # noqa: ANN401 - a class that makes a Backend
    """The backend for a framework; refuses one that is unknown or not installed."""
    if framework not in known(BACKENDS):
        raise ProgramError(
            f"spec.program.framework: {framework!r} is unknown; choose one of {', '.join(known(BACKENDS))}"
        )
    try:
        return resolve(framework, within=BACKENDS)
    except ImportError as error:
        raise ProgramError(
            f"spec.program.framework: {framework} is not installed at this worker ({error}); "
            f"install it there: pip install 'fljob[{framework}]'"
        ) from error


def import_function(program: Program, folder: Path) -> Callable[..., Any]:
    """Import the entrypoint's module and find its function."""
    home = str(folder.resolve())
    own = program.sha256 is not None or _lies_in(folder, program)
    if own and home not in sys.path:
        sys.path.insert(0, home)
        invalidate_caches()
    with user_code(f"`{program.module}` was imported", folder):
        module = import_module(program.module)
    if own:
        _check_origin(module, program, folder)
    function = getattr(module, program.function, None)
    if not callable(function):
        raise ProgramError(
            f"spec.program.entrypoint: {program.module} has no function {program.function!r}; "
            f"define `def {program.function}(config, site)` there, or name another one"
        )
    return function  # type: ignore[no-any-return]  # only its result is looked at


def _lies_in(folder: Path, program: Program) -> bool:
    """Whether the program's files are in the folder, although nobody named their digest; else it is installed."""
    try:
        return bool(bundle(folder, program.module))
    except ProgramError:
        return False


def _check_origin(module: ModuleType, program: Program, folder: Path) -> None:
    """Refuse an installed module that hides the program's file of the same name."""
    origin = module.__file__
    inside = origin is not None and Path(origin).resolve().is_relative_to(folder.resolve())
    if not inside:
        raise ProgramError(
            f"spec.program.entrypoint: the name {program.module!r} already belongs "
            f"to {origin or 'Python itself'}; "
            "give the program's file another name or, where that is the program of another run which was loaded here "
            "before, load this one in a Python of its own"
        )
