"""Using what a run has trained: the program's own model with the weights of the run.

from fl_worker import trained

task, weights = trained("fl-runs/digits-20260101-120000")
print(task.model(next(iter(task.test))[0]).argmax(axis=1))
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from fl_core.errors import MismatchError, StorageError
from fl_core.models import best_model, newest_model
from fl_core.plan import Plan
from fl_core.weights import Array, Manifest
from fl_worker.cli_init import learner

Kind = Literal["last", "best"]


def trained(run: str | Path, *, which: Kind = "last", index: int = 0) -> tuple[Any, dict[str, Array]]:
    """What the program's function returns for worker `index`, its model trained, and the weights by name.

    `run` is a run's folder; of a run that has not ended well, or goes on, `last` is its newest whole
    checkpoint. The program is imported, so use only runs of programs that you trust. Raises StorageError
    when there is no such model, MismatchError when the program has changed since.
    """
    folder = Path(run)
    storage = folder / "storage"
    try:
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{folder} is not the folder of a run: {error}") from error
    if state.get("store") and not any(path.is_file() for path in storage.rglob("*")):
        raise StorageError(
            f"there is no copy of its storage in {storage}; `fl-submit run --resume {folder}` brings back what was "
            f"kept in {state['store']}"
        )
    stored = best_model(storage) if which == "best" else newest_model(storage)
    data = Path(state["data"].replace("{index}", str(index))) if state.get("data") else None
    one = learner(Plan.read(folder / "plan.json"), program=Path(state["program"]), index=index, data=data)
    fitting = in_order(stored.arrays, like=one.initial(), source=folder)
    return one.backend.holding(fitting), fitting


def in_order(weights: dict[str, Array], *, like: dict[str, Array], source: Path) -> dict[str, Array]:
    """The weights in the order of the program's model; refuses those of another model."""
    ordered = {name: weights[name] for name in like if name in weights} | weights
    if different := Manifest.of(like).difference(Manifest.of(ordered)):
        raise MismatchError(f"{source} is not a model of this program: {different}")
    return ordered
