"""Stages work first to last on the worker and last to first on the server, and keep nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fl_core.errors import SpecError
from fl_core.extensions import Extension
from fl_core.stages import Pipeline, State
from fl_core.weights import Manifest, Weights


@dataclass(frozen=True)
class Affine:
    """Multiply and shift on the worker, undo it on the server; remember how often."""

    factor: float
    shift: float
    dtype: str = "float32"

    def wire(self, manifest: Manifest) -> Manifest:
        return Manifest(tuple(replace(spec, dtype=self.dtype) for spec in manifest))

    def on_worker(self, update: Weights, state: State) -> tuple[Weights, State]:
        sent = {name: (array * self.factor + self.shift).astype(self.dtype) for name, array in update.items()}
        return sent, {"times": state.get("times", 0) + 1}

    def on_server(self, mean: Weights, state: State) -> tuple[Weights, State]:
        return {name: (array - self.shift) / self.factor for name, array in mean.items()}, {
            "seen": self.shift,
            **state,
        }


PIPELINE = Pipeline((Affine(2, 1), Affine(4, 3, "float64")))
UPDATE = {"w": np.array([1.0, -5.0], "f4")}


def test_the_server_undoes_what_the_workers_did() -> None:
    """Stages that do not commute come back only in reverse order."""
    sent, _ = PIPELINE.on_worker(UPDATE, PIPELINE.fresh())
    assert sent["w"].tolist() == [(1 * 2 + 1) * 4 + 3, (-5 * 2 + 1) * 4 + 3]
    mean, _ = PIPELINE.on_server(sent, PIPELINE.fresh())
    assert mean["w"].tolist() == UPDATE["w"].tolist()


def test_every_stage_gets_its_own_state_back() -> None:
    """States are in the order of the stages on both sides, whichever way the update runs."""
    _, first = PIPELINE.on_worker(UPDATE, PIPELINE.fresh())
    _, second = PIPELINE.on_worker(UPDATE, (first[0], {}))
    assert second == ({"times": 2}, {"times": 1})
    _, server = PIPELINE.on_server(UPDATE, PIPELINE.fresh())
    assert server == ({"seen": 1}, {"seen": 3})


def test_the_wire_shows_what_the_last_stage_sends() -> None:
    """What a worker sends has the manifest that the pipeline announces."""
    sent, _ = PIPELINE.on_worker(UPDATE, PIPELINE.fresh())
    assert Manifest.of(sent) == PIPELINE.wire(Manifest.of(UPDATE))


def test_no_stage_changes_nothing() -> None:
    """Without stages the update travels as it is."""
    empty = Pipeline.of([])
    assert empty.on_worker(UPDATE, empty.fresh()) == (UPDATE, ())
    assert empty.on_server(UPDATE, ()) == (UPDATE, ())
    assert empty.wire(Manifest.of(UPDATE)) == Manifest.of(UPDATE)


def test_a_state_too_few_is_an_error() -> None:
    """States of another pipeline are never shared out by chance."""
    with pytest.raises(ValueError, match="zip"):
        PIPELINE.on_worker(UPDATE, ({},))


def test_stages_are_found_by_their_word() -> None:
    """A plan's words become stages, in their order; an unknown word is refused."""
    assert [type(stage).__name__ for stage in Pipeline.of([Extension(name="float16")] * 2).stages] == [
        "Float16"
    ] * 2
    with pytest.raises(SpecError, match="fl_core.compression has no 'zip'"):
        Pipeline.of([Extension(name="zip")])
