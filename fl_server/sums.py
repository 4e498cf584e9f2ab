"""What the server learns under secure aggregation: sums of updates and of measurements, and their ranges.

With buckets each of them has sums of its own, side by side. One that falls short is left out, as long as those that
are left are enough for the job's rule. Nobody signs a sum of updates before it is known that they are: until then
the attempt can be given up and made again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import structlog

from fl_core.aggregation import fewest, rule_of
from fl_core.errors import ProtocolError, RoundError, UnmaskError
from fl_core.identity import wall_time
from fl_core.metrics import Measurement, total
from fl_core.plan import Plan
from fl_core.rounds import Aggregate
from fl_core.secagg import job, ranges
from fl_core.secagg.session import Context, Purpose
from fl_core.secagg.signing import AuthorityTrust
from fl_core.secagg.summands import (
    MeasureSum,
    RangeSum,
    Schema,
    Summand,
    Summed,
    UpdateSum,
    WholeSum,
)
from fl_core.stages import State
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_server.aggregator import Aggregator
from fl_server.checkpoints import legible
from fl_server.journal import Journal
from fl_server.ledger import Ledger
from fl_server.measurements import check_names
from fl_server.model import Model
from fl_server.opened import Opened, name, number
from fl_server.protection import Protection, Sum, Unmasking
from fl_server.storage import Storage

log = structlog.get_logger()

KEPT = 8
"""Kinds of metrics that are kept once looked through; most jobs have two, of training and of measuring."""

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Place:
    """The attempt, the model and the bucket that a sum belongs to, with the clip norm that goes with the model."""

    round: int
    attempt: int
    model: str
    bucket: int = 0
    clip: float = 0.0


@dataclass(frozen=True, slots=True)
class Updates:
    """A round's sums of updates in the order of their buckets, whose are in them, and why other buckets have none.

    `ranges` are those that were voted for since the last round that had a sum, by bucket.
    """

    parts: tuple[Summed, ...]
    members: tuple[str, ...]
    left_out: Mapping[int, str]
    ranges: Mapping[int, ranges.Exponents]

    @property
    def told(self) -> dict[str, Any]:
        """What the record says of all together."""
        return {
            "examples": sum(part.examples for part in self.parts),
            "metrics": total({f"{place:06}": part.metrics for place, part in enumerate(self.parts)}),
            "clipped": sum(part.clipped for part in self.parts),
            "left_out": self.left_out,
            "ranges": self.ranges,
        }


Known = Mapping[tuple[int, int], ranges.Exponents]


class Sums:
    """One job's sums, each by a session of its own; ranges that are `known` by round and bucket are not voted for."""

    def __init__(self, plan: Plan, protection: Protection, *, known: Known | None = None) -> None:
        self.protection = protection
        self._plan = plan
        self._ring = job.ring_of(plan)
        self._buckets = job.buckets_of(plan)
        self._fewest = fewest(rule_of(plan.aggregation))
        self._exponents: list[ranges.Exponents] = [()] * self._buckets.count
        self._voted: dict[int, ranges.Exponents] = {}
        self._fresh: set[int] = set()
        """Buckets that have had no sum of updates since their ranges were voted for."""
        self._known = known or {}
        self._schemas: dict[str, Schema] = {}

    @classmethod
    def of(
        cls,
        plan: Plan,
        storage: Storage,
        authority: bytes,
        *,
        dropped: Callable[[str, str], None],
        unmasking: Unmasking,
    ) -> Sums | None:
        """The sums of a job whose workers' certificates this authority (PEM) has signed; None where it has none."""
        if plan.secure_aggregation is None:
            return None
        trust = AuthorityTrust.of(plan.job.uid, authority, clock=wall_time)
        journal = Journal(storage.sessions, check_room=storage.checkpoints.check_room)
        protection = Protection(plan, trust, journal, dropped=dropped, unmasking=unmasking)
        return cls(plan, protection, known=storage.replay.ranges if storage.replay else {})

    @property
    def state(self) -> State:
        """What a checkpoint must hold: the ranges of each bucket, and which of them no sum was made within yet."""
        fresh = {"fresh": sorted(self._fresh)} if self._fresh else {}
        return {"exponents": [list(one) for one in self._exponents], **fresh}

    def restore(self, state: State) -> None:
        """Take up what a checkpoint held."""
        with legible("what the checkpoint knows of ranges"):
            self._exponents = [tuple(one) for one in state.get("exponents", [()] * self._buckets.count)]
            self._fresh = set(state.get("fresh", ()))

    def resume(self, *, done: int) -> set[int]:
        """The rounds after the checkpoint of round `done` that are bound; ranges learned in them are known."""
        journal = self.protection.journal
        bound = journal.restore(done=done)
        for bucket, exponents in journal.ranges(done=done).items():
            if not self._exponents[bucket]:
                self._take_voted(bucket, exponents)
        return bound

    def admit(self, worker: str, ready: pb.Ready) -> None:
        """Note in which metrics a worker has measured; refuses what are none."""
        self._schemas[worker] = _schema(ready.schema)

    async def carried_out(
        self, action: Aggregate, model: Model, *, ledger: Ledger, aggregator: Aggregator
    ) -> Collection[str]:
        """Sum what these workers hold: measurements for the ledger, or updates for both; returns whose are in it."""
        place = Place(action.round, action.attempt, model.digest, clip=model.clip)
        if action.measurements:
            measured, members = await self.measurements(place, action.workers)
            ledger.evaluated("everybody", measured)
            return members
        found = await self.updates(place, model.manifest, action.workers)
        ledger.summed(**found.told)
        aggregator.take(found.parts)
        return found.members

    async def updates(self, place: Place, manifest: Manifest, members: Collection[str]) -> Updates:
        """The sums of the members' updates."""
        schema, agreeing = self._agreeing(members, training=True)
        dealt, short = self._dealt(agreeing), Short()
        if self._buckets.count > 1 and not self.signed(place.round):
            asked = sorted(map(number, agreeing))
            await asyncio.to_thread(self.protection.journal.gathered, place.round, place.attempt, asked)

        async def collected(bucket: int, some: Collection[str]) -> Collected:
            return await self._collect(replace(place, bucket=bucket), manifest, schema, some)

        masked = await _each(dealt, collected, short)
        self._check_enough([one.session.host.survivors for one in masked.values()], short)
        opened = await _each(masked, self._open, short)
        self._check_enough([one.members for one in opened.values()], short)
        if short:
            log.warning("buckets left out", buckets=short.reasons)
        found = [opened[bucket] for bucket in sorted(opened)]
        everybody = tuple(member for one in found for member in one.members)
        for bucket, one in opened.items():  # only now: a round without a sum moves no range
            self._exponents[bucket] = one.summed.exponents
            self._fresh.discard(bucket)
        voted, self._voted = self._voted, {}
        return Updates(tuple(one.summed for one in found), everybody, short.reasons, voted)

    async def measurements(
        self, place: Place, members: Collection[str]
    ) -> tuple[Mapping[str, Measurement], Collection[str]]:
        """The global measurements of the new model, and whose are in them: those of every bucket that has a sum."""
        schema, members = self._agreeing(members)
        summand, short = MeasureSum(schema, self._ring.members), Short()

        async def measured(bucket: int, some: Collection[str]) -> Sum:
            return await self._sum(summand, "measure", replace(place, bucket=bucket), some)

        found = await _each(self._dealt(members), measured, short)
        if not found:
            raise self._lacking(f"none of {self._buckets.count} buckets was measured", short)
        parts = {f"{bucket:06}": summand.decode(one.total) for bucket, one in found.items()}
        return total(parts), [member for one in found.values() for member in one.members]

    async def _collect(
        self, place: Place, manifest: Manifest, schema: Schema, members: Collection[str]
    ) -> Collected:
        """The masked updates of a bucket, after its ranges where they are not known."""
        summand: UpdateSum | WholeSum | None = job.whole_sum_of(self._plan, manifest, clip=place.clip)
        if summand is None:
            if not self._exponents[place.bucket]:
                members = await self._learn(place, RangeSum(manifest), members)
            exponents, counted = self._exponents[place.bucket], place.bucket not in self._fresh
            summand = UpdateSum(self._ring, manifest, exponents, schema, counted=counted)
        context = self._context(summand, "update", place)
        return Collected(summand, await self.protection.collect(summand, context, sorted(members)))

    async def _learn(self, place: Place, ranging: RangeSum, members: Collection[str]) -> Collection[str]:
        """Have the ranges voted for, unless they are known; gives those who are left."""
        voted = self._followed(place)
        if voted is None:
            votes = await self._sum(ranging, "range", place, members)
            voted, members = ranging.decode(votes.total), votes.members
            await asyncio.to_thread(
                self.protection.journal.learned,
                place.round,
                place.attempt,
                bucket=place.bucket,
                exponents=voted,
            )
            log.info("ranges learned", members=len(members))
        self._take_voted(place.bucket, voted)
        return members

    def _take_voted(self, bucket: int, exponents: ranges.Exponents) -> None:
        """Updates are summed within these ranges, the first ones without a count of what lies beyond them."""
        self._exponents[bucket] = self._voted[bucket] = exponents
        self._fresh.add(bucket)

    def _followed(self, place: Place) -> ranges.Exponents | None:
        """The newest that are known: a bucket may have voted in an earlier round, whose sum it was left out of."""
        past = [number for number, bucket in self._known if bucket == place.bucket and number <= place.round]
        return self._known[max(past), place.bucket] if past else None

    async def _open(self, _: int, masked: Collected) -> Part:
        found = await self.protection.open(masked.session)
        return Part(masked.summand.decode(found.total, members=len(found.members)), found.members)

    async def _sum(self, summand: Summand, purpose: Purpose, place: Place, members: Collection[str]) -> Sum:
        return await self.protection.sum(summand, self._context(summand, purpose, place), sorted(members))

    def _context(self, summand: Summand, purpose: Purpose, place: Place) -> Context:
        return job.context_of(
            self._plan,
            summand,
            round=place.round,
            attempt=place.attempt,
            purpose=purpose,
            model=place.model,
            bucket=place.bucket,
        )

    def _dealt(self, members: Collection[str]) -> dict[int, list[str]]:
        """The members by bucket."""
        dealt = self._buckets.dealt(map(number, members))
        return {bucket: [name(worker) for worker in some] for bucket, some in dealt.items()}

    def _check_enough(self, parts: Collection[Collection[object]], short: Short) -> None:
        """Refuse to go on with fewer buckets than the job's rule needs, or fewer workers in them than its quorum."""
        count, workers = self._buckets.count, sum(map(len, parts))
        if len(parts) < self._fewest:
            needed = f"the {self._fewest} that {self._plan.aggregation.name} needs"
            raise self._lacking(f"{len(parts)} of {count} buckets, fewer than {needed}", short)
        if (minimum := self._plan.selection.minimum) > workers and count > 1:
            few = f"{workers} updates in {len(parts)} of {count} buckets"
            raise self._lacking(f"{few}, fewer than selection.minimum ({minimum})", short)

    def _lacking(self, sentence: str, short: Short) -> RoundError:
        """What ends the attempt; where there is one bucket only, its own reason."""
        return short[0] if self._buckets.count == 1 else short.error(sentence)

    def _agreeing(
        self, members: Collection[str], *, training: bool = False
    ) -> tuple[Schema, Collection[str]]:
        """The schema of most members, and who has it: measurements of another kind cannot be added to theirs."""
        schema = Counter(self._schemas[member] for member in sorted(members)).most_common(1)[0][0]
        agreeing = [member for member in members if self._schemas[member] == schema]
        if len(agreeing) < len(members):
            odd = sorted(set(members).difference(agreeing))
            log.warning("left out, for their metrics are of another kind", workers=odd, expected=schema.names)
            for worker in odd if training else ():
                self.protection.leave_out(
                    worker, f"{worker}'s metrics are of another kind than most workers'"
                )
        return schema, agreeing

    def signed(self, round: int) -> frozenset[str]:
        """For whom sums that this round's model needs may have been signed: without all of them they cannot be."""
        found = (self._survivors(round, bucket) for bucket in range(self._buckets.count))
        return frozenset(map(name, frozenset[int]().union(*found)))

    def begun(self, round: int) -> bool:
        """Whether vectors of a sum that this round's model needs may have left: nobody sends another one for it."""
        return any(self._candidates(round, bucket) for bucket in range(self._buckets.count))

    def only(self, round: int) -> frozenset[str]:
        """Who alone may be asked, if not everybody: once a bucket may have been signed, the others' members, too.

        Where rounds ask a part of the workers an attempt draws others, who cannot join those to whom shares were dealt.
        """
        candidates = {bucket: self._candidates(round, bucket) for bucket in range(self._buckets.count)}
        draws = self._plan.selection.per_round < self._plan.workers
        if not self.signed(round) and not (draws and any(candidates.values())):
            return frozenset()
        members = self._buckets.dealt(self.protection.journal.members(round))
        found = (self._survivors(round, at) or some or members[at] for at, some in candidates.items())
        return frozenset(map(name, frozenset[int]().union(*found)))

    def _candidates(self, round: int, bucket: int) -> Sequence[int]:
        """Among whom shares of the sum that this bucket needs next were dealt out."""
        journal = self.protection.journal
        ranged = () if self._exponents[bucket] else journal.candidates(round, "range", bucket)
        return journal.candidates(round, "update", bucket) or ranged

    def _survivors(self, round: int, bucket: int) -> set[int]:
        """For whom sums that this bucket needs may have been signed; ranges that are known need not be voted for."""
        journal = self.protection.journal
        ranged = () if self._exponents[bucket] else journal.survivors(round, "range", bucket)
        return {*journal.survivors(round, "update", bucket), *ranged}


