"""Unfinished updates wait in memory up to a budget, then in a file, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_server.spool import Budget, Spool

sizes = st.lists(st.integers(1, 40), max_size=12)


def fill(spool: Spool, lengths: list[int]) -> list[tuple[int, bytes]]:
    """Hand in chunks of these lengths, one after the other; returns what was handed in."""
    given_, offset = [], 0
    for number, length in enumerate(lengths):
        data = bytes([number + 1]) * length
        spool.take(offset, data)
        given_.append((offset, data))
        offset += length
    return given_


def content(spool: Spool) -> list[tuple[int, bytes]]:
    return sorted((offset, bytes(data)) for offset, data in spool.chunks())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@settings(deadline=None, max_examples=100)
@given(sizes, st.integers(0, 300))
def test_every_chunk_comes_back_once(folder: Path, lengths: list[int], budget: int) -> None:
    """Whatever the budget, each chunk is there with its place, as often as it is asked for."""
    with Spool(folder, Budget(budget)) as spool:
        handed_in = fill(spool, lengths)
        assert content(spool) == handed_in
        assert content(spool) == handed_in


@settings(deadline=None, max_examples=100)
@given(sizes, sizes, st.integers(0, 300))
def test_the_budget_is_shared_and_given_back(
    folder: Path, some: list[int], others: list[int], budget: int
) -> None:
    """Two spools never keep more in memory than the budget together, and afterwards all of it is free."""
    shared = Budget(budget)
    with Spool(folder, shared) as one, Spool(folder, shared) as other:
        fill(one, some)
        fill(other, others)
        kept = sum(len(data) for spool in (one, other) for _, data in spool._memory)
        assert kept == budget - shared.left
        assert shared.left >= 0
    assert shared.left == budget


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """No file has a name while updates wait, and an update that fails gives everything back."""
    budget, before = Budget(10), open_files()

    def spoilt() -> None:
        with Spool(tmp_path, budget) as spool:
            fill(spool, [8, 8, 8])
            assert list(tmp_path.iterdir()) == []
            raise ConnectionError("the worker went")

    with pytest.raises(ConnectionError):
        spoilt()
    assert (budget.left, list(tmp_path.iterdir())) == (10, [])
    assert open_files() == before


@pytest.mark.parametrize(("nbytes", "taken"), [(0, True), (10, True), (11, False)])
def test_a_budget_says_no(nbytes: int, taken: bool) -> None:  # noqa: FBT001
    """What does not fit is not taken, and costs nothing."""
    budget = Budget(10)
    assert budget.take(nbytes) is taken
    assert budget.left == (10 - nbytes if taken else 10)
