"""What the server learns from secure sums: ranges once, updates each round, measurements; and what it restores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from fl_core.errors import FLJobError, ProtocolError
from fl_core.extensions import Extension
from fl_core.metrics import mean_of
from fl_core.plan import Plan
from fl_core.secagg.job import buckets_of
from fl_core.wire import fl_pb2 as pb
from fl_server.sums import Sums, Updates
from fl_worker.memory import FileMemory
from fl_worker.product import Product
from tests.conftest import private
from tests.fl_server.crowd import DIGEST, MANIFEST, SECURE, SELECTION, Crowd, mean, product, silent_at

pytestmark = pytest.mark.timeout(60)

Build = Callable[..., Crowd]
EVERYBODY = (0, 1, 2, 3)


@pytest.fixture
def crowd(tmp_path: Path, plan_of: Callable[..., Plan]) -> Build:
    """Build a crowd; the plan's and selection's fields by name."""
    return lambda **fields: Crowd(tmp_path, plan_of(**{**SELECTION, "secure_aggregation": SECURE, **fields}))


async def updated(one: Crowd, *indices: int, **place: int) -> Any:
    """The sum of these workers' updates."""
    here = one.place(**place)
    async with one.attending(*indices, place=here) as names:
        return (await one.sums.updates(here, MANIFEST, names)).parts[0]


def purposes(one: Crowd) -> list[tuple[int, str]]:
    """Which sums were dealt for, by round."""
    rows = [json.loads(line) for line in (one.folder / "sessions.jsonl").read_text().splitlines()]
    return [(row["round"], row["purpose"]) for row in rows if "candidates" in row]


def test_ranges_are_learned_once(crowd: Build) -> None:
    """The first update is preceded by its ranges; later ones follow from the sums before them."""
    one = crowd()

    async def main() -> list[Any]:
        return [await updated(one, *EVERYBODY, number=number) for number in (1, 2)]

    first, second = asyncio.run(main())
    assert purposes(one) == [(1, "range"), (1, "update"), (2, "update")]
    assert first.exponents == second.exponents == (2, 2)
    assert one.sums.state == {"exponents": [[2, 2]]}


def remembering(one: Crowd) -> list[tuple[str, bool]]:
    """Members with memories on the disk; gives what worker-0 will be asked for, and whether without counts."""
    asked: list[tuple[str, bool]] = []

    def altered(what: str, message: pb.HostMessage, said: pb.MemberMessage | None) -> pb.MemberMessage | None:
        if what == "opening":
            asked.append((message.opening.purpose, message.opening.uncounted))
        return said

    one.memories = {f"worker-{index}": FileMemory(one.folder / f"{index}.jsonl") for index in TWELVE}
    one.altered["worker-0"] = altered
    return asked


def test_nothing_is_counted_in_the_round_in_which_ranges_are_voted_for(crowd: Build) -> None:
    """Whoever is lost between the two sums would stand alone in their difference; from then on ranges are counted."""
    one = crowd()
    asked = remembering(one)
    large = {name: 64 * array for name, array in (product(3).update or {}).items()}
    grown = Product(40, product(3).metrics, large)

    async def main() -> list[Any]:
        first = await updated(one, *EVERYBODY)
        one.products["worker-3"] = grown
        return [first, await updated(one, *EVERYBODY, number=2)]

    first, second = asyncio.run(main())
    assert asked == [("range", False), ("update", True), ("update", False)]
    assert [(one.exponents, one.clipped) for one in (first, second)] == [((2, 2), 0), ((3, 3), 7)]


@pytest.mark.parametrize("counted", [False, True])
def test_another_attempt_after_the_votes_counts_nothing_either(
    crowd: Build, monkeypatch: pytest.MonkeyPatch, *, counted: bool
) -> None:
    """By another process, and with one that had not voted; those who have voted hand in nothing that is counted."""
    one, other = crowd(), crowd()
    remembering(one)
    asked = remembering(other)
    other.memories = one.memories

    async def main() -> Any:
        one.altered = {f"worker-{index}": refusing() for index in (0, 1)}
        with pytest.raises(ProtocolError, match="1 workers take part"):
            await updated(one, 0, 1, 2)
        other.sums.resume(done=0)
        if counted:
            monkeypatch.setattr(other.sums, "_fresh", set())
        return await updated(other, *EVERYBODY, attempt=2)

    if counted:
        with pytest.raises(ProtocolError, match="1 vectors, fewer than the 3"):
            asyncio.run(main())
        assert "this round's range sum has told already" in str(other.endings["worker-0"])
    else:
        assert asyncio.run(main()).examples == 100
    assert asked == [("update", not counted)]


