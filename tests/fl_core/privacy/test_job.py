"""What both ends derive from a plan: the same release, with room for all of its noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fl_core.errors import MismatchError, ProtocolError, SpecError
from fl_core.extensions import Extension
from fl_core.plan import AdaptiveClip, Plan, Privacy, SecureAggregation
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.costs import GaussianCost, SkellamCost
from fl_core.privacy.job import (
    NEIGHBOURS,
    clip_of,
    cost_of,
    counting_of,
    honest_of,
    meaning_of,
    mechanism_at,
    mechanism_of,
    opening_of,
    release_of,
    released,
)
from fl_core.weights import ArraySpec, Manifest

PlanOf = Callable[..., Plan]

SHAPE = Manifest((ArraySpec("w", "float32", (100, 40)), ArraySpec("b", "float64", ())))


def private(
    name: str, *, noise: float = 2.0, corrupt: int = 1, adaptive: AdaptiveClip | None = None
) -> Privacy:
    mechanism = Extension(name=name, options={"clip": 1.0, "noise_multiplier": noise})
    return Privacy(
        unit="worker",
        mechanism=mechanism,
        adaptive_clip=adaptive,
        epsilon=8,
        delta=1e-5,
        corrupt=corrupt,
        measured=True,
    )


def secure(bits: int = 32) -> SecureAggregation:
    return SecureAggregation(profile="cross-silo", tolerate=None, bits=bits, max_examples=9)  # type: ignore[arg-type]


ADAPTIVE = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=3.0)


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
    assert opening_of(plan).adversary.startswith("everyone, the server and as many")
    assert opening_of(plan).adversary.endswith("(2 of 9 in a round)")
    assert "of 3" not in opening_of(plan_of(privacy=private("gaussian"))).adversary


def test_the_adversary_is_no_stronger_than_the_profile_withstands(plan_of: PlanOf) -> None:
    """In cross-device epsilon is stated against a server that follows the protocol, and no other."""
    sparse = secure().model_copy(update={"profile": "cross-device"})
    plan = plan_of(privacy=private("skellam"), secure_aggregation=sparse, per_round=9, minimum=7)
    told = "everyone, a server that follows the protocol and as many corrupt workers as"
    assert opening_of(plan).adversary.startswith(told)
    assert all(
        "{" not in opening_of(plan_of(privacy=private(name))).adversary for name in ("gaussian", "local")
    )


def test_a_plan_without_privacy_has_no_mechanism(plan_of: PlanOf) -> None:
    """Nothing is guessed."""
    with pytest.raises(MismatchError, match=r"spec\.privacy is not given"):
        mechanism_of(plan_of())


# -- a clip norm that moves


def adaptive_plan(plan_of: PlanOf, name: str, *, count_noise: float = 3.0) -> Plan:
    moving = ADAPTIVE.model_copy(update={"count_noise": count_noise})
    return plan_of(
        privacy=private(name, adaptive=moving), secure_aggregation=secure(), per_round=9, minimum=7
    )


def test_the_update_gives_a_part_of_its_budget_to_the_votes(plan_of: PlanOf) -> None:
    """Update and votes together cost what the stated multiplier says, and the norm in force is the one that came."""
    plan = adaptive_plan(plan_of, "gaussian")
    one = mechanism_at(plan, 0.25)
    assert (one.clip, mechanism_at(plan).clip) == (0.25, 1.0)
    assert one.noise_multiplier == pytest.approx((2.0**-2 - 6.0**-2) ** -0.5)
    update, votes = cost_of(plan, dimension=4001)
    assert votes == GaussianCost(noise_multiplier=6.0)
    both = epsilon([update, votes] * 5, delta=1e-5, neighbours=NEIGHBOURS)
    assert both == pytest.approx(
        epsilon([GaussianCost(noise_multiplier=2.0)] * 5, delta=1e-5, neighbours=NEIGHBOURS)
    )


def test_votes_in_shares_of_noise_are_charged_as_such(plan_of: PlanOf) -> None:
    """Under skellam a whole number of sensitivity 1 hides in the noise of those who are surely honest."""
    _, votes = cost_of(adaptive_plan(plan_of, "skellam"), dimension=4001)
    assert votes == SkellamCost(variance=36.0, l1=1, l2_squared=1)


def test_too_little_noise_on_the_count_is_refused(plan_of: PlanOf) -> None:
    """With half of the noise multiplier the votes alone would cost all there is."""
    for name in ("gaussian", "skellam"):
        with pytest.raises(SpecError, match="more than half of the noise multiplier 2"):
            mechanism_at(adaptive_plan(plan_of, name, count_noise=1.0))


def test_local_noise_counts_no_votes(plan_of: PlanOf) -> None:
    """A mechanism without a count is named, with those that have one."""
    with pytest.raises(SpecError, match="local releases no count of votes; expected gaussian or skellam"):
        counting_of(adaptive_plan(plan_of, "local"))


def test_the_norm_in_force_is_in_the_context(plan_of: PlanOf) -> None:
    """Every bit of it: who was told another one means other units."""
    release = release_of(adaptive_plan(plan_of, "skellam"), SHAPE)
    one, other = (meaning_of(release, clip=clip) for clip in (0.1, 0.1 + 2**-56))
    assert one.endswith(", clip 0.1")
    assert one != other


@pytest.mark.parametrize("clip", [-1.0, float("nan"), float("inf")])
def test_a_norm_that_is_none_is_refused(plan_of: PlanOf, clip: float) -> None:
    """Whatever a server sends with the model is a positive number, and nothing at all where the norm stays."""
    moving, steady = adaptive_plan(plan_of, "gaussian"), plan_of(privacy=private("gaussian"))
    for plan in (moving, steady):
        with pytest.raises(ProtocolError, match="came with the model"):
            clip_of(plan, clip)
    with pytest.raises(ProtocolError, match="this job's does not move"):
        clip_of(steady, 0.5)
    assert (clip_of(moving, 0.0), clip_of(moving, 0.5), clip_of(steady, 0.0)) == (1.0, 0.5, 0.0)
