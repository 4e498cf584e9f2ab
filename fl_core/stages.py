"""Stages: steps on each worker's update and, in reverse order, on the mean of all of them.

Clipping, noise and compression are one kind of thing (the idea of apple/pfl-research): a worker's half
and a server's half, each with a state that its own side keeps from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fl_core.extensions import Extension, blamed, build
from fl_core.weights import Manifest, Weights

State = Mapping[str, Any]


class Stage(Protocol):
    """One step; both ends of the idea stand in one class."""

    def wire(self, manifest: Manifest) -> Manifest:
        """What an update of this manifest looks like after the worker's half."""
        ...

    def on_worker(self, update: Weights, state: State) -> tuple[Weights, State]:
        """The worker's half: the update it will send, and what it remembers."""
        ...

    def on_server(self, mean: Weights, state: State) -> tuple[Weights, State]:
        """The server's half, on the weighted mean of what the workers sent."""
        ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a job in the order of its spec."""

    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, compression: Sequence[Extension]) -> Pipeline:
        """Build the stages that a plan names."""
        return cls(
            tuple(build(extension, within="fl_core.compression", protocol=Stage) for extension in compression)
        )

    def fresh(self) -> tuple[State, ...]:
        """The state of a side that has seen no round yet."""
        return tuple({} for _ in self.stages)

    def wire(self, manifest: Manifest) -> Manifest:
        """What travels when the model has this manifest."""
        for stage in self.stages:
            manifest = stage.wire(manifest)
        return manifest

    def on_worker(self, update: Weights, states: Sequence[State]) -> tuple[Weights, tuple[State, ...]]:
        """Every worker's half, first to last."""
        after = []
        for stage, state in zip(self.stages, states, strict=True):
            with blamed(stage):
                update, new = stage.on_worker(update, state)
            after.append(new)
        return update, tuple(after)

    def on_server(self, mean: Weights, states: Sequence[State]) -> tuple[Weights, tuple[State, ...]]:
        """Every server's half, last to first."""
        after = []
        for stage, state in zip(reversed(self.stages), reversed(states), strict=True):
            with blamed(stage):
                mean, new = stage.on_server(mean, state)
            after.append(new)
        return mean, tuple(reversed(after))
