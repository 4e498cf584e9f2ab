"""Graphs that are regular, connected, and in an order that nobody chooses."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import SpecError
from fl_core.secagg.encoding import encode
from fl_core.secagg.graph import Graph, regular

SEED = bytes(range(32))


def connected(graph: Graph, members: set[int]) -> bool:
    """Whether these members reach each other without the others."""
    reached: set[int] = set()
    ahead = [min(members)]
    while ahead:
        member = ahead.pop()
        if member not in reached:
            reached.add(member)
            ahead += members.intersection(graph.neighbours(member)) - reached
    return reached == members


def test_all_sizes_are_regular_symmetric_and_connected() -> None:
    """For every size and degree each member has so many others, who have it, and all hang together."""
    for n in range(3, 24):
        for degree in range(2, n):
            if n * degree % 2:
                continue
            graph = regular(n, degree, seed=SEED)
            for member in range(n):
                near = graph.neighbours(member)
                assert len(set(near) - {member}) == len(near) == degree
                assert list(near) == sorted(near)
                assert all(member in graph.neighbours(other) for other in near)
            assert connected(graph, set(range(n)))


@pytest.mark.parametrize(("n", "degree"), [(6, 2), (7, 4), (8, 3), (8, 4), (8, 5), (9, 6)])
def test_fewer_losses_than_neighbours_never_cut_it(n: int, degree: int) -> None:
    """Without any degree - 1 members the rest hangs together; without some others it does not (Harary 1962)."""
    graph, everybody = regular(n, degree, seed=SEED), set(range(n))
    for fewer in range(degree):
        assert all(connected(graph, everybody.difference(gone)) for gone in combinations(everybody, fewer))
    assert not connected(graph, everybody.difference(graph.neighbours(0)))


@settings(deadline=None)
@given(n=some.integers(3, 60), half=some.integers(1, 29), seed=some.binary(max_size=40))
def test_neighbours_are_the_nearest_on_the_ring(n: int, half: int, seed: bytes) -> None:
    """The ring is the members sorted by the hash of seed and number, computed by hand."""
    degree = min(2 * half, (n - 1) // 2 * 2)
    ring = sorted(range(n), key=lambda member: hashlib.sha256(encode("place", seed, member)).digest())
    graph = regular(n, degree, seed=seed)
    for place, member in enumerate(ring):
        near = {ring[(place + step) % n] for step in range(-degree // 2, degree // 2 + 1)}
        assert set(graph.neighbours(member)) == near - {member}


def test_the_order_is_fixed() -> None:
    """A change of the order would be seen here, and another seed gives another one."""
    assert regular(10, 4, seed=SEED).order == (8, 9, 1, 0, 6, 3, 2, 7, 4, 5)
    assert regular(10, 4, seed=SEED).order != regular(10, 4, seed=bytes(32)).order


def test_all_orders_are_equally_likely() -> None:
    """Of 6,000 seeds each order of three members comes of about 1,000 (within six deviations)."""
    orders = Counter(regular(3, 2, seed=number.to_bytes(2, "big")).order for number in range(6000))
    assert len(orders) == 6
    assert max(abs(times - 1000) for times in orders.values()) < 6 * (1000 * 5 / 6) ** 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 50])
def test_a_complete_graph_is_everybody_with_everybody(n: int) -> None:
    """On a ring of degree n - 1 each member's neighbours are all others."""
    graph = regular(n, n - 1, seed=SEED)
    for member in range(n):
        assert graph.neighbours(member) == tuple(other for other in range(n) if other != member)


@pytest.mark.parametrize(
    ("n", "degree"), [(5, 3), (6, 1), (6, 0), (6, 6), (6, 7), (6, -2), (3, 1), (0, 0), (2, 0)]
)
def test_sizes_without_a_graph_are_refused(n: int, degree: int) -> None:
    """Odd times odd, too few neighbours to hang together, or more than there are."""
    with pytest.raises(SpecError, match=f"no ring of {n} members gives each {degree} neighbours"):
        regular(n, degree, seed=SEED)


def test_large_graphs_are_made_whole() -> None:
    """Ten thousand members, each with a hundred: symmetric where one looks."""
    graph = regular(10_000, 100, seed=SEED)
    assert sorted(graph.order) == list(range(10_000))
    for member in range(0, 10_000, 997):
        assert all(member in graph.neighbours(other) for other in graph.neighbours(member))