def test_a_bucket_without_a_sum_since_its_votes_counts_nothing_yet(bucketed: Crowd) -> None:
    """So a replay counts in the same rounds, whoever voted when; a checkpoint holds which buckets these are."""
    one, left_out = bucketed, buckets_of(bucketed.plan).of(0)

    async def main() -> tuple[Updates, list[tuple[str, bool]]]:
        one.altered["worker-0"] = refusing()
        await parts(one, *TWELVE)
        state = json.loads(json.dumps(one.sums.state))
        assert state["fresh"] == [left_out]
        one.sums = Sums(one.plan, one.protection)
        one.sums.restore(state)
        asked = remembering(one)
        return await parts(one, *TWELVE, number=2), asked

    found, asked = asyncio.run(main())
    assert (len(found.parts), found.told["ranges"], asked) == (4, {}, [("update", True)])
    assert "fresh" not in one.sums.state


def test_another_process_goes_on_with_the_ranges(crowd: Build) -> None:
    """From its state another server sums the next round alike, without learning ranges again."""
    one, other = crowd(), crowd()

    async def main() -> tuple[Any, Any]:
        await updated(one, *EVERYBODY)
        other.sums.restore(json.loads(json.dumps(one.sums.state)))
        return await updated(one, *EVERYBODY, number=2), await updated(other, *EVERYBODY, number=2)

    found, again = asyncio.run(main())
    assert np.array_equal(found.mean()["w"], again.mean()["w"])
    assert purposes(one)[2:] == [(2, "update"), (2, "update")]


def test_another_process_goes_on_with_ranges_that_no_checkpoint_holds(crowd: Build) -> None:
    """Learned before a round's sum they are as durable as that, are told with it, and nobody votes again."""
    one, other = crowd(), crowd()

    async def main() -> Updates:
        await updated(one, *EVERYBODY)
        other.sums.resume(done=0)
        return await parts(other, *EVERYBODY, attempt=2)

    found = asyncio.run(main())
    assert purposes(one) == [(1, "range"), (1, "update"), (1, "update")]
    assert found.told["ranges"] == {0: (2, 2)}


def test_a_server_without_a_state_learns_ranges(crowd: Build) -> None:
    """What an older checkpoint lacks is learned."""
    one = crowd()
    one.sums.restore({})
    asyncio.run(updated(one, *EVERYBODY))
    assert purposes(one)[0] == (1, "range")


def test_measurements_are_exact_counts(crowd: Build) -> None:
    """A ratio of counts comes out as if all data were in one place, a mean within the resolution."""
    one = crowd()
    one.products = {f"worker-{index}": replace(product(index), update=None) for index in EVERYBODY}

    async def main() -> Any:
        async with one.attending(*EVERYBODY) as names:
            return await one.sums.measurements(one.place(), names)

    found, members = asyncio.run(main())
    assert found["right"].vector.tolist() == [6, 40]
    assert found["loss"].value == pytest.approx(1.75, abs=1e-6)
    assert sorted(members) == [f"worker-{index}" for index in EVERYBODY]
    assert purposes(one) == [(1, "measure")]


def test_who_measures_otherwise_is_left_out_and_named(crowd: Build) -> None:
    """Metrics of another kind cannot be added; the sum is of those who agree."""
    one = crowd()
    one.sums.restore({"exponents": [[3, 3]]})
    one.products["worker-2"] = replace(product(2), metrics={"other": mean_of(1.0, 1)})
    with capture_logs() as logged:
        found = asyncio.run(updated(one, *EVERYBODY))
    assert found.examples == 10 + 20 + 40
    (line,) = [line for line in logged if "left out" in line["event"]]
    assert (line["workers"], line["expected"]) == (["worker-2"], ["loss", "right"])


def test_an_update_that_has_diverged_is_its_workers_own(crowd: Build) -> None:
    """Values that no range holds cost their worker its place, and its reason holds no number of them."""
    one = crowd()
    one.products["worker-1"] = Product(
        5, product(1).metrics, {"w": np.full(6, 7.5e30, "f4"), "b": np.zeros((), "f4")}
    )
    found = asyncio.run(updated(one, *EVERYBODY))
    assert found.examples == 10 + 30 + 40
    assert "training has diverged" in str(one.endings["worker-1"])
    assert "7.5" not in str(one.endings["worker-1"])


