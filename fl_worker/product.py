"""What the main thread makes of an order."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.metrics import Measurements
from fl_core.weights import Weights


@dataclass(frozen=True, slots=True)
class Product:
    """An update or measurements; `vote` is one on the clip norm `clip`, where that moves."""

    examples: int
    metrics: Measurements
    update: Weights | None = None
    vote: int = 0
    clip: float = 0.0
