"""Parameters against tables, fractions and every order of a small ring."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from itertools import combinations, permutations
from math import comb
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError, SpecError
from fl_core.secagg import parameters
from fl_core.secagg.graph import Graph, regular
from fl_core.secagg.parameters import Parameters, cross_device, cross_silo, part_of, verify


def tail_by_hand(others: int, marked: int, degree: int, count: int) -> Fraction:
    """The share of all sets of neighbours that have so many marked ones, set by set."""
    sets = list(combinations(range(others), degree))
    return Fraction(sum(sum(other < marked for other in one) >= count for one in sets), len(sets))


def tail(others: int, marked: int, degree: int, count: int) -> Fraction:
    """The same by the hypergeometric formula, in fractions."""
    return sum(
        (
            Fraction(comb(marked, exactly) * comb(others - marked, degree - exactly), comb(others, degree))
            for exactly in range(max(count, 0), degree + 1)
        ),
        Fraction(0),
    )


def cut(n: int, degree: int, removed: int) -> Fraction:
    """The bound on the chance that the rest of a ring falls apart, in fractions."""
    if degree == n - 1:
        return Fraction(0)
    run = Fraction(1)
    for place in range(degree):
        run *= Fraction(max(removed - place, 0), n - place)
    return run * n * (n - degree - 1) / 2


def falls_apart(graph: Graph, left: Collection[int]) -> bool:
    reached, ahead = set(), [min(left)]
    while ahead:
        member = ahead.pop()
        if member not in reached:
            reached.add(member)
            ahead += [other for other in graph.neighbours(member) if other in left]
    return reached != set(left)


# -- cross-silo --


def test_the_thresholds_of_the_table() -> None:
    """More than two thirds, as the documentation lists them."""
    found = {n: cross_silo(n).threshold for n in (3, 5, 7, 10, 20, 50, 100)}
    assert found == {3: 3, 5: 4, 7: 5, 10: 7, 20: 14, 50: 34, 100: 67}


@settings(deadline=None)
@given(n=some.integers(3, 200), tolerate=some.integers(-2, 200), corrupt=some.integers(0, 20))
def test_a_threshold_lets_no_two_sums_open(n: int, tolerate: int, corrupt: int) -> None:
    """What may be tolerated is exactly what leaves 2t > n + c, and n - tolerate is then the threshold."""
    threshold = n - tolerate
    if tolerate >= 0 and corrupt <= n - 2 and 2 * threshold > n + corrupt:
        expected = Parameters("cross-silo", n=n, threshold=threshold, degree=n - 1, corrupt=corrupt)
        assert cross_silo(n, tolerate=tolerate, corrupt=corrupt) == expected
    else:
        with pytest.raises(SpecError, match="spec.secureAggregation"):
            cross_silo(n, tolerate=tolerate, corrupt=corrupt)


def test_what_may_be_tolerated_is_named() -> None:
    """The message gives the field, the numbers and what would be accepted, and that is accepted."""
    with pytest.raises(SpecError) as refused:
        cross_silo(10, tolerate=4, corrupt=2)
    assert str(refused.value) == (
        "spec.secureAggregation.tolerate is 4, so that 6 of 10 workers can open a sum; at least 7 are needed, "
        "so that no two sums can open: it can be from 0 to 3 (2t > n + c, with the threshold t = 6, n = 10 workers, "
        "c = 2 with the server)"
    )
    assert cross_silo(10, tolerate=3, corrupt=2).threshold == 7


@pytest.mark.parametrize("n", range(3, 101))
def test_two_thirds_stand_a_third_of_corrupt_members(n: int) -> None:
    """Without `tolerate`, fewer than a third may be corrupt, and more are refused with what they would need."""
    assert cross_silo(n, corrupt=(n - 1) // 3).threshold == 2 * n // 3 + 1
    too_many = 2 * (2 * n // 3 + 1) - n
    with pytest.raises(SpecError, match="with .* corrupt; it must be from|at least two must be honest"):
        cross_silo(n, corrupt=too_many)


@pytest.mark.parametrize(
    ("profile", "fields", "reason"),
    [
        ("cross-silo", (2, 2, 1, 0), "2 members; secure aggregation needs at least 3"),
        ("cross-silo", (5, 4, 3, 0), "each of 5 members shares with all others, not with 3"),
        ("cross-silo", (5, 6, 4, 0), "threshold 6 of 5 members with 0 corrupt; it must be from 3"),
        ("cross-silo", (4, 2, 3, 0), "threshold 2 of 4 members with 0 corrupt; it must be from 3"),
        ("cross-silo", (5, 3, 4, 1), "threshold 3 of 5 members with 1 corrupt; it must be from 4"),
        ("cross-silo", (5, 5, 4, 4), "4 corrupt of 5 members; at least two must be honest"),
        ("cross-silo", (5, 4, 4, -1), "-1 corrupt of 5 members"),
        ("cross-device", (9, 3, 9, 0), "9 neighbours for each of 9 members; it must be from 2 to n - 1"),
        ("cross-device", (9, 2, 3, 0), "and even where n is odd"),
        ("cross-device", (9, 1, 4, 0), "the threshold 1 of 4 neighbours; it must be from 2 to all of them"),
        ("cross-device", (9, 5, 4, 0), "the threshold 5 of 4 neighbours"),
    ],
)
def test_parameters_that_protect_nobody_are_refused(
    profile: Any, fields: tuple[int, int, int, int], reason: str
) -> None:
    """Whoever makes them (members, threshold, degree, corrupt), with the numbers."""
    with pytest.raises(SpecError, match=reason):
        Parameters(profile, *fields)


# -- cross-device --


@pytest.mark.parametrize("others", range(1, 9))
def test_tails_are_those_of_counted_sets(others: int) -> None:
    """For all small numbers the tail is the share of the sets, counted one by one."""
    for marked in range(others + 1):
        for degree in range(others + 1):
            for count in range(degree + 2):
                by_hand = tail_by_hand(others, marked, degree, count)
                assert parameters._tail(others, marked, degree, count) == by_hand
                assert tail(others, marked, degree, count) == by_hand


@settings(deadline=None)
@given(n=some.integers(3, 120), data=some.data(), bits=some.integers(0, 45))
def test_quantiles_are_the_least_counts(n: int, data: some.DataObject, bits: int) -> None:
    """At each degree the count keeps to the bound, and one less does not."""
    marked = data.draw(some.integers(0, n - 1))
    bound = Fraction(1, 2**bits)
    for degree, count in enumerate(parameters._quantiles(n, marked, bits)):
        assert n * tail(n - 1, marked, degree, count) <= bound
        assert count == 1 or n * tail(n - 1, marked, degree, count - 1) > bound


@settings(deadline=None)
@given(
    n=some.integers(4, 90),
    corrupt=some.sampled_from([0.0, 0.05, 0.1, 0.2, 0.33]),
    dropout=some.sampled_from([0.0, 0.1, 0.3]),
    bits=some.sampled_from([(5, 3), (20, 10), (40, 30)]),
)
def test_the_degree_is_the_smallest(n: int, corrupt: float, dropout: float, bits: tuple[int, int]) -> None:
    """Searching all degrees and thresholds by the formulas finds the same, or that there is none."""
    c, d = part_of(n, corrupt), part_of(n, dropout)
    half, correct = Fraction(1, 2 ** (bits[0] + 1)), Fraction(1, 2 ** bits[1])
    found: list[tuple[int, int]] = []
    for degree in (one for one in range(2, n) if (one % 2 == 0 or one == n - 1) and not found):
        found += [
            (threshold, degree)
            for threshold in range(2, degree + 1)
            if cut(n, degree, c + d) <= half
            and n * tail(n - 1, c, degree, threshold) <= half
            and n * tail(n - 1, d, degree, degree - threshold + 1) <= correct
        ]
    options = {
        "corrupt_share": corrupt,
        "dropout": dropout,
        "security_bits": bits[0],
        "correctness_bits": bits[1],
    }
    if not found or c > n - 2:
        with pytest.raises(SpecError, match=f"{c} corrupt"):
            cross_device(n, **options)
        return
    threshold, degree = max(found)
    assert cross_device(n, **options) == Parameters("cross-device", n, threshold, degree, c)
    verify(cross_device(n, **options), corrupt=c, dropout=d, security_bits=bits[0])


@pytest.mark.parametrize(("n", "removed"), [(6, 3), (7, 3), (7, 4), (8, 4), (8, 5)])
def test_the_bound_on_cuts_is_one(n: int, removed: int) -> None:
    """Over every order of a small ring, what is left falls apart no more often than the bound says."""
    left, orders = set(range(removed, n)), [(0, *rest) for rest in permutations(range(1, n))]
    for degree in range(2, n - 1, 2):
        apart = Fraction(sum(falls_apart(Graph(degree, order), left) for order in orders), len(orders))
        assert apart <= cut(n, degree, removed)
        assert (apart > 0) == (removed >= degree and n - removed >= 2)
        for bits in range(8):
            assert parameters._connected(n, degree, removed, bits) == (
                cut(n, degree, removed) <= Fraction(1, 2**bits)
            )


@pytest.mark.parametrize("n", [60, 51, 42])
def test_random_graphs_keep_the_promise(n: int) -> None:
    """With loose bounds of 2^-3 and 2^-4, graphs of 400 seeds break them no more often (with three deviations): also
    where honest members of the cohort of 60 never came, and all of its 12 corrupt ones did.
    """
    tries = 400
    made = cross_device(n, corrupt_share=0.2, dropout=0.25, cohort=60, security_bits=3, correctness_bits=4)
    corrupt, gone = set(range(12)), set(range(12, 12 + part_of(n, 0.25)))
    exposed = lost = 0
    for seed in range(tries):
        graph = regular(n, made.degree, seed=seed.to_bytes(2, "big"))
        near = [set(graph.neighbours(member)) for member in range(n)]
        exposed += max(len(one & corrupt) for one in near[12:]) >= made.threshold
        exposed += falls_apart(graph, set(range(n)) - corrupt - gone)
        lost += min(len(one - gone) for one in near) < made.threshold
    for failures, bound in ((exposed, 1 / 8), (lost, 1 / 16)):
        assert failures <= tries * bound + 3 * (tries * bound) ** 0.5


@pytest.mark.parametrize(
    ("n", "corrupt", "dropout", "degree", "threshold"),
    [
        (101, 0.05, 0.3, 32, 8),
        (1000, 0.05, 0.3, 76, 25),
        (1000, 0.1, 0.3, 102, 39),
        (1000, 0.2, 0.2, 112, 59),
        (10_000, 0.05, 0.3, 92, 30),
        (10_000, 0.33, 0.3, 402, 213),
    ],
)
def test_the_numbers_of_large_cohorts(
    n: int, corrupt: float, dropout: float, degree: int, threshold: int
) -> None:
    """A change of what is computed would be seen here; the tails at the threshold are checked by the formula."""
    made = cross_device(n, corrupt_share=corrupt, dropout=dropout)
    assert (made.degree, made.threshold) == (degree, threshold)
    assert n * tail(n - 1, part_of(n, corrupt), degree, threshold) <= Fraction(1, 2**41)
    assert n * tail(n - 1, part_of(n, dropout), degree, degree - threshold + 1) <= Fraction(1, 2**30)


@settings(deadline=None, max_examples=30)
@given(cohort=some.integers(30, 150), part=some.floats(0, 1), share=some.sampled_from([0.0, 0.05, 0.1]))
def test_the_corrupt_of_a_cohort_are_all_there(cohort: int, part: float, share: float) -> None:
    """Whoever of its honest workers is late: parameters for fewer members bear as many corrupt ones as for all."""
    n = cohort - int(part * part_of(cohort, 0.3))
    made = cross_device(n, corrupt_share=share, dropout=0.3, cohort=cohort)
    assert made.corrupt == part_of(cohort, share)
    verify(made, corrupt=part_of(cohort, share), dropout=part_of(n, 0.3))


def test_more_members_than_a_cohort_has_hold_more_corrupt_ones() -> None:
    """In a bucket that has more of a round's workers than its share, the corrupt are counted of those who are there."""
    assert cross_device(120, corrupt_share=0.05, dropout=0.3, cohort=100).corrupt == 6


