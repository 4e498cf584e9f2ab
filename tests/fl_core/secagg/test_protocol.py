"""Whole sessions: the sum opens to the bit while enough are left, and not at all with fewer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as some

from fl_core.errors import ProtocolError
from fl_core.secagg.masks import CHUNK_BYTES, Layout, Vector
from fl_core.secagg.terms import Terms
from fl_worker.memory import FileMemory
from tests.fl_core.secagg import slow
from tests.fl_core.secagg.cast import DEVICE, SILO, SMALL, STEPS, Cohort, Notes, context, plain, same, state

THRESHOLDS = {3: 3, 4: 3, 5: 4, 6: 5, 7: 5, 8: 6, 9: 7, 10: 7, 11: 8, 12: 9}
"""Of a complete graph; they are the design's, not computed."""

MANY, FEWER = 24, 22
"""Members of cross-device sessions with the thresholds 4 and 3."""

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some.composite
def scripts(draw: Any, *, few: bool) -> tuple[int, dict[int, str]]:
    """A number of workers, and who dies at which step; with `few`, seldom more than a session survives."""
    n = draw(some.integers(3, 12))
    most = n - THRESHOLDS[n] if few else n
    dead = draw(some.sets(some.integers(0, n - 1), max_size=most))
    return n, {worker: draw(some.sampled_from(STEPS)) for worker in sorted(dead)}


def left_at(n: int, deaths: Mapping[int, str], step: str) -> list[int]:
    """Who did this step."""
    return [w for w in range(n) if w not in deaths or STEPS.index(deaths[w]) > STEPS.index(step)]


def expected_to_open(n: int, deaths: Mapping[int, str]) -> bool:
    """Whether the rules of a complete graph let this session open: the threshold is that of those who advertised."""
    there = len(left_at(n, deaths, "advertise"))
    return there >= 3 and len(left_at(n, deaths, "unmask")) >= THRESHOLDS[there]


@unhurried
@given(script=scripts(few=True), bits=some.sampled_from([16, 32]), body=some.integers(0, 40))
def test_the_sum_is_that_of_the_survivors(script: Any, bits: Any, body: int) -> None:
    """Whoever dies at which step, the opened sum is the plain one of those whose vectors came, to the bit."""
    n, deaths = script
    assume(expected_to_open(n, deaths))
    cohort = Cohort(range(n), layout=Layout(header=2, body=body, bits=bits))
    cohort.run(deaths=deaths)
    recovery = cohort.open()
    survivors = left_at(n, deaths, "upload")
    assert cohort.host.survivors == tuple(survivors)
    assert same(cohort.total, cohort.sum(survivors))
    assert recovery.disputes == set()


@unhurried
@given(script=scripts(few=False))
def test_it_opens_exactly_when_enough_are_left(script: Any) -> None:
    """Below the threshold, at any step, a ProtocolError ends the session, and the sum stays masked."""
    n, deaths = script
    cohort = Cohort(range(n))
    try:
        cohort.run(deaths=deaths)
        cohort.open()
    except ProtocolError:
        assert not expected_to_open(n, deaths)
        assert not same(cohort.total, cohort.sum(left_at(n, deaths, "upload"))) or not cohort.host.survivors
    else:
        assert expected_to_open(n, deaths)
        assert same(cohort.total, cohort.sum(left_at(n, deaths, "upload")))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("n", [4, 7])
def test_the_threshold_is_sharp(n: int, step: str) -> None:
    """After the roster is frozen n - t may be lost at any step, and not one more."""
    lost = n - THRESHOLDS[n]
    for dead in (lost, lost + 1):
        cohort = Cohort(range(n))
        deaths = dict.fromkeys(range(dead), step)
        if step == "advertise":
            deaths |= dict.fromkeys(range(n - 2), "advertise")  # two are left, in any case too few
        if dead == lost and step != "advertise":
            cohort.run(deaths=deaths)
            cohort.open()
            assert same(cohort.total, cohort.sum(left_at(n, deaths, "upload")))
        else:
            with pytest.raises(ProtocolError, match="fewer than the|do not reach the threshold|need"):
                cohort.run(deaths=deaths), cohort.open()


