"""With secure aggregation a sum is charged before anybody is asked for the shares that open it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import StorageError
from fl_core.extensions import Extension
from fl_core.plan import Plan, Privacy
from fl_core.secagg.job import whole_sum_of
from fl_core.secagg.session import Context
from fl_server.protection import Protection
from fl_server.sums import Sums
from fl_worker import protection as worker
from fl_worker.product import Product
from tests.fl_core.secagg.cast import trust
from tests.fl_server.crowd import MANIFEST, MODEL, SECURE, SELECTION, Crowd

pytestmark = pytest.mark.timeout(60)

PRIVACY = Privacy(
    unit="worker",
    mechanism=Extension(name="gaussian", options={"clip": 1.0, "noise_multiplier": 2.0}),
    epsilon=8,
    delta=1e-5,
    corrupt=1,
    measured=True,
)


@pytest.fixture
def crowd(
    tmp_path: Path, plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Crowd]:
    """A crowd whose members hold whole numbers, n + 1 everywhere; `unmasking` is awaited by the server."""

    def build(unmasking: Any) -> Crowd:
        plan = plan_of(**SELECTION, secure_aggregation=SECURE, privacy=PRIVACY)
        one = Crowd(tmp_path, plan)
        held = {name: np.ones(array.shape, np.int64) for name, array in MODEL.items()}
        for index in range(4):
            mine = {name: array * (-1) ** index * (index + 1) for name, array in held.items()}
            one.products[f"worker-{index}"] = Product(0, {}, mine)
        one.protection = Protection(
            plan, trust(), one.journal, dropped=one.dropped.__setitem__, unmasking=unmasking
        )
        one.sums = Sums(plan, one.protection)
        whole = whole_sum_of(plan, MANIFEST)
        known = worker.Protection
        monkeypatch.setattr(worker, "Protection", lambda *given: known(*given, whole))
        return one

    return build


def said(one: Crowd) -> set[str | None]:
    """What members have said by now."""
    return {message.WhichOneof("what") for _, message in one.said}


async def summed(one: Crowd) -> Any:
    async with one.attending(0, 1, 2, 3) as names:
        return await one.sums.updates(one.place(), MANIFEST, names)


def test_it_is_charged_before_shares_are_asked_for(crowd: Callable[..., Crowd]) -> None:
    """When the charge is made everybody has signed and nobody has given a share; no ranges were asked for."""
    charged: list[tuple[Context, set[str | None]]] = []

    async def unmasking(context: Context) -> None:
        charged.append((context, said(one)))

    one = crowd(unmasking)
    sums = asyncio.run(summed(one))
    (found,) = sums.parts
    ((context, before),) = charged
    assert (context.purpose, context.round, context.attempt) == ("update", 1, 1)
    assert "signature" in before
    assert "unmasking" not in before
    assert len(sums.members) == found.weight == 4
    assert np.array_equal(found.mean()["w"] * 4, np.full(6, 1.0 - 2 + 3 - 4))
    assert (found.examples, found.metrics) == (0, {})


def test_a_charge_that_fails_opens_nothing(crowd: Callable[..., Crowd]) -> None:
    """A full disk ends the session before any share was given; the sum stays masked, and is not sought again."""

    async def unmasking(_: Context) -> None:
        raise StorageError("no room")

    one = crowd(unmasking)
    with pytest.raises(StorageError):
        asyncio.run(summed(one))
    assert "unmasking" not in said(one)
    assert one.sums.is_spent(1)
