"""What the server refuses of members: with a reason, without a change, and the session goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from fl_core.errors import ProtocolError
from fl_core.secagg.messages import Unmasking
from fl_core.secagg.server import SEALED_BYTES, Host
from fl_core.secagg.session import Entry
from tests.fl_core.secagg.cast import Cohort, context, goes_on, refusal, same, signer, stopped, trust


def advertised(cohort: Cohort) -> dict[int, Entry]:
    """All advertisements, of which the server has those of workers 0 and 1."""
    entries = {worker: member.advertise() for worker, member in cohort.members.items()}
    for worker in (0, 1):
        cohort.host.advertised(worker, entries[worker])
    return entries


def again(entry: Entry, cohort: Cohort, **changes: Any) -> Entry:
    """The entry, changed and signed by its worker."""
    entry = replace(entry, **changes)
    return replace(entry, signature=signer(entry.worker).sign(entry.statement(cohort.context.digest)))


ENTRIES: Mapping[str, tuple[Callable[[dict[int, Entry], Cohort], Entry], str]] = {
    "of another": (lambda e, _: e[3], "worker-2 advertises for worker-3"),
    "unsigned": (lambda e, _: replace(e[2], signature=b""), "worker-2: the signature does not fit"),
    "a stolen mask key": (
        lambda e, c: again(e[2], c, mask_key=e[1].mask_key),
        "worker-2 advertises another member's mask key",
    ),
    "a stolen seal key": (
        lambda e, c: again(e[2], c, seal_key=e[1].seal_key),
        "worker-2 advertises another member's seal key",
    ),
    "a stolen commitment": (
        lambda e, c: again(e[2], c, commitment=e[1].commitment),
        "worker-2 advertises another member's commitment",
    ),
    "a mask key of low order": (lambda e, c: again(e[2], c, mask_key=bytes(32)), "of low order"),
    "a seal key of low order": (lambda e, c: again(e[2], c, seal_key=bytes(32)), "of low order"),
    "a long key": (lambda e, c: again(e[2], c, mask_key=bytes(33)), "33 bytes; it must have 32"),
    "a long number": (lambda e, c: again(e[2], c, mask_key=b"\xff" * 32), "not in canonical form"),
    "another certificate": (
        lambda e, _: replace(e[2], certificate=e[3].certificate),
        "worker-2 shows the certificate of worker-3",
    ),
    "no certificate": (lambda e, _: replace(e[2], certificate=b"?"), "shows no certificate"),
    "a replay": (lambda _e, _c: Cohort([2], round=2).members[2].advertise(), "signature does not fit"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_advertisement_that_is_not_sound_is_refused(name: str) -> None:
    """Its sender is not in the roster by it, and may still be by a sound one."""
    change, reason = ENTRIES[name]
    cohort = Cohort(range(4))
    entries = advertised(cohort)
    with refusal(cohort.host, reason):
        cohort.host.advertised(2, change(entries, cohort))
    for worker in (2, 3):
        cohort.host.advertised(worker, entries[worker])
    cohort._show("roster", cohort.host.freeze())
    goes_on(cohort)


def test_a_second_advertisement_is_refused() -> None:
    """One worker is one member."""
    cohort = Cohort(range(4))
    advertised(cohort)
    with refusal(cohort.host, "worker-1 sends an advertisement twice"):
        cohort.host.advertised(1, cohort.members[1]._own)


def test_only_candidates_advertise_in_a_later_attempt() -> None:
    """Who was not sought at first is not taken afterwards."""
    cohort = Cohort(range(4), candidates=(0, 1, 2, 5))
    entries = advertised(cohort)
    with refusal(cohort.host, "worker-3 is not among this sum's candidates"):
        cohort.host.advertised(3, entries[3])


SHARES: Mapping[str, tuple[Callable[[dict[int, bytes]], dict[int, bytes]], str]] = {
    "for too few": (lambda s: {1: s[1]}, "worker-0 sends shares to worker-1; expected"),
    "for nobody": (lambda _: {}, "worker-0 sends shares to ; expected"),
    "for a stranger": (lambda s: {**s, 9: s[1]}, "worker-9; expected"),
    "for itself": (lambda s: {**s, 0: s[1]}, "worker-0, worker-1.*; expected"),
    "too long": (lambda s: {**s, 1: s[1] + b"?"}, f"worker-1 is not {SEALED_BYTES} bytes"),
    "too short": (lambda s: {**s, 2: s[1][:-1]}, f"worker-2 is not {SEALED_BYTES} bytes"),
}


@pytest.mark.parametrize("name", SHARES)
def test_shares_that_do_not_fit_the_roster_are_refused(name: str) -> None:
    """One sealed share of the right length for each neighbour, or none at all."""
    change, reason = SHARES[name]
    cohort = stopped("advertise")
    sealed = dict(cohort.members[0].share(cohort.shown(0)))
    with refusal(cohort.host, reason):
        cohort.host.shared_by(0, change(sealed))
    cohort.host.shared_by(0, sealed)
    goes_on(cohort)


def test_a_late_vector_is_refused() -> None:
    """After the uploads are closed a worker is dead, and its seed is asked of nobody."""
    cohort = Cohort(range(4))
    cohort.run(last="upload", deaths={3: "upload"})
    for late in (cohort.host.arrived, cohort.host.expects_vector):
        with refusal(cohort.host, "worker-3 sends a vector, but the open step is signatures"):
            late(3)
    cohort.sign()
    for worker in range(3):
        answer = cohort.members[worker].unmask(cohort.shown(worker))
        assert 3 not in answer.seeds
        cohort.host.unmasked(worker, answer)
    cohort.open()
    assert same(cohort.total, cohort.sum(range(3)))


def test_vectors_come_once_and_from_those_who_shared() -> None:
    """A second vector, and one of a worker that shared nothing, are not counted in."""
    cohort = Cohort(range(5))
    cohort.run(last="share", deaths={4: "share"})
    with refusal(cohort.host, "worker-4 sends a vector, but is no longer part of it"):
        cohort.host.expects_vector(4)
    cohort.host.arrived(0)
    with refusal(cohort.host, "worker-0 sends a vector twice"):
        cohort.host.arrived(0)


def test_signatures_of_the_dead_and_bad_ones_are_refused() -> None:
    """Only survivors sign, each once, and only these survivors."""
    cohort = Cohort(range(4))
    cohort.run(last="upload", deaths={3: "upload"})
    good = cohort.members[0].sign((0, 1, 2))
    with refusal(cohort.host, "worker-3 sends a signature, but is no longer part of it"):
        cohort.host.signed(3, good)
    with refusal(cohort.host, "worker-1: the signature does not fit"):
        cohort.host.signed(1, good)
    cohort.host.signed(0, good)
    with refusal(cohort.host, "worker-0 sends a signature twice"):
        cohort.host.signed(0, good)
    cohort.finish()
    assert same(cohort.total, cohort.sum(range(3)))


ANSWERS: Mapping[str, tuple[Callable[[Unmasking], Unmasking], str]] = {
    "too few": (lambda u: Unmasking({0: u.seeds[0]}, u.mask_keys), "shares of seeds of worker-0; expected"),
    "none": (lambda _: Unmasking({}, {}), "shares of seeds of ; expected"),
    "live and dead": (
        lambda u: Unmasking({**u.seeds, 4: u.mask_keys[4]}, u.mask_keys),
        "worker-4; expected worker-0, worker-1, worker-2, worker-3$",
    ),
    "the living's mask keys": (
        lambda u: Unmasking(u.seeds, {**u.mask_keys, 1: u.seeds[1]}),
        "mask keys of worker-1, worker-4; expected worker-4",
    ),
    "exchanged": (lambda u: Unmasking(u.mask_keys, u.seeds), "shares of seeds of worker-4; expected"),
    "a stranger's": (lambda u: Unmasking({**u.seeds, 9: u.seeds[0]}, u.mask_keys), "worker-9; expected"),
    "short": (lambda u: Unmasking({**u.seeds, 0: u.seeds[0][:35]}, u.mask_keys), "has 35 bytes"),
    "long": (lambda u: Unmasking(u.seeds, {4: u.mask_keys[4] + b"1234"}), "has 40 bytes"),
    "no element": (lambda u: Unmasking({**u.seeds, 0: b"\xff" * 36}, u.mask_keys), "outside of the field"),
    "spoilt and given": (
        lambda u: replace(u, spoilt=(1,)),
        "shares of seeds of .*; expected worker-0, worker-2",
    ),
    "a stranger's seal": (
        lambda u: replace(u, spoilt=(999_999,)),
        "worker-0 names seals of worker-999999, which it does not hold",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_unmasking_shares_that_are_not_due_are_refused(name: str) -> None:
    """A seed's share for each living one, a mask key's for each dead one, nothing else, all well formed."""
    change, reason = ANSWERS[name]
    cohort = Cohort(range(5))
    cohort.run(last="sign", deaths={4: "upload"})
    answer = cohort.members[0].unmask(cohort.shown(0))
    with refusal(cohort.host, reason):
        cohort.host.unmasked(0, change(answer))
    cohort.host.unmasked(0, answer)
    with refusal(cohort.host, "worker-0 sends unmasking shares twice"):
        cohort.host.unmasked(0, answer)
    cohort.finish()
    assert same(cohort.total, cohort.sum(range(4)))


ACTS: Mapping[str, Callable[[Host], Any]] = {
    "advertised": lambda host: host.advertised(0, Entry(0, b"", b"", b"", b"")),
    "shared_by": lambda host: host.shared_by(0, {}),
    "arrived": lambda host: host.arrived(0),
    "signed": lambda host: host.signed(0, b""),
    "unmasked": lambda host: host.unmasked(0, Unmasking({}, {})),
    "freeze": lambda host: host.freeze(),
    "deal": lambda host: host.deal(),
    "close": lambda host: host.close(),
    "agree": lambda host: host.agree(),
}
DUE = [
    ("advertised", "freeze"),
    ("shared_by", "deal"),
    ("arrived", "close"),
    ("signed", "agree"),
    ("unmasked",),
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("last", [None, "advertise", "share", "upload", "sign"])
def test_what_is_not_due_is_refused(act: str, last: str | None) -> None:
    """Messages and ends of other steps than the open one change nothing."""
    cohort = Cohort(range(3))
    if last is not None:
        cohort.run(last=last)
    if act not in DUE[cohort.host.step]:
        with refusal(cohort.host, "but the open step is"):
            ACTS[act](cohort.host)


def test_a_session_that_is_open_takes_nothing_more() -> None:
    """Once the sum is opened it cannot be opened again, nor unmasked once more."""
    cohort = Cohort(range(3))
    cohort.run()
    cohort.open()
    with refusal(cohort.host, "the open step is open"):
        cohort.open()
    assert same(cohort.total, cohort.sum(range(3)))


def test_a_roster_of_nobody_is_not_frozen() -> None:
    """Without advertisements, or with too few, there is no session."""
    host = Host(context(), trust())
    with pytest.raises(ProtocolError, match="0 workers take part"):
        host.freeze()
    assert host.session is None
