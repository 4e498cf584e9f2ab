"""The server's half of secure sums, with members on queues: who is in a sum, how long it waits, what it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import ProtocolError
from fl_core.plan import Plan
from fl_core.secagg.session import Context
from fl_core.shortfall import BEGUN
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_core.wire.arrays import CHECKSUM, LENGTH
from fl_core.wire.guard import context_of
from fl_server import protection
from fl_server.protection import Protection
from fl_server.spool import Spool
from tests.fl_server.crowd import MANIFEST, SECURE, SELECTION, Altered, Crowd, mean, silent_at

pytestmark = pytest.mark.timeout(60)

Build = Callable[..., Crowd]
NAMES = [f"worker-{index}" for index in range(4)]
LATER = ["roster", "dealt", "survivors", "agreement"]
"""What a member of whom the advertisement is there is told in a session."""

PATIENCE = 0.8
"""Seconds; honest members answer in much less, on a busy machine too."""

LONG = 20.0
"""Seconds that nobody waits who waits as told; deadlines lie far beyond."""


@pytest.fixture
def crowd(tmp_path: Path, plan_of: Callable[..., Plan]) -> Build:
    """Build a crowd; the plan's and selection's fields by name."""
    return lambda **fields: Crowd(tmp_path, plan_of(**{**SELECTION, "secure_aggregation": SECURE, **fields}))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's patience is short."""
    monkeypatch.setitem(Protection._ask.__kwdefaults__, "stall", PATIENCE)


async def summed(one: Crowd, *indices: int, **place: int) -> tuple[Any, list[str]]:
    """The sum of updates of these workers, and whose are in it."""
    here = one.place(**place)
    async with one.attending(*indices, place=here) as names:
        found = await one.sums.updates(here, MANIFEST, names)
        return found.parts[0], sorted(found.members)


def run(main: Awaitable[Any]) -> Any:
    """Run to the end."""
    return asyncio.run(main)  # type: ignore[arg-type]


@pytest.mark.parametrize("transferring", [[], ["worker-1", "worker-3"], NAMES])
def test_a_sum_is_everybodys(crowd: Build, transferring: list[str]) -> None:
    """However vectors come, weights, examples, metrics and the mean are all members', and every call ends well."""
    one = crowd()
    one.transferring = transferring
    found, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-0", "worker-1", "worker-2", "worker-3"]
    assert (found.weight, found.examples, found.clipped) == (100, 100, 0)
    assert found.mean()["w"] == pytest.approx([mean(range(4))] * 6, abs=1e-6)
    assert float(found.mean()["b"]) == pytest.approx(mean(range(4)), abs=1e-6)
    assert found.metrics["loss"].value == pytest.approx(1.75, abs=1e-5)
    assert found.metrics["right"].value == (0 + 1 + 2 + 3) / 40
    assert set(one.endings.values()) == {None}
    assert one.dropped == {}
    assert one.received == sum(len(said.masked.data) for _, said in one.said)
    assert bool(one.received) == (transferring != NAMES)


@pytest.mark.parametrize("early", [[], ["worker-2"], NAMES])
def test_who_has_advertised_is_not_asked_for_it(crowd: Build, early: list[str]) -> None:
    """A member that expected this very sum is first told the roster, and the sum is that of all."""
    one = crowd()
    one.sums.restore({"exponents": [[3, 3]]})
    one.early = dict.fromkeys(early, (3, 3))
    found, members = run(summed(one, 0, 1, 2, 3))
    assert members == NAMES
    assert found.mean()["w"] == pytest.approx([mean(range(4))] * 6, abs=1e-6)
    assert {name for name, what in one.told if what == "opening"} == set(NAMES).difference(early)
    assert [what for name, what in one.told if name == "worker-2"][-4:] == LATER
    assert one.dropped == {}


