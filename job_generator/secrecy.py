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


def profile_of(given: Map | None, cohort: int) -> Profile:
    """The profile, by default that for the size of the cohort."""
    profile: Profile | None = (given or {}).get("profile")
    return profile or ("cross-silo" if cohort <= MOST_SILOS else "cross-device")


def least_quorum(given: Map | None, cohort: int) -> int:
    """The fewest of a cohort that its sum opens with."""
    terms = Terms(profile=profile_of(given, cohort), tolerate=(given or {}).get("tolerate"))
    return terms.survivors(cohort)


def cohort_complaint(given: Map | None, cohort: int, asked: int) -> str | None:
    """What is wrong with a cohort that sums securely."""
    if not is_on(given, cohort):
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
        return f"{error}; {OFF}"
    return None


def quorum_complaint(minimum: int | None, given: Map | None, cohort: int) -> str | None:
    """What is wrong with a quorum that is given."""
    if minimum is None or not is_on(given, cohort) or cohort < FEWEST:
        return None
    least = least_quorum(given, cohort)
    if minimum >= least:
        return None
    opens = f"the {least} of {cohort} with whom a secure sum opens"
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