@pytest.mark.parametrize(
    ("signed", "learned", "bound"),
    [("update", True, True), ("range", False, True), ("range", True, False), ("measure", True, False)],
)
def test_a_round_is_bound_to_those_with_whom_what_it_needs_was_signed(
    crowd: Build, signed: Any, *, learned: bool, bound: bool
) -> None:
    """Ranges that are known need not be learned again; measurements belong to a model that is committed."""
    one = crowd()
    one.sums.restore({"exponents": [[1, 1] if learned else []]})
    one.journal.signing(7, 1, signed, survivors=[1, 2])
    assert one.sums.signed(7) == ({"worker-1", "worker-2"} if bound else set())
    assert not one.sums.signed(8)


WRONG_SCHEMAS = {
    "no JSON": "{",
    "a list": "[1]",
    "another kind": '{"m": {"kind": "median", "options": {}, "vector": []}}',
    "an option that no kind has": '{"m": {"kind": "mean", "options": {"k": 1}, "vector": []}}',
    "a text for a number": '{"m": {"kind": "macro_f1", "options": {"classes": "x"}, "vector": []}}',
    "a negative size": '{"m": {"kind": "auc", "options": {"bins": -1}, "vector": []}}',
    "more elements than there is memory": '{"m": {"kind": "macro_f1", "options": {"classes": 1000000000}}}',
    "many gigabytes": '{"m": {"kind": "macro_f1", "options": {"classes": 200000}}}',
    "half an element": '{"m": {"kind": "auc", "options": {"bins": 0.25}}}',
    "no end of brackets": "[" * 100_000,
    "a name that is none": '{"a\\nb": {"kind": "mean", "options": {}, "vector": []}}',
    "no name": '{"": {"kind": "mean", "options": {}, "vector": []}}',
    "too many": json.dumps({f"m{n}": {"kind": "mean", "options": {}, "vector": []} for n in range(101)}),
}


@pytest.mark.parametrize("wrong", WRONG_SCHEMAS)
def test_metrics_that_are_none_are_refused(crowd: Build, wrong: str) -> None:
    """What no worker of ours measures is refused when it comes, with a sentence, and nothing is kept of it."""
    one = crowd()
    with pytest.raises(FLJobError):
        one.sums.admit("worker-1", pb.Ready(model=DIGEST, schema=WRONG_SCHEMAS[wrong]))
    assert one.sums._schemas == {}


def test_too_few_for_a_sum_is_an_error(crowd: Build) -> None:
    """With two workers there is no sum of updates nor of measurements."""
    one = crowd()

    async def main() -> None:
        async with one.attending(0, 1) as names:
            with pytest.raises(ProtocolError, match="secure aggregation needs at least 3"):
                await one.sums.updates(one.place(), MANIFEST, names)
        async with one.attending(0, 1) as names:
            with pytest.raises(ProtocolError, match="secure aggregation needs at least 3"):
                await one.sums.measurements(one.place(), names)

    asyncio.run(main())


TWELVE = tuple(range(12))
COMPARED = {
    "aggregation": Extension(name="median", options={"hostile": 1}),
    "secure_aggregation": SECURE.model_copy(update={"buckets": 4, "max_examples": 200}),
    "per_round": 12,
    "minimum": 9,
    "workers": 12,
}


@pytest.fixture
def bucketed(tmp_path: Path, plan_of: Callable[..., Plan]) -> Crowd:
    """Twelve workers in four buckets, of which the rule needs three."""
    return Crowd(tmp_path, plan_of(**COMPARED))


def buckets(one: Crowd) -> dict[int, list[int]]:
    """Who is in which."""
    return buckets_of(one.plan).dealt(TWELVE)


async def parts(one: Crowd, *indices: int, **place: int) -> Updates:
    """The sums of these workers' buckets."""
    here = one.place(**place)
    async with one.attending(*indices, place=here) as names:
        return await one.sums.updates(here, MANIFEST, names)


