"""Trees and proofs against the recursive definitions of RFC 6962."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg.merkle import Tree, proof, root, verify

EXAMPLE = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The list that implementations of certificate transparency test themselves with."""

lists = some.lists(some.binary(max_size=8), min_size=1, max_size=40)


def sha(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def largest_power_below(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def root_by_hand(leaves: Sequence[bytes]) -> bytes:
    """MTH of section 2.1."""
    if len(leaves) < 2:
        return sha(b"\x00" + leaves[0]) if leaves else sha(b"")
    half = largest_power_below(len(leaves))
    return sha(b"\x01" + root_by_hand(leaves[:half]) + root_by_hand(leaves[half:]))


def proof_by_hand(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    half = largest_power_below(len(leaves))
    if index < half:
        return [*proof_by_hand(leaves[:half], index), root_by_hand(leaves[half:])]
    return [*proof_by_hand(leaves[half:], index - half), root_by_hand(leaves[:half])]


def test_known_roots() -> None:
    """The empty list, one empty leaf and the eight leaves of the common example."""
    assert root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root(EXAMPLE[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(EXAMPLE).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("count", range(1, 34))
def test_roots_and_proofs_are_those_of_the_rfc(count: int) -> None:
    """For lists of every length, each entry's proof is the recursive one, and it holds."""
    leaves = [bytes([number]) for number in range(count)]
    tree = Tree(leaves)
    assert tree.root == root(leaves) == root_by_hand(leaves)
    for index, leaf in enumerate(leaves):
        assert tree.proof(index) == proof(leaves, index) == proof_by_hand(leaves, index)
        assert verify(tree.root, leaf, index, count, tree.proof(index))


@settings(deadline=None)
@given(leaves=lists, data=some.data())
def test_a_proof_holds_for_its_entry_only(leaves: list[bytes], data: some.DataObject) -> None:
    """Another leaf, another root, or a place where another leaf stands is refused."""
    index, other = (data.draw(some.integers(0, len(leaves) - 1)) for _ in range(2))
    known, way = root(leaves), proof(leaves, index)
    assert verify(known, leaves[index], index, len(leaves), way)
    assert not verify(known, leaves[index] + b"x", index, len(leaves), way)
    assert not verify(sha(known), leaves[index], index, len(leaves), way)
    same = leaves[other] == leaves[index] and proof(leaves, other) == way
    assert verify(known, leaves[index], other, len(leaves), way) == same
    assert verify(known, leaves[other], index, len(leaves), way) == (leaves[other] == leaves[index])


@settings(deadline=None)
@given(leaves=lists, data=some.data())
def test_a_proof_is_whole(leaves: list[bytes], data: some.DataObject) -> None:
    """One hash fewer, more, shorter or changed is refused, and so are two that changed places."""
    index = data.draw(some.integers(0, len(leaves) - 1))
    known, way = root(leaves), proof(leaves, index)
    wrong = [[*way, known], [bytes(32), *way], [*way, b""]]
    if way:
        wrong += [way[:-1], way[1:], [*way[:-1], way[-1][:31]], [*way[:-1], sha(way[-1])]]
    if way != way[::-1]:
        wrong += [way[::-1]]
    for one in wrong:
        assert not verify(known, leaves[index], index, len(leaves), one)


@pytest.mark.parametrize(("index", "count"), [(-1, 4), (4, 4), (0, 0), (0, -1), (5, 4)])
def test_places_outside_of_the_list_are_refused(index: int, count: int) -> None:
    """No proof holds for them, and none is made."""
    leaves = EXAMPLE[:4]
    for place, leaf in enumerate(leaves):
        assert not verify(root(leaves), leaf, index, count, proof(leaves, place))
    with pytest.raises(ProtocolError, match=f"no entry {index} in a list of {max(count, 0)}"):
        proof(leaves[: max(count, 0)], index)


def test_a_node_is_no_leaf() -> None:
    """What two leaves hash to is not accepted as a leaf of a shorter list."""
    one, other = (sha(b"\x00" + leaf) for leaf in EXAMPLE[:2])
    assert root([one + other]) != root(EXAMPLE[:2])
    assert not verify(root(EXAMPLE[:2]), one + other, 0, 1, [])
    assert root([*EXAMPLE[:3], EXAMPLE[2]]) != root(EXAMPLE[:3])
