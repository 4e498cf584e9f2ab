"""A job's mechanism and release from its plan: what both ends derive alike, so that neither believes the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fl_core.errors import MismatchError, ProtocolError, SpecError
from fl_core.extensions import Extension, build
from fl_core.plan import Plan, Privacy
from fl_core.privacy.chain import Opening
from fl_core.privacy.clipping import LEAST, MOST, AdaptiveClip
from fl_core.privacy.costs import Cost, Neighbours
from fl_core.privacy.mechanisms import Counting, Mechanism, Release
from fl_core.privacy.rounding import MOST_UNITS, resolution
from fl_core.weights import ArraySpec, Manifest

NEIGHBOURS = Neighbours.ADD_OR_REMOVE
"""A worker that is removed counts as one that hands in zeros: the denominator stays the same."""

BITS = 32
"""Of a sum in the clear; a worker's own whole numbers stay far below 2^24, so float32 holds them exactly."""

WIRE = "float32"

FINE = Release(dimension=1, units=MOST_UNITS)
"""As fine as can be, so that nothing is lost to whole numbers."""


def settings_of(plan: Plan) -> Privacy:
    """The plan's settings; refuses a plan that has none."""
    if plan.privacy is None:
        raise MismatchError("this job has no differential privacy (spec.privacy is not given)")
    return plan.privacy


def mechanism_of(plan: Plan) -> Mechanism:
    """The mechanism that the plan names."""
    return _built(settings_of(plan).mechanism)


def _built(extension: Extension) -> Mechanism:
    mechanism: Mechanism = build(extension, within="fl_core.privacy.mechanisms", protocol=Mechanism)
    return mechanism


def adaptive_of(plan: Plan) -> AdaptiveClip | None:
    """How the clip norm moves; None where it stays as the plan has it."""
    own = settings_of(plan).adaptive_clip
    return AdaptiveClip(**own.model_dump()) if own is not None else None


def mechanism_at(plan: Plan, clip: float = 0.0) -> Mechanism:
    """The mechanism as updates go through it where `clip` is the norm in force; 0 where it is the plan's own.

    Where votes on the clip norm are released too, the update gets more noise, so that both cost what one would.
    """
    adaptive, stated = adaptive_of(plan), mechanism_of(plan)
    if adaptive is None:
        return stated
    more = {
        "clip": clip or stated.clip,
        "noise_multiplier": adaptive.update_multiplier(stated.noise_multiplier),
    }
    own = settings_of(plan).mechanism
    return _built(own.model_copy(update={"options": {**own.options, **more}}))


def counting_of(plan: Plan) -> Counting:
    """The mechanism as votes on the clip norm go through it; refuses one that releases no count."""
    mechanism = mechanism_of(plan)
    if not isinstance(mechanism, Counting):
        raise SpecError(
            f"spec.privacy.adaptiveClip: {settings_of(plan).mechanism.name} releases no count of votes; "
            "expected gaussian or skellam, or no adaptiveClip"
        )
    return mechanism


def clip_of(plan: Plan, clip: float) -> float:
    """The clip norm in force, where `clip` came with the model; refuses one that no job can have."""
    if adaptive_of(plan) is None:
        if clip:
            raise ProtocolError(f"the clip norm {clip:g} came with the model; this job's does not move")
        return 0.0
    if clip and not LEAST <= clip <= MOST:
        raise ProtocolError(
            f"the clip norm {clip:g} came with the model; expected from {LEAST:g} to {MOST:g}"
        )
    return clip or mechanism_of(plan).clip


def release_of(plan: Plan, manifest: Manifest) -> Release:
    """What is settled for every round of the job, from the shape of its model."""
    return released(plan, mechanism_at(plan), dimension=manifest.size)


def released(plan: Plan, mechanism: Mechanism, *, dimension: int) -> Release:
    """The same for a model of so many values.

    Where the workers make the noise, those of a round's survivors that are surely honest make all of it; with those
    that are beyond, the sum holds more, for which there must be room.
    """
    honest, asked = honest_of(plan), plan.selection.asked
    together = mechanism.noise == "workers"
    units = resolution(
        dimension=dimension,
        cohort=asked,
        noise_multiplier=mechanism.noise_multiplier * (math.sqrt(asked / honest) if together else 1.0),
        bits=plan.secure_aggregation.bits if plan.secure_aggregation else BITS,
    )
    return Release(dimension=dimension, units=units, honest=honest if together else 1)


def honest_of(plan: Plan) -> int:
    """How many of a round's survivors are surely honest; refuses sums of parts of a round, with too little noise."""
    secure = plan.secure_aggregation
    if secure is not None and secure.buckets > 1:
        raise SpecError(
            f"spec.secureAggregation.buckets is {secure.buckets}; with spec.privacy expected 1, for the noise is made "
            "for the sum of a whole round"
        )
    return max(plan.selection.minimum - settings_of(plan).corrupt, 1)


def cost_of(plan: Plan, *, dimension: int | None) -> Sequence[Cost]:
    """What a round costs that releases a model of so many values.

    None where nobody has the model yet: a little less then, by what whole numbers cost beyond the noise.
    """
    if dimension is None:
        return costs_of(plan, FINE)
    return costs_of(plan, released(plan, mechanism_at(plan), dimension=dimension))


def costs_of(plan: Plan, release: Release) -> tuple[Cost, ...]:
    """What a round costs: its update, and where the clip norm moves the count of votes as well."""
    update, adaptive = mechanism_at(plan).cost(release), adaptive_of(plan)
    if adaptive is None:
        return (update,)
    return (update, counting_of(plan).vote_cost(adaptive.votes_variance))


def opening_of(plan: Plan) -> Opening:
    """What an epsilon of this job is about."""
    own, mechanism = settings_of(plan), mechanism_of(plan)
    few = f" ({own.corrupt} of {plan.selection.per_round} in a round)" if mechanism.noise == "workers" else ""
    return Opening(
        job=plan.job.uid,
        unit=own.unit,
        neighbours=NEIGHBOURS,
        adversary=f"{mechanism.adversary.format(server=_server_of(plan))}{few}",
        delta=own.delta,
    )


def _server_of(plan: Plan) -> str:
    """Which server the job's secure sums withstand."""
    sparse = plan.secure_aggregation is not None and plan.secure_aggregation.profile == "cross-device"
    return "a server that follows the protocol" if sparse else "the server"


def wire_of(manifest: Manifest) -> Manifest:
    """What a private update looks like that travels in the clear, whatever the model's dtypes are."""
    return Manifest(tuple(ArraySpec(spec.name, WIRE, spec.shape) for spec in manifest))


def meaning_of(release: Release, *, clip: float = 0.0) -> str:
    """The release in a session's context, so that members who mean different units never sum.

    A `clip` is one that moves: a unit is a part of it, and whoever was told another sums with nobody.
    """
    moving = f", clip {clip!r}" if clip else ""
    return f"{release.dimension} values, {release.units} units, {release.honest} honest{moving}"
