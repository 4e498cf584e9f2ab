"""How the C library hands out memory in a server: buffers of models go back to the system when they are freed.

By default glibc gives every thread a heap of its own and, once a large block has been freed, takes later ones
from these heaps, where short-lived neighbours keep them from ever shrinking: a server's memory then grows with
the number of rounds to several times what is in use.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""The parameters' numbers in malloc.h."""

LARGE = 4 << 20
"""Bytes from which a block is mapped by itself; a chunk and its copies are smaller."""

SPARE = 64 << 20
"""Free bytes at the heap's end that are kept for the next chunks."""


def settle() -> None:
    """One heap, large blocks outside of it; does nothing where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, SPARE)
