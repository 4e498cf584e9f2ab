"""What kind of rule a class is follows from what it defines, a class of the user's own too."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from fl_core.aggregation import Robust, fewest, misfit, rule_of
from fl_core.errors import SpecError
from fl_core.extensions import Extension


@dataclass(frozen=True)
class Nearest:
    """Compares parts."""

    window: int

    @property
    def fewest(self) -> int:
        return self.window

    def reduce(self, parts: Any) -> Any:
        return parts[0]


@dataclass(frozen=True)
class Careless:
    """Compares parts, and does not say how many it needs."""

    def reduce(self, parts: Any) -> Any:
        return parts[0]


@pytest.fixture(autouse=True)
def house(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that somebody installed beside FLJob."""
    module = ModuleType("house")
    module.Nearest, module.Careless = Nearest, Careless  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "house", module)


def rule(name: str, **options: Any) -> Any:
    """The rule of this name."""
    return rule_of(Extension(name=name, options=options))


def test_a_rule_that_reduces_compares() -> None:
    """What sees parts says how many it needs; what sees the sum needs the one."""
    assert [
        fewest(one) for one in (rule("mean"), rule("median", hostile=2), rule("house:Nearest", window=4))
    ] == [
        1,
        5,
        4,
    ]
    assert not isinstance(rule("mean"), Robust)
    with pytest.raises(SpecError, match="'house:Careless' has no fewest; it must be a Robust"):
        rule("house:Careless")


@pytest.mark.parametrize(
    ("name", "options", "buckets", "words"),
    [
        ("mean", {}, None, ""),
        ("mean", {}, 1, ""),
        ("mean", {}, 2, "adds all buckets up"),
        (
            "house:Nearest",
            {"window": 3},
            1,
            "nobody sees a single one; expected at least spec.secureAggregation: {buckets: 3}",
        ),
        ("house:Nearest", {"window": 3}, 3, ""),
        ("house:Nearest", {"window": 5}, 4, "needs 5 parts"),
        ("house:Nearest", {"window": 5}, None, "there are 4 workers in a round"),
        ("house:Nearest", {"window": 4}, None, ""),
    ],
)
def test_what_fits_four_workers(name: str, options: dict[str, Any], buckets: int | None, words: str) -> None:
    """A rule that compares needs as many buckets, or updates that are seen; one that adds up needs no buckets."""
    told = misfit(rule(name, **options), name=name, cohort=4, buckets=buckets, private=False)
    assert (words in told) if told else not words
