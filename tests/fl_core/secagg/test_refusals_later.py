"""What a member refuses once the roster stands: shares, survivors and proofs that are not sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fl_core.secagg.masks import Layout
from fl_core.secagg.messages import Agreement, Roster
from tests.fl_core.secagg.cast import SMALL, Cohort, goes_on, plain, refusal, same, signer, stopped


def test_shares_of_strangers_are_refused() -> None:
    """Masks are shared with members of the roster only, and never with oneself."""
    cohort = stopped("share")
    for stranger in (0, 9):
        with refusal(cohort.members[0], f"shares come from worker-{stranger}, who are no neighbours"):
            cohort.members[0].mask(plain(SMALL), SMALL, {**cohort.shown(0), stranger: bytes(88)})
    goes_on(cohort)


def test_too_few_shares_are_refused() -> None:
    """Below the threshold nothing is masked."""
    cohort = stopped("share")
    [(one, text), *_] = cohort.shown(0).items()
    with refusal(cohort.members[0], "2 members that shared, fewer than the 3"):
        cohort.members[0].mask(plain(SMALL), SMALL, {one: text})
    goes_on(cohort)


@pytest.mark.parametrize(
    "layout", [Layout(2, 5, 32), Layout(3, 6, 32), Layout(3, 5, 16), Layout(3, 0, 32)], ids=str
)
def test_a_vector_of_another_layout_is_refused(layout: Layout) -> None:
    """Nothing of it is masked, and nothing is noted as sent."""
    cohort = stopped("share")
    vector = plain(layout)
    with refusal(cohort.members[0], "of a vector: .*it must be"):
        cohort.members[0].mask(vector, SMALL, cohort.shown(0))
    assert same(vector, plain(layout))
    goes_on(cohort)


SURVIVORS = {
    "out of order": ((1, 0, 2, 3), "not members in order"),
    "one twice": ((0, 0, 1, 2), "not members in order"),
    "a stranger": ((0, 1, 2, 9), "not members in order"),
    "nobody": ((), "0 survivors, fewer than the 3"),
    "too few": ((0, 1), "2 survivors, fewer than the 3"),
    "without oneself": ((1, 2, 3), "it is not among the survivors"),
}


@pytest.mark.parametrize("name", SURVIVORS)
def test_survivors_that_cannot_be_are_refused(name: str) -> None:
    """Nothing is signed, and nothing is noted as signed."""
    listed, reason = SURVIVORS[name]
    cohort = stopped("upload")
    with refusal(cohort.members[0], reason):
        cohort.members[0].sign(listed)
    goes_on(cohort)


def test_a_survivor_that_never_shared_is_refused() -> None:
    """Its self-mask is not this member's to open: a worker that came late stays dead."""
    cohort = Cohort(range(4))
    cohort.run(last="upload", deaths={3: "share"})
    with refusal(cohort.members[0], "worker-3 survive whose shares never came"):
        cohort.members[0].sign((0, 1, 2, 3))
    cohort.finish()
    assert same(cohort.total, cohort.sum([0, 1, 2]))


def test_a_second_list_of_survivors_is_refused() -> None:
    """Not in this session, nor in another one of the same sum."""
    cohort = stopped("upload")
    cohort.members[0].sign((0, 1, 2, 3))
    with refusal(cohort.members[0], "asked to sign in step SIGNED"):
        cohort.members[0].sign((0, 1, 2))


AGREEMENTS: Mapping[str, tuple[Callable[[dict[int, bytes]], dict[int, bytes]], str]] = {
    "too few": (lambda s: dict(list(s.items())[:2]), "2 signatures of the survivors, fewer than the thr"),
    "none": (lambda _: {}, "0 signatures of the survivors"),
    "a stranger's": (lambda s: {**s, 9: s[1]}, "signatures of worker-9, who are no survivors it knows"),
    "swapped": (lambda s: {**s, 0: s[1], 1: s[0]}, "the signature does not fit"),
    "empty": (lambda s: {**s, 1: b""}, "worker-1: the signature does not fit"),
    "one for all": (lambda s: dict.fromkeys(s, s[0]), "the signature does not fit"),
}


@pytest.mark.parametrize("name", AGREEMENTS)
def test_a_proof_that_is_none_is_refused(name: str) -> None:
    """Without t good signatures of survivors that it knows a member gives no share."""
    change, reason = AGREEMENTS[name]
    cohort = stopped("sign")
    proof = dict(cohort.shown(0).signatures)
    with refusal(cohort.members[0], reason):
        cohort.members[0].unmask(Agreement(change(proof)))
    goes_on(cohort)


def test_a_proof_of_other_survivors_is_refused() -> None:
    """Who signed that all live does not answer to signatures under a list that declares worker 3 dead."""
    cohort = stopped("upload")
    for worker in (0, 3):
        cohort.members[worker].sign((0, 1, 2, 3))
    others = {worker: cohort.members[worker].sign((0, 1, 2)) for worker in (1, 2)}
    third = signer(0).sign(cohort.host.frozen.survivors((0, 1, 2)))  # worker 0 colludes
    with refusal(cohort.members[3], "the signature does not fit"):
        cohort.members[3].unmask(Agreement({**others, 0: third}))
    assert set(cohort.members[1].unmask(Agreement({**others, 0: third})).mask_keys) == {3}


@pytest.mark.parametrize("changes", [{"round": 2}, {"attempt": 2}, {"purpose": "measure"}], ids=str)
def test_a_proof_from_another_session_is_refused(changes: dict[str, Any]) -> None:
    """Signatures of the same survivors in another round, attempt or purpose prove nothing here."""
    cohort, other = stopped("sign"), stopped("sign", **changes)
    with refusal(cohort.members[0], "the signature does not fit"):
        cohort.members[0].unmask(other.shown(0))
    goes_on(cohort)


def test_nobody_is_given_as_live_and_dead() -> None:
    """The answer has a seed or a mask key of each other member, never both, and comes once."""
    cohort = Cohort(range(5))
    cohort.run(last="sign", deaths={4: "upload"})
    member = cohort.members[0]
    answer = member.unmask(cohort.shown(0))
    assert (set(answer.seeds), set(answer.mask_keys)) == ({0, 1, 2, 3}, {4})
    with refusal(member, "asked to unmask in step DONE"):
        member.unmask(cohort.shown(0))
    cohort.host.unmasked(0, answer)
    cohort.finish()
    assert same(cohort.total, cohort.sum(range(4)))


@pytest.mark.parametrize("act", ["advertise", "share", "mask", "sign", "unmask"])
@pytest.mark.parametrize("last", [None, "advertise", "share", "upload", "sign", "unmask"])
def test_steps_come_in_order_and_once(act: str, last: str | None) -> None:
    """A member does the one step that is due, and refuses every other."""
    steps = [None, "advertise", "share", "upload", "sign", "unmask"]
    cohort = Cohort(range(4))
    if last is not None:
        cohort.run(last=last)
    if steps.index(last) == ["advertise", "share", "mask", "sign", "unmask"].index(act):
        return
    member = cohort.members[0]
    acts: Mapping[str, Callable[[], Any]] = {
        "advertise": member.advertise,
        "share": lambda: member.share(Roster((), (), b"", ())),
        "mask": lambda: member.mask(plain(SMALL), SMALL, {}),
        "sign": lambda: member.sign(()),
        "unmask": lambda: member.unmask(Agreement({})),
    }
    with refusal(member, f"asked to {act} in step"):
        acts[act]()