@pytest.mark.parametrize("missing", [1, 2])
def test_a_minimum_holds_at_every_step(missing: int) -> None:
    """A job's minimum above the threshold closes a session that the threshold would let pass."""
    for step in STEPS[:4]:
        cohort = Cohort(range(7), terms=Terms(minimum=7 - missing + 1))
        with pytest.raises(ProtocolError, match=f"(needs at least|fewer than the) {7 - missing + 1}"):
            cohort.run(deaths=dict.fromkeys(range(missing), step))


@unhurried
@given(n=some.integers(5, 12), data=some.data())
def test_a_sparse_graph_opens_what_can_be_recovered(n: int, data: Any) -> None:
    """Under cross-device terms the sum opens exactly when t of each circle are left to unmask it."""
    dead = data.draw(some.sets(some.integers(0, n - 1), max_size=n - 3))
    deaths = {worker: data.draw(some.sampled_from(STEPS[1:])) for worker in dead}
    cohort = Cohort(range(n), terms=DEVICE)
    try:
        cohort.run(deaths=deaths)
    except ProtocolError:
        cohort.total = Vector.zeros(SMALL)
    last, host = set(left_at(n, deaths, "unmask")), cohort.host
    session = host.frozen
    if host.recoverable:
        cohort.open()
        assert same(cohort.total, cohort.sum(left_at(n, deaths, "upload")))
        assert all(len(last.intersection(session.circle(w))) >= session.threshold for w in host.shared)
    else:
        with pytest.raises(ProtocolError):
            cohort.open()


