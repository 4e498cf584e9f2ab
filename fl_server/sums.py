"""What the server learns under secure aggregation: sums of updates and of measurements, and their ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from fl_core.metrics import Measurement
from fl_core.plan import Plan
from fl_core.secagg import job, ranges
from fl_core.secagg.session import Purpose
from fl_core.secagg.signing import AuthorityTrust
from fl_core.secagg.summands import MeasureSum, RangeSum, Schema, Summand, Summed, UpdateSum
from fl_core.stages import State
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_server.journal import Journal
from fl_server.measurements import check_names
from fl_server.protection import Protection, Sum, Unmasking
from fl_server.storage import Storage

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """The attempt and the model that a sum belongs to."""

    round: int
    attempt: int
    model: str


class Sums:
    """One job's sums, each by a session of its own."""

    def __init__(self, plan: Plan, protection: Protection) -> None:
        self.protection = protection
        self._plan = plan
        self._ring = job.ring_of(plan)
        self._exponents: ranges.Exponents = ()
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
        trust = AuthorityTrust.of(plan.job.uid, authority)
        journal = Journal(storage.sessions)
        return cls(plan, Protection(plan, trust, journal, dropped=dropped, unmasking=unmasking))

    @property
    def state(self) -> State:
        """What a checkpoint must hold: the ranges."""
        return {"exponents": list(self._exponents)}

    def restore(self, state: State) -> None:
        """Take up what a checkpoint held."""
        self._exponents = tuple(state.get("exponents", ()))

    def admit(self, worker: str, ready: pb.Ready) -> None:
        """Note in which metrics a worker has measured; refuses what are none."""
        schema = Schema(ready.schema)
        check_names(schema.names)
        self._schemas[worker] = schema

    async def updates(
        self, place: Place, manifest: Manifest, members: Collection[str]
    ) -> tuple[Summed, Collection[str]]:
        """The sum of the members' updates, and whose are in it."""
        if (whole := job.whole_sum_of(self._plan, manifest)) is not None:
            found = await self._sum(whole, "update", place, members)
            return whole.decode(found.total, members=len(found.members)), found.members
        if not self._exponents:
            summand = RangeSum(manifest)
            votes = await self._sum(summand, "range", place, members)
            self._exponents, members = summand.decode(votes.total), votes.members
            log.info("ranges learned", members=len(members))
        schema, members = self._agreeing(members)
        update = UpdateSum(self._ring, manifest, self._exponents, schema)
        found = await self._sum(update, "update", place, members)
        summed = update.decode(found.total, members=len(found.members))
        self._exponents = summed.exponents
        return summed, found.members

    async def measurements(
        self, place: Place, members: Collection[str]
    ) -> tuple[Mapping[str, Measurement], Collection[str]]:
        """The global measurements of the new model, and whose are in them."""
        schema, members = self._agreeing(members)
        summand = MeasureSum(schema, self._ring.members)
        found = await self._sum(summand, "measure", place, members)
        return summand.decode(found.total), found.members

    def _agreeing(self, members: Collection[str]) -> tuple[Schema, Collection[str]]:
        """The schema of most members, and who has it: measurements of another kind cannot be added to theirs."""
        schema = Counter(self._schemas[member] for member in sorted(members)).most_common(1)[0][0]
        agreeing = [member for member in members if self._schemas[member] == schema]
        if len(agreeing) < len(members):
            odd = sorted(set(members).difference(agreeing))
            log.warning("left out, for their metrics are of another kind", workers=odd, expected=schema.names)
        return schema, agreeing

    def is_spent(self, round: int) -> bool:
        """Whether a sum that this round's model needs was signed, and so cannot be sought again."""
        journal = self.protection.journal
        return journal.is_signed(round, "update") or (
            not self._exponents and journal.is_signed(round, "range")
        )

    async def _sum(self, summand: Summand, purpose: Purpose, place: Place, members: Collection[str]) -> Sum:
        context = job.context_of(
            self._plan, summand, round=place.round, attempt=place.attempt, purpose=purpose, model=place.model
        )
        return await self.protection.sum(summand, context, sorted(members))
