"""What the main thread makes of an order."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.metrics import Measurements
from fl_core.weights import Weights


@dataclass(frozen=True, slots=True)
class Product:
    """An update or measurements."""

    examples: int
    metrics: Measurements
    update: Weights | None = None
