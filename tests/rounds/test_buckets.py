"""A job with buckets and a hostile worker, as real processes: it learns by the median of sums, and not by the mean."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fl_core.aggregation.median import Median
from fl_core.errors import MismatchError
from fl_core.secagg import job as secagg
from fl_core.secagg.ranges import Exponents
from fl_core.secagg.ring import public_dither
from fl_core.secagg.summands import RangeSum, Schema, UpdateSum
from fl_core.strategies.fedavg import FedAvg
from fl_core.weights import Manifest, Weights, digest
from fl_worker.policy import SitePolicy
from fl_worker.task import Site
from fl_worker.work import Learner
from tests.rounds.conftest import until
from tests.rounds.secure import SecureRun, models, numbers, plan_of, summed

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(280)]

NUMBERS = itertools.count()
EVERYBODY = tuple(range(12))
HOSTILE = 1
SCALE = -50
"""What the hostile worker makes of its update before it hands it in."""

PROGRAM = f'''
"""Sites that want nearly the same; the hostile one pushes the model away, fifty times as hard."""

import numpy as np

class Hospital:
    def __init__(self, site, config):
        places = np.arange(config["size"], dtype="f4")
        self.goal = np.sin(places) + np.float32(0.02) * np.cos(places + site.index)
        self.site = site

    def weights(self):
        return {{"w": np.zeros(self.goal.size, "f4"), "b": np.ones(3, "f4")}}

    def train(self, weights):
        scale = np.float32({SCALE} if self.site.index == {HOSTILE} else 1)
        step = np.float32(0.6) * (self.goal - weights["w"])
        moved = {{"w": weights["w"] + scale * step, "b": weights["b"] * np.float32(0.9)}}
        return moved, 10 + self.site.index, {{}}

    def evaluate(self, weights):
        return {{"loss": float(((weights["w"] - self.goal) ** 2).mean())}}

def task(config, site):
    return Hospital(site, config)
'''


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Builds runs of twelve workers, or fewer, one of them hostile; their processes end with the test."""
    made: list[SecureRun] = []

    def build(*, secure: dict[str, Any], **spec: Any) -> SecureRun:
        home, module = tmp_path / f"run-{len(made)}", f"poisoned_{next(NUMBERS)}"
        (home / "program").mkdir(parents=True)
        (home / "program" / f"{module}.py").write_text(PROGRAM)
        written = {"workers": {"replicas": len(EVERYBODY)}, **spec}
        plan = plan_of(home / "program" / module, selection={}, secure=secure, size=8, spec=written)
        (home / "plan.json").write_text(plan.to_json())
        made.append(SecureRun(home, plan))
        return made[-1]

    yield build
    for run in made:
        for process in run.processes.values():
            process.kill()
            process.wait()


@dataclass
class Clear:
    """The rounds of a job with buckets in one place: what the sums of its buckets and their median must come to."""

    run: SecureRun
    weights: Weights = field(default_factory=dict)
    exponents: dict[int, Exponents] = field(default_factory=dict)
    round: int = 0

    def __post_init__(self) -> None:
        plan = self.run.plan
        self.learners = [
            Learner.load(
                plan, folder=self.run.program, site=Site(f"worker-{n}", n, plan.workers, seed=plan.seed)
            )
            for n in range(plan.workers)
        ]
        self.weights = self.learners[0].initial()

    def step(self, workers: Sequence[int]) -> str:
        """A round that sums these workers' updates, bucket by bucket; the model's digest."""
        self.round += 1
        dealt = secagg.buckets_of(self.run.plan).dealt(workers)
        parts = [self._mean(bucket, members) for bucket, members in dealt.items() if members]
        self.weights, _ = FedAvg().step(self.weights, Median(hostile=1).reduce(parts[::-1]), {})
        return digest(self.weights)

    def _mean(self, bucket: int, members: Sequence[int]) -> Weights:
        """What the server learns of a bucket."""
        plan = self.run.plan
        made = {
            n: self.learners[n].train(self.weights, round=self.round, states=(), moved=lambda: None)
            for n in members
        }
        manifest, schema = Manifest.of(self.weights), Schema.of(made[members[0]].metrics)
        counted = bucket in self.exponents
        if not counted:
            ranges = RangeSum(manifest)
            votes = summed(ranges, [ranges.encode(one.update) for one in made.values()])
            self.exponents[bucket] = ranges.decode(votes)
        updates = UpdateSum(secagg.ring_of(plan), manifest, self.exponents[bucket], schema, counted=counted)
        vectors = [
            updates.encode(
                one.update,
                weight=one.examples,
                examples=one.examples,
                metrics=one.metrics,
                dither=public_dither(plan.seed, round=self.round, worker=n),
            )
            for n, one in made.items()
        ]
        found = updates.decode(summed(updates, vectors), members=len(members))
        self.exponents[bucket] = found.exponents
        return found.mean()


def losses(run: SecureRun) -> list[float]:
    """The loss of each round's model."""
    return [row["metrics"]["loss"] for row in run.rounds()]


