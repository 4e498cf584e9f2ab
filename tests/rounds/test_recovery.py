"""A few cells of the matrix of `matrix_recovery.py`, drawn from a seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fl_core.steps import STEPS
from tests.rounds.matrix_recovery import FAULTS, MOST_SECONDS, ROLES, Row, run

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(300)]

SEED = 4

Cells = list[tuple[Row, str]]


def drawn(seed: int) -> dict[bool, Cells]:
    """Of plain and of secure jobs one cell for each role: each has another fault, and no step comes twice."""
    dice = random.Random(seed)
    faults = dice.sample(list(FAULTS), len(ROLES))
    steps = sorted(dice.sample(STEPS, 2 * len(ROLES)), key=lambda step: step == "unmask")
    plain = [Row(False, role, fault) for role, fault in zip(ROLES, faults, strict=True)]
    secure = [Row(True, role, fault) for role, fault in zip(ROLES, faults[1:] + faults[:1], strict=True)]
    return {False: list(zip(plain, steps[:3], strict=True)), True: list(zip(secure, steps[3:], strict=True))}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_some_faults_at_some_steps(tmp_path: Path, *, secure: bool) -> None:
    """No round is lost or counted twice, each model is the undisturbed job's; all cells are tried by the matrix."""
    run(tmp_path, drawn(SEED)[secure])


def test_a_server_that_was_killed_trains_again_in_time(tmp_path: Path) -> None:
    """In ten seconds from its death in a round; on a busy machine in twice what the whole job took to come so far."""
    server = Row(False, "server", "kill")
    (deed,) = run(tmp_path, [(server, "train")]).report["done"]
    assert deed["back_after"] <= deed["training_after"] < max(MOST_SECONDS, 2 * deed["at"])


@pytest.mark.parametrize("seed", range(SEED, SEED + 20))
def test_each_role_and_each_fault_is_drawn(seed: int) -> None:
    """Both kinds of job have each role and each fault, SIGKILL too; no step or pair of role and fault comes twice."""
    cells = drawn(seed)
    for secure, own in cells.items():
        assert {row.secure for row, _ in own} == {secure}
        assert {row.role for row, _ in own} == set(ROLES)
        assert {row.fault for row, _ in own} == set(FAULTS)
        assert all(step in row.steps for row, step in own)
    everything = [cell for own in cells.values() for cell in own]
    assert len({step for _, step in everything}) == len(everything) == 2 * len(ROLES)
    assert len({(row.role, row.fault) for row, _ in everything}) == len(everything)
