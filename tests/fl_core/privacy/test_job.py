"""What both ends derive from a plan: the same release, with room for all of its noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fl_core.errors import MismatchError, SpecError
from fl_core.extensions import Extension
from fl_core.plan import Plan, Privacy, SecureAggregation
from fl_core.privacy.job import honest_of, meaning_of, mechanism_of, opening_of, release_of, released
from fl_core.weights import ArraySpec, Manifest

PlanOf = Callable[..., Plan]

SHAPE = Manifest((ArraySpec("w", "float32", (100, 40)), ArraySpec("b", "float64", ())))


def private(name: str, *, noise: float = 2.0, corrupt: int = 1) -> Privacy:
    mechanism = Extension(name=name, options={"clip": 1.0, "noise_multiplier": noise})
    return Privacy(unit="worker", mechanism=mechanism, epsilon=8, delta=1e-5, corrupt=corrupt, measured=True)


def secure(bits: int = 32) -> SecureAggregation:
    return SecureAggregation(profile="cross-silo", tolerate=None, bits=bits, max_examples=9)  # type: ignore[arg-type]


def test_a_release_follows_from_plan_and_shape(plan_of: PlanOf) -> None:
    """Dimension, units and honest survivors are those of the model and the quorum; a context names them all."""
    plan = plan_of(privacy=private("skellam", corrupt=2), secure_aggregation=secure(), per_round=9, minimum=7)
    release = release_of(plan, SHAPE)
    assert (release.dimension, release.honest, honest_of(plan)) == (4001, 5, 5)
    assert meaning_of(release) == f"4001 values, {release.units} units, 5 honest"


def test_only_shares_need_honest_survivors(plan_of: PlanOf) -> None:
    """A server's noise, and a worker's own, are whole by themselves."""
    for name in ("gaussian", "local"):
        assert release_of(plan_of(privacy=private(name)), SHAPE).honest == 1


@pytest.mark.parametrize("bits", [16, 32])
def test_all_shares_fit_into_the_ring(plan_of: PlanOf, bits: int) -> None:
    """The sum of all updates and seven deviations of all shares stays below half of the ring."""
    plan = plan_of(
        privacy=private("skellam", noise=4.0), secure_aggregation=secure(bits), per_round=30, minimum=21
    )
    release = released(plan, mechanism_of(plan), dimension=4001)
    deviation = (release.variance(4.0) * 30 / 20) ** 0.5
    assert 30 * release.sensitivity.l2 + 7 * deviation < 2 ** (bits - 1)


def test_noise_without_room_is_refused(plan_of: PlanOf) -> None:
    """No resolution is fine enough: the sentence says what would help."""
    plan = plan_of(privacy=private("gaussian", noise=900.0), secure_aggregation=secure(16), minimum=3)
    with pytest.raises(SpecError, match="use more bits"):
        release_of(plan, SHAPE)


def test_the_adversary_is_told_with_numbers(plan_of: PlanOf) -> None:
    """Where workers make the noise together, it is said how many of them may be corrupt."""
    plan = plan_of(privacy=private("skellam", corrupt=2), secure_aggregation=secure(), per_round=9, minimum=7)
    assert opening_of(plan).adversary.endswith("(2 of 9 in a round)")
    assert "of 3" not in opening_of(plan_of(privacy=private("gaussian"))).adversary


def test_a_plan_without_privacy_has_no_mechanism(plan_of: PlanOf) -> None:
    """Nothing is guessed."""
    with pytest.raises(MismatchError, match=r"spec\.privacy is not given"):
        mechanism_of(plan_of())
