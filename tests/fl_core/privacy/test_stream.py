"""Words come from one key of the generator that was passed in, and never twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from fl_core.privacy.stream import BLOCK, Stream


def test_words_are_the_keystream() -> None:
    """The words are AES-256 of the counters 0, 1, 2, ..., made here block by block."""
    key = bytes(range(32))
    cipher = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305 - single blocks make counter mode
    wanted = b"".join(cipher.update(counter.to_bytes(16, "big")) for counter in range(8))
    assert Stream(lambda count: key[:count]).words(16).tobytes() == wanted


def test_thirty_two_bytes_are_asked_for() -> None:
    """A stream takes one key of the operating system's generator and nothing else."""
    asked: list[int] = []
    stream = Stream(lambda count: asked.append(count) or bytes(count))  # type: ignore[func-returns-value]
    stream.words(BLOCK)
    stream.bits(200)
    assert asked == [32]


@pytest.mark.parametrize("count", [1, 2, 3, 17, BLOCK])
def test_no_word_comes_again(stream: Callable[[int], Stream], count: int) -> None:
    """What a call gives is not what the one before gave, whatever part of a block it took."""
    source = stream(1)
    words = np.concatenate([source.words(count).copy() for _ in range(20)])
    assert len(set(words.tolist())) == 20 * count


@pytest.mark.parametrize("count", [1, 63, 64, 65, 192])
def test_bits_are_so_many(stream: Callable[[int], Stream], count: int) -> None:
    """Whole numbers of so many bits, of which the highest is set half of the time."""
    source = stream(2)
    drawn = [source.bits(count) for _ in range(400)]
    assert max(drawn) < 1 << count
    assert 140 < sum(one >> (count - 1) for one in drawn) < 260
