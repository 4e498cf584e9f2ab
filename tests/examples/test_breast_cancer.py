"""Logistic regression with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.examples


def test_breast_cancer_reaches_its_bound(run: Callable[..., dict[str, Any]]) -> None:
    """Five hospitals reach a global AUC of 0.98."""
    assert run("breast_cancer")["metrics"]["auc"] >= 0.98
