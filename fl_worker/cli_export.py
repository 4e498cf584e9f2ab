"""`fl-worker export`: a trained model as npz, safetensors or in Paddle's own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fl_core.errors import MismatchError, StorageError
from fl_core.plan import Plan
from fl_core.weights import Array, Manifest
from fl_worker.cli_init import learner


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is exported from: the model, and the plan, program and data that made it."""

    plan: Path
    program: Path
    data: Path | None
    model: Path

    def arrays(self) -> dict[str, Array]:
        """Read the model."""
        try:
            return load_file(self.model)
        except (SafetensorError, OSError) as error:
            raise StorageError(f"{self.model} is no safetensors file that can be read: {error}") from error


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
    arrays = source.arrays()
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
    model = one.initial()
    ordered = {name: arrays[name] for name in model if name in arrays} | arrays
    if different := Manifest.of(model).difference(Manifest.of(ordered)):
        raise MismatchError(f"{source.model} is not a model of this program: {different}")
    one.backend.save(ordered, target)
