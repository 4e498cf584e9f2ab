"""Why a worker's update was refused is remembered in the server's own words, for as long as it matters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from fl_core.errors import ProtocolError, UpdateError
from fl_core.wire import fl_pb2 as pb
from fl_server.refusals import Refusals
from tests.fl_server.recorded import recorded

pytestmark = pytest.mark.timeout(30)

HERE, EARLIER = pb.Context(round=3, attempt=2), pb.Context(round=3, attempt=1)


def refused(refusals: Refusals, place: pb.Context, error: Exception) -> None:
    with pytest.raises(type(error)), refusals.noted("worker-1", place):
        raise error


def opened() -> Refusals:
    refusals = Refusals()
    refusals.begin(3, 2)
    return refusals


def test_a_refusal_explains_what_comes_of_it() -> None:
    """Whatever is said of its worker afterwards, but that it was told to end; of others nothing is."""
    one = opened()
    refused(one, HERE, UpdateError("1e30 at byte 7", short="it is too large"))
    assert one.behind("worker-1", "gone") == "refused: it is too large"
    assert one.behind("worker-1", "the server refused: anything") == "refused: it is too large"
    assert one.behind("worker-1", "left") == "left"
    assert one.behind("worker-2", "gone") == "gone"


def test_a_refusal_is_forgotten() -> None:
    """When its worker tries again, and when another attempt begins."""
    one = opened()
    refused(one, HERE, ProtocolError("worker-1 says 7"))
    with one.noted("worker-1", HERE):
        pass
    assert one.behind("worker-1", "stalled") == "stalled"
    refused(one, HERE, ProtocolError("worker-1 says 7"))
    one.begin(3, 3)
    assert one.behind("worker-1", "stalled") == "stalled"


def test_what_is_of_another_attempt_is_no_refusal_in_this_one() -> None:
    """Nor is an error of another kind, nor one in which nothing that was sent is at fault."""
    one = opened()
    refused(one, EARLIER, UpdateError("late", short="it is too large"))
    refused(one, HERE, OSError("no space"))
    refused(one, HERE, UpdateError("the transfer ended after 7 of 9 bytes"))
    assert one.behind("worker-1", "gone") == "gone"


@pytest.mark.parametrize(
    ("values", "fields", "short"),
    [
        ([1, float("nan"), 1], {}, "it holds values that are not finite numbers (NaN or infinite)"),
        ([3e38, 1, 1], {"examples": 2**30}, "it holds values above the bound"),
        ([1, 1, 1, 1], {}, "its arrays are not the model's"),
        ([1, 1, 1], {"nbytes": 11}, "it has not as many bytes as it must have"),
        ([1, 1, 1], {"examples": 0}, "its number of examples gives no weight"),
        ([1, 1, 1], {"metrics": '{"secret": 7}'}, "its measurements cannot be read"),
        ([1, 1, 1], {"image": "a secret"}, "what it calls its image can be none"),
    ],
)
def test_the_record_says_what_was_wrong(
    world: Callable[..., Any], values: list[float], fields: dict[str, Any], short: str
) -> None:
    """The round goes on without its sender, whose own words are not taken; nothing that it sent is in the line."""
    one = world(rounds=1, minimum=2)

    async def main() -> None:
        async with one.serving() as served, served.running() as task:
            await served.hand_in(await served.called())
            training = await served.called()
            sent = {"model": training.model, **fields}
            async with served.speaking("worker-1") as client:
                with pytest.raises(grpc.aio.AioRpcError):
                    await client.push(training.context, {"w": np.array(values, "f4")}, **sent)
            served.coordinator.lost("worker-1", "I was treated badly")
            for index in (0, 2):
                async with served.speaking(f"worker-{index}") as client:
                    await client.push(training.context, {"w": np.ones(3, "f4")}, model=training.model)
            evaluation = await served.called()
            for index in (0, 2):
                async with served.speaking(f"worker-{index}") as client:
                    await client.measure(evaluation, loss=1.0)
            await asyncio.wait_for(task, 10)
            (row,) = recorded(served.storage)
            assert row["dropouts"] == {"worker-1": f"refused: {short}"}
            counted = served.coordinator.metrics.registry.get_sample_value
            assert counted("fl_worker_dropouts_total", {"reason": "refused"}) == 1

    asyncio.run(main())
