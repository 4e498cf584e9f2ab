"""A curve drawn with Braille characters: eight dots to a character, no colours, no dependency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, pairwise

Point = tuple[float, float]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille character, by row and column (Unicode block U+2800)."""
BLANK = 0x2800
LABEL = 8


def draw(points: Sequence[Point], *, width: int, height: int, last: float) -> list[str]:
    """Draw a line through the points (round, value) of a job of `last` rounds; `height` rows and an axis."""
    inner = max(width - LABEL - 2, 4)
    low, high = bounds([value for _, value in points])
    columns, rows = 2 * inner - 1, 4 * height - 1
    whole, last = last, horizon(points[-1][0], last, dots=columns)
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
    end = f"{last:,.0f}" if last == whole else f"{last:,.0f} of {whole:,.0f}"
    return [*lines, f"{'':{LABEL}} └{'─' * inner}", f"{'':{LABEL}}  1{end:>{inner - 1}}"]


def horizon(done: float, last: float, *, dots: int) -> float:
    """Where the axis ends: with the job, or, of more rounds than dots, at a round figure ahead of what is done."""
    figures = (lead * 10.0**zeros for zeros in count() for lead in (1, 2, 5))
    return min(last, next(figure for figure in figures if figure >= max(done, dots)))


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Give the axis a little more than the values span."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.02 or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin


def _label(value: float | None) -> str:
    """Write a value with as many of four significant places as there is room for."""
    texts = ["" if value is None else f"{value:.{places}g}" for places in (4, 3, 2, 1)]
    return next((text for text in texts if len(text) <= LABEL), texts[-1])


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
