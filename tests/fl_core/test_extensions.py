"""A word finds the one class of its file; anything else is the author's mistake, told as such."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from fl_core.errors import JobError, SpecError, UpdateError
from fl_core.extensions import Extension, blamed, build, known, resolve
from fl_core.strategies import Strategy
from fl_core.strategies.fedavg import FedAvg
from fl_core.strategies.fedprox import FedProx

STRATEGIES = "fl_core.strategies"


def test_a_word_is_a_file() -> None:
    """`fedprox` within the strategies is the class that `fedprox.py` exports."""
    assert resolve("fedprox", within=STRATEGIES) is FedProx
    assert set(known(STRATEGIES)) >= {"fedavg", "fedprox", "fedsgd"}


def test_a_class_of_ones_own_is_named_in_full() -> None:
    """`package.module:Class` is that class, wherever it comes from."""
    assert resolve("fl_core.strategies.fedavg:FedAvg", within=STRATEGIES) is FedAvg


@pytest.mark.parametrize(
    "name", ["fedavgg", "", "FedAvg", "__init__", "../fedavg", "fedavg.FedAvg", "fedavg:"]
)
def test_an_unknown_word_is_refused_with_those_there_are(name: str) -> None:
    """A typing error, a path and Python's own names find nothing, and the message lists what exists."""
    with pytest.raises(SpecError, match=f"fl_core.strategies has no {name!r}; there are fedavg, fedprox"):
        resolve(name, within=STRATEGIES)


@pytest.mark.parametrize("name", ["nowhere.at_all:It", ":It", ".:It", "..strategies:It", "x y:It"])
def test_a_module_that_is_not_there_is_told(name: str) -> None:
    """Who names a class of an image that has no such module is told so."""
    with pytest.raises(SpecError, match="spec.strategy.name: .* is not installed in this process's image"):
        resolve(name, within=STRATEGIES)


@pytest.mark.parametrize("name", ["os:system", "json:nothing", "fl_core.strategies.fedavg:FedAvg.step"])
def test_what_is_no_class_is_refused(name: str) -> None:
    """Functions, missing names and dotted attributes are no extensions."""
    with pytest.raises(SpecError, match="has no class"):
        resolve(name, within=STRATEGIES)


def made(name: str, **options: JsonValue) -> object:
    return build(Extension(name=name, options=options), within=STRATEGIES, protocol=Strategy)


def test_options_build_the_class() -> None:
    """The options become the class's fields; wrong or missing ones are named."""
    assert made("fedprox", mu=0.5) == FedProx(mu=0.5)
    with pytest.raises(SpecError, match="fedprox: .*'nu'"):
        made("fedprox", mu=0.5, nu=1)
    with pytest.raises(SpecError, match="fedprox: .*'mu'"):
        made("fedprox")


def test_a_class_that_is_something_else_is_refused() -> None:
    """What a class lacks to be a strategy is named before anything is started."""
    with pytest.raises(SpecError, match=r"'fl_core.selection.uniform:Uniform' has no local, weight, step; "):
        made("fl_core.selection.uniform:Uniform")


def test_what_an_extension_raises_is_its_authors_to_mend() -> None:
    """A defect in somebody's class is an error of the job that names the class; our own errors pass."""
    defect = "fedprox:FedProx raised ZeroDivisionError: .*; mend the class"
    with pytest.raises(JobError, match=defect), blamed(FedProx(mu=1)):
        _ = 1 / 0
    with pytest.raises(UpdateError, match="as it was"), blamed(FedProx(mu=1)):
        raise UpdateError("as it was")
