"""A search for lies by members: the sum is exact and the liars are named, or there is no sum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError, UnmaskError
from fl_core.secagg import keys, sealing
from fl_core.secagg.masks import Mask, Vector, apply
from fl_core.secagg.messages import Unmasking
from fl_core.secagg.recovery import Recovery
from fl_core.secagg.server import Host
from fl_core.secagg.shamir import PRIME
from tests.fl_core.secagg.cast import DEVICE, STEPS, Cohort, same

DEALT = {"dealing", "sealing", "no element"}
"""Lies of who deals: a share of another secret, a seal that does not open, and one that opens to no share."""
LIES = ("seeds", "mask keys", "masks", "commitment", *sorted(DEALT), "accusing")
SPOIL = {"seeds", "mask keys", *DEALT, "accusing"}
"""Lies about shares: those that a member gives, deals, or says that it cannot give."""

THRESHOLDS = {4: 3, 5: 4, 6: 5, 7: 5, 8: 6}


def spoilt(share: bytes) -> bytes:
    """Another share of the same length, in the field; any other, so that two lies do not cancel."""
    return bytes([1]) + hashlib.sha256(share).digest()[:3] + share[4:]


def dealt_falsely(dealer: Any, victim: int, text: bytes, lie: str) -> bytes:
    """Instead of a sealed share one under which lies another share, or none that opens."""
    if lie == "sealing":
        return spoilt(text)
    session = dealer._session
    key = session.seal_key(dealer._agreed[victim], sender=dealer._worker, receiver=victim)
    share = sealing.unseal(key, text, about=session.id)
    half = len(share) // 2
    if lie == "no element":
        return sealing.seal(key, b"\xff" * len(share), about=session.id)
    return sealing.seal(key, spoilt(share[:half]) + spoilt(share[half:]), about=session.id)


class Liars:
    """Changes what some members send, each in its way."""

    def __init__(self, cohort: Cohort, lies: Mapping[int, str]) -> None:
        self.lies = lies
        self.cohort = cohort

    def __call__(self, what: str, worker: int, message: Any) -> Any:
        lie = self.lies.get(worker)
        if what == "unmasking" and lie == "seeds":
            seeds = {other: spoilt(share) for other, share in message.seeds.items()}
            return replace(message, seeds=seeds)
        if what == "unmasking" and lie == "mask keys":
            mask_keys = {other: spoilt(share) for other, share in message.mask_keys.items()}
            return replace(message, mask_keys=mask_keys)
        if what == "unmasking" and lie == "accusing":
            seeds = dict(message.seeds)
            victim = next(other for other in seeds if other != worker)
            del seeds[victim]
            return replace(message, seeds=seeds, spoilt=(*message.spoilt, victim))
        if what == "shares" and lie in DEALT:
            victim = min(message)
            return {
                **message,
                victim: dealt_falsely(self.cohort.members[worker], victim, message[victim], lie),
            }
        if what == "vector" and lie == "masks":
            apply(message, [Mask(bytes(32), 1)], layout=self.cohort.layout)
        if what == "advertisement" and lie == "commitment":
            member = self.cohort.members[worker]
            bare = replace(message, commitment=keys.commit(f"no seed {worker}".encode()))
            signature = member._me.signer.sign(bare.statement(member.context.digest))
            member._own = replace(bare, signature=signature)
            return member._own
        return message


@some.composite
def casts(draw: Any) -> tuple[int, dict[int, str], dict[int, str]]:
    """So many workers, who of them dies when, and who of them lies how."""
    n = draw(some.sampled_from(sorted(THRESHOLDS)))
    workers = some.integers(0, n - 1)
    deaths = draw(some.dictionaries(workers, some.sampled_from(STEPS[1:]), max_size=n - THRESHOLDS[n]))
    return n, deaths, draw(some.dictionaries(workers, some.sampled_from(LIES), max_size=2))


def outcome(cast: tuple[int, dict[int, str], dict[int, str]]) -> tuple[Cohort, Recovery | None]:
    """The session of this cast, and what came of it."""
    n, deaths, lies = cast
    cohort = Cohort(range(n))
    cohort.altered = Liars(cohort, lies)
    cohort.run(deaths=deaths)
    try:
        return cohort, cohort.open()
    except ProtocolError:
        return cohort, None


def framed(worker: int, lies: Mapping[int, str], n: int) -> bool:
    """Whether somebody has dealt this worker a share that is none."""
    dealers = [one for one, lie in lies.items() if lie in DEALT]
    return any(worker == min(set(range(n)).difference([dealer])) for dealer in dealers)


def check(cast: tuple[int, dict[int, str], dict[int, str]]) -> None:
    """Raise AssertionError where a sum is wrong, an honest member is blamed, or a sum fails without need."""
    n, deaths, lies = cast
    cohort, recovery = outcome(cast)
    survivors = cohort.host.survivors
    fatal = [w for w, lie in lies.items() if w in survivors and lie in {"masks", "commitment"}]
    if recovery is not None:
        assert not fatal, "a sum under masks was taken for one"
        assert same(cohort.total, cohort.sum(survivors)), "a wrong sum was taken for one"
        spoilers = {w for w, lie in lies.items() if lie in SPOIL}
        assert recovery.liars <= spoilers, "blamed"
        assert all(spoilers.intersection(pair) for pair in recovery.disputes), "blamed"
        return
    answered = [w for w in range(n) if w not in deaths]
    honest = [w for w in answered if lies.get(w) not in SPOIL and not framed(w, lies, n)]
    assert fatal or len(honest) < THRESHOLDS[n], "a sum failed that could have been opened"


def search(examples: int) -> None:
    """The same casts in every run."""
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(casts())(check))()


def test_lies_spoil_nothing_or_everything() -> None:
    """With up to two liars the sum is exact and only liars are named, or, where it cannot be opened, there is none."""
    search(80)


def test_who_gives_wrong_shares_is_named() -> None:
    """Another t shares give the sum; whoever held wrong ones is named, wherever it stands."""
    for liar in range(7):
        _, recovery = outcome((7, {}, {liar: "seeds"}))
        assert recovery is not None
        assert recovery.liars <= {liar}
        assert bool(recovery.liars) == (liar < THRESHOLDS[7]), "only shares that were used are looked at"


@pytest.mark.parametrize("lie", sorted(DEALT))
def test_who_holds_a_share_that_was_dealt_falsely_is_not_blamed(lie: str) -> None:
    """The sum is exact; that dealer and holder are in dispute is told, and which of them has lied is not."""
    _, recovery = outcome((7, {}, {6: lie}))
    assert recovery is not None
    assert (recovery.disputes, recovery.unexplained, recovery.liars) == ({(6, 0)}, {(6, 0)}, set())


@pytest.mark.parametrize(("count", "opens"), [(2, True), (3, False), (6, False)])
def test_spoilt_seals_are_told_with_their_dealer(count: int, *, opens: bool) -> None:
    """As many as the threshold bears cost nothing; with more the error names the dealer, and would come again."""
    cohort, dealer = Cohort(range(7)), 6
    cohort.altered = lambda what, worker, message: (
        {other: spoilt(text) if other < count else text for other, text in message.items()}
        if (what, worker) == ("shares", dealer)
        else message
    )
    cohort.run()
    if opens:
        assert cohort.open().unexplained == {(dealer, holder) for holder in range(count)}
        return
    with pytest.raises(
        UnmaskError, match=f"{7 - count} shares of worker-6's secret came and {count} did not open"
    ):
        cohort.open()


@pytest.mark.parametrize(("accusers", "is_final"), [((0,), False), ((0, 1), True)])
def test_a_sum_may_be_sought_again_where_who_is_absent_would_do(
    accusers: tuple[int, ...], *, is_final: bool
) -> None:
    """One of four dies before it gives its shares: with them one false claim would cost nothing; two are final."""
    cohort, dealer = Cohort(range(4)), 2

    def accusing(what: str, worker: int, message: Any) -> Any:
        if what != "unmasking" or worker not in accusers:
            return message
        seeds = {other: share for other, share in message.seeds.items() if other != dealer}
        return replace(message, seeds=seeds, spoilt=(dealer,))

    cohort.altered = accusing
    cohort.run(deaths={3: "unmask"})
    with pytest.raises(ProtocolError) as error:
        cohort.open()
    assert isinstance(error.value, UnmaskError) == is_final


def test_no_more_liars_than_the_slack_can_be_outvoted() -> None:
    """With three of seven lying there are not five good shares, and the error names whose secret it is."""
    cohort = Cohort(range(7))
    cohort.altered = Liars(cohort, dict.fromkeys([0, 3, 6], "seeds"))
    cohort.run()
    masked = cohort.total.body.tolist()
    with pytest.raises(ProtocolError, match="worker-0's secret do not give what it advertised"):
        cohort.open()
    assert cohort.total.body.tolist() == masked


def test_liars_are_found_among_many() -> None:
    """There are 14 million sets of 21 of 30 holders, most with a liar; three liars do not stop the sum."""
    cohort = Cohort(range(30))
    cohort.altered = Liars(cohort, dict.fromkeys([0, 1, 2], "seeds"))
    cohort.run()
    assert cohort.open().liars == {0, 1, 2}
    assert same(cohort.total, cohort.sum(range(30)))


def weight_at_zero(point: int, points: Sequence[int]) -> int:
    """Lagrange's weight of this point's value in the value at zero."""
    rest = [other for other in points if other != point]
    return prod(rest) * pow(prod(other - point for other in rest), -1, PRIME) % PRIME


def test_liars_cannot_frame_others() -> None:
    """Two whose errors cancel in one set of six give the right seed with it; nobody is named, whoever disagrees."""
    first, second = (weight_at_zero(point, [1, 2, 3, 4, 5, 7]) for point in (1, 2))
    errors = {0: 1, 1: -first * pow(second, -1, PRIME) % PRIME}

    def framing(what: str, worker: int, message: Any) -> Any:
        if what != "unmasking" or worker not in errors:
            return message
        seeds = {
            other: ((int.from_bytes(share[:4], "big") + errors[worker]) % PRIME).to_bytes(4, "big")
            + share[4:]
            for other, share in message.seeds.items()
        }
        return Unmasking(seeds, message.mask_keys)

    cohort = Cohort(range(8))
    cohort.altered = framing
    cohort.run()
    assert cohort.open().liars <= {0, 1}
    assert same(cohort.total, cohort.sum(range(8)))


def test_a_sealed_share_that_does_not_open_is_named_by_its_receiver() -> None:
    """Damage on the way costs one share of the threshold's slack, and the sum opens without it."""
    cohort = Cohort(range(4))
    cohort.altered = lambda what, worker, message: (
        {**message, 2: spoilt(message[2])} if (what, worker) == ("dealt", 1) else message
    )
    cohort.run()
    assert cohort.host._unmaskings[1].spoilt == (2,)
    assert cohort.open().unexplained == {(2, 1)}
    assert same(cohort.total, cohort.sum(range(4)))


