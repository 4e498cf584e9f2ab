"""Jobs with secure aggregation that lose workers at each step of a session: the right sum, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fl_core.shortfall import LOST, SILENT, STALLED
from fl_server.protection import GRACE_SECONDS, STEP_SECONDS
from tests.rounds.secure import SecureRun, in_the_clear, models, resume, runs

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(280)]

OTHERS = ["worker-0", "worker-2", "worker-3"]
EVERYBODY = [f"worker-{index}" for index in range(4)]

LEFT: dict[str, list[str]] = {
    "advertise": OTHERS,
    "share": OTHERS,
    "mask": OTHERS,
    "upload-0": OTHERS,
    "upload-2": OTHERS,
    "sign": EVERYBODY,
    "unmask": EVERYBODY,
}
"""At which step worker 1 falls silent, and whose updates are then in the sum: whoever's vector was whole."""

KILLED = ["advertise", "mask", "upload-2", "unmask"]
STOPPED = [step for step in LEFT if step not in KILLED]
"""Each step is tried here in one of both ways; in every way by `matrix_secure.py`."""

NOT_READY = "advertise"
"""Once ranges are known a worker advertises before it is ready: it is missed like one that dies in training."""

QUIET = {"evaluation": {"everyRounds": 1000}}
SIZE = 600_000
"""Elements, so that a vector travels in three frames behind its head, numbered 1 to 3."""

SLACK_SECONDS = 10.0
"""What a round may take beyond what its rules say, on a machine that does other things too."""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs of four workers, of whom three open a sum."""
    with runs(tmp_path) as build:
        yield build


def killed_at(run: SecureRun, steps: Sequence[str], *, purpose: str = "update") -> None:
    """Kill worker 1 at one step in every other round, from the second on, and start it again in the round after.

    One that comes back while it is waited for would take part in its own round.
    """
    for number, step in enumerate(steps):
        run.at("worker-1", f"{purpose}.{step}.{2 * number + 2}", "kill")
        run.hold(f"train.{2 * number + 3}", 0, 2, 3)
    run.begin()
    for number in range(len(steps)):
        assert run.code("worker-1") == -9
        run.wait_at("worker-0", f"train.{2 * number + 3}")
        run.come_back(1)
        run.let_go(f"train.{2 * number + 3}", 0, 2, 3)
    assert run.ends() == 0, run.said("server")


def test_a_worker_killed_at_a_step_costs_nobody_the_sum(job: Callable[..., SecureRun]) -> None:
    """The sum is, to the bit, that of the vectors that were whole; the others wait for nothing; it comes back."""
    run = job(rounds=2 * len(KILLED) + 2, size=SIZE, **QUIET)
    killed_at(run, KILLED)
    check_killed(run, KILLED)


def check_killed(run: SecureRun, steps: Sequence[str]) -> None:
    """Each round with a death is one attempt with the right members; in the last one everybody is back."""
    rounds = run.rounds()
    assert models(run) == in_the_clear(run)
    assert [row["attempt"] for row in rounds] == [1] * len(rounds)
    for number, step in enumerate(steps):
        row = rounds[2 * number + 1]
        assert row["reporters"] == LEFT[step], step
        # Server and scheduler give it up equally late: either may be the first to say so.
        assert list(row["dropouts"]) == ["worker-1"], step
        assert row["dropouts"]["worker-1"] in ({SILENT} if step == NOT_READY else LOST), step
        assert row["seconds"]["secure"] < GRACE_SECONDS + SLACK_SECONDS < STEP_SECONDS
    assert rounds[-1]["reporters"] == EVERYBODY


def test_a_worker_that_comes_back_in_a_session_is_dead_for_it(job: Callable[..., SecureRun]) -> None:
    """It is asked again, but told that nothing is expected of it any more; it takes part in the next round."""
    run = job(rounds=3, **QUIET)
    run.at("worker-1", "update.share.2", "kill")
    run.at("scheduler", "return", str(STEP_SECONDS))
    run.hold("update.mask.2", 0)
    run.begin()
    run.wait_at("worker-0", "update.mask.2")
    run.come_back(1)
    run.wait_said("worker-1", "the server is Aggregating in round 2")
    run.let_go("update.mask.2", 0)
    assert run.ends() == 0
    assert [row["reporters"] for row in run.rounds()] == [EVERYBODY, OTHERS, EVERYBODY]
    assert models(run) == in_the_clear(run)


def test_a_stopped_worker_is_out_after_the_steps_patience(job: Callable[..., SecureRun]) -> None:
    """Stopped at a step, a worker holds the others up for one step's patience, and is in the next round again."""
    stopped_at(job, STOPPED)


