"""One leader at a time, told at once when it is not any more."""

from __future__ import annotations

import asyncio
import random
import re
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import UnreachableError
from fl_operator.cluster.lease import Claim, Lease, LeaseLostError, Timing, now
from fl_operator.cluster.resources import LEASES, Key

KEY = Key("system", "operator")
PATH = LEASES.path(*KEY)
QUICK = Timing(duration=1, deadline=0.3, retry=0.02, request=0.2)


def lease(memory: Any, identity: str, timing: Timing = QUICK) -> Lease:
    return Lease(Connection(memory), KEY, identity, timing)


def run(play: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await play

    asyncio.run(limited())


class Leap(selectors.SelectSelector):
    """Nobody waits for anything but time, which passes in leaps."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


def leap(play: Awaitable[float]) -> float:
    """Run it with a clock of its own."""
    selector = Leap()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(play)
    finally:
        loop.close()


def timed(wire: Any, identity: str, seed: int) -> Lease:
    """With the seconds of a real operator, by the clock of its loop."""
    clock = asyncio.get_running_loop().time
    return Lease(Connection(wire), KEY, identity, clock=clock, random=random.Random(seed))


class Slow:
    """A wire that answers after so many seconds, drawn for each request; after None never."""

    def __init__(self, memory: Any, seconds: Callable[[], float | None]) -> None:
        self.memory, self.seconds = memory, seconds
        self.written = 0.0

    async def send(self, request: Any) -> Any:
        seconds = self.seconds()
        await (forever() if seconds is None else asyncio.sleep(seconds))
        if request.method != "GET":
            self.written = asyncio.get_running_loop().time()
        return await self.memory.send(request)


class Refusing:
    """A wire that does not let the first writes through."""

    def __init__(self, memory: Any, writes: int) -> None:
        self.memory, self.left = memory, writes

    async def send(self, request: Any) -> Any:
        if request.method != "GET" and self.left:
            self.left -= 1
            raise UnreachableError("cut")
        return await self.memory.send(request)


def holder(memory: Any) -> str | None:
    return memory.objects.get(PATH, {}).get("spec", {}).get("holderIdentity")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def forever() -> None:
    await asyncio.Event().wait()


def test_who_waits_says_so_once(memory: Any) -> None:
    """When it has seen that another one holds the Lease; the leader itself never does."""

    async def play() -> None:
        async def follow() -> None:
            tries = [one for one in memory.requests if one.method == "GET"]
            async with asyncio.timeout(5):
                waiting = asyncio.ensure_future(lease(memory, "b").lead(forever))
                await until(
                    lambda: len([one for one in memory.requests if one.method == "GET"]) > len(tries) + 5
                )
                waiting.cancel()
                await asyncio.wait({waiting})

        await lease(memory, "a").lead(follow)

    with capture_logs() as told:
        run(play())
    waits = [line["identity"] for line in told if line["event"] == "waiting for the lease"]
    assert waits == ["b"]


def test_created_when_absent_and_released(memory: Any) -> None:
    """The first replica creates the Lease, works, and leaves it free."""

    async def play() -> None:
        async def work() -> None:
            assert holder(memory) == "a"
            assert re.fullmatch(r".+T.+\.\d{6}Z", memory.objects[PATH]["spec"]["renewTime"])

        await lease(memory, "a").lead(work)
        spec = memory.objects[PATH]["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (
            None,
            1,
            0,
        )

    run(play())


def test_one_at_a_time_and_the_next_follows_soon(memory: Any) -> None:
    """While one leads nobody else does; when it releases, the next one takes over without waiting it out."""

    async def play() -> None:
        working: list[str] = []

        def work(name: str) -> Callable[[], Awaitable[None]]:
            async def working_for_a_while() -> None:
                assert working == []
                working.append(name)
                await asyncio.sleep(0.1)
                working.remove(name)

            return working_for_a_while

        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(lease(memory, name).lead(work(name)) for name in "abc"))
        assert loop.time() - began < 3 * QUICK.duration
        assert memory.objects[PATH]["spec"]["leaseTransitions"] == 2

    run(play())


def test_a_dead_leader_is_waited_out(memory: Any) -> None:
    """A Lease that nobody renews is taken after its duration, by the waiter's own clock, and no sooner."""

    async def play() -> None:
        spec = {
            "holderIdentity": "dead",
            "leaseDurationSeconds": 1,
            "renewTime": "1970-01-01T00:00:00.000000Z",
        }
        known = {"apiVersion": LEASES.api_version, "kind": "Lease"}
        metadata = {"name": KEY.name, "namespace": KEY.namespace}
        memory.put(PATH, {**known, "metadata": metadata, "spec": {**spec, "leaseTransitions": 4}})
        loop = asyncio.get_running_loop()
        began = loop.time()
        taken: list[float] = []

        async def work() -> None:
            taken.append(loop.time() - began)

        await lease(memory, "b").lead(work)
        assert 1.0 <= taken[0] < 2.0
        assert memory.objects[PATH]["spec"]["leaseTransitions"] == 5

    run(play())


@pytest.mark.parametrize("thief", ["b", None], ids=["stolen", "cleared"])
def test_stolen(memory: Any, thief: str | None) -> None:
    """A leader that sees another holder, or none, stops its work at once and leaves the Lease alone."""

    async def play() -> None:
        ended: list[str] = []

        async def work() -> None:
            try:
                await forever()
            finally:
                ended.append("work")

        leading = asyncio.create_task(lease(memory, "a").lead(work))
        await until(lambda: holder(memory) == "a")
        await asyncio.sleep(0.05)
        stolen = memory.objects[PATH]
        memory.put(PATH, {**stolen, "spec": {**stolen["spec"], "holderIdentity": thief}})
        began = asyncio.get_running_loop().time()
        with pytest.raises(LeaseLostError, match="another replica took the lease system/operator"):
            await leading
        assert asyncio.get_running_loop().time() - began < 0.2
        assert (ended, holder(memory)) == (["work"], thief)

    run(play())


def test_not_renewed(memory: Any) -> None:
    """A leader that cannot reach the API server stops after the deadline, before others may begin."""

    async def play() -> None:
        leading = asyncio.create_task(lease(memory, "a").lead(forever))
        await until(lambda: holder(memory) == "a")
        memory.failing = [UnreachableError("cut")] * 1000
        began = asyncio.get_running_loop().time()
        with pytest.raises(LeaseLostError, match="was not renewed for"):
            await leading
        assert 0.2 < asyncio.get_running_loop().time() - began < QUICK.duration

    run(play())


def test_a_hanging_api_server(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that never comes back is no reason to lead for longer."""

    async def play() -> None:
        leading = asyncio.create_task(lease(memory, "a").lead(forever))
        await until(lambda: holder(memory) == "a")
        monkeypatch.setattr(type(memory), "send", lambda *_: forever())
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(leading, 1)

    run(play())


def test_short_failures_do_no_harm(memory: Any) -> None:
    """A leader survives errors that are shorter than the deadline, and a Lease that somebody deleted."""

    async def play() -> None:
        leading = asyncio.create_task(lease(memory, "a").lead(forever))
        await until(lambda: holder(memory) == "a")
        memory.failing = [UnreachableError("cut")] * 3
        await until(lambda: not memory.failing)
        memory.drop(PATH)
        await until(lambda: holder(memory) == "a")
        assert not leading.done()
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        assert holder(memory) is None

    run(play())


def test_errors_of_the_work(memory: Any) -> None:
    """What the work raises comes out, after the Lease was released."""

    async def work() -> None:
        raise ZeroDivisionError

    async def play() -> None:
        with pytest.raises(ZeroDivisionError):
            await lease(memory, "a").lead(work)
        assert holder(memory) is None

    run(play())


def test_requests_of_a_lease_are_urgent(memory: Any) -> None:
    """Renewals wait for no rate limit of ours."""

    async def work() -> None:
        """Nothing to do."""

    run(lease(memory, "a").lead(work))
    assert all(request.urgent for request in memory.requests)


@pytest.mark.parametrize("failures", range(4))
def test_a_leader_that_dies_is_followed_in_time(memory: Any, failures: int) -> None:
    """Within 18 s where requests are answered at once; three writes that fail cost 2 s more."""

    async def play(api: Any, seed: int) -> float:
        loop, dead, led = asyncio.get_running_loop(), False, []

        async def work() -> None:
            led.append(loop.time())

        first = timed(Slow(api, lambda: None if dead else 0.01), "first", seed)
        leading = asyncio.create_task(first.lead(forever))
        await asyncio.sleep(1)
        second = timed(Refusing(api, failures), "second", seed + 1)
        waiting = asyncio.create_task(second.lead(work))
        await asyncio.sleep(random.Random(seed).uniform(3, 30))
        dead, killed = True, loop.time()
        leading.cancel()
        await asyncio.gather(leading, waiting, return_exceptions=True)
        return led[0] - killed

    took = [leap(play(type(memory)(), seed)) for seed in range(100)]
    assert 12 < min(took) <= max(took) < 18 + (0, 0.3, 0.9, 2.1)[failures]


def test_a_leader_stops_in_time_however_slow_the_answers(memory: Any) -> None:
    """Never later than 10 s after its last renewal, since another one may begin 5 s later."""

    async def play(api: Any, seed: int) -> float:
        drawn, clock, ended = random.Random(seed), asyncio.get_running_loop().time, []

        async def work() -> None:
            try:
                await forever()
            finally:
                ended.append(clock())

        wire = Slow(api, lambda: drawn.choice((0, 0, 1, 2.5, None)))
        with pytest.raises(LeaseLostError, match="was not renewed for 10 s"):
            await timed(wire, "a", seed).lead(work)
        return ended[0] - wire.written

    assert max(leap(play(type(memory)(), seed)) for seed in range(100)) <= 10


@settings(deadline=None, max_examples=200)
@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 6)), min_size=1, max_size=60),
    skew=st.fixed_dictionaries({name: st.floats(-1e6, 1e6) for name in "abc"}),
)
def test_never_two(steps: list[tuple[str, float]], skew: dict[str, float]) -> None:
    """With any clocks and any pauses, nobody takes a Lease that another renewed less than its duration ago."""
    claims = {name: Claim(name, 15) for name in "abc"}
    spec: dict[str, Any] = {}
    clock, renewed = 0.0, float("-inf")
    for turn, (name, pause) in enumerate(steps):
        clock += pause
        made = claims[name].make(spec, clock=clock + skew[name], wall=str(turn))
        if made is None:
            continue
        held_by_another = spec.get("holderIdentity") not in (None, name)
        assert not (held_by_another and clock < renewed + 15 - 1e-6)
        assert made["holderIdentity"] == name
        spec, renewed = made, clock


def test_the_time() -> None:
    """Times have microseconds even when these are zero, which the API server insists on."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now())
