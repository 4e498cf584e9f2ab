"""Private randomness at the speed of the noise: one key of the operating system's generator, stretched by AES.

`os.urandom` gives 0.4 GB/s, so a word for each element of a model would take longer than all the rest. A stream
takes 32 bytes of it once and is the AES-256-CTR keystream under that key. Whoever cannot break AES cannot tell its
words from uniform ones, so what is said of ideal noise holds against every adversary with bounded computing power
(Mironov et al., Computational Differential Privacy, CRYPTO 2009). numpy's own generators make no such promise: their
state, and with it the noise, can be worked out from what they gave before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Random = Callable[[int], bytes]
"""Gives so many random bytes; `os.urandom` wherever something is private."""

Words = npt.NDArray[np.uint64]

BLOCK = 1 << 14
"""Words that are made at a time: what a sampler does with them stays in the processor's cache."""

_CIPHER_BLOCK = 16
_ZEROS = memoryview(bytes(8 * BLOCK))


class Stream:
    """Words of 64 uniform bits that are used once and never come again."""

    def __init__(self, random: Random) -> None:
        # Late: who reads a job's mechanism draws nothing, and `fl-submit check` is to be quick.
        from cryptography.hazmat.primitives.ciphers import Cipher  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.algorithms import AES256  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.modes import CTR  # noqa: PLC0415

        self._cipher = Cipher(AES256(random(32)), CTR(bytes(_CIPHER_BLOCK))).encryptor()
        self._buffer = bytearray(8 * BLOCK + _CIPHER_BLOCK)

    def words(self, count: int) -> Words:
        """So many words, at most `BLOCK`; the next call overwrites them."""
        size = -(-8 * count // _CIPHER_BLOCK) * _CIPHER_BLOCK
        self._cipher.update_into(_ZEROS[:size], self._buffer)
        return np.frombuffer(self._buffer, "<u8", count)

    def bits(self, count: int) -> int:
        """One whole number of so many uniform bits."""
        words = self.words(-(-count // 64))
        return int.from_bytes(words.tobytes(), "little") >> (64 * len(words) - count)
