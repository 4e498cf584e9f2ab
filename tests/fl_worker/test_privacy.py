"""What leaves a worker under differential privacy: a short update with its part of the noise, and no other number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fl_core.errors import ProtocolError, SpecError, UpdateError
from fl_core.extensions import Extension
from fl_core.plan import AdaptiveClip, Plan, SecureAggregation
from fl_core.plan import Privacy as Settings
from fl_core.privacy.job import release_of, wire_of
from fl_core.privacy.mechanisms import skellam as noisy
from fl_core.secagg.job import whole_sum_of
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_worker.privacy import Privacy
from fl_worker.product import Product
from fl_worker.protection import Protection

PlanOf = Callable[..., Plan]

SECURE = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
LONG = {"w": np.full((40, 25), 3.0, "f4"), "b": np.full(500, -1.0, "f8")}
PROGRAM = """
import numpy as np
class Model:
    def weights(self): return {"w": np.zeros(200, np.float32)}
    def train(self, weights): return {"w": weights["w"] + np.float32(2)}, 7, {"loss": 0.5}
    def evaluate(self, weights): return {"score": 0.25, "examples": 4}
def task(config, site):
    return Model()
"""


def settings(
    name: str, *, measured: bool = True, noise: float = 2.0, adaptive: AdaptiveClip | None = None
) -> Settings:
    mechanism = Extension(name=name, options={"clip": 1.0, "noise_multiplier": noise})
    return Settings(
        unit="worker",
        mechanism=mechanism,
        adaptive_clip=adaptive,
        epsilon=8,
        delta=1e-5,
        corrupt=1,
        measured=measured,
    )


def concealed(plan: Plan) -> Any:
    privacy = Privacy.of(plan)
    assert privacy is not None
    return privacy.concealed(LONG)


def test_an_update_is_cut_to_whole_units(plan_of: PlanOf) -> None:
    """Under gaussian a worker hands in whole numbers of bounded length, exact in what travels in the clear."""
    plan = plan_of(privacy=settings("gaussian"))
    made = concealed(plan)
    most = release_of(plan, Manifest.of(LONG)).sensitivity
    assert Manifest.of(made) == wire_of(Manifest.of(LONG))
    assert all(np.array_equal(array, np.rint(array)) for array in made.values())
    assert 0 < sum(float((array.astype("f8") ** 2).sum()) for array in made.values()) <= most.l2_squared


def test_two_updates_have_different_noise(plan_of: PlanOf) -> None:
    """Rounding and noise are private and drawn anew, whatever the job's seed is."""
    for name in ("gaussian", "skellam", "local"):
        plan = plan_of(privacy=settings(name), secure_aggregation=SECURE)
        one, other = concealed(plan), concealed(plan)
        assert not np.array_equal(one["w"], other["w"])


def test_skellams_share_is_that_of_an_honest_survivor(plan_of: PlanOf) -> None:
    """The noise of `minimum` less the corrupt workers makes all of it, so a worker adds one part of that."""
    plan = plan_of(privacy=settings("skellam", noise=8.0), secure_aggregation=SECURE, per_round=5, minimum=4)
    release = release_of(plan, Manifest.of(LONG))
    assert release.honest == 3
    noise = np.concatenate([array.reshape(-1) for array in concealed(plan).values()])
    assert noise.std() == pytest.approx((release.variance(8.0) / 3) ** 0.5, rel=0.1)


def test_numbers_of_the_training_stay_with_the_worker(write: Any) -> None:
    """Neither examples nor metrics are handed in, and every update weighs the same."""
    written = write(PROGRAM)
    learner = replace(
        written.learner(),
        privacy=Privacy.of(written.plan.model_copy(update={"privacy": settings("gaussian")})),
    )
    done = learner.train(learner.initial(), round=1, states=(), moved=lambda: None)
    assert (done.examples, done.metrics) == (0, {})
    assert (learner.weight(7), replace(learner, privacy=None).weight(7)) == (1, 7)


@pytest.mark.parametrize("name", ["gaussian", "local", "skellam"])
@pytest.mark.parametrize(
    "made",
    [
        'weights["w"] * np.nan, 7, {"loss": float("nan")}',
        'weights["w"] + np.float32("inf"), 7',
        'weights["w"], 0',
    ],
)
def test_no_update_is_refused_for_its_values(write: Any, name: str, made: str) -> None:
    """What is not finite, or made of no example, is handed in as zeros with noise: to decline would tell of it."""
    arrays, _, counts = made.partition(", ")
    text = PROGRAM.replace('weights["w"] + np.float32(2)}, 7, {"loss": 0.5}', f"{arrays}}}, {counts}")
    written = write(text)
    changes = {"privacy": settings(name), "secure_aggregation": SECURE if name == "skellam" else None}
    learner = replace(written.learner(), privacy=Privacy.of(written.plan.model_copy(update=changes)))
    update = learner.train(learner.initial(), round=1, states=(), moved=lambda: None).update["w"]
    assert np.isfinite(update).all()
    assert np.any(update) == (name != "gaussian")


