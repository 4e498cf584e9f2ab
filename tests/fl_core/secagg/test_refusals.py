"""What a member refuses: each with its reason, without a change, so that the honest session goes on afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from fl_core.errors import ProtocolError
from fl_core.identity import wall_time
from fl_core.secagg import keys
from fl_core.secagg.endorsement import Organisations
from fl_core.secagg.messages import Roster
from fl_core.secagg.policy import Policy
from fl_core.secagg.session import Entry, root_of
from fl_core.secagg.signing import CertifiedSigner
from fl_core.secagg.terms import Terms
from tests.fl_core.secagg.cast import DEVICE, SMALL, Cohort, goes_on, plain, refusal, same, signer, stopped
from tests.fl_core.secagg.hospitals import hospital

Change = Callable[[Roster], Roster]


def with_entry(roster: Roster, entry: Entry) -> Roster:
    """The roster with this in place of its worker's entry, and the root that it then has."""
    entries = tuple(entry if entry.worker == old.worker else old for old in roster.entries)
    return replace(roster, entries=entries, root=root_of(entries))


def signed_by(entry: Entry, by: CertifiedSigner, cohort: Cohort, **changes: Any) -> Entry:
    """The entry, changed and signed anew."""
    entry = replace(entry, certificate=by.certificate, **changes)
    return replace(entry, signature=by.sign(entry.statement(cohort.context.digest)))


# -- rosters --


def test_a_roster_without_ones_own_entry_is_refused() -> None:
    """Neither left out nor with other keys under its name does a member go on."""
    cohort = stopped("advertise")
    member, roster = cohort.members[0], cohort.shown(0)
    left_out = replace(roster, members=(1, 2, 3), entries=roster.entries[1:])
    for wrong in (left_out, with_entry(roster, replace(roster.entries[0], mask_key=bytes(31) + b"\x09"))):
        with refusal(member, "the roster does not hold what it advertised"):
            member.share(wrong)
    goes_on(cohort)


def changed_key(roster: Roster, _: Cohort) -> Roster:
    return with_entry(roster, replace(roster.entries[1], mask_key=bytes(31) + b"\x09"))


def unsigned(roster: Roster, _: Cohort) -> Roster:
    return with_entry(roster, replace(roster.entries[1], signature=b""))


def signed_by_another(roster: Roster, cohort: Cohort) -> Roster:
    forged = replace(roster.entries[1], mask_key=keys.KeyPair.of(bytes(range(32))).public)
    return with_entry(
        roster, replace(forged, signature=signer(2).sign(forged.statement(cohort.context.digest)))
    )


@pytest.mark.parametrize("change", [changed_key, unsigned, signed_by_another], ids=lambda one: one.__name__)
def test_an_entry_that_its_worker_did_not_sign_is_refused(change: Callable[[Roster, Cohort], Roster]) -> None:
    """Altered, unsigned or re-signed: it is refused under its owner's name."""
    cohort = stopped("advertise")
    with refusal(cohort.members[0], "worker-1: the signature does not fit what it is said to sign"):
        cohort.members[0].share(change(cohort.shown(0), cohort))
    goes_on(cohort)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 2},
        {"attempt": 2},
        {"purpose": "measure"},
        {"job": "job-2"},
        {"plan": "another plan"},
        {"model": "crafted for worker-1"},
        {"shape": "other ranges"},
        {"terms": Terms(minimum=4)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_entry_for_another_sum_is_refused(changes: dict[str, Any]) -> None:
    """Neither a replay nor what a worker signed for another model, plan or parameters is taken for this sum's."""
    cohort = stopped("advertise")
    replayed = Cohort([1], **changes).members[1].advertise()
    with refusal(cohort.members[0], "worker-1: the signature does not fit what it is said to sign"):
        cohort.members[0].share(with_entry(cohort.shown(0), replayed))
    goes_on(cohort)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (lambda: signer(2), "worker-1 shows the certificate of worker-2"),
        (lambda: signer(1, job="job-2"), "worker-1 shows the certificate of .*no worker of job job-1"),
        (lambda: signer(1, by="job-2"), "worker-1 shows a certificate that none of the trusted authorities"),
    ],
    ids=["another worker's", "another job's", "another authority's"],
)
def test_a_sybil_is_refused(by: Callable[[], CertifiedSigner], reason: str) -> None:
    """An entry under a certificate that is not worker 1's, from this job's authority, stands for nobody."""
    cohort = stopped("advertise")
    roster = cohort.shown(0)
    with refusal(cohort.members[0], reason):
        cohort.members[0].share(with_entry(roster, signed_by(roster.entries[1], by(), cohort)))
    goes_on(cohort)


