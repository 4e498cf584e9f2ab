"""What differential privacy asks of a job: a mechanism, secure sums, stages and measurements that fit each other."""

from __future__ import annotations

from typing import Any

from fl_core.secagg.parameters import part_of
from fl_core.secagg.terms import Terms
from job_generator import secrecy

Map = dict[str, Any]

READY = ("dp_sgd", "gaussian", "local", "skellam")
"""The mechanisms that jobs can have."""

BY_EXAMPLE = "dp_sgd"
"""The one that hides examples; the others hide workers."""

COUNTING = ("gaussian", "skellam")
"""Those under which the clip norm can move."""


def corrupt_of(cohort: int) -> int:
    """How many of a round's workers may be in league with the server: the share for which secure sums are made."""
    return part_of(cohort, Terms().corrupt_share)


def mechanism_complaint(mechanism: Map | None) -> str | None:
    """What is wrong with a mechanism as such."""
    if mechanism is None or (name := str(mechanism.get("name"))) in READY:
        return None
    return (
        f"{name} is no mechanism whose cost is known; an epsilon would be a guess; "
        "expected gaussian, where the server may be trusted, or skellam, where it may not"
    )


def unit_complaint(unit: str, mechanism: Map | None) -> str | None:
    """What is wrong with whom a mechanism is to hide."""
    if mechanism is None or (name := mechanism.get("name")) not in READY:
        return None
    hidden = "example" if name == BY_EXAMPLE else "worker"
    if unit == hidden:
        return None
    return f"is {unit}, but {name} hides one {hidden}; expected {hidden}, or another mechanism"


def program_complaint(framework: str, mechanism: Map | None) -> str | None:
    """What is wrong with a framework that keeps the gradients of examples to itself."""
    if (mechanism or {}).get("name") != BY_EXAMPLE or framework in {"numpy", "sklearn"}:
        return None
    return (
        f"is {framework}, whose programs give no gradient of each example, and {BY_EXAMPLE} needs it; "
        "expected numpy or sklearn, or the mechanism skellam"
    )


def strategy_complaint(strategy: Map, mechanism: Map | None) -> str | None:
    """What is wrong with a strategy that changes how workers train."""
    if (mechanism or {}).get("name") != BY_EXAMPLE or (name := strategy.get("name")) not in {
        "fedprox",
        "fedsgd",
    }:
        return None
    return f"{name} changes how workers train, and {BY_EXAMPLE} makes their steps itself; expected fedavg"


def trust_complaint(mechanism: Map | None, secure: Map | None, cohort: int) -> str | None:
    """What is wrong with a mechanism where the server sees each update."""
    if (mechanism or {}).get("name") != "skellam" or secrecy.is_on(secure, cohort):
        return None
    return (
        "skellam lets each worker add a share of the noise, too little for an update that the server sees alone; "
        "expected secure aggregation (spec.secureAggregation: {enabled: true}, with three or more in a round), "
        "or gaussian"
    )


def tolerate_complaint(
    tolerate: int | None, mechanism: Map | None, secure: Map | None, cohort: int
) -> str | None:
    """What is wrong with a number of losses under which two sums of one round could open, with other noise in each."""
    if tolerate is None or (mechanism or {}).get("name") != "skellam" or secrecy.buckets_of(secure) > 1:
        return None
    if not secrecy.is_on(secure, cohort) or secrecy.profile_of(secure, cohort) == "cross-device":
        return None
    corrupt = corrupt_of(cohort)
    most = cohort - (cohort + corrupt) // 2 - 1
    if tolerate <= most or 2 * tolerate >= cohort:  # which `secrecy.cohort_complaint` tells
        return None
    return (
        f"is {tolerate}, so that {cohort - tolerate} of {cohort} workers can open a sum; under skellam {corrupt} of a "
        "round may be in league with the server, and two sums of one round could open, of which epsilon counts one; "
        f"expected at most {most} (2t > n + c, with the threshold t, n = {cohort} workers and c = {corrupt})"
    )


def adaptive_complaint(
    adaptive: Map | None, mechanism: Map | None, secure: Map | None, cohort: int
) -> str | None:
    """What is wrong with a clip norm that moves."""
    if adaptive is None or mechanism is None:
        return None
    name, noise = str(mechanism.get("name")), mechanism.get("noiseMultiplier", 0)
    if name not in COUNTING:
        return f"is given, but {name} releases no count of votes; expected gaussian or skellam, or none"
    if not secrecy.is_on(secure, cohort):
        return (
            "is given, but votes are counted in secure sums only; expected secure aggregation "
            "(spec.secureAggregation: {enabled: true}, with three or more in a round), or none"
        )
    count = adaptive.get("countNoise")
    if count is not None and not count > noise / 2:
        return (
            f"has countNoise {count:g}, with which the votes alone would cost more than the noiseMultiplier {noise:g} "
            f"allows; expected more than {noise / 2:g}, or none"
        )
    return None


def compression_complaint(stages: list[Map], privacy: Map | None) -> str | None:
    """What is wrong with compression beside differential privacy."""
    if not stages or privacy is None:
        return None
    return (
        f"{stages[0].get('name')} changes updates after their length was bounded and noise was added; expected none: "
        "with secure aggregation spec.secureAggregation: {bits: 16} sends half as much"
    )


def target_complaint(target: Map | None, privacy: Map | None) -> str | None:
    """What is wrong with a target that nobody measures."""
    if target is None or (privacy or {}).get("metrics") != "Suppressed":
        return None
    return (
        "is given, but under spec.privacy.metrics Suppressed nobody measures the model; expected Released, "
        "or no target"
    )


def stopping_complaint(stopping: Map | None, privacy: Map | None) -> str | None:
    """What is wrong with an end for lack of progress that nobody measures."""
    if stopping is None or (privacy or {}).get("metrics") != "Suppressed":
        return None
    return (
        "is given, but under spec.privacy.metrics Suppressed nobody measures the model; expected Released, "
        "or no earlyStopping"
    )
