"""Splitting one data set over workers the way real parties' data are split: each split is seeded.

Every function gives a list of index arrays, one per worker: they share nothing, leave out nothing, and none
is empty. All workers that call with the same arguments get the same split, and take their own part of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_core.errors import ProgramError

Indices = npt.NDArray[np.int64]
Labels = npt.ArrayLike


def iid(n: int, count: int, *, seed: int = 0) -> list[Indices]:
    """Split n examples at random into `count` parts whose sizes differ by at most one."""
    _check(n, count)
    return [np.sort(part) for part in np.array_split(_shuffled(n, seed), count)]


def dirichlet(labels: Labels, count: int, *, alpha: float = 0.5, seed: int = 0) -> list[Indices]:
    """Split each class by proportions drawn from a Dirichlet distribution: small `alpha`, unlike workers.

    Hsu, Qi, Brown, Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification, 2019.
    """
    truth = np.asarray(labels).reshape(-1)
    _check(len(truth), count)
    _check_positive("alpha", alpha)
    rng = np.random.default_rng(seed)
    owner = np.empty(len(truth), np.int64)
    for label in np.unique(truth):
        members = rng.permutation(np.flatnonzero(truth == label))
        cuts = np.rint(np.cumsum(rng.dirichlet(np.full(count, alpha)))[:-1] * len(members)).astype(int)
        for worker, part in enumerate(np.split(members, np.clip(cuts, 0, len(members)))):
            owner[part] = worker
    return _nobody_empty(owner, count)


def shards(labels: Labels, count: int, *, per_worker: int = 2, seed: int = 0) -> list[Indices]:
    """Sort by label, cut into `count * per_worker` shards, deal each worker `per_worker` of them.

    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017.
    """
    truth = np.asarray(labels).reshape(-1)
    _check_positive("per_worker", per_worker)
    _check(len(truth), count * per_worker)
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(truth))
    pieces = np.array_split(mixed[np.argsort(truth[mixed], kind="stable")], count * per_worker)
    dealt = rng.permutation(count * per_worker).reshape(count, per_worker)
    return [np.sort(np.concatenate([pieces[number] for number in hand])) for hand in dealt]


def quantity(n: int, count: int, *, skew: float = 1.0, seed: int = 0) -> list[Indices]:
    """Split n examples into parts whose sizes fall as 1 / rank ** skew; 0 makes them equal."""
    _check(n, count)
    if skew < 0:
        raise ProgramError(f"partition.quantity: skew must be at least 0, not {skew}")
    shares = 1.0 / np.arange(1, count + 1) ** skew
    shares = np.random.default_rng([seed, 1]).permutation(shares / shares.sum())
    sizes = 1 + np.floor(shares * (n - count)).astype(int)
    sizes[np.argmax(sizes)] += n - sizes.sum()
    return [np.sort(part) for part in np.split(_shuffled(n, seed), np.cumsum(sizes)[:-1])]


def _shuffled(n: int, seed: int) -> Indices:
    return np.random.default_rng(seed).permutation(n)


def _nobody_empty(owner: Indices, count: int) -> list[Indices]:
    """Give each worker without an example one of the richest worker's."""
    sizes = np.bincount(owner, minlength=count)
    for poor in np.flatnonzero(sizes == 0):
        rich = int(sizes.argmax())
        owner[np.flatnonzero(owner == rich)[0]] = poor
        sizes[rich] -= 1
        sizes[poor] += 1
    return [np.flatnonzero(owner == worker) for worker in range(count)]


def _check(n: int, parts: int) -> None:
    _check_positive("count", parts)
    if n < parts:
        raise ProgramError(f"partition: {n} examples cannot be split into {parts} parts; use fewer workers")


def _check_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ProgramError(f"partition: {name} must be greater than 0, not {value}")