def test_where_nearly_all_who_are_left_are_corrupt_no_graph_is_sought() -> None:
    """Fewer than two honest members are refused, with the numbers."""
    with pytest.raises(SpecError, match="50 corrupt of 51 members; at least two must be honest"):
        cross_device(51, corrupt_share=0.05, dropout=0.3, cohort=1000)


def test_the_same_numbers_are_computed_once() -> None:
    """A worker that asks again is answered from memory."""
    assert cross_device(500, corrupt_share=0.1, dropout=0.1) is cross_device(
        500, corrupt_share=0.1, dropout=0.1
    )


def test_what_no_graph_can_give_is_refused() -> None:
    """Where corrupt and leaving members are nearly all, not even everybody with everybody will do."""
    with pytest.raises(SpecError, match="50 corrupt and 50 leaving of 100 members: no number of neighbours"):
        cross_device(100, corrupt_share=0.5, dropout=0.5)
    assert cross_device(100, corrupt_share=0.5, dropout=0.48).degree == 99


@pytest.mark.parametrize(
    ("share", "n", "part"),
    [(0.1, 1000, 100), (0.3, 1000, 300), (0.07, 100, 7), (0.33, 10, 4), (0.0, 9, 0), (1e-9, 9, 1)],
)
def test_shares_are_taken_as_they_are_written(share: float, n: int, part: int) -> None:
    """A tenth of a thousand is a hundred, whatever binary fractions make of it; parts are rounded up."""
    assert part_of(n, share) == part


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_shares_are_below_one(share: float) -> None:
    """Others are refused, with the share."""
    with pytest.raises(SpecError, match=f"a share of the members is {share}; it must be from 0 to below 1"):
        part_of(10, share)
    with pytest.raises(SpecError, match="a share of the members"):
        cross_device(1000, corrupt_share=0.1, dropout=share)


