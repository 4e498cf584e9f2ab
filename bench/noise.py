"""What noise costs, in nanoseconds of processor time per element: `python -m bench.noise`.

The best of several tries, beside what it costs to copy an element and to draw its random word.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from fl_core.privacy.clipping import clip
from fl_core.privacy.noise import discrete_gaussian, gaussian, skellam
from fl_core.privacy.rounding import Sensitivity, rounded
from fl_core.privacy.stream import BLOCK, Stream

ELEMENTS = 1 << 21
TRIES = 7
DEVIATIONS = (10, 100, 1000, 8000)


def nanoseconds(work: Callable[[], object]) -> float:
    """The least processor time that the work took, per element."""
    times = []
    for _ in range(TRIES):
        start = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - start)
    return min(times) / ELEMENTS


def main() -> None:
    """Measure and print, one line each."""
    stream = Stream(os.urandom)
    values = np.random.default_rng(0).standard_normal(ELEMENTS)
    copy = np.empty_like(values)
    short, _ = clip({"w": values}, most=1.0)
    units = 5 * int(ELEMENTS**0.5)
    most = Sensitivity.of(units=units, dimension=ELEMENTS)
    lines: dict[str, Callable[[], object]] = {
        "copy 8 bytes": lambda: np.copyto(copy, values),
        "random word": lambda: [stream.words(BLOCK) for _ in range(ELEMENTS // BLOCK)],
        "clip": lambda: clip({"w": values}, most=1.0),
        "round": lambda: rounded(short, scale=float(units), most=most, stream=stream),
        "normal": lambda: gaussian(ELEMENTS, stream=stream),
    }
    for deviation in DEVIATIONS:
        lines[f"Skellam, deviation {deviation}"] = lambda variance=float(deviation) ** 2: skellam(
            ELEMENTS, variance=variance, stream=stream
        )
    lines["discrete Gaussian"] = lambda: discrete_gaussian(ELEMENTS, variance=10**6, stream=stream)
    for name, work in lines.items():
        print(f"{name:24} {nanoseconds(work):8.2f} ns")


if __name__ == "__main__":
    main()
