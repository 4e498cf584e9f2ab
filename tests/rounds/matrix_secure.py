"""Every death at every step, in minutes: `pytest tests/rounds/matrix_secure.py`; `make test` takes a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fl_core.shortfall import LOST
from tests.rounds import test_secure_loss as loss
from tests.rounds import test_secure_server as server
from tests.rounds.secure import Clear, SecureRun, in_the_clear, models, numbers, runs

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(600)]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs of four workers, of whom three open a sum."""
    with runs(tmp_path) as build:
        yield build


@pytest.mark.parametrize(
    "steps", [list(loss.LEFT)[:4], list(loss.LEFT)[4:]], ids=["before its vector", "after"]
)
def test_a_worker_killed_at_any_step_of_an_update(job: Callable[..., SecureRun], steps: list[str]) -> None:
    """The sum is that of the vectors that were whole; the others wait for nothing; it comes back."""
    run = job(rounds=2 * len(steps) + 2, size=loss.SIZE, **loss.QUIET)
    loss.killed_at(run, steps)
    loss.check_killed(run, steps)


def test_a_worker_stopped_at_any_step_of_an_update(job: Callable[..., SecureRun]) -> None:
    """It holds the others up for one step's patience, and is in the next round again."""
    loss.stopped_at(job, list(loss.LEFT))


@pytest.mark.parametrize("step", ["advertise", "share", "mask", "sign", "unmask"])
def test_a_worker_killed_while_ranges_are_learned(job: Callable[..., SecureRun], step: str) -> None:
    """The ranges are those of the vectors that were whole, and the update is of who is left."""
    run = job(rounds=1, **loss.QUIET)
    run.at("worker-1", f"range.{step}.1", "kill")
    run.begin()
    assert run.ends() == 0, run.said("server")
    (row,) = run.rounds()
    assert row["reporters"] == loss.OTHERS
    assert row["dropouts"]["worker-1"] in LOST
    assert models(run) == in_the_clear(run)


@pytest.mark.parametrize("step", ["advertise", "share", "mask", "sign", "unmask"])
def test_a_worker_killed_while_the_model_is_measured(job: Callable[..., SecureRun], step: str) -> None:
    """The model stays, and what is measured is of the vectors that were whole."""
    run = job(rounds=1)
    run.at("worker-1", f"measure.{step}.1", "kill")
    run.begin()
    assert run.ends() == 0, run.said("server")
    (row,) = run.rounds()
    assert row["reporters"] == loss.EVERYBODY
    clear = Clear(run)
    assert clear.step(range(4)) == row["model"]
    measured = clear.measured(numbers(loss.LEFT[step]))
    assert row["metrics"]["accuracy"] == measured["accuracy"].value


@pytest.mark.parametrize(
    "points",
    [list(server.AGAIN), list(server.SIGNED), list(server.MADE)],
    ids=["before it is signed", "after", "when it is made"],
)
def test_a_server_killed_at_any_step(job: Callable[..., SecureRun], points: list[str]) -> None:
    """Before its commit the round is another attempt's, whether anybody could sign or not; after it, it was made."""
    run = job(rounds=len(points) + 2)
    server.killed_at(run, points)
    server.check_killed(run, points)


@pytest.mark.parametrize("point", ["range.dealing", "range.close", "range.signing", "range.opened"])
def test_a_server_killed_while_ranges_are_learned(job: Callable[..., SecureRun], point: str) -> None:
    """They are learned again, after anybody could sign with the same members."""
    run = job(rounds=2)
    run.at("server", f"{point}.1", "kill")
    run.begin()
    run.serve_again()
    assert run.ends() == 0, run.said("server")
    assert [row["result"] for row in run.rounds()] == ["Committed", "Committed"]
    assert models(run) == in_the_clear(run)


def test_too_few_left_is_a_round_less_if_the_job_says_so(job: Callable[..., SecureRun]) -> None:
    """With `onShortfall: Skip` the round is recorded with its reason, and the next one has the model it began with."""
    run = job(rounds=4, selection={"onShortfall": {"action": "Skip"}}, **loss.QUIET)
    loss.two_die(run, "update.share.2")
    run.begin()
    assert [run.code(f"worker-{index}") for index in (1, 2)] == [-9, -9]
    run.come_back(1, 2)
    assert run.ends() == 0
    rows = run.rounds()
    assert [rows[number]["result"] for number in (0, 1, -1)] == ["Committed", "Skipped", "Committed"]
    assert "2 members that shared, fewer than the 3 that are needed" in rows[1]["reason"]
    assert models(run) == in_the_clear(run)