def test_nothing_is_measured_where_metrics_are_suppressed(write: Any) -> None:
    """A server that asks for measurements all the same gets none."""
    written = write(PROGRAM)
    plan = written.plan.model_copy(update={"privacy": settings("gaussian", measured=False)})
    learner = replace(written.learner(), privacy=Privacy.of(plan))
    with pytest.raises(UpdateError, match=r"spec\.privacy\.metrics is Suppressed"):
        learner.evaluate(learner.initial(), moved=lambda: None)


@pytest.mark.parametrize("purpose", ["range"])
def test_ranges_of_updates_without_noise_are_not_told(plan_of: PlanOf, purpose: str) -> None:
    """A server that wants to sum ranges of whole numbers is refused: their sum has no noise."""
    plan = plan_of(privacy=settings("gaussian"), secure_aggregation=SECURE, minimum=3)
    own = Protection(plan, None, Manifest.of(LONG), int)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="wants 'range' summed"):
        own._part(pb.Opening(purpose=purpose), pb.Context(), "model", Product(0, {}, LONG))


def test_local_noise_goes_the_usual_way(plan_of: PlanOf) -> None:
    """What holds all of its noise already has no need of whole numbers."""
    plan = plan_of(privacy=settings("local"), secure_aggregation=SECURE, minimum=3)
    assert whole_sum_of(plan, Manifest.of(LONG)) is None
    assert whole_sum_of(plan_of(secure_aggregation=SECURE, minimum=3), Manifest.of(LONG)) is None


ADAPTIVE = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=3.0)


def test_a_worker_votes_on_the_norm_that_came_with_the_model(plan_of: PlanOf) -> None:
    """+1 where its update is not longer than the norm in force, else -1; nothing where the norm stays."""
    length = float(np.sqrt(sum((array.astype("f8") ** 2).sum() for array in LONG.values())))
    moving = plan_of(privacy=settings("gaussian", adaptive=ADAPTIVE), secure_aggregation=SECURE, minimum=3)
    own, steady = Privacy.of(moving), Privacy.of(plan_of(privacy=settings("gaussian")))
    assert own is not None
    assert steady is not None
    votes = [own.vote(LONG, clip=clip) for clip in (0.0, length * 0.999, length * 1.001)]
    assert votes == [-1, -1, 1]
    assert steady.vote(LONG) == 0


@pytest.mark.parametrize("name", ["gaussian", "skellam"])
def test_an_update_is_cut_to_the_norm_in_force(
    plan_of: PlanOf, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same units stand for whatever norm came: its length in units does not tell a shorter norm from a longer."""
    plan = plan_of(privacy=settings(name, adaptive=ADAPTIVE), secure_aggregation=SECURE, minimum=3)
    own, release = Privacy.of(plan), release_of(plan, Manifest.of(LONG))
    assert own is not None
    monkeypatch.setattr(noisy, "skellam", lambda size, **_: np.zeros(size, "i8"))
    length = float(np.sqrt(sum((array.astype("f8") ** 2).sum() for array in LONG.values())))
    for clip in (0.5, 2 * length):
        made = own.concealed(LONG, clip=clip)
        told = np.sum(made["w"].astype("f8")) * clip / release.units
        assert told == pytest.approx(3000 * min(1, clip / length), rel=0.02)
        assert sum(array.size for array in made.values()) == release.dimension


def test_noise_on_a_vote_is_the_workers_own(plan_of: PlanOf) -> None:
    """Under skellam a vote is handed in with a share of the noise, so that no two are alike for long."""
    plan = plan_of(privacy=settings("skellam", adaptive=ADAPTIVE), secure_aggregation=SECURE, minimum=3)
    own = Privacy.of(plan)
    assert own is not None
    assert len({own.vote(LONG) for _ in range(40)}) > 2


def test_noise_for_a_whole_round_is_not_made_for_a_part_of_it(plan_of: PlanOf) -> None:
    """A plan with buckets, which no compiler makes, would leave too little noise in each sum: the worker refuses it."""
    secure = SECURE.model_copy(update={"buckets": 4})
    plan = plan_of(privacy=settings("skellam"), secure_aggregation=secure, minimum=3)
    own = Privacy.of(plan)
    assert own is not None
    with pytest.raises(SpecError, match=r"spec.secureAggregation.buckets is 4; with spec.privacy expected 1"):
        own.concealed(LONG)
