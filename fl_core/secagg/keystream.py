"""The keystream of AES-256 in counter mode, by whichever of two engines is quicker on this processor.

Both give the same bytes: the counter of a chunk starts at (shard: 32 bits, chunk: 64 bits, 2: 32 bits), where AES-GCM
starts it for a text (NIST SP 800-38D, section 7.1). Where a processor works on several blocks at once (VAES), AES-GCM
over zeros takes less than half of counter mode's time, though it authenticates; where it does not, it takes up to
twice as long. So both are tried on a chunk, once for a process, which takes less than a millisecond.
"""

from __future__ import annotations

import functools
import time

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

SLACK = 16
"""An engine wants room for one more block than it fills, and may write there."""
SHARD = bytes(4)
FIRST_BLOCK = (2).to_bytes(4, "big")
TRIAL_BYTES = 256 * 1024
TRIALS = 5


class CounterMode:
    """One context, set to where each chunk begins: to make one anew would cost a tenth of a whole chunk."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(AES256(key), CTR(_start(0) + FIRST_BLOCK)).encryptor()

    def fill(self, chunk: int, zeros: memoryview, stream: memoryview) -> None:
        """The keystream of a chunk, over zeros."""
        self._cipher.reset_nonce(_start(chunk) + FIRST_BLOCK)
        self._cipher.update_into(zeros, stream)


class GaloisCounterMode:
    """AES-GCM of a text of zeros; its tag lands beyond the keystream."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def fill(self, chunk: int, zeros: memoryview, stream: memoryview) -> None:
        """The text of a chunk of zeros."""
        self._cipher.encrypt_into(_start(chunk), zeros, None, stream[: len(zeros) + SLACK])


Engine = CounterMode | GaloisCounterMode
"""The keystream of one key; `fill` takes a memory with `SLACK` bytes more than it writes."""
ENGINES: tuple[type[Engine], ...] = (CounterMode, GaloisCounterMode)


@functools.cache
def quickest() -> type[Engine]:
    """The engine that is quicker here, by the shortest of a few trials of each in turn."""
    zeros, stream = memoryview(bytes(TRIAL_BYTES)), memoryview(bytearray(TRIAL_BYTES + SLACK))
    took = dict.fromkeys(ENGINES, float("inf"))
    for _ in range(TRIALS):
        for engine in ENGINES:
            begun = time.perf_counter()
            engine(bytes(32)).fill(0, zeros, stream)
            took[engine] = min(took[engine], time.perf_counter() - begun)
    return min(ENGINES, key=took.__getitem__)


def _start(chunk: int) -> bytes:
    """What the counter of a chunk begins with: 12 bytes."""
    return SHARD + chunk.to_bytes(8, "big")
