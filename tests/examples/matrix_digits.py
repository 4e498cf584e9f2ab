"""What secure sums cost in accuracy, in ten runs of `digits`: `pytest -s tests/examples/matrix_digits.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.examples, pytest.mark.timeout(3000)]

SEEDS = range(1, 6)
ROUNDS = 10
LEAST = 0.94
MOST_APART = 0.005
"""Of the means over all seeds: two or three of the test data's examples."""


def test_secure_sums_cost_no_accuracy(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Over five seeds the mean accuracy after ten rounds is the same with secure aggregation and without."""
    reached: dict[bool, list[float]] = {True: [], False: []}
    for seed in SEEDS:
        for secure, found in reached.items():
            found.append(accuracy(run, tmp_path / f"{seed}-{secure}", seed=seed, secure=secure))
    for secure, found in reached.items():
        words = f"{fmean(found):.4f}, {min(found):.4f} to {max(found):.4f}"
        print(f"{'with' if secure else 'without'} secure aggregation: {words}")  # noqa: T201 - the page's figures
    assert min(*reached[True], *reached[False]) > LEAST
    assert abs(fmean(reached[True]) - fmean(reached[False])) < MOST_APART


def accuracy(run: Callable[..., dict[str, Any]], folder: Path, *, seed: int, secure: bool) -> float:
    """The last model's, of all test data."""
    folder.mkdir()
    change = {"seed": seed, "rounds": ROUNDS, "secureAggregation": {"enabled": secure}}
    (folder / "over.yaml").write_text(yaml.safe_dump({"spec": change}))
    told = run("digits", "--file", str(folder / "over.yaml"), "--folder", str(folder / "run"))
    return float(told["metrics"]["accuracy"])
