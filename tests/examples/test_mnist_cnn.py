"""The example that takes a data path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data" / "mnist10k.npz"
pytestmark = pytest.mark.examples


@pytest.mark.skipif(not DATA.exists(), reason="there is no MNIST on this machine")
def test_mnist_cnn_reaches_its_bound(run: Callable[..., dict[str, Any]]) -> None:
    """Four workers that read their parts of one file reach a test accuracy of 0.94."""
    assert run("mnist_cnn", "--data", str(DATA))["metrics"]["accuracy"] >= 0.94
