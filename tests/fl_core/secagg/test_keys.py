"""Keys against the RFC's examples and against HMAC by hand."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg import keys
from fl_core.secagg.encoding import encode
from fl_core.secagg.keys import FIELD, KeyPair

ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
OF_ALICE = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
OF_BOB = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"

LOW_ORDER = (
    0,
    1,
    FIELD - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
"""All points of low order in canonical form: those of order 1, 2, 4 and 8 on the curve and on its twist."""

secrets = some.binary(min_size=32, max_size=32)


def written(number: int) -> bytes:
    return number.to_bytes(32, "little")


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block, from HMAC."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_the_examples_of_rfc_7748() -> None:
    """Public keys and the shared secret of section 6.1, from either side."""
    alice, bob = KeyPair.of(bytes.fromhex(ALICE)), KeyPair.of(bytes.fromhex(BOB))
    assert (alice.public.hex(), bob.public.hex()) == (OF_ALICE, OF_BOB)
    assert alice.agree(bob.public).hex() == SHARED
    assert bob.agree(alice.public).hex() == SHARED


@given(one=secrets, other=secrets)
def test_two_pairs_agree(one: bytes, other: bytes) -> None:
    """Both sides come to the same secret."""
    mine, its = KeyPair.of(one), KeyPair.of(other)
    assert mine.agree(its.public) == its.agree(mine.public)


def test_a_pair_is_made_of_what_the_source_gives() -> None:
    """The private key is 32 bytes from the source of randomness, asked for once."""
    asked: list[int] = []

    def source(count: int) -> bytes:
        asked.append(count)
        return bytes.fromhex(ALICE)

    assert KeyPair.generate(source) == KeyPair.of(bytes.fromhex(ALICE))
    assert asked == [32]


def test_a_private_key_is_never_printed() -> None:
    """The text of a pair shows its public half only."""
    pair = KeyPair.of(bytes.fromhex(ALICE))
    assert repr(pair) == f"KeyPair(public={pair.public!r})"


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: int) -> None:
    """A key from which everybody knows the secret is refused, and named."""
    with pytest.raises(ProtocolError, match=f"{written(point).hex()} is of low order"):
        KeyPair.of(bytes.fromhex(ALICE)).agree(written(point))


@pytest.mark.parametrize("number", [FIELD, FIELD + 1, FIELD + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_a_key_has_one_form(number: int) -> None:
    """Another way to write a key, with the top bit or above the field, is refused: it would look like another key."""
    with pytest.raises(ProtocolError, match="not in canonical form"):
        KeyPair.of(bytes.fromhex(ALICE)).agree(written(number))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_have_32_bytes(size: int) -> None:
    """Others are refused, with their length."""
    whole = bytes.fromhex(BOB)
    for wrong in (lambda: KeyPair.of(bytes(size)), lambda: KeyPair.of(whole).agree(bytes(size))):
        with pytest.raises(ProtocolError, match=f"has {size} bytes; it must have 32"):
            wrong()
    with pytest.raises(ProtocolError, match=f"private key has {size} bytes"):
        KeyPair.generate(lambda _: bytes(size))


@given(
    secret=some.binary(min_size=1, max_size=64), label=some.text(max_size=8), about=some.integers(0, 2**40)
)
def test_a_key_is_derived_by_hkdf(secret: bytes, label: str, about: int) -> None:
    """Extract and expand, with the encoding as info, as HMAC by hand gives it."""
    assert keys.derive(secret, label, about, b"x") == hkdf(secret, encode(label, about, b"x"))


def test_derived_values_are_fixed() -> None:
    """A change of what is derived would be seen here."""
    secret = bytes(range(32))
    assert (
        keys.derive(secret, "mask", b"sid", 3, 7).hex()
        == "8d71c32f2f6d6161c66437ea75cd6ec1b5a2e8d4a17406abbf0b2b7a66c849cc"
    )
    assert keys.commit(secret).hex() == "44acb838e38645596ef04710a6bbb11d88fb890465cc3fd5f556c0d0dbeceb6d"


def test_keys_of_different_uses_differ() -> None:
    """Secret, label and each thing it is about change the key."""
    secret = bytes(32)
    made = {
        keys.derive(secret, "mask", b"sid", 3, 7),
        keys.derive(secret, "mask", b"sid", 7, 3),
        keys.derive(secret, "mask", b"dis", 3, 7),
        keys.derive(secret, "seal", b"sid", 3, 7),
        keys.derive(secret, "mask", b"sid", 37),
        keys.derive(bytes(31) + b"\x01", "mask", b"sid", 3, 7),
    }
    assert len(made) == 6


def test_a_commitment_is_a_hash_of_its_own_kind() -> None:
    """It is SHA-256 over version, label and seed, so no other hash of the protocol is a commitment."""
    text = b"fljob secagg 1s" + (10).to_bytes(8, "big") + b"commitmentb" + (32).to_bytes(8, "big") + bytes(32)
    assert keys.commit(bytes(32)) == hashlib.sha256(text).digest()
