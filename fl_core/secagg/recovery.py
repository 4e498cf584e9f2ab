"""Secrets from shares: which of them fit what was advertised, and who held wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, combinations, count, islice
from math import comb

from fl_core.errors import UnmaskError
from fl_core.secagg import keys, shamir
from fl_core.secagg.encoding import digest
from fl_core.secagg.messages import Shares, Unmasking
from fl_core.secagg.session import Entry, Session

Fits = Callable[[int, bytes], bool]

MOST_SUBSETS = 500
"""How many sets of holders are tried for one secret before the sum is given up."""


class Recovery:
    """Puts secrets together, checks each against its owner's advertisement, and remembers who gave wrong shares.

    Of m holders up to (m - t + 1)/2 can be named: more could agree on lies by which others would seem to be the liars.
    """

    def __init__(
        self, session: Session, entries: Mapping[int, Entry], answers: Mapping[int, Unmasking]
    ) -> None:
        self.liars: set[int] = set()
        self._session = session
        self._entries = entries
        self._answers = answers

    def seeds(self, workers: Iterable[int]) -> dict[int, bytes]:
        """The seeds of the self-masks of these workers."""
        given = {holder: answer.seeds for holder, answer in self._answers.items()}
        return self._secrets(
            _by_owner(workers, given),
            lambda worker, seed: keys.commit(seed) == self._entries[worker].commitment,
        )

    def mask_keys(self, workers: Iterable[int]) -> dict[int, keys.KeyPair]:
        """The mask keys of these workers."""
        given = {holder: answer.mask_keys for holder, answer in self._answers.items()}
        found = self._secrets(
            _by_owner(workers, given),
            lambda worker, key: keys.KeyPair.of(key).public == self._entries[worker].mask_key,
        )
        return {worker: keys.KeyPair.of(key) for worker, key in found.items()}

    def _secrets(self, held: Mapping[int, Mapping[int, bytes]], fits: Fits) -> dict[int, bytes]:
        """All secrets together; those that do not fit what was advertised once more, without liars."""
        threshold = self._session.threshold
        points = {worker: self._at_points(shares) for worker, shares in held.items()}
        found = shamir.combine_many(list(points.values()), threshold=threshold)
        secrets = dict(zip(held, found, strict=True))
        return {
            worker: secret
            if secret is not None and fits(worker, secret)
            else self._search(worker, held[worker], fits)
            for worker, secret in secrets.items()
        }

    def _search(self, worker: int, shares: Mapping[int, bytes], fits: Fits) -> bytes:
        """The secret from whichever holders' shares fit, those first who have not lied yet."""
        threshold = self._session.threshold
        holders = sorted(shares, key=lambda holder: (holder in self.liars, holder))
        for some in islice(_subsets(holders, threshold), MOST_SUBSETS):
            chosen = self._at_points({holder: shares[holder] for holder in some})
            secret = shamir.combine_many([chosen], threshold=threshold)[0]
            if secret is not None and fits(worker, secret):
                apart = [holder for holder in holders if not self._agrees(chosen, holder, shares[holder])]
                # Lies of several holders can cancel at the secret, and make others seem liars; those of so few cannot.
                if 2 * len(apart) <= len(holders) - threshold + 1:
                    self.liars.update(apart)
                return secret
        raise UnmaskError(
            f"{self._session.context}: the shares of worker-{worker}'s secret do not give what it advertised"
        )

    def _agrees(self, chosen: Mapping[int, bytes], holder: int, share: bytes) -> bool:
        """Whether a holder's share lies on the polynomials of those that were right."""
        point = self._session.point(holder)
        others = {place: good for place, good in chosen.items() if place != point}
        if len(others) == len(chosen):
            others.pop(max(others))
        right = shamir.combine_many([chosen], threshold=len(chosen))
        return shamir.combine_many([{**others, point: share}], threshold=len(chosen)) == right

    def _at_points(self, shares: Mapping[int, bytes]) -> dict[int, bytes]:
        return {self._session.point(holder): share for holder, share in shares.items()}


def _by_owner(workers: Iterable[int], given: Mapping[int, Shares]) -> dict[int, dict[int, bytes]]:
    """From what each holder gave to what there is of each of these workers' secrets."""
    shares: dict[int, dict[int, bytes]] = {worker: {} for worker in workers}
    for holder, its in given.items():
        for worker, share in its.items():
            if worker in shares:
                shares[worker][holder] = share
    return shares


def _subsets(holders: Sequence[int], threshold: int) -> Iterator[Sequence[int]]:
    """Sets of so many holders, the first of them first: all there are or, of too many, any with equal chances.

    In order, all sets that hold a liar who stands in front would come before one that does not. Drawn evenly, a share
    of (1 - t/m)^e of them holds none of e liars among m: with t = 2m/3 four are found out but once in 500 times.
    """
    if comb(len(holders), threshold) <= MOST_SUBSETS:
        return combinations(holders, threshold)
    drawn = (sorted(holders, key=partial(digest, "subset", number))[:threshold] for number in count())
    return chain([holders[:threshold]], drawn)
