"""Half-precision updates with error feedback: half the bytes of float32, nothing lost for ever.

What rounding takes away in one round is added to the next round's update
(error feedback: Seide et al., 1-Bit Stochastic Gradient Descent, Interspeech 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fl_core.errors import UpdateError
from fl_core.stages import State
from fl_core.weights import Manifest, Weights

__all__ = ["Float16"]

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Float16:
    """The worker rounds to float16 and remembers the rounding error; the server takes what it gets."""

    def wire(self, manifest: Manifest) -> Manifest:
        """The same arrays, as float16."""
        return Manifest(tuple(replace(spec, dtype="float16") for spec in manifest))

    def on_worker(self, update: Weights, state: State) -> tuple[Weights, State]:
        """Round update plus remembered error; remember the new error."""
        wanted = {name: array + state.get(name, 0) for name, array in update.items()}
        for name, array in wanted.items():
            if array.size and float(np.abs(array).max()) > LARGEST:
                raise UpdateError(f"array {name!r} changes by more than float16 can hold ({LARGEST:g})")
        sent = {name: array.astype(np.float16) for name, array in wanted.items()}
        return sent, {name: wanted[name] - sent[name] for name in sent}

    def on_server(self, mean: Weights, state: State) -> tuple[Weights, State]:
        """Nothing to undo: the exact sum has already widened what the workers sent."""
        return mean, state
