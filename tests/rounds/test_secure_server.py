"""Jobs with secure aggregation whose server or scheduler is killed in the middle of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fl_server.attempts import RESTARTED
from tests.rounds.secure import Clear, SecureRun, in_the_clear, models, numbers, runs

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(280)]

EVERYBODY = [f"worker-{index}" for index in range(4)]

AGAIN = (
    "update.freeze",
    "update.frozen",
    "update.deal",
    "update.dealing",
    "update.dealt",
    "update.close",
    "update.closed",
)
"""Killed there, the server seeks the same sum again, in another attempt."""

SIGNED = ("update.signing", "update.agree", "update.agreed", "update.open", "update.opened", "save")
"""Killed there, it seeks the sum again with the same survivors: somebody may have signed."""

MADE = ("saved", "measure.close", "measure.signing", "measure.opened", "record")
"""Killed there, the model is safe already; if measurements were signed, the same members sign them again."""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs of four workers, of whom three open a sum."""
    with runs(tmp_path) as build:
        yield build


def killed_at(run: SecureRun, points: Sequence[str]) -> None:
    """Kill the server once in every round from the second on, at these points, and start it again each time."""
    for number, point in enumerate(points):
        run.at("server", f"{point}.{number + 2}", "kill")
    run.begin()
    for _ in points:
        run.serve_again()
    assert run.ends() == 0, run.said("server")


def check_killed(run: SecureRun, points: Sequence[str]) -> None:
    """What each round came to, that the models are the right ones, and that no attempt's number went back."""
    rounds = run.rounds()
    assert [row["round"] for row in rounds] == list(range(1, len(points) + 3))
    assert models(run) == in_the_clear(run)
    for number, point in enumerate(points):
        row = rounds[number + 1]
        assert row["reporters"] == EVERYBODY, point
        assert row["attempt"] == (1 if point in MADE else 2), point
        again = [{"attempt": 1, "dropouts": {}, "reason": RESTARTED}]
        assert row.get("earlier", []) == ([] if point in MADE else again), point
        assert row["metrics"], point
    for number in range(1, len(rounds) + 1):
        attempts = [
            row["attempt"] for row in run.sessions() if row["round"] == number and row["purpose"] == "update"
        ]
        assert attempts == sorted(attempts)
    assert {name: run.code(name) for name in (*EVERYBODY, "scheduler")} == dict.fromkeys(
        (*EVERYBODY, "scheduler"), 0
    )


def test_a_server_killed_in_a_session_loses_no_round(job: Callable[..., SecureRun]) -> None:
    """Before and after anybody could sign the round is another attempt's, with everybody in it."""
    points = ["update.dealing", "update.close", "update.signing", "saved", "measure.opened"]
    run = job(rounds=len(points) + 2)
    killed_at(run, points)
    check_killed(run, points)


def test_rare_checkpoints_lose_no_secure_round(job: Callable[..., SecureRun]) -> None:
    """Killed between two rounds of `everyRounds`, the server goes on from the round before, which it kept, too."""
    points = ["saved", "update.signing", "record", "update.agreed"]
    run = job(rounds=len(points) + 2, server={"checkpoint": {"everyRounds": 5, "keep": 1}})
    killed_at(run, points)
    check_killed(run, points)
    kept = sorted(path.name for path in (run.storage / "checkpoints").iterdir())
    assert kept == [f"round-{number:07}.safetensors" for number in (5, 6)]


def test_a_round_that_asks_a_few_goes_on_with_the_same(job: Callable[..., SecureRun]) -> None:
    """Its next attempt would draw others, with whom those to whom shares were dealt out make no sum."""
    few = {"perRound": 3, "minimum": 3}
    run = job(rounds=3, selection=few, workers={"replicas": 5})
    for point in ("range.close.1", "update.close.2"):
        run.at("server", point, "kill")
    run.begin()
    run.serve_again()
    run.serve_again()
    assert run.ends() == 0, run.said("server")
    dealt = {row["round"]: row["candidates"] for row in run.sessions() if "candidates" in row}
    assert [row["attempt"] for row in run.rounds()] == [2, 2, 1]
    assert [numbers(row["reporters"]) for row in run.rounds()] == list(dealt.values())
    assert models(run) == in_the_clear(run)


