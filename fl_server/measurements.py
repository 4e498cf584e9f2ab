"""What workers measured, as it comes over the wire: read, and found fit to be added up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping

from fl_core.errors import JobError, UpdateError
from fl_core.metrics import Measurement, Measurements

MOST = 100
"""Metrics in one message."""

UNREADABLE = "its measurements cannot be read"
"""What the record says of those that were refused."""

LONGEST_NAME = 63
"""As in `spec.target.metric`."""


def read_measurements(text: str) -> dict[str, Measurement]:
    """Read the measurements of a message; refuses anything else, and what has no value."""
    try:
        rows = json.loads(text or "{}")
        found = {str(name): Measurement.from_json(row) for name, row in rows.items()}
        for measurement in found.values():
            float(measurement.value)
    except (ArithmeticError, AttributeError, IndexError, MemoryError, RecursionError) as error:
        raise UpdateError(f"measurements cannot be evaluated: {error}", short=UNREADABLE) from error
    except (JobError, TypeError, ValueError) as error:
        raise UpdateError(
            f"measurements are a JSON object of name to measurement: {error}", short=UNREADABLE
        ) from error
    check_names(found)
    return found


def check_names(names: Collection[str]) -> None:
    """Refuse names that no metric has, and too many of them."""
    if strange := [name for name in names if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME]:
        raise UpdateError(
            f"{strange[0]!r} is no name of a metric; expected 1 to {LONGEST_NAME} characters",
            short=UNREADABLE,
        )
    if len(names) > MOST:
        raise UpdateError(f"{len(names)} metrics in one message; at most {MOST} are taken", short=UNREADABLE)


def agreeing(parts: Mapping[str, Measurements]) -> dict[str, dict[str, Measurement]]:
    """The measurements by worker, without those of another kind than most workers measured by that name.

    A worker whose metric is odd loses that metric, and nobody an update.
    """
    kinds: dict[str, Counter[str]] = {}
    for worker in sorted(parts):
        for name, measurement in parts[worker].items():
            kinds.setdefault(name, Counter())[repr(measurement.metric)] += 1
    usual = {name: kind.most_common(1)[0][0] for name, kind in kinds.items()}
    return {
        worker: {name: one for name, one in measured.items() if repr(one.metric) == usual[name]}
        for worker, measured in parts.items()
    }