@pytest.mark.parametrize("what", ["mask_key", "seal_key", "commitment"])
def test_a_key_that_two_members_share_is_refused(what: str) -> None:
    """Worker 1 signs what worker 2 advertised: two names would be one member."""
    cohort = stopped("advertise")
    roster = cohort.shown(0)
    copied = {what: getattr(roster.entries[2], what)}
    wrong = with_entry(roster, signed_by(roster.entries[1], signer(1), cohort, **copied))
    with refusal(cohort.members[0], f"two members advertise the same {what.replace('_', ' ')}"):
        cohort.members[0].share(wrong)
    goes_on(cohort)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_sealing_key_of_low_order_is_refused(key: bytes) -> None:
    """No share is sealed under a secret that everybody knows."""
    cohort = stopped("advertise")
    roster = cohort.shown(0)
    with refusal(cohort.members[0], "of low order"):
        cohort.members[0].share(
            with_entry(roster, signed_by(roster.entries[1], signer(1), cohort, seal_key=key))
        )
    goes_on(cohort)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), bytes(31)], ids=["zero", "one", "short"])
def test_a_mask_key_of_low_order_is_refused(key: bytes) -> None:
    """No vector is masked with a secret that everybody knows, and none is noted as sent."""
    cohort = stopped("advertise")
    wrong = signed_by(cohort.shown(0).entries[1], signer(1), cohort, mask_key=key)
    member = cohort.members[0]
    sealed = member.share(with_entry(cohort.shown(0), wrong))
    vector = plain(SMALL)
    with refusal(member, "of low order|31 bytes"):
        member.mask(vector, SMALL, sealed)
    assert same(vector, plain(SMALL))
    assert cohort.memories[0].rows == {}


def test_other_rosters_for_other_members_give_no_sum() -> None:
    """Two members who were shown different candidates of the same roster derive other keys: no share opens."""
    cohort = stopped("advertise", n=5)
    cohort._shown[0] = replace(cohort.shown(0), candidates=(0, 1, 2, 3, 4, 9))
    for step in ("share", "upload"):
        getattr(cohort, step)()
    with pytest.raises(ProtocolError, match="worker-0: the signature does not fit"):
        cohort.sign()


def test_other_contexts_for_other_members_are_seen_at_the_roster() -> None:
    """A member that was shown another model signs another context, and no other member accepts it."""
    cohort, other = Cohort(range(4)), Cohort([3], model="another model")
    for worker in range(3):
        cohort.host.advertised(worker, cohort.members[worker].advertise())
    fourth = other.members[3].advertise()
    with refusal(cohort.host, "worker-3: the signature does not fit"):
        cohort.host.advertised(3, fourth)
    entries = (*cohort.host.freeze()[0].entries, fourth)
    whole = Roster((0, 1, 2, 3), (0, 1, 2, 3), root_of(entries), entries)
    with refusal(cohort.members[0], "worker-3: the signature does not fit"):
        cohort.members[0].share(whole)


