"""Thirty workers, none of whom can be told from the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.examples


def test_private_digits_reach_their_bound_within_the_budget(run: Callable[..., dict[str, Any]]) -> None:
    """With an epsilon of at most 8 the model still knows three digits of four."""
    told = run("private_digits")
    assert told["metrics"]["accuracy"] >= 0.75
    assert told["privacy"]["epsilon"] <= 8
    assert told["rounds"] == 10
