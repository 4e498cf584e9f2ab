"""Where a job begins that begins with a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fl_core.errors import MismatchError
from fl_core.extensions import Extension
from fl_core.lineage import makers
from fl_core.plan import InitialModel, Job, Plan, Target
from fl_core.weights import Array, digest
from fl_server.checkpoints import Saved, write
from fl_server.model import Model
from fl_server.origin import Origin

PlanOf = Callable[..., Plan]

GIVEN = Model.of({"b": np.zeros(2, "f4"), "a": np.zeros((2, 2), "f8")})
"""A worker's, whose arrays stand in another order than those of files, which sort them."""


def arrays(value: float) -> dict[str, Array]:
    return {"a": np.full((2, 2), value, "f8"), "b": np.full(2, value, "f4")}


def checkpoint(storage: Path, plan: Plan, number: int, **facts: Any) -> Path:
    """A checkpoint that a parent with this plan has made."""
    path = storage / "checkpoints" / f"round-{number:07d}.safetensors"
    told = {
        "round": number,
        "digest": digest(arrays(number)),
        "makers": {**makers(plan), "job": "parent"},
        **facts,
    }
    states = {"strategy": {"velocity": np.ones(2)}, "0": {"kept": 1}, "sums": {"exponents": [[1, 2]]}}
    write(path, Saved(arrays(number), told, states))
    return path


@pytest.fixture
def parent(plan_of: PlanOf, tmp_path: Path) -> Path:
    """The storage of a parent of ten rounds whose checkpoints of rounds 4 and 6 are kept, and whose best is of 5."""
    for number in (4, 6):
        checkpoint(tmp_path, plan_of(), number)
    best = Saved(arrays(5), {"round": 5, "digest": digest(arrays(5)), "metrics": {"loss": 0.5}})
    write(tmp_path / "models" / "best.safetensors", best)
    return tmp_path


def forked(plan: Plan, storage: Path, number: int) -> Origin:
    path = storage / "checkpoints" / f"round-{number:07d}.safetensors"
    return Origin(plan.model_copy(update={"initial_model": InitialModel(round=number)}), path)


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_a_models_file(plan_of: PlanOf, tmp_path: Path, kind: str) -> None:
    """Its arrays come in the worker's order; nothing else is taken from it, and rounds begin with 1."""
    path = tmp_path / f"model.{kind}"
    (np.savez(path, **arrays(7)) if kind == "npz" else save_file(arrays(7), path))
    known = InitialModel(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    origin = Origin(plan_of().model_copy(update={"initial_model": known}), path)
    origin.check()
    start = origin.start(GIVEN)
    assert start.model.manifest == GIVEN.manifest
    assert all((array == 7).all() for array in start.model.weights.values())
    assert (start.round, start.states, start.best, origin.ledgers) == (0, {}, None, ())


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"a": np.zeros((2, 3), "f8")}, "array a float64[2, 3] should be a float64[2, 2]"),
        ({"a": np.zeros((2, 2), "f4")}, "array a float32[2, 2] should be a float64[2, 2]"),
        ({"b": None}, "array 'b' is missing"),
        ({"c": np.zeros(1, "f4")}, "array 'c' is not in the model"),
        ({"a": np.zeros((2, 2), "i8")}, "array 'a' has dtype 'int64'"),
        ({"b": np.full(2, np.inf, "f4")}, "array 'b' holds 2 values that are not finite"),
        ({"b": np.array([{}, {}])}, "is no model that can be read"),
    ],
)
def test_arrays_that_do_not_fit(
    plan_of: PlanOf, tmp_path: Path, wrong: dict[str, Any], complaint: str
) -> None:
    """Each is named with what it is and what it should be; nothing is unpickled."""
    held = {name: array for name, array in {**arrays(7), **wrong}.items() if array is not None}
    np.savez(tmp_path / "m.npz", **held)
    origin = Origin(plan_of().model_copy(update={"initial_model": InitialModel()}), tmp_path / "m.npz")
    with pytest.raises(MismatchError, match="spec.initialModel") as error:
        origin.start(GIVEN)
    assert complaint in str(error.value)


def test_another_file(plan_of: PlanOf, tmp_path: Path) -> None:
    """One that is gone, that has another digest, or is no model is refused, and so is one that nobody spoke of."""
    plan = plan_of().model_copy(update={"initial_model": InitialModel(sha256="a" * 64)})
    (tmp_path / "text").write_text("no model")
    with pytest.raises(MismatchError, match="gone cannot be read: No such file"):
        Origin(plan, tmp_path / "gone").check()
    with pytest.raises(MismatchError, match="is not the digest of"):
        Origin(plan, tmp_path / "text").check()
    with pytest.raises(MismatchError, match="spec.initialModel: .*text"):
        Origin(plan, tmp_path / "text").start(GIVEN)
    for one, path in ((plan, None), (plan_of(), tmp_path / "text")):
        with pytest.raises(MismatchError, match="expected both or neither"):
            Origin.of(one, path)
    assert Origin.of(plan_of(), None) is None


def test_a_checkpoint_of_another_job(plan_of: PlanOf, parent: Path) -> None:
    """Rounds go on after the checkpoint's, with all that is remembered, and the best so far where it is older."""
    start = forked(plan_of(), parent, 6).start(GIVEN)
    assert (start.round, set(start.states)) == (6, {"strategy", "0", "sums"})
    assert start.best is not None
    assert start.best.facts["metrics"] == {"loss": 0.5}
    assert forked(plan_of(), parent, 4).start(GIVEN).best is None


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"strategy": Extension(name="fedprox", options={"mu": 0.5})}, {"0", "sums"}),
        ({"compression": (Extension(name="float16"),)}, {"strategy", "sums"}),
        ({"target": Target(metric="accuracy", at_least=0.5)}, {"0", "strategy", "sums"}),
    ],
)
def test_what_is_another_one_begins_anew(
    plan_of: PlanOf, parent: Path, changes: dict[str, Any], kept: set[str]
) -> None:
    """What another strategy or stage remembered is nothing to this one; a best by another metric is none."""
    start = forked(plan_of().model_copy(update=changes), parent, 6).start(GIVEN)
    assert set(start.states) == kept
    assert (start.best is None) == ("target" in changes)


def test_a_checkpoint_that_is_no_more(plan_of: PlanOf, parent: Path) -> None:
    """The sentence names those that are there, and the field that keeps more."""
    with pytest.raises(
        MismatchError, match=r"round-0000005.*; there are round-0000004.*, round-0000006.*keep"
    ):
        forked(plan_of(), parent, 5).check()


def test_a_checkpoint_that_is_not_as_written(plan_of: PlanOf, parent: Path) -> None:
    """A changed byte, and a checkpoint of another round under this name, are found."""
    path = parent / "checkpoints" / "round-0000006.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(MismatchError, match="is damaged"):
        forked(plan_of(), parent, 6).start(GIVEN)
    path.write_bytes((parent / "checkpoints" / "round-0000004.safetensors").read_bytes())
    with pytest.raises(MismatchError, match="is the checkpoint of round 4, not of 6"):
        forked(plan_of(), parent, 6).start(GIVEN)


def test_a_job_is_not_its_own_fork(plan_of: PlanOf, tmp_path: Path) -> None:
    """Its own checkpoint is refused, whatever else fits."""
    plan = plan_of().model_copy(update={"job": Job(name="test", namespace="default", uid="parent")})
    checkpoint(tmp_path, plan_of(), 3)
    with pytest.raises(MismatchError, match="a fork has a uid of its own"):
        forked(plan, tmp_path, 3).start(GIVEN)
