"""With secure aggregation a sum is charged before anybody is asked for the shares that open it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import StorageError
from fl_core.plan import AdaptiveClip, Plan
from fl_core.secagg.session import Context
from fl_core.secagg.summands import Summed
from fl_server.protection import Protection
from fl_server.sums import Sums
from fl_worker.product import Product
from tests.conftest import private
from tests.fl_core.secagg.cast import trust
from tests.fl_server.crowd import MANIFEST, MODEL, SECURE, SELECTION, Crowd

pytestmark = pytest.mark.timeout(60)

ADAPTIVE = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=3.0)


@pytest.fixture
def crowd(tmp_path: Path, plan_of: Callable[..., Plan]) -> Callable[..., Crowd]:
    """A crowd whose members hold whole numbers, n + 1 everywhere; `unmasking` is awaited by the server.

    Where the clip norm moves, each was told one of `clips` with the model, and votes +1.
    """

    def build(unmasking: Any, *, adaptive: bool = False, clips: tuple[float, ...] = (0.5,) * 4) -> Crowd:
        privacy = private().model_copy(update={"adaptive_clip": ADAPTIVE if adaptive else None})
        plan = plan_of(**SELECTION, secure_aggregation=SECURE, privacy=privacy)
        one = Crowd(tmp_path, plan)
        held = {name: np.ones(array.shape, np.int64) for name, array in MODEL.items()}
        for index in range(4):
            mine = {name: array * (-1) ** index * (index + 1) for name, array in held.items()}
            told = {"vote": 1, "clip": clips[index]} if adaptive else {}
            one.products[f"worker-{index}"] = Product(0, {}, mine, **told)
        one.protection = Protection(
            plan, trust(), one.journal, dropped=one.dropped.__setitem__, unmasking=unmasking
        )
        one.sums = Sums(plan, one.protection)
        return one

    return build


def said(one: Crowd) -> set[str | None]:
    """What members have said by now."""
    return {message.WhichOneof("what") for _, message in one.said}


async def summed(one: Crowd, *, clip: float = 0.0) -> tuple[Summed, tuple[str, ...]]:
    async with one.attending(0, 1, 2, 3) as names:
        found = await one.sums.updates(replace(one.place(), clip=clip), MANIFEST, names)
    (part,) = found.parts
    return part, found.members


def test_it_is_charged_before_shares_are_asked_for(crowd: Callable[..., Crowd]) -> None:
    """When the charge is made everybody has signed and nobody has given a share; no ranges were asked for."""
    charged: list[tuple[Context, set[str | None]]] = []

    async def unmasking(context: Context) -> None:
        charged.append((context, said(one)))

    one = crowd(unmasking)
    found, members = asyncio.run(summed(one))
    ((context, before),) = charged
    assert (context.purpose, context.round, context.attempt) == ("update", 1, 1)
    assert "signature" in before
    assert "unmasking" not in before
    assert len(members) == found.weight == 4
    assert np.array_equal(found.mean()["w"] * 4, np.full(6, 1.0 - 2 + 3 - 4))
    assert (found.examples, found.metrics) == (0, {})


def test_a_charge_that_fails_opens_nothing(crowd: Callable[..., Crowd]) -> None:
    """A full disk ends the session before any share was given; the sum stays masked, and is sought with the same."""

    async def unmasking(_: Context) -> None:
        raise StorageError("no room")

    one = crowd(unmasking)
    with pytest.raises(StorageError):
        asyncio.run(summed(one))
    assert "unmasking" not in said(one)
    assert len(one.sums.signed(1)) == 4


def test_votes_on_the_clip_norm_are_in_the_same_sum(crowd: Callable[..., Crowd]) -> None:
    """One more counter of the vector that holds the updates: one session, one charge, one survivor set."""
    contexts: list[Context] = []

    async def unmasking(context: Context) -> None:
        contexts.append(context)

    found, members = asyncio.run(summed(crowd(unmasking, adaptive=True), clip=0.5))
    assert (found.votes, len(members), len(contexts)) == (4, 4, 1)
    assert np.array_equal(found.mean()["w"] * 4, np.full(6, 1.0 - 2 + 3 - 4))
    assert contexts[0].shape.endswith("clip 0.5 votes")


def test_who_was_told_another_clip_norm_is_in_no_sum(crowd: Callable[..., Crowd]) -> None:
    """A server that tells one worker another norm, and so other units, does not get its update into the sum."""
    charged: list[Context] = []

    async def unmasking(context: Context) -> None:
        charged.append(context)

    one = crowd(unmasking, adaptive=True, clips=(0.5, 0.5, 0.5, 0.25))
    found, members = asyncio.run(summed(one, clip=0.5))
    assert sorted(members) == ["worker-0", "worker-1", "worker-2"]
    assert found.votes == 3
