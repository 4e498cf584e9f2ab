"""Secrets from shares: which of them fit what was advertised, and whose were wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    """Puts secrets together, checks each against its owner's advertisement, and remembers which shares were wrong.

    Of a secret's m holders the shares of up to (m - t + 1)/2 can be told to be wrong: more could agree on lies by
    which others would seem to be the liars. A wrong share was spoilt by its holder or by its dealer, whose secret
    it is of; no message shows by which. `disputes` holds (dealer, holder) of each, also where a holder says that a
    seal did not open. Those who are `absent` may give their shares in another session.
    """

    def __init__(
        self,
        session: Session,
        entries: Mapping[int, Entry],
        answers: Mapping[int, Unmasking],
        *,
        absent: Collection[int] = (),
    ) -> None:
        self.disputes = {(dealer, holder) for holder, answer in answers.items() for dealer in answer.spoilt}
        self._session = session
        self._entries = entries
        self._answers = answers
        self._absent = frozenset(absent)
        self._spoilt = Counter(dealer for dealer, _ in self.disputes)
        """Of how many seals of each dealer their holders say that they did not open."""

    @property
    def liars(self) -> set[int]:
        """Who is found out: whose own share of its own secret is wrong, or with whom most of its circle is in dispute.

        It would be innocent only if all of these were liars.
        """
        against: dict[int, set[int]] = {}
        for dealer, holder in self.disputes:
            against.setdefault(dealer, set()).add(holder)
            against.setdefault(holder, set()).add(dealer)
        size = {worker: len(self._session.circle(worker)) for worker in against}
        return {one for one, others in against.items() if one in others or 2 * len(others) > size[one]}

    @property
    def unexplained(self) -> set[tuple[int, int]]:
        """The disputes between a dealer and a holder neither of whom is found out: one of both has lied."""
        liars = self.liars
        return {pair for pair in self.disputes if liars.isdisjoint(pair)}

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
        for worker, shares in held.items():
            self._check_sealed(worker, len(shares))
        points = {worker: self._at_points(shares) for worker, shares in held.items()}
        found = shamir.combine_many(list(points.values()), threshold=threshold)
        secrets = dict(zip(held, found, strict=True))
        return {
            worker: secret
            if secret is not None and fits(worker, secret)
            else self._search(worker, held[worker], fits)
            for worker, secret in secrets.items()
        }

    def _check_sealed(self, worker: int, came: int) -> None:
        """Refuse a secret of which there can never be enough shares, as too many of its seals did not open."""
        spoilt = self._spoilt[worker]
        absent = len(self._absent.intersection(self._session.circle(worker)))
        if spoilt and came + absent < self._session.threshold:
            raise UnmaskError(
                f"{self._session.context}: {came} shares of worker-{worker}'s secret came and {spoilt} did not open, "
                f"say their holders; the threshold is {self._session.threshold}"
            )

    def _search(self, worker: int, shares: Mapping[int, bytes], fits: Fits) -> bytes:
        """The secret from whichever holders' shares fit, those first whose shares were never wrong."""
        threshold = self._session.threshold
        doubtful = {holder for _, holder in self.disputes}
        holders = sorted(shares, key=lambda holder: (holder in doubtful, holder))
        for some in islice(_subsets(holders, threshold), MOST_SUBSETS):
            chosen = self._at_points({holder: shares[holder] for holder in some})
            secret = shamir.combine_many([chosen], threshold=threshold)[0]
            if secret is not None and fits(worker, secret):
                apart = [holder for holder in holders if not self._agrees(chosen, holder, shares[holder])]
                # Lies of several holders can cancel at the secret, and make others seem liars; those of so few cannot.
                if 2 * len(apart) <= len(holders) - threshold + 1:
                    self.disputes.update((worker, holder) for holder in apart)
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
