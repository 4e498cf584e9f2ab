"""`fl-worker export`: a trained model as npz, safetensors or in Paddle's own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from fl_core.errors import MismatchError
from fl_core.models import StoredModel, whole, write_npz, write_safetensors
from fl_core.plan import Plan
from fl_worker.cli_init import learner
from fl_worker.models import in_order


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is exported from: the model, and the plan, program and data that made it."""

    plan: Path
    program: Path
    data: Path | None
    model: Path


def run(source: Source, *, form: str, output: Path) -> None:
    """Write the model whole or not at all."""
    model = StoredModel.read(source.model)
    if form == "npz":
        write_npz(model, output)
    elif form == "safetensors":
        write_safetensors(model, output)
    else:
        _write_paddle(source, model, output)
    click.echo(f"{output}: written as {form}")


def _write_paddle(source: Source, model: StoredModel, output: Path) -> None:
    """Let the program's Layer write its own state."""
    plan = Plan.read(source.plan)
    if plan.program.framework != "paddle":
        raise MismatchError(
            f"the job's framework is {plan.program.framework}, "
            "which knows no Paddle format; use npz or safetensors"
        )
    one = learner(plan, program=source.program, index=0, data=source.data)
    fitting = in_order(model.arrays, like=one.initial(), source=source.model)
    with whole(output) as temporary:
        one.backend.save(fitting, temporary)
