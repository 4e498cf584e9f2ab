"""The benchmark of secure aggregation: a tiny case of it, ours for real and, where it is installed, Flower's too."""

from __future__ import annotations

import pytest

from bench.peers.flower import FLOWER
from bench.secagg import limits, measure, server_memory
from bench.secagg_cases import SumCase, named


@pytest.mark.parametrize("text", ["5x1k", "7x1k:16:sparse:14%"])
def test_a_tiny_sum_is_measured(text: str) -> None:
    """All figures are there, a worker spends more than one mask costs, and an element takes its ring's bytes."""
    row, case = measure(text, times=1, peers=False), SumCase.parse(text)
    assert row.theirs is None
    assert row.ours["worker"] > row.ours["mask"] > 0
    assert row.ours["server"] > 0
    assert 0 < row.ours["upload"] - 1000 * case.bits // 8 < 5000


@pytest.mark.rounds
@pytest.mark.skipif(
    not (FLOWER.folder / "installed.txt").is_file(), reason="Flower's environment is not made"
)
def test_flower_is_measured_in_the_same_case() -> None:
    """Flower's stages run with our numbers of neighbours and shares, and its vectors take eight bytes an element."""
    row = measure("5x1k:20%", times=1, peers=True)
    assert row.theirs is not None
    assert min(row.theirs.values()) > 0
    assert 8000 < row.theirs["upload"] < 16000


def test_memory_grows_with_the_vector_and_not_with_the_members() -> None:
    """A vector that fills the server's budget alone takes more; ten times as many members do not."""
    few, many, long = (server_memory(SumCase.parse(text)) for text in ("3x5M", "30x5M", "3x20M"))
    assert few < long
    assert many < 1.2 * few


def test_a_case_is_read_as_it_is_written() -> None:
    """Bits, graph and losses may be left out; what is no case is refused."""
    case = SumCase.parse("1000x100k:16:sparse:30%")
    assert (case.members, case.elements, case.bits, case.gone) == (1000, 100_000, 16, 300)
    assert SumCase.from_json(case.to_json()) == case
    assert case.holders == 73  # of 102 neighbours and the member itself, of whom 70 % live
    spread = SumCase.parse("1000x100k:sparse:30%spread")
    assert (spread.silent, spread.gone, spread.mute, spread.survivors) == (100, 100, 100, 800)
    assert (case.sharers, spread.sharers, spread.pairs) == (102, 92, 8300)
    assert named("100x1M") == "100 x 1M, 32 bits, complete"
    with pytest.raises(ValueError, match="100 by 5"):
        SumCase.parse("100 by 5")


def test_the_limits_are_measured() -> None:
    """Each limit has a name and a rate; which is the highest depends on what else the machine does."""
    rates = dict(limits())
    assert {name.partition(",")[0] for name in rates} == {"memcpy", "AES-256-CTR", "AES-256-GCM", "SHA-256"}
    assert min(rates.values()) > 0
