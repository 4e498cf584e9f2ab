"""From parts of a round to the next model: sums of buckets, or single updates, in any order of arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import JobError, SpecError, UpdateError
from fl_core.extensions import Extension
from fl_core.plan import Plan, SecureAggregation
from fl_core.secagg.summands import Summed
from fl_core.weights import Manifest, pack
from fl_core.wire import fl_pb2 as pb
from fl_server.aggregator import Aggregator
from fl_server.model import Model
from fl_server.spool import Spools

MODEL = {"w": np.zeros(3, "f4"), "b": np.ones(2, "f4")}
MANIFEST = Manifest.of(MODEL)
MEDIAN = Extension(name="median", options={"hostile": 1})
VALUES = {"worker-0": 1.0, "worker-1": -1e6, "worker-2": 3.0}
"""What each worker's update holds everywhere."""


async def stepped(one: Aggregator, folder: Path, workers: Iterable[str]) -> Model:
    """The next model from these workers' updates, handed in in this order."""
    one.open(MANIFEST)
    spools = Spools(folder, patience=1)
    for worker in workers:
        update = {name: np.full_like(array, VALUES[worker]) for name, array in MODEL.items()}
        weight = one.weigh(worker, 10 + int(worker[-1]), largest=abs(VALUES[worker]))
        spool = await spools.admit(MANIFEST.nbytes, waited=lambda: None)
        spool.take(0, bytes(pack(update)))
        one.fold(worker, spool, weight=weight, largest=abs(VALUES[worker]))
    await one.folded()
    return await one.step(Model.of(MODEL))


def test_single_updates_are_compared_in_any_order(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    """The median of three does not follow the one far away, nor the order in which they came."""

    async def main(order: Sequence[str]) -> Any:
        one = Aggregator(plan_of(aggregation=MEDIAN, minimum=3))
        return (await stepped(one, tmp_path, order)).weights

    found = [asyncio.run(main(order)) for order in permutations(VALUES)]
    assert all(np.array_equal(each["w"], [1, 1, 1]) and np.array_equal(each["b"], [2, 2]) for each in found)


@pytest.mark.parametrize(("exponents", "told"), [([(3, -2)], [3, -2]), ([(3, -2), (4, 0)], [])])
def test_a_model_tells_in_which_ranges_its_updates_are_summed(
    plan_of: Callable[..., Plan], exponents: list[tuple[int, ...]], told: list[int]
) -> None:
    """Those that follow from the sum it was made from stand in its head, where one sum is of all workers."""

    async def main() -> Model:
        one = Aggregator(plan_of(aggregation=MEDIAN, minimum=3))
        one.open(MANIFEST)
        one.take([Summed(1, 1, 0, known, {}, MODEL) for known in exponents])
        return await one.step(Model.of(MODEL))

    head = pb.Frame.FromString(asyncio.run(main()).frames[0]).transfer
    assert list(head.exponents) == told


def test_a_refused_update_is_no_part(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    """What no sum can take is refused when it comes, and the others are compared without it."""

    async def main() -> Any:
        one = Aggregator(plan_of(aggregation=MEDIAN, minimum=3))
        one.open(MANIFEST)
        with pytest.raises(UpdateError, match="training has diverged"):
            one.weigh("worker-9", 1, largest=float("inf"))
        return await stepped(one, tmp_path, VALUES)

    assert asyncio.run(main()).weights["w"].tolist() == [1, 1, 1]


def test_without_parts_there_is_no_step(plan_of: Callable[..., Plan]) -> None:
    """Neither a mean nor a median makes a model of nothing, and no update is taken where no round is open."""
    for aggregation in (MEDIAN, Extension(name="mean")):
        one = Aggregator(plan_of(aggregation=aggregation, minimum=3))
        with pytest.raises(UpdateError, match="no round is open"):
            one.weigh("worker-0", 1, largest=1)
        one.open(MANIFEST)
        with pytest.raises(JobError, match="nothing to step from"):
            asyncio.run(one.step(Model.of(MODEL)))


def test_a_rule_that_does_not_fit_ends_the_server(plan_of: Callable[..., Plan]) -> None:
    """What the compiler could not see, as in a class of the user's own, is refused before the first round."""
    secure = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
    with pytest.raises(SpecError, match=r"spec.aggregation: median compares updates, .* \{buckets: 3\}"):
        Aggregator(plan_of(aggregation=MEDIAN, minimum=3, secure_aggregation=secure))
    with pytest.raises(SpecError, match=r"spec.aggregation: median needs 3 parts .* 2 workers in a round"):
        Aggregator(plan_of(aggregation=MEDIAN, minimum=2))
