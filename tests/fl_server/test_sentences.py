"""What is said of a damaged storage can be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_core.models import checkpoint_name
from fl_core.plan import Plan
from fl_core.weights import digest
from fl_server.checkpoints import Saved, write
from fl_server.sentences import way_out
from fl_server.storage import Storage
from tests.conftest import plan_of


def saved(plan: Plan, number: int, value: float) -> Saved:
    weights = {"w": np.full(3, value, "f4")}
    facts = {"round": number, "plan": plan.digest, "digest": digest(weights)}
    return Saved(weights, facts, digest=facts["digest"])


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """That of a job of three rounds, with a checkpoint of each."""
    plan = plan_of()
    one = Storage(tmp_path, plan)
    for number in (1, 2, 3):
        made = saved(plan, number, number)
        write(tmp_path / "checkpoints" / checkpoint_name(number), made)
        one.record({"round": number, "result": "Committed", "model": made.digest})
    return one


@pytest.mark.parametrize(
    ("damaged", "stray", "offered"),
    [((), (), "3"), ((3,), (), "2"), ((), (3,), "2"), ((3,), (2,), "1"), ((2, 3), (1,), "N")],
)
def test_a_fork_is_offered_of_what_it_takes(
    storage: Storage, damaged: tuple[int, ...], stray: tuple[int, ...], offered: str
) -> None:
    """The round is that of the newest checkpoint that is whole and in the record; without one it is left open."""
    for number in damaged:
        (storage.folder / "checkpoints" / checkpoint_name(number)).write_bytes(b"damaged")
    for number in stray:
        write(storage.folder / "checkpoints" / checkpoint_name(number), saved(plan_of(), number, 99))
    assert way_out(storage.folder).endswith(f"fl-submit fork RUN|JOB --from-round {offered}")