def test_the_median_of_buckets_learns_beside_a_hostile_worker(job: Callable[..., SecureRun]) -> None:
    """A bucket that loses a worker is left out, the others' sums are exact to the bit, the hostile one's is harmless.

    Killed in round 2, the worker is away in round 3 or back already, and in round 4 everybody's bucket has its sum.
    """
    run = job(
        rounds=4, secure={"buckets": 4, "maxExamples": 64}, aggregation={"name": "median", "hostile": 1}
    )
    dealt = secagg.buckets_of(run.plan).dealt(EVERYBODY)
    away = (secagg.buckets_of(run.plan).of(HOSTILE) + 1) % 4
    victim = dealt[away][1]
    others = [worker for worker in EVERYBODY if worker not in dealt[away]]
    run.at(f"worker-{victim}", "update.mask.2", "kill")
    run.hold("train.3", *others)
    run.begin()
    assert run.code(f"worker-{victim}") == -9
    run.come_back(victim)
    run.let_go("train.3", *others)
    assert run.ends() == 0, run.said("server")
    rounds = run.rounds()
    assert [row["attempt"] for row in rounds] == [1] * 4
    assert sorted(numbers(rounds[1]["reporters"])) == others
    assert rounds[1]["leftOut"] == {
        str(
            away % 4
        ): f"round 2, attempt 1, update, bucket {away}: 2 vectors, fewer than the 3 that are needed"
    }
    assert [sorted(numbers(row["reporters"])) for row in (rounds[0], rounds[3])] == [list(EVERYBODY)] * 2
    assert ["leftOut" in row for row in (rounds[0], rounds[3])] == [False, False]
    clear = Clear(run)
    assert models(run) == [clear.step(sorted(numbers(row["reporters"]))) for row in rounds]
    found = losses(run)
    assert 0.05 < found[0] < 0.1
    assert found[0] > found[1] > found[2] > found[3]
    assert found[3] < 0.02


def test_the_mean_does_not(job: Callable[..., SecureRun]) -> None:
    """Summed together, three workers are driven away from what they want by the one that does not want it."""
    run = job(rounds=2, secure={"maxExamples": 64}, workers={"replicas": 4})
    run.begin()
    assert run.ends() == 0, run.said("server")
    first, second = losses(run)
    assert 1 < first < second


def test_single_updates_are_compared_in_the_clear(job: Callable[..., SecureRun]) -> None:
    """Without secure aggregation each worker's update is a part, and the median of three withstands one."""
    median = {"name": "median", "hostile": 1}
    run = job(rounds=3, secure={"enabled": False}, workers={"replicas": 3}, aggregation=median)
    run.begin()
    assert run.ends() == 0, run.said("server")
    clear = Clear(run)
    for number, row in enumerate(run.rounds(), start=1):
        assert numbers(row["reporters"]) == [0, 1, 2]
        made = [
            one.train(clear.weights, round=number, states=(), moved=lambda: None) for one in clear.learners
        ]
        step = Median(hostile=1).reduce([one.update for one in made])
        clear.weights, _ = FedAvg().step(clear.weights, step, {})
        assert row["model"] == digest(clear.weights)
    assert losses(run)[-1] < 0.02


def test_a_sites_floor_counts_for_its_bucket(job: Callable[..., SecureRun]) -> None:
    """Twelve in a round are no four in a sum: a site that asks for four takes no part, and says which number it saw."""
    run = job(
        rounds=1, secure={"buckets": 4, "maxExamples": 64}, aggregation={"name": "median", "hostile": 1}
    )
    for members, seen in ((4, ["a sum of one of 4 buckets", "opens with 3, fewer than 4"]), (3, [])):
        policy = SitePolicy.model_validate({"secureAggregation": {"members": members}})
        if not seen:
            policy.check(run.plan)
            continue
        with pytest.raises(MismatchError) as refused:
            policy.check(run.plan)
        assert all(words in str(refused.value) for words in seen)


AGAIN: dict[str, Any] = {
    "secure": {"buckets": 4, "maxExamples": 64},
    "aggregation": {"name": "median", "hostile": 1},
}
"""Four buckets of three workers each, all of whom a bucket needs; the rule can do without one bucket."""


def test_a_server_killed_with_signed_buckets_loses_no_round(job: Callable[..., SecureRun]) -> None:
    """Killed when the first bucket has come so far, it makes the round again with the same workers in all of them.

    In round 5 a worker of a signed bucket is killed, too, and comes back after the server, which waits for it.
    """
    run = job(rounds=6, **AGAIN)
    victim, *_ = secagg.buckets_of(run.plan).dealt(EVERYBODY)[0]
    others = [index for index in EVERYBODY if index != victim]
    for point in ("range.signing.1", "update.signing.2", "update.agreed.3", "save.4", "update.agree.5"):
        run.at("server", point, "kill")
    run.at(f"worker-{victim}", "update.sign.5", "kill")
    run.hold("update.sign.5", *others)
    run.begin()
    for _ in range(4):
        run.serve_again()
    assert run.code(f"worker-{victim}") == -9
    run.let_go("update.sign.5", *others)
    run.serve_again()
    until(lambda: run.said("server").count('"restored"') == 5, what="the fifth server")
    run.come_back(victim)
    assert run.ends() == 0, run.said("server")
    rows, clear = run.rounds(), Clear(run)
    assert [(row["result"], row["attempt"]) for row in rows] == [("Committed", 2)] * 5 + [("Committed", 1)]
    assert [sorted(numbers(row["reporters"])) for row in rows] == [list(EVERYBODY)] * 6
    assert models(run) == [clear.step(EVERYBODY) for _ in rows]
