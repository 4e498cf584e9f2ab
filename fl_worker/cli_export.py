"""`fl-worker export`: a trained model as npz, safetensors or in Paddle's own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from safetensors.numpy import save_file

from fl_core.errors import MismatchError, StorageError
from fl_core.plan import Plan
from fl_core.weights import Array
from fl_worker.cli_init import learner
from fl_worker.models import in_order, stored_weights


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is exported from: the model, and the plan, program and data that made it."""

    plan: Path
    program: Path
    data: Path | None
    model: Path


def run(source: Source, *, form: str, output: Path) -> None:
    """Write the model whole or not at all."""
    temporary = output.with_name(f".{output.name}.part")
    try:
        _write(source, form=form, target=temporary)
        temporary.replace(output)
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    click.echo(f"{output}: written as {form}")


def _write(source: Source, *, form: str, target: Path) -> None:
    arrays = stored_weights(source.model)
    if form == "npz":
        with target.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    elif form == "safetensors":
        save_file(arrays, target)
    else:
        _write_paddle(source, arrays, target)


def _write_paddle(source: Source, arrays: dict[str, Array], target: Path) -> None:
    """Let the program's Layer write its own state."""
    plan = Plan.read(source.plan)
    if plan.program.framework != "paddle":
        raise MismatchError(
            f"the job's framework is {plan.program.framework}, "
            "which knows no Paddle format; use npz or safetensors"
        )
    one = learner(plan, program=source.program, index=0, data=source.data)
    one.backend.save(in_order(arrays, like=one.initial(), source=source.model), target)
