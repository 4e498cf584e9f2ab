"""Malformed messages: any field of any message, changed in any way, is refused as a ProtocolError or does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg.terms import Terms
from tests.fl_core.secagg.cast import DEVICE, SILO, STEPS, Cohort, same, signer, trust

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TURNS = {
    "advertise": ("advertisement", "roster"),
    "share": ("shares", "dealt"),
    "upload": ("survivors",),
    "sign": ("signature", "agreement"),
    "unmask": ("unmasking",),
}


def damaged(value: Any, random: Random) -> Any:
    """Something like this value, of the same type: what the wire lets pass."""
    if isinstance(value, bytes):
        return random.choice([flipped(value, random), random.randbytes(random.randrange(100)), b""])
    if isinstance(value, int):
        return random.choice([-1, 0, value + 1, 2**32, random.randrange(10)])
    if isinstance(value, tuple):
        return _list(value, random)
    if isinstance(value, dict):
        return _mapping(value, random)
    if isinstance(value, str):
        return value + "?"
    name = random.choice([one.name for one in fields(value)])
    part = _plain(getattr(value, name))
    numbers = tuple(random.choices([*range(9), 2**32 - 1], k=random.randrange(1, 4)))
    # Empty in most messages, so that its type cannot be seen.
    return replace(value, **{name: numbers if name == "spoilt" else damaged(part, random)})


def flipped(text: bytes, random: Random) -> bytes:
    """One bit of it turned."""
    place = random.randrange(8 * len(text) or 1)
    return bytes(byte ^ (1 << place % 8 if n == place // 8 else 0) for n, byte in enumerate(text))


def _list(value: tuple[Any, ...], random: Random) -> tuple[Any, ...]:
    if not value:
        return ((b"",),)
    place = random.randrange(len(value))
    with_one = (*value[:place], damaged(value[place], random), *value[place + 1 :])
    return random.choice([with_one, with_one, value[:place], value[::-1], (*value, value[place]), ()])


def _mapping(value: dict[int, Any], random: Random) -> dict[int, Any]:
    if not value:
        return {random.randrange(9): b"?"}
    key = random.choice(sorted(value))
    rest = {other: one for other, one in value.items() if other != key}
    with_one = {**rest, key: damaged(value[key], random)}
    return random.choice([with_one, with_one, rest, {**value, 99: value[key]}, {**value, -1: b""}, {}])


def _plain(value: Any) -> Any:
    """Any mapping as a dictionary, so that `damaged` knows it."""
    return dict(value) if isinstance(value, Mapping) else value


@unhurried
@given(
    random=some.randoms(use_true_random=True),
    terms=some.sampled_from([SILO, DEVICE]),
    step=some.sampled_from(STEPS),
    worker=some.integers(0, 5),
)
def test_one_damaged_message_breaks_nothing(random: Random, terms: Terms, step: str, worker: int) -> None:
    """Its receiver refuses it or the session goes on; a sum that opens is right; nothing else is ever raised."""
    what = random.choice(TURNS[step])
    cohort = Cohort(range(6), terms=terms)

    def altered(kind: str, to: int, message: Any) -> Any:
        hit = (kind, to) == (what, worker)
        return damaged(_plain(message), random) if hit else message

    cohort.altered = altered
    for one in STEPS:
        with suppress(ProtocolError):
            _each(cohort, one)
    with suppress(ProtocolError):
        recovery = cohort.open()
        assert same(cohort.total, cohort.sum(cohort.host.survivors))
        assert {worker} >= recovery.liars
        assert all(worker in pair for pair in recovery.unexplained)


def _each(cohort: Cohort, step: str) -> None:
    """One step, in which a refusal costs only the worker whose message it was."""
    host, members = cohort.host, cohort.members
    for worker, shown in sorted(cohort._shown.items()):
        member = members[worker]
        with suppress(ProtocolError):
            _turn(cohort, step, worker, shown, member)
    ends = {"advertise": host.freeze, "share": host.deal, "upload": host.close, "sign": host.agree}
    if step in ends:
        after = ends[step]()
        shown = after if isinstance(after, dict) else dict.fromkeys(after, after)
        cohort._show(
            {"advertise": "roster", "share": "dealt", "upload": "survivors"}.get(step, "agreement"), shown
        )


def _turn(cohort: Cohort, step: str, worker: int, shown: Any, member: Any) -> None:
    host = cohort.host
    if step == "advertise":
        host.advertised(worker, cohort.altered("advertisement", worker, member.advertise()))
    elif step == "share":
        host.shared_by(worker, cohort.altered("shares", worker, member.share(shown)))
    elif step == "upload":
        vector = cohort.sum([worker])
        member.mask(vector, cohort.layout, shown)
        host.arrived(worker)
        cohort.total.add(vector)
    elif step == "sign":
        host.signed(worker, cohort.altered("signature", worker, member.sign(shown)))
    else:
        host.unmasked(worker, cohort.altered("unmasking", worker, member.unmask(shown)))


def test_every_byte_of_a_sealed_share_counts() -> None:
    """Whichever byte is changed on its way, the share does not open, and its receiver says so."""
    cohort = Cohort(range(4))
    cohort.run(last="sign")
    member = cohort.members[0]
    whole = member._sealed[1]
    for place in range(len(whole)):
        member._sealed[1] = bytes(b ^ (n == place) for n, b in enumerate(whole))
        with pytest.raises(ProtocolError, match="does not open"):
            member._opened(member._joined, 1)
    member._sealed[1] = whole
    assert member._opened(member._joined, 1)


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 87, 89])
def test_a_sealed_share_of_another_length_is_spoilt(cut: int) -> None:
    """Whatever its length, the other shares are given all the same."""
    cohort = Cohort(range(4))
    cohort.altered = lambda what, worker, message: (
        {**message, 1: (message[1] * 2)[:cut]} if (what, worker) == ("dealt", 0) else message
    )
    cohort.run(last="sign")
    answer = cohort.members[0].unmask(cohort.shown(0))
    assert answer.spoilt == (1,)
    assert set(answer.seeds) == {0, 2, 3}


def says_another(wrong: bytes) -> bool:
    """Whether a damaged certificate of worker 1 is believed, and says something else than the whole one."""
    own, trusted = signer(1), trust()
    signature = own.sign(b"a statement")
    try:
        for certificate in (own.certificate, wrong):
            trusted.check(certificate, worker=1, statement=b"a statement", signature=signature)
    except ProtocolError:
        return False
    return trusted._known[wrong] != trusted._known[own.certificate]


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_bit_of_a_certificate_says_something_else() -> None:
    """Each one turned is refused, whatever the library raises; but for unused bits, which say nothing."""
    whole = signer(1).certificate
    for bit in range(8 * len(whole)):
        wrong = bytearray(whole)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not says_another(bytes(wrong))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@unhurried
@given(random=some.randoms(use_true_random=True))
def test_damaged_certificates_are_refused(random: Random) -> None:
    """No cut and no garbage in place of a certificate gives another error than a refusal, and none is believed."""
    assert not says_another(damaged(signer(1).certificate, random))
