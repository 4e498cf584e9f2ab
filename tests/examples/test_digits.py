"""The example that `make demo` runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.examples


def test_digits_reaches_its_bound(run: Callable[..., dict[str, Any]]) -> None:
    """Ten workers with unlike data reach a test accuracy of 0.95 over all."""
    assert run("digits")["metrics"]["accuracy"] >= 0.95