def test_each_bucket_has_its_own_sum(bucketed: Crowd) -> None:
    """Each part is the mean of one bucket's workers, in their order, with ranges of its own."""
    found = asyncio.run(parts(bucketed, *TWELVE))
    assert [float(part.mean()["b"]) for part in found.parts] == pytest.approx(
        [mean(some) for some in buckets(bucketed).values()], abs=1e-6
    )
    assert (found.told["examples"], found.told["clipped"], found.left_out) == (780, 0, {})
    assert sorted(found.members) == sorted(f"worker-{index}" for index in TWELVE)
    assert found.told["metrics"]["right"].vector.tolist() == [66, 120]
    largest = [max(some) + 1 for some in buckets(bucketed).values()]
    assert bucketed.sums.state == {"exponents": [[(most - 1).bit_length()] * 2 for most in largest]}


def test_a_bucket_that_falls_short_is_left_out(bucketed: Crowd) -> None:
    """The others go on without it, and nobody in it has signed anything: it says why, and has its turn again."""
    away = buckets(bucketed)[2][0]

    async def main() -> list[Updates]:
        here = [index for index in TWELVE if index != away]
        return [await parts(bucketed, *here), await parts(bucketed, *TWELVE, number=2)]

    first, second = asyncio.run(main())
    assert first.left_out == {2: "2 workers take part; secure aggregation needs at least 3"}
    assert [len(one.members) for one in (first, second)] == [9, 12]
    assert len(first.parts) == 3
    assert not bucketed.journal.survivors(1, "range", 2)


def test_too_few_buckets_sign_nothing_and_try_again(bucketed: Crowd) -> None:
    """Two that fall short are one too many: none of the others' updates is signed, and the next attempt is whole."""
    one, (first, second) = bucketed, [some[0] for some in buckets(bucketed).values()][:2]

    async def main() -> Updates:
        one.altered = {f"worker-{index}": refusing() for index in (first, second)}
        with pytest.raises(
            ProtocolError, match=r"2 of 4 buckets, fewer than the 3 that median needs \(bucket 0: "
        ):
            await parts(one, *TWELVE)
        assert not any(one.journal.survivors(1, "update", bucket) for bucket in range(4))
        assert not one.sums.signed(1)
        one.altered = {}
        return await parts(one, *TWELVE, attempt=2)

    found = asyncio.run(main())
    assert len(found.parts) == 4
    assert {row["attempt"] for row in rows(one) if row["purpose"] == "range"} == {1}


