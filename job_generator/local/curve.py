"""A curve drawn with Braille characters: eight dots to a character, no colours, no dependency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

Point = tuple[float, float]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille character, by row and column (Unicode block U+2800)."""
BLANK = 0x2800
LABEL = 8


def draw(points: Sequence[Point], *, width: int, height: int, last: float) -> list[str]:
    """Draw a line through the points (round, value), for rounds 1 to `last`; `height` rows and an axis."""
    inner = max(width - LABEL - 2, 4)
    low, high = bounds([value for _, value in points])
    columns, rows = 2 * inner - 1, 4 * height - 1
    placed = [
        (round((x - 1) / max(last - 1, 1) * columns), round((high - y) / (high - low) * rows))
        for x, y in points
        if x >= 1
    ]
    labels = {0: high, height // 2: (high + low) / 2, height - 1: low}
    lines = [
        f"{_label(labels.get(row)):>{LABEL}} {'┤' if row in labels else '│'}{text}"
        for row, text in enumerate(_characters(_joined(placed), width=inner, height=height))
    ]
    end = f"{last:.0f}"
    return [*lines, f"{'':{LABEL}} └{'─' * inner}", f"{'':{LABEL}}  1{end:>{inner - 1}}"]


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Give the axis a little more than the values span."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.02 or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin


def _label(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _joined(points: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Every dot on the way from each point to the next."""
    yield from points[:1]
    for (x, y), (right, below) in pairwise(points):
        steps = max(abs(right - x), abs(below - y), 1)
        for step in range(1, steps + 1):
            yield x + round((right - x) * step / steps), y + round((below - y) * step / steps)


def _characters(dots: Iterable[tuple[int, int]], *, width: int, height: int) -> list[str]:
    cells = [[BLANK] * width for _ in range(height)]
    for x, y in dots:
        cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    return ["".join(map(chr, row)) for row in cells]