def stopped_at(job: Callable[..., SecureRun], steps: Sequence[str]) -> None:
    """Stop worker 1 at one step in each round from the second on, and wake it when the round is over."""
    patience = 2.0
    run = job(rounds=len(steps) + 2, size=SIZE, selection={"stallSeconds": 2 * patience}, **QUIET)
    run.at("server", "patience", str(patience))
    for number, step in enumerate(steps):
        run.at("worker-1", f"update.{step}.{number + 2}", "stop")
    run.begin()
    for number, step in enumerate(steps):
        run.wait_at("worker-1", f"update.{step}.{number + 2}")
        run.wait_recorded(number + 2)
        resume(run.processes["worker-1"])
    assert run.ends() == 0
    rounds = run.rounds()
    assert models(run) == in_the_clear(run)
    for row, step in zip(rounds[1:-1], steps, strict=True):
        assert row["reporters"] == LEFT[step], step
        found = {STALLED, SILENT} if step == NOT_READY else {STALLED}
        assert set(row["dropouts"].values()) <= found, step
        assert row["seconds"]["secure"] < 2 * patience + SLACK_SECONDS < STEP_SECONDS
    assert rounds[0]["reporters"] == rounds[-1]["reporters"] == EVERYBODY


def test_too_few_left_is_tried_again(job: Callable[..., SecureRun]) -> None:
    """Two deaths before the signatures cost an attempt, with the same candidates after; two at them one with both."""
    run = job(rounds=5, **QUIET)
    two_die(run, "update.mask.2")
    run.hold("train.3", 0, 3)
    two_die(run, "update.sign.4")
    run.begin()
    for _ in range(2):
        assert [run.code(f"worker-{index}") for index in (1, 2)] == [-9, -9]
        run.come_back(1, 2)
        run.let_go("train.3", 0, 3)
    assert run.ends() == 0
    assert models(run) == in_the_clear(run)
    second, third, fourth, fifth = run.rounds()[1:]
    assert [row["result"] for row in (second, third, fourth, fifth)] == ["Committed"] * 4
    assert (last := second["attempt"]) > 1  # 2, if they are back before their lease is over
    few = "2 signatures, fewer than the 3 that are needed"
    assert (fourth["attempt"], fourth["reporters"]) == (2, EVERYBODY)
    assert [row["reason"] for row in run.log("server") if row["event"] == "no sum"] == [
        "round 2, attempt 1, update: 2 vectors, fewer than the 3 that are needed",
        f"round 4, attempt 1, update: {few}",
    ]
    sought = [row for row in run.sessions() if row["round"] == 2 and row["purpose"] == "update"]
    assert [(row["attempt"], row.get("candidates")) for row in sought] == [
        (1, [0, 1, 2, 3]),
        (last, [0, 1, 2, 3]),
        (last, None),
    ]


def two_die(run: SecureRun, point: str) -> None:
    """Kill workers 1 and 2 there."""
    for index in (1, 2):
        run.at(f"worker-{index}", point, "kill")


def test_too_few_left_ends_the_job_if_it_says_so(job: Callable[..., SecureRun]) -> None:
    """With `onShortfall: Fail` the server ends with its own code and says how many were left, within moments."""
    run = job(selection={"onShortfall": {"action": "Fail"}}, **QUIET)
    two_die(run, "range.mask.1")
    run.begin()
    assert run.ends() == 68
    assert "round 1, attempt 1: round 1, attempt 1, range: 2 vectors, fewer than the 3" in run.said("server")
    assert run.rounds() == []


def test_spare_workers_are_let_go_without_a_session(job: Callable[..., SecureRun]) -> None:
    """Of four asked for three the last to finish is told that it is too late, and has signed and shared nothing."""
    run = job(rounds=1, selection={"perRound": 3, "extra": 1}, **QUIET)
    run.hold("train.1", 3)
    run.hold("range.mask.1", 0)
    run.begin()
    run.wait_at("worker-0", "range.mask.1")
    run.let_go("train.1", 3)
    run.wait_said("worker-3", "the server is Aggregating in round 1")
    run.let_go("range.mask.1", 0)
    assert run.ends() == 0
    (row,) = run.rounds()
    assert row["reporters"] == ["worker-0", "worker-1", "worker-2"]
    assert row["dropouts"] == {}
    assert not (run.folder / "worker-3" / "sums.jsonl").exists()
    assert (run.folder / "worker-0" / "sums.jsonl").exists()
