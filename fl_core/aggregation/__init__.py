"""How the updates of a round become one: one file per rule, named by its YAML word.

A rule either takes the finished exact sum (`combine`) and never sees a single update, or it defines `reduce` and sees
parts: single updates, or with secure aggregation the means of buckets of workers, never a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fl_core.extensions import Extension, build, resolve
from fl_core.weights import Array, Weights

BLOCK = 1 << 15
"""Elements of each part that are looked at together: they stay in the processor's cache."""

BUCKETS_FOR_NOTHING = (
    "adds all buckets up, so they would show the server more than it needs; expected median, trimmed_mean or krum, "
    "or no spec.secureAggregation.buckets"
)

Doubles = npt.NDArray[np.float64]


class Sum(Protocol):
    """A round's updates added up, each times its weight."""

    def mean(self) -> Weights:
        """The weighted mean as float64 arrays."""
        ...


class Rule(Protocol):
    """A rule that needs only the sum."""

    def combine(self, total: Sum) -> Weights:
        """One update that stands for all."""
        ...


@runtime_checkable
class Robust(Protocol):
    """A rule that sees parts, of which some may be anything; each counts the same, however many examples it has."""

    @property
    def fewest(self) -> int:
        """With so many parts, or more, it withstands as many hostile ones as it was built for."""
        ...

    def reduce(self, parts: Sequence[Weights]) -> Weights:
        """One update that stands for all, the same to the bit in whatever order the parts come."""
        ...


def rule_of(extension: Extension) -> Rule | Robust:
    """The rule of this name and these options; what its class defines says which kind it is."""
    kind = resolve(extension.name, within=__name__)
    protocol: type[Rule | Robust] = Robust if hasattr(kind, "reduce") else Rule
    rule: Rule | Robust = build(extension, within=__name__, protocol=protocol)
    return rule


def fewest(rule: Rule | Robust) -> int:
    """How many parts a rule needs: a sum is one."""
    return rule.fewest if isinstance(rule, Robust) else 1


def misfit(rule: Rule | Robust, *, name: str, cohort: int, buckets: int | None, private: bool) -> str | None:
    """What is wrong with a rule in a job of so many buckets (None: sums are not secure) or updates in a round."""
    if not isinstance(rule, Robust):
        return None if buckets in {None, 1} else f"{name} {BUCKETS_FOR_NOTHING}"
    if private:
        return f"{name} compares parts of a round, but the noise is made for its sum; expected mean, or no spec.privacy"
    if buckets == 1:
        return (
            f"{name} compares updates, and with secure aggregation nobody sees a single one; expected at least "
            f"spec.secureAggregation: {{buckets: {rule.fewest}}}, so that it compares sums of buckets, "
            "or {enabled: false}"
        )
    if (buckets or cohort) < rule.fewest:
        where = "spec.secureAggregation.buckets" if buckets else "workers in a round (spec.selection.minimum)"
        return (
            f"{name} needs {rule.fewest} parts to withstand so many hostile workers, and there are "
            f"{buckets or cohort} {where}; expected more of them, or fewer hostile"
        )
    return None


def elementwise(parts: Sequence[Weights], statistic: Callable[[Doubles], Doubles]) -> dict[str, Array]:
    """A statistic of each element over all parts: it takes [parts, elements] and gives [elements].

    The result holds no negative zero, since which of two equal zeros comes first would depend on the order.
    """
    found: dict[str, Array] = {}
    for name, first in parts[0].items():
        flat = [np.asarray(part[name], np.float64).reshape(-1) for part in parts]
        values = np.empty(first.size)
        for start in range(0, first.size, BLOCK):
            here = slice(start, start + BLOCK)
            values[here] = statistic(np.stack([one[here] for one in flat])) + 0.0
        found[name] = values.reshape(first.shape)
    return found
