"""A whole session's derived values, as a second and slow implementation gives them, and as they once were."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

import pytest

from fl_core.secagg import keys, recovery
from fl_core.secagg.buckets import Buckets
from fl_core.secagg.endorsement import Endorsement
from fl_core.secagg.graph import regular
from fl_core.secagg.ring import public_dither
from fl_core.secagg.session import Context, Entry, Session, root_of
from fl_core.secagg.terms import Terms
from tests.fl_core.secagg import slow

CANDIDATES, MEMBERS, SURVIVORS = (1, 2, 4, 300, 301), (1, 2, 4, 300), (1, 2, 300, 4)
PLACE = (7, 2, "update", 0, 1)
THRESHOLD = 4
MODEL, SHAPE, PLAN = "ab" * 32, "update 3 elements, ü", "cd" * 32
AGREED = slow.terms("cross-silo", 3, "1", 0, "0.05 0.3", 6)
ABOUT = slow.context("job-1", PLAN, PLACE, MODEL, SHAPE, AGREED)


def secret(worker: int, what: str) -> bytes:
    """A private key or a seed."""
    return hashlib.sha256(f"{what} of {worker}".encode()).digest()


def shown(worker: int) -> list[bytes]:
    """Both public keys, by the slow ladder, and the commitment."""
    public = [slow.agreed(secret(worker, what)) for what in ("mask", "seal")]
    return [*public, slow.hashed("commitment", secret(worker, "seed"))]


def papers(worker: int) -> list[bytes]:
    """Certificate, signature and endorsement: any bytes."""
    return [f"{what} {worker}".encode() for what in ("certificate", "signature", "organisation", "endorsed")]


LEAVES = [slow.leaf(worker, shown(worker), papers(worker)) for worker in MEMBERS]
ROOT = slow.root(LEAVES)
NAMED = slow.session(ABOUT, CANDIDATES, MEMBERS, t=THRESHOLD, degree=len(CANDIDATES) - 1, top=ROOT)


def entry(worker: int) -> Entry:
    """The product's entry, of its own keys."""
    pairs = [keys.KeyPair.of(secret(worker, what)).public for what in ("mask", "seal")]
    certificate, signature, *endorsed = papers(worker)
    commitment = keys.commit(secret(worker, "seed"))
    return Entry(worker, *pairs, commitment, certificate, signature, Endorsement(*endorsed))


@pytest.fixture(scope="module")
def session() -> Session:
    """The product's session of the same facts."""
    fields: dict[str, Any] = {"job": "job-1", "plan": PLAN, "model": MODEL, "shape": SHAPE}
    place = dict(zip(("round", "attempt", "purpose", "bucket", "buckets"), PLACE, strict=True))
    context = Context(**fields, **place, terms=Terms(tolerate=1, cohort=6))  # type: ignore[arg-type]
    return Session(context, CANDIDATES, MEMBERS, root_of([entry(worker) for worker in MEMBERS]))


def test_the_context_is_the_slow_ones(session: Session) -> None:
    """Job, plan, place, model, shape and terms give one digest; terms without `tolerate` say an empty text."""
    assert session.context.terms.encoded() == AGREED
    assert session.context.digest == ABOUT
    sparse = Terms("cross-device", minimum=12, corrupt=300, corrupt_share=0.1, dropout=1e-05, cohort=500)
    assert sparse.encoded() == slow.terms("cross-device", 12, "", 300, "0.1 1e-05", 500)
    bucket = Context("j", "p", 1, 3, "measure", "m", "s", sparse, bucket=2, buckets=300)
    expected = slow.context("j", "p", (1, 3, "measure", 2, 300), "m", "s", sparse.encoded())
    assert bucket.digest == expected


@pytest.mark.parametrize("worker", MEMBERS)
def test_an_entry_is_the_slow_ones(worker: int) -> None:
    """Its keys, its commitment, what it signs and its leaf in the roster's tree."""
    own = entry(worker)
    assert [own.mask_key, own.seal_key, own.commitment] == shown(worker)
    assert own.statement(ABOUT) == slow.statement(ABOUT, worker, shown(worker))
    assert own.leaf == LEAVES[MEMBERS.index(worker)]


