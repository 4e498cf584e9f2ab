from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fl_core.errors import StorageError
from fl_core.models import StoredModel, best_model, newest_model, write_npz, write_safetensors
from fl_core.record import Head, written
from fl_core.weights import Array, digest
from fl_server.checkpoints import Checkpoints, Saved, write


def model(value: float) -> dict[str, Array]:
    return {"file": np.full(3, value, "f4"), "a/b": np.full((2, 2), value, "f4")}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with checkpoints of the rounds 0 to 4; a round's model holds its number."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "plan", keep=9)
    for number in range(5):
        checkpoints.save(saved(number, states={"strategy": {"velocity": np.zeros(2, "f4")}}))
    return tmp_path


def saved(number: int, **more: Any) -> Saved:
    weights = model(number)
    return Saved(weights, {"round": number, "plan": "plan", "digest": digest(weights)}, **more)


def keep_final(storage: Path, number: int) -> None:
    write(storage / "models" / "last.safetensors", saved(number))


def test_a_checkpoint(storage: Path) -> None:
    """Without a final model the newest one is that of the newest checkpoint: its arrays, not what else it holds."""
    found = newest_model(storage)
    assert (found.round, list(found.arrays), found.parameters) == (4, ["file", "a/b"], 7)


def test_damaged_checkpoints(storage: Path) -> None:
    """Checkpoints that are cut off, or hold another model than they say, are passed over."""
    newest, second = (storage / "checkpoints" / f"round-000000{number}.safetensors" for number in (4, 3))
    newest.write_bytes(newest.read_bytes()[:-1])
    content = bytearray(second.read_bytes())
    content[content.index(np.full(3, 3, "f4").tobytes())] ^= 1
    second.write_bytes(content)
    assert newest_model(storage).round == 2


def test_a_checkpoint_that_the_record_does_not_have(storage: Path) -> None:
    """One with other weights, written as the server writes them, is not taken for the newest model."""
    row = {"round": 4, "result": "Committed", "plan": "plan", "model": digest(model(4))}
    (storage / "metrics.jsonl").write_bytes(written(Head.of("plan").bound(row)) + b"\n")
    assert newest_model(storage).round == 4
    forged = Saved(model(7), {"round": 4, "plan": "plan", "digest": digest(model(7))})
    write(storage / "checkpoints" / "round-0000004.safetensors", forged)
    assert newest_model(storage).round == 3


@pytest.mark.parametrize(("final", "newest"), [(4, "last"), (2, "round-0000004")])
def test_the_final_model(storage: Path, final: int, newest: str) -> None:
    """The final model is taken, unless the job has gone on since."""
    keep_final(storage, final)
    assert newest_model(storage).path.stem == newest


def test_nothing_committed(tmp_path: Path) -> None:
    """Initial weights are no model of the job."""
    Checkpoints(tmp_path / "checkpoints", "plan", keep=9).save(saved(0))
    with pytest.raises(StorageError, match="no round has been committed"):
        newest_model(tmp_path)
    with pytest.raises(StorageError, match="no round was evaluated"):
        best_model(tmp_path)


def test_npz(storage: Path, tmp_path: Path) -> None:
    """Arrays of any name, `file` too, are read by numpy as they were, in the model's order."""
    write_npz(newest_model(storage), tmp_path / "m.npz")
    read = np.load(tmp_path / "m.npz")
    assert read.files == ["file", "a/b"]
    for name, array in model(4).items():
        np.testing.assert_array_equal(read[name], array)


def test_safetensors(storage: Path, tmp_path: Path) -> None:
    """A checkpoint's arrays are written alone; a final model is copied, byte for byte."""
    write_safetensors(newest_model(storage), tmp_path / "m.safetensors")
    assert set(load_file(tmp_path / "m.safetensors")) == {"file", "a/b"}
    assert StoredModel.read(tmp_path / "m.safetensors").facts["digest"] == digest(model(4))
    keep_final(storage, 4)
    write_safetensors(newest_model(storage), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == newest_model(storage).path.read_bytes()


def test_a_foreign_file(tmp_path: Path) -> None:
    """A safetensors file that no server wrote is a model of which nothing is known."""
    save_file({"w": np.zeros(2, "f4")}, tmp_path / "w.safetensors")
    assert StoredModel.read(tmp_path / "w.safetensors").round == 0


@pytest.mark.parametrize("odd", ["NaN", "[" * 5_000 + "]" * 5_000])
def test_facts_that_nobody_could_have_sealed(tmp_path: Path, odd: str) -> None:
    """A file that claims a seal over what JSON cannot hold is refused like any that is damaged."""
    path = tmp_path / "odd.safetensors"
    told = f'{{"arrays": ["w"], "facts": {{"round": 1, "odd": {odd}}}, "sha256": "x", "states": {{}}}}'
    save_file(model(1), path, {"fljob": told})
    with pytest.raises(StorageError, match="is no safetensors file that can be read"):
        StoredModel.read(path)


def test_no_place(storage: Path, tmp_path: Path) -> None:
    """Where a file cannot be written, one sentence says so, and nothing is left."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        write_npz(newest_model(storage), tmp_path / "missing" / "m.npz")
    assert sorted(tmp_path.rglob("*")) == before