LISTS: Mapping[str, tuple[Change, str]] = {
    "members out of order": (lambda r: replace(r, members=(1, 0, 2, 3)), "members are not in order"),
    "a member twice": (lambda r: replace(r, members=(0, 0, 1, 2, 3)), "members are not in order"),
    "candidates out of order": (lambda r: replace(r, candidates=(3, 2, 1, 0)), "candidates are not in order"),
    "no candidate": (lambda r: replace(r, candidates=(0, 1, 2)), "worker-3 are no candidates"),
    "an entry missing": (lambda r: replace(r, entries=r.entries[:3]), "the roster shows .*expected"),
    "an entry twice": (lambda r: replace(r, entries=(*r.entries, r.entries[3])), "the roster shows"),
    "no entries": (lambda r: replace(r, entries=()), "does not hold what it advertised"),
    "a proof in cross-silo": (lambda r: replace(r, proofs=((bytes(32),),)), "1 proofs for 4 entries"),
    "nobody": (lambda _: Roster((), (), b"", ()), "0 workers take part|0 members"),
    "too few": (
        lambda r: replace(r, members=(0, 1), entries=r.entries[:2]),
        "2 members, fewer than the 3 that are needed",
    ),
    "many candidates": (lambda r: replace(r, candidates=tuple(range(9))), "4 members, fewer than the 7"),
    "a negative number": (
        lambda r: replace(r, candidates=(-1, 0, 1, 2, 3), members=(-1, 0, 1, 2, 3)),
        "roster shows",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_no_honest_server_makes_are_refused(name: str) -> None:
    """Members, candidates and entries in order, each once, enough of them, and as many as belong together."""
    change, reason = LISTS[name]
    cohort = stopped("advertise")
    with refusal(cohort.members[0], reason):
        cohort.members[0].share(change(cohort.shown(0)))
    goes_on(cohort)


def test_a_roster_below_the_jobs_minimum_is_refused() -> None:
    """Whatever the server thinks of it: terms come from the plan."""
    cohort = stopped("advertise", n=5, terms=Terms(minimum=5))
    roster = cohort.shown(0)
    with refusal(cohort.members[0], "4 members, fewer than the 5"):
        cohort.members[0].share(replace(roster, members=(0, 1, 2, 3), entries=roster.entries[:4]))
    goes_on(cohort)


# -- a site's policy --


@pytest.mark.parametrize("step", ["share", "mask", "sign"])
def test_a_sites_floor_holds_at_every_step(step: str) -> None:
    """A policy of five members refuses four in the roster, among those who shared, and among the survivors."""
    cohort = stopped("advertise", n=5, policy=Policy(members=5))
    member, roster = cohort.members[0], cohort.shown(0)
    small = replace(roster, members=(0, 1, 2, 3), entries=roster.entries[:4], candidates=(0, 1, 2, 3))
    reason = "4 members; this site's policy asks for 5"
    if step == "share":
        with refusal(member, reason):
            member.share(small)
    cohort.share()
    if step == "mask":
        dealt = {other: text for other, text in cohort.shown(0).items() if other != 4}
        with refusal(member, reason):
            member.mask(plain(SMALL), SMALL, dealt)
    cohort.upload()
    if step == "sign":
        with refusal(member, reason):
            member.sign((0, 1, 2, 3))
    goes_on(cohort)


def test_a_threshold_below_the_sites_share_is_refused() -> None:
    """With `tolerate` the job may ask for three of five; a site that insists on two thirds stays away."""
    lax = stopped("advertise", n=5, terms=Terms(tolerate=2), policy=Policy(threshold=0.66))
    with refusal(lax.members[0], "opens when 3 of 5 agree; this site's policy asks for a share of 0.66"):
        lax.members[0].share(lax.shown(0))
    strict = stopped("advertise", n=5, policy=Policy(threshold=0.66))
    goes_on(strict)


def test_members_that_nobody_but_the_jobs_authority_vouches_for_are_refused() -> None:
    """Where a site asks for organisations, whoever controls the job's authority cannot make up members."""
    partners = Organisations([hospital("North").authority, hospital("South").authority], wall_time)
    cohort = stopped("advertise", policy=Policy(organisations=2, partners=partners))
    with refusal(cohort.members[0], "no organisation endorses worker-"):
        cohort.members[0].share(cohort.shown(0))


# -- cross-device --


def test_an_entry_that_is_not_in_the_tree_is_refused() -> None:
    """A neighbour's good entry with another one's proof, or none at all, does not count."""
    cohort = stopped("advertise", n=12, terms=DEVICE)
    member, roster = cohort.members[0], cohort.shown(0)
    swapped = (roster.proofs[1], roster.proofs[0], *roster.proofs[2:])
    with refusal(member, "its entry is not in the tree"):
        member.share(replace(roster, proofs=swapped))
    with refusal(member, "0 proofs for 7 entries|roster shows"):
        member.share(replace(roster, proofs=()))
    with refusal(member, "6 proofs for 7 entries"):
        member.share(replace(roster, proofs=roster.proofs[1:]))
    goes_on(cohort)


def test_another_root_is_another_session() -> None:
    """Under a root that is not its own tree's no entry of the roster holds."""
    cohort = stopped("advertise", n=12, terms=DEVICE)
    with refusal(cohort.members[0], "roster shows|is not in the tree"):
        cohort.members[0].share(replace(cohort.shown(0), root=bytes(32)))
    goes_on(cohort)
