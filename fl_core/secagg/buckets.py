"""Buckets: a job's workers in fixed groups, each of which sums for itself, so that a robust rule can compare the sums.

Which bucket a worker is in follows from the job and its number alone. Both ends work it out, nobody can choose it,
and it never changes: two sums over groups that differ in one worker would give that worker away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fl_core.secagg.encoding import digest


@dataclass(frozen=True, slots=True)
class Buckets:
    """So many buckets of one job.

    Workers are dealt in hands of `count`, each hand in an order of its own: of the workers 0 to n - 1 each bucket has
    n / count, rounded up or down.
    """

    job: str
    count: int = 1

    def of(self, worker: int) -> int:
        """The bucket that this worker is in, from 0."""
        if self.count == 1:
            return 0
        hand, place = divmod(worker, self.count)
        return _order(self.job, self.count, hand)[place]

    def dealt(self, workers: Iterable[int]) -> dict[int, list[int]]:
        """These workers by bucket, every bucket named."""
        found: dict[int, list[int]] = {bucket: [] for bucket in range(self.count)}
        for worker in workers:
            found[self.of(worker)].append(worker)
        return found


def shares(available: Mapping[int, int], count: int) -> dict[int, int]:
    """How many of each bucket's workers a cohort of `count` takes: as equal as what is available allows."""
    taken = dict.fromkeys(sorted(available), 0)
    for _ in range(min(count, sum(available.values()))):
        least = min((bucket for bucket in taken if taken[bucket] < available[bucket]), key=taken.__getitem__)
        taken[least] += 1
    return taken


def smallest(numbers: Sequence[range], count: int) -> int:
    """How many workers the smallest of so many buckets has at least, of workers with these numbers, for any job."""
    return sum(max(0, some.stop // count - -(-some.start // count)) for some in numbers)


@lru_cache(maxsize=4096)
def _order(job: str, count: int, hand: int) -> tuple[int, ...]:
    return tuple(sorted(range(count), key=lambda bucket: digest("bucket", job, count, hand, bucket)))
