"""Hospitals that know each other's authorities: with their word a job trains, and a made-up worker gets no sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.fl_core.secagg.hospitals import hospital
from tests.rounds.secure import SecureRun, in_the_clear, models, runs

pytestmark = pytest.mark.rounds

POLICY = """\
secureAggregation: {{members: 3}}
organisations:
  atLeast: 2
  authorities: [North.pem, South.pem]
  certificate: {certificate}
  key: {key}
"""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs of four workers."""
    with runs(tmp_path) as build:
        yield build


def began(run: SecureRun, names: Sequence[str]) -> None:
    """Start all processes, each worker with the policy of its hospital."""
    folder = run.folder / "policies"
    run.scheduler()
    run.server()
    for name in ("North", "South"):
        hospital(name).write(folder)
    for index, name in enumerate(names):
        policy = folder / f"{index}.yaml"
        policy.write_text(POLICY.format(**hospital(name).write(folder)) if name else "{}")
        run.worker(index, policy=str(policy))


def test_hospitals_that_know_each_other_train(job: Callable[..., SecureRun]) -> None:
    """Two workers of each: every sum opens, and the models are those of the same sums in the clear."""
    run = job(tied=False, rounds=2)
    began(run, ["North", "South", "North", "South"])
    assert run.ends() == 0
    assert models(run) == in_the_clear(run)
    assert [len(row["reporters"]) for row in run.rounds()] == [4, 4]


def test_a_made_up_worker_gets_no_sum(job: Callable[..., SecureRun]) -> None:
    """The fourth has a good certificate of the job and nobody's word: the others say so and hand in nothing."""
    run = job(tied=False, rounds=1, selection={"onShortfall": {"action": "Fail"}})
    began(run, ["North", "South", "North", ""])
    assert run.ends() != 0
    assert not models(run)
    for index in range(3):
        assert "no organisation endorses worker-3" in run.said(f"worker-{index}")


def test_an_endorsement_that_partners_would_refuse_ends_the_worker(job: Callable[..., SecureRun]) -> None:
    """The site that made the mistake is told, at once, and not the others in their sums."""
    run = job(tied=False)
    run.scheduler()
    run.server()
    folder = run.folder / "policies"
    for name in ("North", "South"):
        hospital(name).write(folder)
    (folder / "0.yaml").write_text(POLICY.format(**hospital("East").write(folder)))
    run.worker(0, policy=str(folder / "0.yaml"))
    assert run.code("worker-0") == 67
    assert "East-site.pem does not do: worker-0 is endorsed by O=East" in run.said("worker-0")
