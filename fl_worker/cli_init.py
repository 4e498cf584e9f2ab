"""`fl-worker init`: what the first model looks like, for whoever must know it before a job starts."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from fl_core.errors import ProgramError
from fl_core.plan import Plan
from fl_core.weights import Manifest, digest
from fl_worker.task import Site
from fl_worker.work import Learner


def learner(plan: Plan, *, program: Path, index: int, data: Path | None) -> Learner:
    """Load the program for one worker, as in a job but alone."""
    if not 0 <= index < plan.workers:
        raise ProgramError(
            f"--index {index}: the job has the workers 0 to {plan.workers - 1}; choose one of them"
        )
    site = Site(name=plan.called(index), index=index, count=plan.workers, data=data, seed=plan.seed)
    return Learner.load(plan, folder=program, site=site)


def run(plan: Path, *, program: Path, index: int, data: Path | None) -> None:
    """Print one line of JSON; what the program prints goes to standard error.

    Where the job has a target, the model is evaluated once, to see that the program measures it.
    """
    given = Plan.read(plan)
    with redirect_stdout(sys.stderr):
        one = learner(given, program=program, index=index, data=data)
        weights = one.initial()
        if given.target is not None:
            given.target.check(one.evaluate(weights, moved=lambda: None).metrics)
    manifest = Manifest.of(weights)
    row = {
        "manifest": manifest.to_json(),
        "arrays": len(manifest.arrays),
        "parameters": sum(spec.size for spec in manifest),
        "nbytes": manifest.nbytes,
        "updateNbytes": one.wire(manifest).nbytes,
        "digest": digest(weights),
    }
    click.echo(json.dumps(row))