def test_the_session_is_the_slow_ones(session: Session) -> None:
    """Its root and its id, what survivors sign, and what later attempts must keep to."""
    assert (session.threshold, session.root, session.id) == (THRESHOLD, ROOT, NAMED)
    assert session.survivors(SURVIVORS) == slow.survivors(NAMED, SURVIVORS)
    assert session.settled(SURVIVORS) == slow.hashed("settled", *SURVIVORS)
    assert session.content(b"digest") == slow.hashed("content", MODEL, SHAPE, b"digest")
    assert session.candidacy() == slow.candidacy(CANDIDATES, THRESHOLD)


def test_the_keys_are_the_slow_ones(session: Session) -> None:
    """Masks of pairs and of oneself and the seals of both directions, from secrets that both ends agree on."""
    mine, its = keys.KeyPair.of(secret(1, "mask")), slow.agreed(secret(300, "mask"))
    common = slow.agreed(secret(1, "mask"), its)
    assert mine.agree(its) == common == slow.agreed(secret(300, "mask"), mine.public)
    masked = slow.derived(common, "mask", NAMED, 1, 300)
    assert session.mask_key(common, 1, 300) == session.mask_key(common, 300, 1) == masked
    assert session.self_key(secret(1, "seed")) == slow.derived(secret(1, "seed"), "self", NAMED)
    for ends in ((1, 300), (300, 1)):
        sealed = session.seal_key(common, sender=ends[0], receiver=ends[1])
        assert sealed == slow.derived(common, "seal", NAMED, *ends)


@pytest.mark.parametrize("holders", [list(range(7)), [*range(3, 30), 0, 1, 2]], ids=["all", "drawn"])
def test_holders_are_tried_in_the_slow_order(holders: list[int]) -> None:
    """All sets in order where they are few; else the first ones, then those that hashes draw."""
    threshold = 2 * len(holders) // 3 + 1
    tried = [frozenset(one) for one in islice(recovery._subsets(holders, threshold), 60)]
    assert tried == list(islice(slow.subsets(holders, threshold), 60))


def test_orders_are_the_slow_ones() -> None:
    """Places on a sparse graph's ring, and the bucket of each worker."""
    assert list(regular(40, 6, seed=b"s").order) == slow.order(40, "place", b"s")
    dealt = [Buckets("job-1", 3).of(worker) for worker in range(30)]
    assert dealt == [one for hand in range(10) for one in slow.order(3, "bucket", "job-1", 3, hand)]


@pytest.mark.parametrize("place", [(0, 1, 0), (1, 7, 300), (2**40, 1000, 9)])
def test_the_public_dither_is_the_slow_one(place: tuple[int, int, int]) -> None:
    """Seed, round and worker give the same numbers without numpy."""
    seed, number, worker = place
    drawn = public_dither(seed, round=number, worker=worker).random(11).tolist()
    assert drawn == slow.dither(seed, number, worker, 11)


KNOWN = {
    "context": "e8b70ba320b54f1712d1a1ca",
    "statement": "a6f7c003e1132031916c712f",
    "leaf": "504047943be5ab10cb6a5fd0",
    "root": "1391e0a9657e752540c7988a",
    "session": "00e4d2252e770bd3045484c5",
    "survivors": "b5d84cc1b8084acce204c01c",
    "candidacy": "73fc3d7e7003fa19861eb537",
    "mask": "a706badb52d84fd41f0ce9ac",
}
"""The first twelve bytes of what the slow implementation gave when this was written."""


def test_the_slow_ones_are_what_they_were() -> None:
    """A change that is made in both implementations is seen here."""
    common = slow.agreed(secret(1, "mask"), slow.agreed(secret(300, "mask")))
    values = {
        "context": ABOUT,
        "statement": hashlib.sha256(slow.statement(ABOUT, 1, shown(1))).digest(),
        "leaf": LEAVES[0],
        "root": ROOT,
        "session": NAMED,
        "survivors": hashlib.sha256(slow.survivors(NAMED, SURVIVORS)).digest(),
        "candidacy": slow.candidacy(CANDIDATES, THRESHOLD),
        "mask": slow.derived(common, "mask", NAMED, 1, 300),
    }
    assert {name: value.hex()[:24] for name, value in values.items()} == KNOWN
