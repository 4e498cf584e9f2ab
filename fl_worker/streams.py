"""Random streams: where a worker's numbers come from, so that a round that is replayed gives the same update.

Before the program builds its model every stream is seeded from the job's seed alone, so that all workers
start from the same weights; before a round from (seed, worker, round).
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derived(seed: int, *words: object) -> int:
    """32 bits that depend on the seed and on each word (SHA-256), for streams that share nothing."""
    text = "\x1f".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def reseed(value: int) -> None:
    """Seed the two streams that every program may draw from: Python's and NumPy's."""
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - the global stream is the one that programs and samplers use