@some.composite
def losses(draw: Any, n: int) -> dict[int, str]:
    """Who of so many workers dies at which step: up to three in ten."""
    dead = draw(some.permutations(range(n)))[: draw(some.integers(0, 3 * n // 10))]
    return {worker: draw(some.sampled_from(STEPS)) for worker in dead}


@pytest.mark.parametrize("terms", [SILO, DEVICE], ids=lambda terms: terms.profile)
@settings(unhurried, max_examples=3)
@given(deaths=losses(100), bits=some.sampled_from([16, 32]))
def test_a_hundred_workers_of_whom_a_third_is_lost(terms: Terms, deaths: dict[int, str], bits: Any) -> None:
    """Up to 30 of 100, whoever they are and at whatever steps, leave the sum of the others to the bit."""
    layout = Layout(header=3, body=17, bits=bits)
    cohort = Cohort(range(100), terms=terms, layout=layout)
    cohort.run(deaths=deaths)
    cohort.open()
    assert same(cohort.total, cohort.sum(left_at(100, deaths, "upload")))


@pytest.mark.parametrize("terms", [SILO, DEVICE], ids=lambda terms: terms.profile)
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("extreme", ["most", "least", "zero"])
def test_extremes_of_the_rings(terms: Terms, bits: Any, extreme: str) -> None:
    """All elements at the ends of both rings, over the edge of a chunk, sum as whole numbers modulo the ring do."""
    layout = Layout(header=2, body=CHUNK_BYTES * 8 // bits + 3, bits=bits)
    narrow = {"most": 2 ** (bits - 1) - 1, "least": 2 ** (bits - 1), "zero": 0}[extreme]
    wide = {"most": 2**63 - 1, "least": 2**63, "zero": 0}[extreme]
    vectors = {
        worker: Vector.of(layout, np.full(2, wide, "<u8"), np.full(layout.body, narrow, layout.dtype))
        for worker in range(7)
    }
    cohort = Cohort(range(7), terms=terms, layout=layout, vectors=vectors)
    cohort.run(deaths={1: "upload", 4: "unmask"})
    cohort.open()
    assert set(cohort.total.body.tolist()) == {6 * narrow % 2**bits}
    assert set(cohort.total.header.tolist()) == {6 * wide % 2**64}


@pytest.mark.parametrize("layout", [Layout(0, 0, 32), Layout(4, 0, 16), Layout(0, 1, 16)], ids=str)
def test_parts_may_be_empty(layout: Layout) -> None:
    """A vector without a body, without a header, or with neither is summed and checked like any other."""
    cohort = Cohort(range(4), layout=layout)
    cohort.run(deaths={2: "upload"})
    cohort.open()
    assert same(cohort.total, cohort.sum([0, 1, 3]))


# -- attempts --


def attempt(number: int, workers: Any, memories: dict[int, Notes], **more: Any) -> Cohort:
    """One more attempt of the same sum, by workers that remember the earlier ones."""
    return Cohort(workers, memories={w: memories[w] for w in workers}, attempt=number, **more)


def test_before_an_upload_any_cohort_may_try_again() -> None:
    """An attempt that ended before vectors were sent binds nobody to its candidates."""
    memories = {worker: Notes() for worker in range(6)}
    attempt(1, range(5), memories).run(last="share")
    second = attempt(2, [0, 1, 2, 5], memories)
    second.run()
    second.open()
    assert same(second.total, second.sum([0, 1, 2, 5]))


def test_after_an_upload_the_candidates_stay() -> None:
    """Whoever sent a vector refuses other candidates, and joins fewer members under the same candidates."""
    memories = {worker: Notes() for worker in range(5)}
    attempt(1, range(5), memories).run(last="upload")
    other = attempt(2, range(4), memories)
    other.run(last="share")
    with pytest.raises(ProtocolError, match="another candidacy was noted"):
        other.upload()
    third = attempt(3, range(4), memories, candidates=range(5))
    third.run()
    third.open()
    assert same(third.total, third.sum(range(4)))


def test_what_was_signed_may_open_in_another_attempt() -> None:
    """The same survivors with the same vectors are signed again, under other keys, and give the same sum."""
    memories = {worker: Notes() for worker in range(4)}
    attempt(1, range(4), memories).run(last="sign")
    second = attempt(2, range(4), memories)
    second.run()
    second.open()
    assert same(second.total, second.sum(range(4)))


@pytest.mark.parametrize("last", ["upload", "sign"])
def test_fewer_may_open_a_cross_device_sum_in_another_attempt(last: str) -> None:
    """Where the threshold follows from the members, fewer of the same candidates open what was sent or signed."""
    memories = {worker: Notes() for worker in range(MANY)}
    first = attempt(1, range(MANY), memories, terms=DEVICE)
    first.run(last=last, deaths=dict.fromkeys(range(FEWER, MANY), "upload"))
    second = attempt(2, range(FEWER), memories, terms=DEVICE, candidates=range(MANY))
    second.run()
    second.open()
    assert same(second.total, second.sum(range(FEWER)))
    assert first.host.frozen.threshold > second.host.frozen.threshold
    assert first.host.frozen.candidacy() == second.host.frozen.candidacy() == slow.candidacy(range(MANY))


def test_a_cross_device_sum_keeps_its_candidates() -> None:
    """Whoever sent a vector among some candidates sends none among others, in this profile too."""
    memories = {worker: Notes() for worker in range(MANY)}
    attempt(1, range(MANY), memories, terms=DEVICE).run(last="upload")
    other = attempt(2, range(FEWER), memories, terms=DEVICE)
    other.run(last="share")
    with pytest.raises(ProtocolError, match="another candidacy was noted"):
        other.upload()


def test_other_survivors_than_those_signed_are_refused() -> None:
    """Whoever signed survivors of a sum signs no others of it: two sums would give away their difference."""
    memories = {worker: Notes() for worker in range(4)}
    attempt(1, range(4), memories).run(last="sign")
    second = attempt(2, range(3), memories, candidates=range(4))
    second.run(last="upload")
    before = state(second.members[0])
    with pytest.raises(ProtocolError, match="another signed was noted"):
        second.sign()
    assert state(second.members[0]) == before


@pytest.mark.parametrize("part", ["header", "body"])
def test_another_vector_than_that_sent_is_refused(part: str) -> None:
    """A member whose vector is another one by a bit, such as one with fresh noise, sends none, signed or not."""
    memories = {worker: Notes() for worker in range(4)}
    attempt(1, range(4), memories).run(last="upload")
    second = attempt(2, range(4), memories)
    second.run(last="share")
    getattr(second.plain[2], part)[0] ^= 1
    with pytest.raises(ProtocolError, match="round 1, attempt 2, update: another content was noted"):
        second.upload([2])
    second.upload([0, 1, 3])


@pytest.mark.parametrize("changes", [{"model": "another"}, {"shape": "another"}])
def test_the_same_numbers_with_another_meaning_are_another_vector(changes: dict[str, str]) -> None:
    """A sum of another model's updates, or in other ranges, is another sum."""
    memories = {worker: Notes() for worker in range(4)}
    attempt(1, range(4), memories).run(last="upload")
    second = attempt(2, range(4), memories, **changes)
    second.run(last="share")
    with pytest.raises(ProtocolError, match="another content was noted"):
        second.upload([0])


def test_the_next_round_and_other_purposes_are_free() -> None:
    """What was signed binds nobody in the next round, nor for another kind of sum; an earlier round is closed."""
    memories = {worker: Notes() for worker in range(4)}
    for changes in ({"round": 1}, {"round": 1, "purpose": "measure"}, {"round": 2}):
        cohort = Cohort(range(4), memories=memories, **changes)
        cohort.run()
        cohort.open()
    back = Cohort(range(4), memories=memories, round=1, attempt=9)
    back.run(last="share")
    with pytest.raises(ProtocolError, match="sums of round 2 were made already"):
        back.upload()


def test_the_threshold_is_that_of_the_first_candidates() -> None:
    """A later attempt with fewer members needs as many of them as the first one did."""
    memories = {worker: Notes() for worker in range(7)}
    attempt(1, range(7), memories).run(last="upload")
    with pytest.raises(ProtocolError, match="4 members, fewer than the 5"):
        attempt(2, range(4), memories, candidates=range(7)).advertise()
    second = attempt(2, range(5), memories, candidates=range(7))
    second.run()
    second.open()
    assert same(second.total, second.sum(range(5)))


@pytest.mark.parametrize("died", STEPS[1:])
def test_a_worker_that_restarts_is_dead_for_its_session(died: str) -> None:
    """Its next self has other keys: it gives nothing to the session, which goes on and counts a vector that came."""
    cohort = Cohort(range(4))
    cohort.run(last=STEPS[STEPS.index(died) - 1])
    again = Cohort([2], memories={2: cohort.memories[2]}).members[2]
    again.advertise()
    act = {"share": "share", "upload": "mask", "sign": "sign", "unmask": "unmask"}[died]
    shown = cohort.shown(2)
    before = state(again)
    with pytest.raises(ProtocolError, match="does not hold what it advertised|asked to"):
        again.mask(plain(SMALL), SMALL, shown) if act == "mask" else getattr(again, act)(shown)
    assert state(again) == before
    others = {0, 1, 3}
    for step in STEPS[STEPS.index(died) :]:
        getattr(cohort, step)(others)
    cohort.open()
    assert same(cohort.total, cohort.sum(range(4) if died in {"sign", "unmask"} else others))


SAID = {"bind": 2, "sign": 1}
"""How many things are said in each."""


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    facts=some.lists(
        some.tuples(
            some.sampled_from(list(SAID)),
            some.integers(1, 3),
            some.sampled_from(["range", "update"]),
            some.sampled_from([b"one", b"other"]),
            some.sampled_from([b"this", b"that"]),
        ),
        max_size=8,
    )
)
def test_the_memory_of_these_tests_is_that_of_a_worker(facts: Any, tmp_path: Path) -> None:
    """Whatever is noted in whatever order, `Notes` refuses what a worker's file refuses, restarts in between."""
    path, notes = tmp_path / "memory.json", Notes()
    path.unlink(missing_ok=True)
    for act, turn, purpose, *said in facts:
        refused = []
        for memory in (notes, FileMemory(path)):
            try:
                getattr(memory, act)(context(round=turn, purpose=purpose), *said[: SAID[act]])
            except ProtocolError:
                refused.append(memory)
        assert len(refused) in {0, 2}
