"""A few cells of the matrix of `matrix_recovery.py`, drawn from a seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.rounds.matrix_recovery import CELLS, run

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(300)]

SEED = 7
EACH = 3


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_some_faults_at_some_steps(tmp_path: Path, *, secure: bool) -> None:
    """No round is lost or counted twice, each model is the undisturbed job's; all cells are tried by the matrix."""
    cells = [cell for cell in CELLS if cell[0].secure is secure]
    run(tmp_path, random.Random(SEED).sample(cells, EACH))
