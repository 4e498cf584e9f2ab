from __future__ import annotations

from pathlib import Path

import pytest

from job_generator.local.chaos_file import load_faults
from job_generator.local.chaos_spec import DRAWN, Faults


def faults(tmp_path: Path, text: str) -> Faults:
    file = tmp_path / "chaos.yaml"
    file.write_text(text)
    return load_faults(file, workers=4, rounds=100, framework="sklearn")


def test_the_same_file_does_the_same_again(tmp_path: Path) -> None:
    """Who, when and whether is drawn from the seed: equal for equal files, different for another seed."""
    text = "seed: {}\nfaults:\n  - {{fault: kill, who: any, probability: 0.5}}\n"
    one, again, other = (faults(tmp_path, text.format(seed)) for seed in (7, 7, 8))
    plans = [[found.planned(number, 4) for number in range(1, 60)] for found in (one, again, other)]
    assert plans[0] == plans[1] != plans[2]
    drawn = [planned for several in plans[0] for planned in several]
    assert 15 < len(drawn) < 45
    assert {planned.who for planned in drawn} == {"server", "scheduler", *(f"worker-{i}" for i in range(4))}
    assert {planned.step for planned in drawn} == set(DRAWN)


@pytest.mark.parametrize(
    ("when", "rounds"),
    [
        ("round: 3", [3]),
        ("round: 2-4", [2, 3, 4]),
        ("round: 7-", [7, 8, 9]),
        ("every: 4", [1, 5, 9]),
        ("round: 2-, every: 3", [2, 5, 8]),
    ],
)
def test_rounds(tmp_path: Path, when: str, rounds: list[int]) -> None:
    """A round, a range, a range without an end, and every so many-th of them."""
    found = faults(tmp_path, f"faults: [{{fault: kill, who: server, {when}}}]")
    assert [number for number in range(1, 10) if found.planned(number, 4)] == rounds


def test_workers_are_each_of_them_with_a_draw_of_their_own(tmp_path: Path) -> None:
    """`workers` befalls each, `worker` one, and each only with the probability."""
    found = faults(tmp_path, "faults: [{fault: nan, who: workers}, {fault: nan, who: worker}]")
    whom = [planned.who for planned in found.planned(1, 4)]
    assert whom[:4] == [f"worker-{index}" for index in range(4)]
    assert len(whom) == 5
    some = faults(tmp_path, "faults: [{fault: nan, who: workers, probability: 0.5}]")
    assert 1_500 < sum(len(some.planned(number, 4)) for number in range(1, 1_001)) < 2_500
