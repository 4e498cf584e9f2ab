"""Uniform selection draws without replacement, fairly, and only by the randomness passed in."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.selection.uniform import Uniform

NAMES = [f"worker-{index}" for index in range(10)]


@settings(deadline=None, max_examples=60)
@given(st.sets(st.sampled_from(NAMES), min_size=1), st.integers(0, 10), st.integers(0, 2**32))
def test_a_draw_is_of_the_candidates_and_replays(candidates: set[str], count: int, seed: int) -> None:
    """As many distinct candidates as asked for, the same again from the same seed; the list is not changed."""
    listed = sorted(candidates)
    count = min(count, len(listed))
    drawn = Uniform().choose(listed, count, random.Random(seed))
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= candidates
    assert drawn == Uniform().choose(listed, count, random.Random(seed))
    assert listed == sorted(candidates)


def test_everybody_is_equally_likely() -> None:
    """Over many draws of 3 out of 10 each worker comes up 3 times out of 10, within five deviations."""
    randomness, draws = random.Random(1), 4000
    counts = Counter(name for _ in range(draws) for name in Uniform().choose(NAMES, 3, randomness))
    deviation = (draws * 0.3 * 0.7) ** 0.5
    assert all(abs(counts[name] - draws * 0.3) < 5 * deviation for name in NAMES)
