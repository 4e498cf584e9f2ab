"""`fl-worker try`: one worker, one round, this process."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from pathlib import Path

import click

from fl_core.errors import ProgramError, RoundError
from fl_core.metrics import Measurements
from fl_core.plan import Plan
from fl_core.privacy.clipping import norm
from fl_core.privacy.job import settings_of
from fl_core.weights import Manifest, Weights, add
from fl_worker.cli_init import learner
from fl_worker.work import Finished, Learner


def run(plan: Path, *, program: Path, index: int, data: Path | None) -> None:
    """Train and measure one round; show what the program raises from its first frame to its last."""
    try:
        _try(Plan.read(plan), program=program, index=index, data=data)
    except RoundError as error:
        raise ProgramError(f"a round would be spoilt by this: {error}") from error
    except ProgramError as error:
        if error.__cause__ is None:
            raise
        click.echo("".join(traceback.format_exception(error.__cause__)), err=True)
        raise ProgramError(str(error).partition("\n")[0]) from error


def _try(plan: Plan, *, program: Path, index: int, data: Path | None) -> None:
    started = time.monotonic()
    one = learner(plan, program=program, index=index, data=data)
    weights = one.initial()
    manifest = Manifest.of(weights)
    parameters = sum(spec.size for spec in manifest)
    _line(
        "program", f"{plan.program.entrypoint} ({plan.program.framework}), worker {index} of {plan.workers}"
    )
    _line("model", f"{len(manifest.arrays)} arrays, {parameters:,} parameters, {manifest.nbytes:,} bytes")
    _line("loaded in", f"{time.monotonic() - started:.2f} s")
    measured = _round(replace(one, privacy=None), weights)  # noise would say nothing of the program
    if plan.privacy is not None:
        cut = "the update" if plan.privacy.unit == "worker" else "the gradient of each example"
        _line("hidden by", f"{plan.privacy.mechanism.name}, which cuts {cut} to {_clip(plan):g}")
    if plan.target is not None:
        plan.target.check(measured)


def _round(one: Learner, weights: Weights) -> Measurements:
    """Measure, train, measure again; gives back the last."""
    before = one.evaluate(weights, moved=_quiet).metrics
    started = time.monotonic()
    done = one.train(weights, round=1, states=one.pipeline.fresh(), moved=_quiet)
    seconds = time.monotonic() - started
    after = one.evaluate(_stepped(one, weights, done), moved=_quiet)
    _line("examples", f"{done.examples:,} to train on, {after.examples:,} to test with")
    _line("trained in", f"{seconds:.2f} s")
    _line("update", f"{one.wire(Manifest.of(weights)).nbytes:,} bytes, of length {norm(done.update):.4g}")
    for name, measurement in done.metrics.items():
        _line(f"training {name}", f"{measurement.value:.4f}")
    _compare(before, after.metrics)
    return after.metrics


def _clip(plan: Plan) -> float:
    """The length that updates, or gradients, are cut to."""
    return float(str(settings_of(plan).mechanism.options["clip"]))


def _stepped(one: Learner, weights: Weights, done: Finished) -> Weights:
    """Make the model that a round of this worker alone would give."""
    mean, _ = one.pipeline.on_server(done.update, one.pipeline.fresh())
    model, _ = one.strategy.step(weights, mean, {})
    return add(model, {name: 0 * array for name, array in model.items()})


def _compare(before: Measurements, after: Measurements) -> None:
    for name, measurement in after.items():
        _line(name, f"{before[name].value:.4f} before, {measurement.value:.4f} after")
    if not after:
        _line("evaluation", "none: Task(test=...) was not given, or is empty")


def _line(name: str, value: str) -> None:
    click.echo(f"{name:<16} {value}")


def _quiet() -> None:
    """Nobody waits for a sign of life."""
