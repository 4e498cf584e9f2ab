"""What rules that withstand hostile workers ask of a job: parts to compare, single updates or buckets, and enough."""

from __future__ import annotations

from typing import Any

from fl_core.aggregation import fewest, misfit, rule_of
from fl_core.extensions import Extension
from job_generator import secrecy

Map = dict[str, Any]


def parts_of(aggregation: Map) -> int:
    """How many parts of a round a rule needs at least; the server says it of a class of the user's own."""
    return 1 if ":" in aggregation["name"] else fewest(rule_of(_extension(aggregation)))


def rule_complaint(aggregation: Map, secure: Map | None, private: Map | None, cohort: int) -> str | None:
    """What is wrong with a rule in a job of such sums and so many workers in a round."""
    if ":" in aggregation["name"]:
        return None
    return misfit(
        rule_of(_extension(aggregation)),
        name=aggregation["name"],
        cohort=cohort,
        buckets=secrecy.buckets_of(secure) if secrecy.is_on(secure, cohort) else None,
        private=private is not None,
    )


def quorum_complaint(minimum: int | None, aggregation: Map, secure: Map | None, cohort: int) -> str | None:
    """What is wrong with a quorum of single updates for a rule that compares them."""
    least = parts_of(aggregation)
    if minimum is None or secrecy.is_on(secure, cohort) or minimum >= least:
        return None
    return (
        f"{minimum} is fewer than the {least} updates that {aggregation['name']} needs to withstand so many hostile "
        f"workers; expected at least {least}"
    )


def _extension(aggregation: Map) -> Extension:
    return Extension(
        name=aggregation["name"], options={name: one for name, one in aggregation.items() if name != "name"}
    )
