"""What a program is given and returns, and what is refused with a sentence that says what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import fl_worker
from fl_core.errors import ProgramError
from fl_worker import Site, Task, metrics


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"epochs": 1.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"buffers": "mean"}, "average, local, first"),
        ({"train": None}, "give the data"),
        ({"loss": 3}, "loss\\(output, labels\\)"),
        ({"optimizer": object()}, "lambda parameters, round"),
        ({"metrics": [metrics.Accuracy()]}, "dictionary"),
        ({"metrics": {"loss": metrics.Mean()}}, "another name"),
        ({"metrics": {"accuracy": "accuracy"}}, "metrics.Accuracy"),
        ({"metrics": {"accuracy": metrics.Accuracy}}, "metrics.Accuracy"),
    ],
)
def test_a_task_that_nobody_could_use_is_refused(wrong: dict[str, Any], told: str) -> None:
    """Each mistake in a Task is named, with what would be accepted."""
    with pytest.raises(ProgramError, match=told):
        Task(**{"model": object(), "train": [], **wrong})


def test_a_sites_streams_are_its_own() -> None:
    """The same site and words give the same numbers; another site or another word gives others."""
    alice, bob = (
        Site(name=name, index=index, count=2, seed=7) for index, name in enumerate(("alice", "bob"))
    )
    draws = [alice.rng("data"), alice.rng("data"), alice.rng("noise"), bob.rng("data")]
    first, same, word, site = (rng.random() for rng in draws)
    assert first == same
    assert len({first, word, site}) == 3


def test_the_package_is_light() -> None:
    """`import fl_worker` loads no framework, numpy or pydantic; its names come when asked for."""
    program = "import sys, fl_worker; print({'paddle', 'sklearn', 'numpy', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
    assert all(hasattr(fl_worker, name) for name in fl_worker.__all__)
    assert not hasattr(fl_worker, "Sites")
