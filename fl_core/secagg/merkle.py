"""A tree of hashes over a list: proof that an entry is in the roster, without the roster.

The shape is that of RFC 6962, section 2.1: leaves and nodes are hashed under different prefixes, so that neither passes
for the other, and a list of any length has exactly one tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fl_core.errors import ProtocolError

LEAF, NODE = b"\x00", b"\x01"
HASH_BYTES = 32


class Tree:
    """All hashes over a list, for whoever proves many of its entries: a proof then costs the tree's height."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [[_hash(LEAF, leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))

    @property
    def root(self) -> bytes:
        """The hash that stands for the whole list; that of the empty list is the hash of nothing."""
        return self._levels[-1][0] if self._levels[0] else hashlib.sha256().digest()

    def proof(self, index: int) -> list[bytes]:
        """The hashes beside the way from a leaf to the root, the lowest first."""
        if not 0 <= index < len(self._levels[0]):
            raise ProtocolError(f"there is no entry {index} in a list of {len(self._levels[0])}")
        places = ((level, (index >> height) ^ 1) for height, level in enumerate(self._levels[:-1]))
        return [level[beside] for level, beside in places if beside < len(level)]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaves, 32 bytes."""
    return Tree(leaves).root


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The proof for one leaf; `Tree` spares the hashing where many are wanted."""
    return Tree(leaves).proof(index)


def verify(root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is the entry `index` of the list of `count` entries that has this root.

    The count must be known for sure: some proofs hold for lists of other lengths too.
    """
    if not 0 <= index < count or any(len(beside) != HASH_BYTES for beside in proof):
        return False
    known, last, rest = _hash(LEAF, leaf), count - 1, list(proof)
    while last:
        if index % 2 or index < last:
            if not rest:
                return False
            beside = rest.pop(0)
            known = _hash(NODE, beside, known) if index % 2 else _hash(NODE, known, beside)
        index, last = index // 2, last // 2
    return not rest and known == root


def _above(level: list[bytes]) -> list[bytes]:
    """The level above: one hash for each pair; one that is left over goes up as it is."""
    pairs = [_hash(NODE, level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]


def _hash(prefix: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(prefix + b"".join(parts)).digest()