def test_what_was_advertised_for_another_sum_does_not_count(crowd: Build) -> None:
    """A member that expected other ranges, or another attempt, is asked like those who expected nothing."""
    one = crowd()
    one.sums.restore({"exponents": [[3, 3]]})
    one.early = {"worker-0": (3, 3), "worker-1": (2, 3)}
    elsewhere = pb.MemberMessage(context=context_of(one.plan, round=1, attempt=2))
    elsewhere.ready.context, elsewhere.ready.advertisement.worker = b"another attempt", 3

    async def main() -> list[str]:
        here = one.place()
        async with one.attending(0, 1, 2, 3, place=here) as names:
            one.protection._early["worker-3"] = elsewhere
            members = sorted((await one.sums.updates(here, MANIFEST, names)).members)
            assert one.protection._early == {}, "whoever is asked anew throws its older keys away"
            return members

    assert run(main()) == NAMES
    assert {name for name, what in one.told if what == "opening"} == {"worker-1", "worker-2", "worker-3"}


def test_an_advertisement_that_is_false_costs_its_sender_only(crowd: Build) -> None:
    """What came early is checked like what was asked for: who signed something else is out, the others are summed."""
    one = crowd()
    one.sums.restore({"exponents": [[3, 3]]})
    one.early = dict.fromkeys(NAMES, (3, 3))

    async def main() -> list[str]:
        here = one.place()
        async with one.attending(0, 1, 2, 3, place=here) as names:
            one.protection._early["worker-3"].ready.advertisement.commitment = bytes(32)
            return sorted((await one.sums.updates(here, MANIFEST, names)).members)

    assert run(main()) == NAMES[:3]
    assert "the signature does not fit" in str(one.endings["worker-3"])
    assert list(one.dropped) == ["worker-3"]


def test_an_advertisement_goes_with_its_call(crowd: Build) -> None:
    """Of a worker that has begun another call nothing of the older one counts."""
    one = crowd()
    said = pb.MemberMessage(context=context_of(one.plan, round=1, attempt=1))
    said.ready.advertisement.worker = 1

    async def main() -> None:
        one.protection.join("worker-1", said)
        assert "worker-1" in one.protection._early
        one.protection.join("worker-1", pb.MemberMessage(context=said.context, ready=pb.Ready()))
        assert one.protection._early == {}

    run(main())


@pytest.mark.parametrize(
    ("step", "counted"),
    [("opening", False), ("roster", False), ("vector", False), ("survivors", True), ("agreement", True)],
)
@pytest.mark.usefixtures("impatient")
def test_a_silent_member_costs_one_patience(crowd: Build, step: str, *, counted: bool) -> None:
    """Who says nothing any more is out at that step, after its patience; its vector counts if it was whole."""
    one = crowd(stall_seconds=PATIENCE, deadline_seconds=1000)
    one.sums.restore({"exponents": [[3, 3]]})
    one.altered["worker-1"] = silent_at(step)
    began = time.monotonic()
    found, members = run(summed(one, 0, 1, 2, 3))
    assert time.monotonic() - began < LONG
    assert members == [f"worker-{index}" for index in range(4) if index != 1 or counted]
    assert found.mean()["w"] == pytest.approx([mean([0, 1, 2, 3] if counted else [0, 2, 3])] * 6, abs=1e-6)
    assert set(one.dropped.items()) <= {("worker-1", "stalled")}


@pytest.mark.usefixtures("impatient")
def test_the_last_to_be_given_up_ends_the_wait(crowd: Build) -> None:
    """When nobody is left to answer, nobody is waited for, however far the deadline is."""
    one = crowd(deadline_seconds=1000)
    for index in range(4):
        one.altered[f"worker-{index}"] = silent_at("opening")
    began = time.monotonic()
    with pytest.raises(ProtocolError, match="0 workers take part|0 members"):
        run(summed(one, 0, 1, 2, 3))
    assert time.monotonic() - began < LONG
    assert one.dropped == {f"worker-{index}": "stalled" for index in range(4)}