@lru_cache(maxsize=KEPT)
def _schema(text: str) -> Schema:
    """Metrics as a worker names them, which most do alike; refuses what are none."""
    schema = Schema(text)
    check_names(schema.names)
    return schema


@dataclass(frozen=True, slots=True)
class Collected:
    """A bucket's masked vectors, and what they mean."""

    summand: UpdateSum | WholeSum
    session: Opened


@dataclass(frozen=True, slots=True)
class Part:
    """A bucket's opened sum, and whose updates are in it."""

    summed: Summed
    members: tuple[str, ...]


class Short(dict[int, RoundError]):
    """The buckets that have no sum, and why."""

    @property
    def reasons(self) -> dict[int, str]:
        """Why, in words, in the order of the buckets."""
        return {bucket: str(self[bucket]) for bucket in sorted(self)}

    def error(self, sentence: str) -> RoundError:
        """What ends the attempt for their sake."""
        kind = UnmaskError if any(isinstance(one, UnmaskError) for one in self.values()) else ProtocolError
        why = "; ".join(f"bucket {bucket}: {reason}" for bucket, reason in self.reasons.items())
        return kind(f"{sentence} ({why})")


async def _each(some: Mapping[int, S], do: Callable[[int, S], Awaitable[T]], short: Short) -> dict[int, T]:
    """Do this for each bucket, side by side; one that fails with an error of the round is `short`."""
    results = await asyncio.gather(*(do(bucket, one) for bucket, one in some.items()), return_exceptions=True)
    done: dict[int, T] = {}
    for bucket, result in zip(some, results, strict=True):
        match result:
            case RoundError():
                short[bucket] = result
            case BaseException():
                raise result
            case _:
                done[bucket] = result
    return done