def test_ranges_of_others_than_the_updates_outlive_the_server(job: Callable[..., SecureRun]) -> None:
    """All four vote for ranges, one is gone when three sign the sum, and the server dies: it needs only these three."""
    run = job(rounds=1)
    for worker in ("worker-1", "worker-2"):
        run.at(worker, "update.mask.1", "kill")
    run.at("server", "update.agreed.1", "kill")
    run.begin()
    assert [run.code(worker) for worker in ("worker-1", "worker-2")] == [-9, -9]
    run.come_back(1)
    run.serve_again()
    assert run.ends() == 0, run.said("server")
    (row,) = run.rounds()
    assert (row["result"], row["reporters"]) == ("Committed", ["worker-0", "worker-1", "worker-3"])
    assert [row["model"]] == [Clear(run).step([0, 1, 3], ranged=range(4))]
    assert list(row["ranges"]) == ["0"]


def test_vectors_of_a_model_that_was_lost_skip_their_round(job: Callable[..., SecureRun]) -> None:
    """Round 4's vectors were sent and not signed when server and round 3's model are lost: round 5 goes on without."""
    run = job(rounds=5)
    run.at("server", "update.close.4", "kill")
    run.begin()
    run.code("server")
    max((run.storage / "checkpoints").glob("round-*")).unlink()
    run.serve_again()
    assert run.ends() == 0, run.said("server")
    rows = list({row["round"]: row for row in run.rounds()}.values())
    clear = Clear(run)
    assert [clear.step(range(4)) for _ in range(2)] == [row["model"] for row in rows[:2]]
    assert [row["result"] for row in rows[2:]] == ["Skipped", "Skipped", "Committed"]
    assert all("workers have sent vectors up to round 4" in row["reason"] for row in rows[2:4])
    clear.skip()
    clear.skip()
    assert rows[4]["model"] == clear.step(range(4))


def test_noise_that_is_drawn_anew_skips_the_round(job: Callable[..., SecureRun]) -> None:
    """Two of four die once their vectors are bound; what they make again has other noise: no sum has it."""
    mechanism = {"name": "local", "clip": 1.0, "noiseMultiplier": 2.0}
    private = {"mechanism": mechanism, "budget": {"epsilon": 50, "delta": 1e-5}}
    run = job(rounds=3, size=100_000, selection={"minimum": 3}, privacy=private)
    for worker in (1, 2):
        run.at(f"worker-{worker}", "update.upload-0.2", "kill")
    run.begin()
    assert [run.code(f"worker-{worker}") for worker in (1, 2)] == [-9, -9]
    run.come_back(1, 2)
    assert run.ends() == 0, run.said("server")
    assert [row["result"] for row in run.rounds()] == ["Committed", "Skipped", "Committed"]
    assert "another vector of this sum was sent before" in run.said("worker-1")


def test_a_scheduler_killed_in_a_session_disturbs_nothing(job: Callable[..., SecureRun]) -> None:
    """Killed while vectors come in and started again, it finds the workers; the session goes on as it was."""
    run = job()
    run.hold("update.mask.2", 0)
    run.begin()
    run.wait_at("worker-0", "update.mask.2")
    run.kill("scheduler")
    run.scheduler(listen=run.announced["scheduler"]["address"])
    run.wait_said("worker-3", "the scheduler does not answer")
    run.let_go("update.mask.2", 0)
    assert run.ends() == 0
    assert [(row["attempt"], row["reporters"]) for row in run.rounds()] == [(1, EVERYBODY)] * 3
    assert models(run) == in_the_clear(run)