def test_liars_of_a_sparse_graph_are_found() -> None:
    """Under cross-device terms wrong shares of dead members' mask keys are found out, too."""
    cohort = Cohort(range(12), terms=DEVICE)
    cohort.altered = Liars(cohort, {0: "mask keys", 1: "seeds"})
    cohort.run(deaths={5: "upload"})
    recovery = cohort.open()
    assert recovery.liars <= {0, 1}
    assert same(cohort.total, cohort.sum([w for w in range(12) if w != 5]))


# -- protocols that are broken in one place --


def no_commitment_check(patch: pytest.MonkeyPatch) -> None:
    real = Recovery._secrets
    patch.setattr(Recovery, "_secrets", lambda self, held, _fits: real(self, held, lambda *_: True))


def no_sentinel_check(patch: pytest.MonkeyPatch) -> None:
    real = Host.open

    def trusting(self: Host, total: Vector, layout: Any) -> Recovery:
        try:
            return real(self, total, layout)
        except ProtocolError as error:
            if "masks do not come off" not in str(error):
                raise
            return Recovery(self.frozen, {}, {})

    patch.setattr(Host, "open", trusting)


@pytest.mark.parametrize("mutant", [no_commitment_check, no_sentinel_check], ids=lambda m: m.__name__)
def test_the_search_finds_a_broken_protocol(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without either check the same casts give a wrong sum, or none where there could be one."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="taken for one|could have been opened"):
        search(80)