def test_who_hangs_up_is_not_waited_for(crowd: Build) -> None:
    """A call that ends is news: the session goes on at once without it."""
    one = crowd()

    def hanging_up(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == "roster":
            call = one.protection._calls["worker-2"]
            one.protection.leave("worker-2", call)
            call.put_nowait(None)
            return None
        return said

    one.altered["worker-2"] = hanging_up
    _, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-0", "worker-1", "worker-3"]
    assert one.dropped == {"worker-2": "gone"}


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every vector is a transfer of its own."""
    monkeypatch.setattr(wire, "SHORT", 0)


@pytest.mark.usefixtures("long")
def test_who_returns_while_its_vector_is_on_its_way_is_in_the_sum(crowd: Build) -> None:
    """A call that is cut in that step costs nothing: its member is asked for the vector again, and nobody is lost."""
    one = crowd()
    one.transferring, one.returning = NAMES, NAMES[1:3]
    found, members = run(summed(one, 0, 1, 2, 3))
    assert members == NAMES
    assert found.mean()["w"] == pytest.approx([mean(range(4))] * 6, abs=1e-6)
    assert (one.dropped, set(one.endings.values()), one.protection._away) == ({}, {None}, {})


@pytest.mark.usefixtures("long")
def test_who_does_not_return_is_out(crowd: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before it would have stalled, and the sum is the others'."""
    monkeypatch.setattr(protection, "RETURN_SECONDS", PATIENCE)
    one = crowd(stall_seconds=1000, deadline_seconds=1000)
    one.transferring = NAMES

    def hanging_up(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == "vector":
            call = one.protection._calls["worker-2"]
            one.protection.leave("worker-2", call)
            assert one.dropped == {}
            call.put_nowait(None)
            return None
        return said

    one.altered["worker-2"] = hanging_up
    _, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-0", "worker-1", "worker-3"]
    assert (one.dropped, one.protection._away) == ({"worker-2": "gone"}, {})


@pytest.mark.usefixtures("long")
def test_nobody_returns_to_what_is_not_waited_for(crowd: Build) -> None:
    """To another attempt, to a step without a transfer, or with its vector in the sum: refused, and nothing changes."""
    one, said = crowd(), []
    one.transferring = NAMES

    def returning(worker: str, attempt: int = 1) -> None:
        place = context_of(one.plan, round=1, attempt=attempt)
        with pytest.raises(ProtocolError) as error:
            one.protection.rejoin(worker, place)
        said.append(str(error.value))

    def early(what: str, _: pb.HostMessage, answer: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == "roster":
            returning("worker-1")
        if what == "vector":
            returning("worker-1", attempt=2)
        if what == "survivors":
            returning("worker-1")
        return answer

    one.sums.restore({"exponents": [[3, 3]]})
    one.altered["worker-1"] = early
    _, members = run(summed(one, 0, 1, 2, 3))
    returning("worker-1")
    assert (members, one.dropped) == (NAMES, {})
    assert said[0] == said[2] == "worker-1 returns to a step that has no transfer, to which nobody can"
    assert said[1].startswith("worker-1 speaks of round 1, attempt 2")
    assert said[3] == "nothing (more) is expected of worker-1 in this step"


def test_who_is_ready_and_goes_before_the_session_is_named(crowd: Build) -> None:
    """A worker that was counted on, and whose call has ended when the session opens, is among the lost."""
    one = crowd()

    async def main() -> None:
        async with one.attending(3):
            pass
        async with one.attending(0, 1, 2) as names:
            found = await one.sums.updates(one.place(), MANIFEST, [*names, "worker-3"])
            assert sorted(found.members) == names

    run(main())
    assert one.dropped == {"worker-3": "gone"}


def test_who_was_told_to_end_before_the_session_has_left(crowd: Build) -> None:
    """Its reason is its own, however its call ended; if it is back in time it takes part."""
    one = crowd()

    async def main() -> None:
        async with one.attending(2, 3):
            pass
        for name in ("worker-2", "worker-3"):
            one.protection.lost(name, "left")
        async with one.attending(0, 1, 2) as names:
            found = await one.sums.updates(one.place(), MANIFEST, [*names, "worker-3"])
            assert sorted(found.members) == names

    run(main())
    assert one.dropped == {"worker-3": "left"}


def test_what_is_refused_ends_its_senders_part_only(crowd: Build) -> None:
    """Its call ends with the reason, and the others' sum is theirs."""
    one = crowd()

    def lying(_: str, __: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if said is not None and said.WhichOneof("what") == "advertisement":
            said.advertisement.commitment = bytes(32)
        return said

    one.altered["worker-0"] = lying
    found, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-1", "worker-2", "worker-3"]
    assert found.examples == 90
    assert one.dropped == {"worker-0": "refused: the protocol does not allow what it sent"}
    assert "worker-0: the signature does not fit" in str(one.endings["worker-0"])


def test_who_is_refused_while_it_owes_nothing_is_out_for_that(crowd: Build) -> None:
    """A second advertisement comes before the others' first: the next step finds its sender refused, not gone."""
    one = crowd()

    def twice(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == "opening" and said is not None:
            one.protection.heard("worker-0", said)
        return said

    one.altered["worker-0"] = twice
    _, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-1", "worker-2", "worker-3"]
    assert one.dropped == {"worker-0": "refused: the protocol does not allow what it sent"}
    assert "nothing (more) is expected of worker-0" in str(one.endings["worker-0"])


def damaged(said: pb.MemberMessage) -> None:
    """A bit has changed."""
    said.masked.data = said.masked.data[:-1] + bytes([said.masked.data[-1] ^ 1])


def shortened(said: pb.MemberMessage) -> None:
    """A number is missing."""
    said.masked.data = said.masked.data[:-8]


@pytest.mark.parametrize(
    ("change", "words", "short"),
    [
        (damaged, "the vector has CRC-32C", CHECKSUM),
        (shortened, "bytes came as a vector; ", LENGTH),
    ],
)
def test_a_wrong_vector_in_a_message_is_in_no_sum(
    crowd: Build, change: Callable[[pb.MemberMessage], None], words: str, short: str
) -> None:
    """Its sender is told and is out, and the sum is the others'."""
    one = crowd()

    def lying(_: str, __: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if said is not None and said.WhichOneof("what") == "masked":
            change(said)
        return said

    one.sums.restore({"exponents": [[3, 3]]})
    one.altered["worker-2"] = lying
    found, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-0", "worker-1", "worker-3"]
    assert found.examples == 70
    assert one.dropped == {"worker-2": f"refused: {short}"}
    assert words in str(one.endings["worker-2"])


def test_a_vector_counts_once_whichever_way_it_comes(crowd: Build) -> None:
    """A member that hands its vector in as a message and once more as a transfer is in the sum once."""
    one, refused = crowd(), []

    async def main() -> None:
        held = one.protection.heard

        def twice(worker: str, message: pb.MemberMessage) -> int:
            taken = held(worker, message)
            if worker == "worker-0" and message.WhichOneof("what") == "masked":
                with pytest.raises(ProtocolError) as error:
                    one.protection.expects(worker, message.context)
                refused.append(str(error.value))
            return taken

        one.protection.heard = twice  # type: ignore[method-assign]
        found, members = await summed(one, 0, 1, 2, 3)
        assert (found.examples, members) == (100, NAMES)

    run(main())
    assert len(refused) == 2  # of its ranges, and of its update
    assert "nothing (more) is expected of worker-0" in refused[0]


def test_a_message_of_another_attempt_is_refused(crowd: Build) -> None:
    """What is said of another round, attempt or job has no place in this session."""
    one = crowd()

    def late(_: str, __: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if said is not None:
            said.context.attempt = 2
        return said

    one.altered["worker-3"] = late
    _, members = run(summed(one, 0, 1, 2, 3))
    assert members == ["worker-0", "worker-1", "worker-2"]
    assert "worker-3 speaks of round 1, attempt 2" in str(one.endings["worker-3"])


def test_too_few_are_no_sum_and_the_next_attempt_is_free(crowd: Build) -> None:
    """Two of four give an error and no sum; another attempt with all of them gives theirs."""
    one = crowd()

    async def main() -> None:
        with pytest.raises(ProtocolError, match="2 workers take part"):
            await summed(one, 0, 1)
        found, _ = await summed(one, 0, 1, 2, 3, attempt=2)
        assert found.examples == 100
        assert one.protection._sessions == {}

    run(main())


@pytest.mark.usefixtures("impatient")
def test_candidates_stay_once_shares_were_dealt(crowd: Build) -> None:
    """After an attempt in which vectors may have left, another has the same candidates, and strangers are refused."""
    one = crowd(stall_seconds=PATIENCE, deadline_seconds=1000)
    one.sums.restore({"exponents": [[3, 3]]})

    async def main() -> None:
        one.altered = {f"worker-{index}": silent_at("vector") for index in (1, 2)}
        with pytest.raises(ProtocolError, match="1 vectors, fewer than the 3"):
            await summed(one, 0, 1, 2)
        assert one.journal.candidates(1, "update") == (0, 1, 2)
        assert not one.sums.signed(1)
        one.altered = {}
        _, members = await summed(one, 0, 1, 2, 3, attempt=2)
        assert members == ["worker-0", "worker-1", "worker-2"]
        assert one.endings["worker-3"] is None

    run(main())


@pytest.mark.usefixtures("impatient")
def test_a_sum_that_may_be_signed_is_sought_with_the_same(crowd: Build) -> None:
    """Once survivors were asked to sign, another attempt asks them alone and gives their sum; without one, none."""
    one = crowd(stall_seconds=PATIENCE, deadline_seconds=1000)
    one.sums.restore({"exponents": [[3, 3]]})

    async def main() -> None:
        one.altered = {
            "worker-3": silent_at("vector"),
            **{f"worker-{index}": silent_at("survivors") for index in (1, 2)},
        }
        with pytest.raises(ProtocolError, match="1 signatures, fewer than the 3"):
            await summed(one, 0, 1, 2, 3)
        assert one.sums.signed(1) == {"worker-0", "worker-1", "worker-2"}
        assert not one.sums.signed(2)
        one.altered = {"worker-2": silent_at("vector")}
        with pytest.raises(ProtocolError, match="2 vectors, fewer than the 3"):
            await summed(one, 0, 1, 2, 3, attempt=2)
        one.altered = {}
        found, members = await summed(one, 0, 1, 2, 3, attempt=3)
        assert (found.examples, members) == (60, ["worker-0", "worker-1", "worker-2"])

    run(main())


@pytest.mark.usefixtures("impatient")
def test_one_survivor_less_than_may_have_signed_is_no_sum(crowd: Build) -> None:
    """Though enough vectors came: nobody is asked to sign other survivors, and who was would refuse."""
    one = crowd(stall_seconds=PATIENCE, deadline_seconds=1000)
    one.sums.restore({"exponents": [[3, 3]]})

    async def main() -> None:
        one.altered = {f"worker-{index}": silent_at("survivors") for index in (1, 2)}
        with pytest.raises(ProtocolError, match="2 signatures, fewer than the 3"):
            await summed(one, 0, 1, 2, 3)
        one.altered = {}
        with pytest.raises(ProtocolError, match="it may have been signed with worker-3 before, not without"):
            await summed(one, 0, 1, 2, attempt=2)
        one.journal._survivors.clear()
        with pytest.raises(ProtocolError, match="0 signatures, fewer than the 3"):
            await summed(one, 0, 1, 2, attempt=3)
        assert "another signed was noted already" in str(one.endings["worker-0"])

    run(main())


def held_back(one: Crowd, worker: str, step: str) -> Altered:
    """A member whose answer at this step comes just before its advertisement for the next sum."""
    held: list[pb.MemberMessage] = []

    def altered(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == step and said is not None and not held:
            held.append(said)
            return None
        if what == "opening" and len(held) == 1:
            one.protection.heard(worker, held[0])
            held.append(held[0])
        return said

    return altered


@pytest.mark.parametrize("step", ["survivors", "agreement"])
def test_what_comes_late_for_one_sum_costs_no_place_in_the_next(
    crowd: Build, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Enough others had signed, or unmasked the ranges: who was not waited for has its update in the sum."""
    monkeypatch.setattr(protection, "GRACE_SECONDS", 0.05)
    one = crowd(per_round=5, workers=5)
    one.altered["worker-3"] = held_back(one, "worker-3", step)
    _, members = run(summed(one, 0, 1, 2, 3, 4))
    assert members == [*NAMES, "worker-4"]
    assert (one.dropped, set(one.endings.values())) == ({}, {None})


def test_a_signature_that_comes_while_the_unmasking_is_noted_is_late(
    crowd: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its member is in the sum and in no list of those who were lost or broke the protocol; nor is it said twice."""
    monkeypatch.setattr(protection, "GRACE_SECONDS", 0.05)
    one, held = crowd(), []
    one.sums.restore({"exponents": [[3, 3]]})

    def late(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what != "survivors" or said is None:
            return said
        held.append(said)
        return None

    async def noting(_: Context) -> None:
        assert one.protection.heard("worker-3", held[0]) == 0

    one.altered["worker-3"], one.protection._unmasking = late, noting
    _, members = run(summed(one, 0, 1, 2, 3))
    assert members == NAMES
    assert (one.dropped, one.endings["worker-3"]) == ({}, None)


@pytest.mark.usefixtures("impatient")
def test_who_cannot_join_a_sum_that_was_begun_has_broken_nothing(crowd: Build) -> None:
    """All are asked to train again, also one that died before shares were dealt: it is left out, and not refused."""
    one = crowd(stall_seconds=PATIENCE, deadline_seconds=1000, per_round=5, workers=5)
    one.sums.restore({"exponents": [[3, 3]]})

    async def main() -> None:
        one.altered = {f"worker-{index}": silent_at("vector") for index in (2, 3)}
        with pytest.raises(ProtocolError, match="2 vectors, fewer than the 3"):
            await summed(one, 0, 1, 2, 3)
        one.altered = {}
        one.dropped.clear()
        one.told.clear()
        _, members = await summed(one, 0, 1, 2, 3, 4, attempt=2)
        assert members == NAMES
        assert (one.dropped, one.endings["worker-4"]) == ({"worker-4": BEGUN}, None)
        assert {name for name, _ in one.told} == set(NAMES)

    run(main())


def test_a_vector_that_was_begun_for_one_sum_is_in_no_other(crowd: Build) -> None:
    """Whoever hands one in as a message, and ends its transfer when the next sum is open, spoils neither."""
    one, begun, refused = crowd(), [], []
    context = context_of(one.plan, round=1, attempt=1)

    def two_ways(what: str, _: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == "vector":
            begun.append(one.protection.expects("worker-1", context))
        if what == "vector" and len(begun) > 1:
            spool = Spool(np.zeros(begun[0].layout.nbytes, "u1"), lambda: None)
            with pytest.raises(ProtocolError) as error:
                one.protection.take("worker-1", spool, begun[0])
            refused.append(str(error.value))
        return said

    one.altered["worker-1"] = two_ways
    found, members = run(summed(one, 0, 1, 2, 3))
    assert (members, found.examples) == (NAMES, 100)
    (said,) = refused
    assert "a vector of round 1, attempt 1, range, which it was asked for before" in said
    assert said.endswith("the open session is round 1, attempt 1, update")


def test_a_newer_call_ends_the_older(crowd: Build) -> None:
    """A worker that calls again holds one place; the older call hears why it ends, and leaving it changes nothing."""
    one = crowd()

    async def main() -> None:
        older = one.protection.join("worker-1")
        newer = one.protection.join("worker-1")
        assert "worker-1 has begun another call" in str(await older.get())
        one.protection.leave("worker-1", older)
        one.protection.dismiss()
        assert await newer.get() is None

    run(main())


def test_without_a_session_nothing_is_expected(crowd: Build) -> None:
    """Messages, vectors and news of workers outside of a session change nothing."""
    one = crowd()

    async def main() -> None:
        call = one.protection.join("worker-1")
        one.protection.heard("worker-1", pb.MemberMessage())
        assert "nothing (more) is expected of worker-1" in str(await call.get())
        with pytest.raises(ProtocolError, match="nothing \\(more\\) is expected"):
            one.protection.expects("worker-1", pb.Context())
        one.protection.lost("worker-1", "gone")
        one.protection.moved("worker-1")
        assert one.dropped == {}

    run(main())