# -- what a worker accepts --


@settings(deadline=None)
@given(corrupt=some.integers(0, 998), dropout=some.integers(0, 600))
def test_a_worker_refuses_what_its_own_count_makes_weak(corrupt: int, dropout: int) -> None:
    """It refuses exactly when, by its own numbers, a bound of the formulas does not hold."""
    made, half = cross_device(1000, corrupt_share=0.1, dropout=0.3), Fraction(1, 2**41)
    exposed = 1000 * tail(999, corrupt, made.degree, made.threshold) > half
    apart = cut(1000, made.degree, min(corrupt + dropout, 1000)) > half
    if not exposed and not apart:
        verify(made, corrupt=corrupt, dropout=dropout)
    else:
        reason = "someone has 39 corrupt neighbours" if exposed else "the others fall apart"
        with pytest.raises(ProtocolError, match=reason):
            verify(made, corrupt=corrupt, dropout=dropout)


@pytest.mark.parametrize(
    ("degree", "threshold", "reason"),
    [
        (102, 38, "someone has 38 corrupt"),
        (40, 39, "the others fall apart"),
    ],
)
def test_a_lower_threshold_or_degree_is_refused(degree: int, threshold: int, reason: str) -> None:
    """One share less than the formulas ask for, or too few neighbours to hang together."""
    with pytest.raises(ProtocolError, match=reason):
        verify(Parameters("cross-device", 1000, threshold, degree, 100), corrupt=100, dropout=300)


def test_more_bits_are_insisted_on() -> None:
    """A worker that wants 2^-60 refuses what is good for 2^-40."""
    made = cross_device(1000, corrupt_share=0.1, dropout=0.3)
    with pytest.raises(ProtocolError, match="more than 2\\^-61"):
        verify(made, corrupt=100, dropout=300, security_bits=60)


@settings(deadline=None)
@given(n=some.integers(3, 100), corrupt=some.integers(-1, 101))
def test_a_worker_counts_the_corrupt_in_a_silo_itself(n: int, corrupt: int) -> None:
    """Whatever the server says, 2t > n + c must hold for the worker's own c."""
    made = cross_silo(n)
    if 0 <= corrupt <= n - 2 and 2 * made.threshold > n + corrupt:
        verify(made, corrupt=corrupt, dropout=0)
    else:
        with pytest.raises(ProtocolError, match="it must be at least|at least two must be honest"):
            verify(made, corrupt=corrupt, dropout=0)
