"""The two-worker tutorial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.examples


def test_iris_reaches_its_bound(run: Callable[..., dict[str, Any]]) -> None:
    """Alice and bob reach a test accuracy of 0.90 together."""
    assert run("iris")["metrics"]["accuracy"] >= 0.90
