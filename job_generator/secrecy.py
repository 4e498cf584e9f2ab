"""What secure aggregation asks of a job: a cohort, a quorum and a ring that fit each other."""

from __future__ import annotations

from typing import Any

from fl_core.errors import FLJobError
from fl_core.secagg.parameters import FEWEST, Profile
from fl_core.secagg.ring import Ring
from fl_core.secagg.terms import Terms

Map = dict[str, Any]

MOST_SILOS = 100
"""Up to so many in a round, everybody shares with everybody by default."""

OFF = "or turn it off with spec.secureAggregation: {enabled: false}"


def is_on(given: Map | None, cohort: int) -> bool:
    """Whether a job sums securely: by default where enough take part for a sum to hide anybody."""
    return cohort >= FEWEST if given is None else bool(given.get("enabled", True))


def notice(given: Map | None, cohort: int) -> str:
    """What an author may not expect: with so few in a round sums are not secure unless they say so; else nothing."""
    if given is not None or cohort >= FEWEST:
        return ""
    return (
        f"secure aggregation is off, as it needs at least {FEWEST} in a round and here there "
        f"{'are' if cohort > 1 else 'is'} {cohort}: the server sees each worker's update"
    )


def buckets_of(given: Map | None) -> int:
    """How many groups of workers are summed apart."""
    return int((given or {}).get("buckets", 1))


def profile_of(given: Map | None, cohort: int) -> Profile:
    """The profile, by default that for the size of the cohort, or of one of its buckets."""
    profile: Profile | None = (given or {}).get("profile")
    return profile or ("cross-silo" if cohort // buckets_of(given) <= MOST_SILOS else "cross-device")


def least_quorum(given: Map | None, cohort: int, *, parts: int = 1) -> int:
    """The fewest of a cohort that its sum opens with, or the sums of as many buckets as a rule needs parts."""
    own, buckets = given or {}, buckets_of(given)
    terms = Terms(profile_of(given, cohort), tolerate=own.get("tolerate"), cohort=-(-cohort // buckets))
    return parts * terms.survivors(cohort // buckets)


def cohort_complaint(given: Map | None, cohort: int, asked: int) -> str | None:
    """What is wrong with a cohort that sums securely; `bucket_complaint` speaks of buckets that are too small."""
    if not is_on(given, cohort) or (buckets_of(given) > 1 and cohort // buckets_of(given) < FEWEST):
        return None
    if cohort < FEWEST:
        return (
            f"{cohort} in a round; secure aggregation needs at least {FEWEST}, for with fewer each could tell "
            f"the others' updates from the sum; take more, {OFF}"
        )
    own = given or {}
    if own.get("tolerate") is not None and profile_of(given, cohort) == "cross-device":
        return (
            f"tolerate: {own['tolerate']} is for cross-silo; in cross-device, by default from {MOST_SILOS + 1} in a "
            "round on, three tenths may be lost; leave it out, or set profile: cross-silo"
        )
    try:
        least_quorum(given, cohort)
        Ring(own.get("bits", 32), asked, own.get("maxExamples", 1))
    except FLJobError as error:
        return f"{error}; expected that, {OFF}"
    return None


def bucket_complaint(
    buckets: int, given: Map | None, private: Map | None, cohort: int, room: int
) -> str | None:
    """What is wrong with buckets for a cohort; a bucket has `room` for so many workers at least."""
    if buckets == 1:
        return None
    if not is_on(given, cohort):
        return f"{buckets} are groups of secure sums, which are off; expected enabled: true, or no buckets"
    if private is not None:
        return (
            f"{buckets} go with no differential privacy: spec.privacy.mechanism makes its noise for the sum of the "
            "whole round; expected no buckets, or no spec.privacy"
        )
    if (share := min(cohort // buckets, room)) < FEWEST:
        return (
            f"{buckets} leave {share} of the round's {cohort} workers for one, and with fewer than {FEWEST} a sum "
            f"hides nobody; expected at most {max(1, cohort // FEWEST)}, or more workers"
        )
    return None


def spare_complaint(extra: int, given: Map | None) -> str | None:
    """What is wrong with over-selection beside buckets."""
    if not extra or buckets_of(given) == 1:
        return None
    return (
        f"{extra} more are asked than close the round, so that the slow ones of one bucket would be left out; with "
        "spec.secureAggregation.buckets expected 0, and a smaller spec.selection.minimum"
    )


def quorum_complaint(minimum: int | None, given: Map | None, cohort: int, *, parts: int = 1) -> str | None:
    """What is wrong with a quorum that is given."""
    if minimum is None or not is_on(given, cohort) or cohort // buckets_of(given) < FEWEST:
        return None
    try:
        least = least_quorum(given, cohort, parts=parts)
    except FLJobError:  # which `cohort_complaint` tells
        return None
    if minimum >= least:
        return None
    sums = "a secure sum opens" if parts == 1 else f"the sums of {parts} buckets open"
    opens = f"the {least} of {cohort} with whom {sums}"
    return f"{minimum} is fewer than {opens}; expected at least {least}, {OFF}"


def compression_complaint(stages: list[Map], given: Map | None, cohort: int) -> str | None:
    """What is wrong with compression beside secure aggregation."""
    if not stages or not is_on(given, cohort):
        return None
    name = stages[0].get("name")
    return (
        f"{name} changes single updates, but secure aggregation sends them as whole numbers already; "
        f"use spec.secureAggregation: {{bits: 16}} to send half as much, {OFF}"
    )
