"""A malicious server that leaves workers out: lists of candidates shorter than the cohort, for which t is lower."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as some
from hypothesis.stateful import initialize

from fl_core.secagg.terms import Terms
from tests.fl_core.secagg.test_attacks import EVERYBODY, MaliciousServer, OneSum, Place, Play, search

SHORT = [(8, Terms(minimum=6)), (9, Terms(minimum=7)), (6, Terms(minimum=4, tolerate=2))]
"""Jobs in which a list of all but one of the workers bears fewer colluders than one of all."""


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(("n", "terms"), SHORT, ids=lambda one: one if isinstance(one, int) else "")
def test_a_short_list_bears_as_many_colluders_as_are_said_and_no_more(
    n: int, terms: Terms, more: int
) -> None:
    """A server that leaves one honest worker out and shows the others two lists of survivors, each without one whom
    the other names, gains nothing by those who may help it; with one more it has a single vector.
    """
    colluding = terms.helping(n) + more
    assert colluding < 2 * terms.parameters(n).threshold - n, "a list of all would bear no more"
    machine = MaliciousServer()
    machine.masked = n
    machine.gather((n, colluding, terms))
    honest = range(n - colluding - 1)
    half = len(honest) // 2
    listed = 2**n - 1 - 2 ** len(honest)
    machine.begin(listed, Place())
    machine.survive(machine.plays[-1], listed - 2**half, listed - 1, to=2**half - 1)
    if more:
        with pytest.raises(AssertionError, match=r"leak: \+1\*x0"):
            machine.nothing_leaks()
    else:
        machine.nothing_leaks()
    machine.teardown()


SIX = Terms(minimum=4, tolerate=2)
"""Of six workers a list of all bears one colluder, and one of five bears none."""


class Six(OneSum):
    """Leaves out one or more of the first three workers, and mostly says two things to two parts of the others."""

    def begin(self, who: int, place: Place) -> None:
        listed = (who | EVERYBODY - 7) & EVERYBODY - 2**place.attempt
        super().begin(listed, replace(place, far=2, forged=False, anew=0))

    def survive(self, play: Play, one: int, other: int, *, to: int) -> None:
        super().survive(play, one, other, to=to if to < EVERYBODY else one & 3)


@pytest.mark.parametrize("more", [0, 1])
def test_the_search_leaves_workers_out(more: int) -> None:
    """With as many colluders as are said of every list it finds nothing; with as many as one of all bears, a leak."""
    said = SIX.helping(6)
    assert 2 * SIX.parameters(6).threshold - 6 - 1 == said + 1

    class Colluding(Six):
        @initialize(cast=some.just((6, said + more, SIX)))
        def gather(self, cast: tuple[int, int, Terms]) -> None:
            super().gather(cast)

    if more:
        with pytest.raises(AssertionError, match="leak"):
            search(Colluding, 1000)
    else:
        search(Colluding, 100)