def test_a_bucket_that_takes_all_its_time_costs_the_others_nothing(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    """A bucket that came later, for it had ranges to learn, and then waits for shares until its deadline is over.

    The others' sums open after that all the same.
    """
    one = Crowd(tmp_path, plan_of(**COMPARED, stall_seconds=3, deadline_seconds=3))
    slow = buckets(one)[2][0]

    async def main() -> Updates:
        await parts(one, *(index for index in TWELVE if index != slow))
        one.altered = {f"worker-{slow}": silent_at("roster", times=2)}
        return await parts(one, *TWELVE, number=2)

    found = asyncio.run(main())
    assert list(found.left_out) == [2]
    assert len(found.parts) == 3


def refusing() -> Any:
    """A member that is refused when updates are summed, and not before."""
    openings: list[str] = []

    def altered(what: str, message: pb.HostMessage, said: pb.MemberMessage | None) -> Any:
        if what == "opening" and message.opening.purpose == "update" and said is not None:
            openings.append(what)
            said.advertisement.commitment = bytes(32)
        return said

    return altered


def rows(one: Crowd) -> list[dict[str, Any]]:
    """What was noted of sessions."""
    lines = (one.folder / "sessions.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "purpose" in row]


def test_a_bucket_that_was_signed_before_is_summed_for_the_same_or_left_out(bucketed: Crowd) -> None:
    """It asks nobody but its survivors; without one of them it falls short, and the others go on."""
    one, here = bucketed, buckets(bucketed)
    one.journal.signing(1, 1, "range", bucket=0, survivors=here[0])
    one.journal.signing(1, 1, "range", bucket=3, survivors=[*here[3][:2], 99])
    found = asyncio.run(parts(one, *TWELVE, attempt=2))
    why = "it may have been signed with worker-99 before, not without"
    assert found.left_out == {3: f"round 1, attempt 2, range, bucket 3: {why}"}
    assert len(found.members) == 9


@pytest.mark.parametrize("workers", [4, 9])
def test_shares_that_were_dealt_bind_a_round_that_asks_a_part(crowd: Build, workers: int) -> None:
    """Others cannot join; where everybody is asked, whoever is there may be, and nobody is waited for."""
    one = crowd(workers=workers)
    one.journal.dealing(7, 1, "range", candidates=[1, 2, 3])
    one.journal.dealing(8, 1, "update", candidates=[0, 1, 2])
    found = [one.sums.only(7)]
    one.sums.restore({"exponents": [[1, 1]]})
    found += [one.sums.only(8), one.sums.only(7)]
    few = [{"worker-1", "worker-2", "worker-3"}, {"worker-0", "worker-1", "worker-2"}, set()]
    assert found == (few if workers == 9 else [set()] * 3)


def test_private_shares_that_were_dealt_bind_their_round_too(crowd: Build) -> None:
    """Noise has one range for all rounds, which nobody votes for."""
    one = crowd(workers=9, privacy=private())
    one.journal.dealing(7, 1, "update", candidates=[0, 1, 2])
    assert one.sums.only(7) == {"worker-0", "worker-1", "worker-2"}
    assert one.sums.only(8) == frozenset()


def test_once_a_bucket_may_have_been_signed_its_round_is_made_with_the_same_workers(bucketed: Crowd) -> None:
    """Of a signed bucket its survivors are waited for, of any other those who took part in the attempt."""
    one, here = bucketed, buckets(bucketed)
    away = here[2][0]
    one.altered = {f"worker-{here[0][0]}": refusing()}

    async def main() -> None:
        with pytest.raises(ProtocolError, match="2 of 4 buckets"):
            await parts(one, *(index for index in TWELVE if index != away))

    asyncio.run(main())
    assert one.sums.only(1) == frozenset()
    one.journal.signing(1, 1, "update", bucket=3, survivors=here[3][1:])
    expected = set(TWELVE) - {away, here[3][0]}
    assert one.sums.only(1) == {f"worker-{index}" for index in expected}
    assert one.sums.only(2) == frozenset()


def test_who_took_part_stays_known_once_a_bucket_may_have_been_signed(bucketed: Crowd) -> None:
    """Another attempt without somebody, as it was not back in time, does not make the next one forget it."""
    one, here = bucketed, buckets(bucketed)
    absent = here[2][0]

    async def main() -> None:
        await parts(one, *TWELVE)
        one.sums = Sums(one.plan, one.protection)
        one.sums.resume(done=0)
        await parts(one, *(index for index in TWELVE if index != absent), attempt=2)

    asyncio.run(main())
    assert one.sums.only(1) == {f"worker-{index}" for index in TWELVE}


def test_measurements_of_buckets_are_added_up(bucketed: Crowd) -> None:
    """Counts are those of all whose bucket has a sum; a bucket without one is not missed."""
    away = buckets(bucketed)[1][1]
    here = [index for index in TWELVE if index != away]
    bucketed.products = {f"worker-{index}": replace(product(index), update=None) for index in here}

    async def main() -> Any:
        async with bucketed.attending(*here) as names:
            return await bucketed.sums.measurements(bucketed.place(), names)

    found, members = asyncio.run(main())
    assert len(members) == 9
    assert found["right"].vector[1] == 90


def test_ranges_that_are_known_are_not_voted_for(crowd: Build) -> None:
    """A server that follows a record takes its ranges, makes the same sum, and records them as its own."""
    one, other = crowd(), crowd()
    voted = asyncio.run(everybodys(one))
    other.sums = Sums(other.plan, other.protection, known={(1, 0): tuple(voted.ranges[0])})
    known = asyncio.run(everybodys(other))
    assert purposes(other) == [(1, "range"), (1, "update"), (1, "update")]  # one file of both
    assert known.told["ranges"] == voted.told["ranges"] == {0: (2, 2)}
    assert np.array_equal(known.parts[0].mean()["w"], voted.parts[0].mean()["w"])


def test_a_bucket_that_was_left_out_keeps_the_ranges_it_voted_for(bucketed: Crowd) -> None:
    """Where its first sum is of a later round it takes its newest, and none of a round that is still to come."""
    known = {(number, bucket): (6 + number, 6 + number) for number in (1, 2, 4) for bucket in range(4)}
    bucketed.sums = Sums(bucketed.plan, bucketed.protection, known=known)
    found = asyncio.run(parts(bucketed, *TWELVE, number=3))
    assert {row["purpose"] for row in rows(bucketed)} == {"update"}
    assert found.told["ranges"] == dict.fromkeys(range(4), (8, 8))


async def everybodys(one: Crowd) -> Updates:
    """A first round's sums."""
    return await parts(one, *EVERYBODY)
