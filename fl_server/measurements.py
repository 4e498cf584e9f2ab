"""What workers measured, as it comes over the wire: read, and found fit to be added up."""

from __future__ import annotations

import json
from collections.abc import Iterable

from fl_core.errors import JobError, UpdateError
from fl_core.metrics import Measurement, Measurements

MOST = 100
"""Metrics in one message."""


def read_measurements(text: str) -> dict[str, Measurement]:
    """Read the measurements of a message; refuses anything else, and what has no value."""
    try:
        rows = json.loads(text or "{}")
        found = {str(name): Measurement.from_json(row) for name, row in rows.items()}
        for measurement in found.values():
            float(measurement.value)
    except (ArithmeticError, AttributeError, IndexError, MemoryError, RecursionError) as error:
        raise UpdateError(f"measurements cannot be evaluated: {error}") from error
    except (JobError, TypeError, ValueError) as error:
        raise UpdateError(f"measurements are a JSON object of name to measurement: {error}") from error
    if len(found) > MOST:
        raise UpdateError(f"{len(found)} metrics in one message; at most {MOST} are taken")
    return found


def check_same(found: Measurements, others: Iterable[Measurements]) -> None:
    """Refuse measurements that could not be added to those that are there already."""
    for other in others:
        for name in found.keys() & other.keys():
            if found[name].metric != other[name].metric:
                raise UpdateError(
                    f"the metric {name!r} is {found[name].metric}, but others measured {other[name].metric}"
                )
