"""The server's driver: carries out what `fl_core.rounds` decides, with sockets, disk and the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog

from fl_core import logs
from fl_core import rounds as r
from fl_core.errors import (
    FencedError,
    FLJobError,
    JobError,
    RoundError,
    ShortfallError,
    UnmaskError,
    UpdateError,
)
from fl_core.gathering import Gathering
from fl_core.identity import Credentials
from fl_core.plan import Plan
from fl_core.shortfall import GONE, LEFT
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_server.agenda import Agenda
from fl_server.aggregator import Aggregator
from fl_server.best import Best
from fl_server.board import Board, describe
from fl_server.checkpoints import Saved
from fl_server.closing import Closing
from fl_server.first_model import FirstModel
from fl_server.ledger import Ledger, measured_in
from fl_server.measurements import read_measurements
from fl_server.metrics import Metrics
from fl_server.model import Model
from fl_server.muster import Muster
from fl_server.opened import Opened
from fl_server.protection import Call
from fl_server.refusals import Refusals
from fl_server.restoring import Restoring
from fl_server.sentences import dissent, selection
from fl_server.spending import SPENT, Spending
from fl_server.spool import Spool
from fl_server.storage import Storage
from fl_server.summons import Purpose, Summons
from fl_server.sums import Sums

log = structlog.get_logger()


class Coordinator:
    """One job's rounds, from the first model to the last."""

    def __init__(
        self, plan: Plan, storage: Storage, summons: Summons, *, credentials: Credentials | None = None
    ) -> None:
        self.plan = plan
        self.model: Model | None = None
        self.metrics = Metrics()
        self.metrics.expects(plan.selection)
        self.board = Board(
            plan.rounds, plan.workers, lambda standing: describe(standing, self.rounds, self._latest)
        )
        self._muster = Muster(plan, is_waiting=lambda: summons.answering, failed=self.failed)
        self.spending = Spending(plan, storage, board=self.board, metrics=self.metrics)
        authority = credentials.authority if credentials else b""
        self.sums = Sums.of(
            plan, storage, authority, dropped=self._dropped, unmasking=self.spending.unmasking
        )
        self.rounds = r.Rounds(
            plan.selection,
            rounds=plan.rounds,
            evaluation_every=plan.evaluation_every,
            secure=self.sums is not None,
            replayed=storage.replay.skipped if storage.replay else None,
        )
        self.ledger = Ledger()
        self.refusals = Refusals()
        self._closing = Closing(storage, self.board, self.spending, credentials)
        self._storage = storage
        self._summons = summons
        self._aggregator = Aggregator(plan, self.spending.privacy)
        self._restoring = Restoring(
            plan,
            storage,
            aggregator=self._aggregator,
            sums=self.sums,
            spending=self.spending,
            told=self.board.troubled,
        )
        self.first = FirstModel(plan, summons)
        self._answer = asyncio.Event()
        self._latest: Gathering | None = None
        self._agenda = Agenda(self.rounds, ticked=self._pass_time)
        self._best = Best(plan.target, plan.early_stopping)
        self._values: dict[str, float] = {}

    async def run(self) -> None:
        """Train until the job is over; raises the error that ends it otherwise."""
        try:
            begin = await self._restore()
            self._muster.begin()
            if self.model is None:
                await self._first_model()
            await self.spending.settle(self.model)
            self._do(begin or self.rounds.begin())
            while not isinstance(action := await self._agenda.next(), r.Finish):
                await self._carry_out(action)
            await self._finish(action.reason)
        except FencedError:  # another server tells how the job stands
            raise
        except FLJobError as error:
            await self._closing.failed(error, self.model, round=self.rounds.round)
            if isinstance(error, JobError):
                # Nobody starts this server again: its workers would wait for ever.
                await self._summons.dismiss(str(error))
            raise
        finally:
            self._muster.over()
            await self._summons.end()

    def finish(self, *, last: int = 0) -> None:
        """End the job with round `last`, or the open one where that is later; that one has asked workers."""
        log.info("asked to finish", last=last)
        self._do(self.rounds.shorten(last) if last else self.rounds.finish(r.STOPPED))

    # -- what workers hand in, called by the service --

    async def answered(self, context: pb.Context, *, initial: bool = False) -> None:
        """Wait for the scheduler's answer where a worker is early: it has heard of it first, and was quick."""
        here = (self.rounds.round, self.rounds.attempt)
        early = (context.round, context.attempt) >= here
        if self.first.is_wanted:
            early = initial
        if early and self.rounds.phase in {r.Phase.WAITING, r.Phase.SELECTING}:
            await self._answer.wait()

    def expects(self, transfer: pb.Transfer, worker: str) -> Manifest | None:
        """The manifest that this transfer must have; None where the job has no model yet."""
        if transfer.kind == pb.KIND_INITIAL:
            self.first.check(transfer, worker)
            return None
        if transfer.kind != pb.KIND_UPDATE or self.sums is not None:
            raise UpdateError(f"{worker} may hand in an update, not a transfer of kind {transfer.kind}")
        self.rounds.check_open(r.Phase.TRAINING, worker, (transfer.context.round, transfer.context.attempt))
        if self.model is None or transfer.model != self.model.digest:
            raise UpdateError(
                f"{worker}'s update was made from the model {transfer.model[:12]}, not this round's"
            )
        return self._aggregator.wire(self.model.manifest)

    def recalled(self, worker: str, context: pb.Context) -> tuple[int, ...]:
        """The rounds of which a worker that is about to train needs what its stages remembered."""
        self.rounds.check_open(r.Phase.TRAINING, worker, (context.round, context.attempt))
        return self._restoring.counted.of(worker)

    def take(self, worker: str, transfer: pb.Transfer, *, spool: Spool, largest: float) -> asyncio.Task[None]:
        """Fold a verified update in, and let the round know; from here on the spool belongs to the fold."""
        self.rounds.check_open(r.Phase.TRAINING, worker, (transfer.context.round, transfer.context.attempt))
        weight = self._aggregator.weigh(worker, transfer.examples, largest=largest)
        measured = read_measurements(transfer.metrics)
        self.ledger.runs_in(worker, transfer.image)
        self.metrics.bytes.labels("received", "update").inc(transfer.nbytes)
        self.ledger.trained(worker, examples=transfer.examples, metrics=measured, nbytes=transfer.nbytes)
        actions = self.rounds.reported(worker)
        fold = self._aggregator.fold(worker, spool, weight=weight, largest=largest)
        log.info("update taken", examples=transfer.examples)
        self._do(actions)
        return fold

    def measured(self, worker: str, request: pb.MeasureRequest) -> None:
        """A worker has measured the new model."""
        if self.sums is not None:
            raise UpdateError(f"{worker} may say what it has measured within a secure sum only")
        self.rounds.check_open(r.Phase.EVALUATING, worker, (request.context.round, request.context.attempt))
        if self.model is None or request.model != self.model.digest:
            raise UpdateError(f"{worker} measured the model {request.model[:12]}, not this round's")
        self.ledger.evaluated(worker, read_measurements(request.metrics))
        self._do(self.rounds.reported(worker))

    def ready(self, worker: str, message: pb.MemberMessage) -> Call:
        """A worker holds its result and waits for the session in which it is summed."""
        sums, said, gathering = self.secure, message.ready, self.rounds.gathering
        if said.returns:
            return sums.protection.rejoin(worker, message.context)
        waits = gathering is not None and worker in gathering.reported
        if not waits:
            phase = r.Phase.EVALUATING if self.rounds.phase == r.Phase.EVALUATING else r.Phase.TRAINING
            self.rounds.check_open(phase, worker, (message.context.round, message.context.attempt))
        if self.model is None or said.model != self.model.digest:
            raise UpdateError(f"{worker} is ready with the model {said.model[:12]}, not this round's")
        sums.admit(worker, said)
        self.ledger.runs_in(worker, said.image)
        call = sums.protection.join(worker, message)
        self._do(() if waits else self.rounds.reported(worker))
        return call

    def take_masked(self, worker: str, *, spool: Spool, begun: Opened) -> asyncio.Task[None]:
        """Fold a whole masked vector in that was begun for this session; from here on the spool belongs to the fold."""
        self._received_masked(begun.layout.nbytes)
        return self.secure.protection.take(worker, spool, begun)

    def heard(self, worker: str, message: pb.MemberMessage) -> None:
        """A member speaks in its session."""
        if nbytes := self.secure.protection.heard(worker, message):
            self._received_masked(nbytes)

    def _received_masked(self, nbytes: int) -> None:
        self.metrics.bytes.labels("received", "masked").inc(nbytes)
        self.ledger.up += nbytes

    @property
    def secure(self) -> Sums:
        """The job's secure sums; refuses to have any where the job has none."""
        if self.sums is None:
            raise UpdateError("this job has no secure aggregation; its workers hand in their updates")
        return self.sums

    def moved(self, worker: str) -> None:
        """A worker trains, or its transfer goes on."""
        if self.sums is not None:
            self.sums.protection.moved(worker)
        self.rounds.moved(worker, now=time.monotonic())

    def sent(self, nbytes: int) -> None:
        """So much of the model went to a worker."""
        self.ledger.down += nbytes
        self.metrics.bytes.labels("sent", "model").inc(nbytes)

    # -- carrying out --

    def _do(self, actions: Iterable[r.Action]) -> None:
        self._agenda.add(actions)
        self._latest = self.rounds.gathering or self._latest
        self.board.changed()

    def _pass_time(self) -> None:
        gathering = self.rounds.gathering
        actions = self.rounds.tick(now=time.monotonic())
        for worker, reason in gathering.dropped.items() if gathering is not None else ():
            self._dropped(worker, reason)
        self._do(actions)

    async def _carry_out(self, action: r.Action) -> None:
        match action:
            case r.Convene():
                await self._open(action)
            case r.Abandon(_, _, reason):
                log.warning("attempt abandoned", reason=reason)
                self.metrics.abandoned()
                await self._summons.end()
            case r.Aggregate():
                await self._aggregate(action)
            case r.Commit(_, _, reporters):
                await self._commit(reporters)
            case r.Evaluate(number, _):
                self._summons.start("evaluate", (number, self.rounds.attempt), self)
            case r.Conclude() | r.Skip():
                if self.ledger.row.get("round") != action.round:  # another process opened it
                    self.ledger.open(
                        action.round, self.rounds.attempt, base=self.model.digest if self.model else ""
                    )
                await self._conclude(skipped=action.reason if isinstance(action, r.Skip) else "")
            case r.Fail(sentence, recurs):
                raise ShortfallError(sentence, recurs=recurs)

    async def _restore(self) -> r.Actions:
        """Go on where an earlier server left off; a round that was committed but not recorded is evaluated again."""
        board = self.board
        found = await self._restoring.restore(told=board.notices.append, added=board.closed.extend)
        self.rounds.past = self._restoring.past
        if found is None:
            return ()
        self.model, self.rounds.round = found.model, found.resumed.over
        self._best.restore(found.resumed.rows, found.best)
        if found.resumed.recorded:
            self._values = found.resumed.metrics
            reason = self._best.over(self._values)
            return self.rounds.finish(reason) if reason else ()
        self.ledger.resume(dict(found.row))
        self._restoring.counted.add(self.rounds.round, self.ledger.reporters)
        return self.rounds.resume(self.ledger.row["attempt"], self.ledger.reporters, now=time.monotonic())

    async def _first_model(self) -> None:
        """The model that the job begins with, saved so that a server that dies in round 1 need not ask again."""
        start = await self.first.start(self, begun=self._answer.clear)
        self.model, self.rounds.round = start.model, start.round
        self._restoring.remember(start.states)
        if start.best is not None and self._best.improved(start.best.facts["metrics"]):
            await asyncio.to_thread(self._storage.keep_model, "best", start.best)
        await self._save(start.model)

    async def _save(self, model: Model) -> str:
        return await self._restoring.save(model, round=self.rounds.round, row=self.ledger.row)

    async def _open(self, convene: r.Convene) -> None:
        model, number, attempt = self._present, convene.round, convene.attempt
        if self.spending.over:
            self._do(self.rounds.finish(SPENT))
            return
        earlier = await self._restoring.opening(convene, lost=self.ledger.lost)
        if self.rounds.phase == r.Phase.SELECTING:
            await self.spending.asking(number, attempt)
        if self.rounds.phase != r.Phase.SELECTING:  # told to finish meanwhile
            return
        logs.bind(round=number, attempt=attempt)
        self.metrics.round.set(number)
        drawn = {"draw": convene.draw} if convene.draw != attempt else {}
        clip = self.spending.clip(model)
        self.ledger.open(number, attempt, earlier=earlier, base=model.digest, **drawn, **clip)
        self._aggregator.open(model.manifest)
        self.refusals.begin(number, attempt)
        self._answer.clear()
        only = self.sums.only(number) if self.sums is not None else ()
        self._summons.start("train", (number, attempt), self, draw=convene.draw, only=only)

    async def _aggregate(self, action: r.Aggregate) -> None:
        """Have the workers sum what they hold."""
        self.ledger.lap("evaluate" if action.measurements else "train")
        try:
            members = await self.secure.carried_out(
                action, self._present, ledger=self.ledger, aggregator=self._aggregator
            )
        except RoundError as error:
            log.warning("no sum", reason=str(error))
            self.metrics.unsummed(error)
            bound, spoilt = self.secure.begun(action.round), isinstance(error, UnmaskError)
            self._do(self.rounds.unsummed(str(error), bound=bound, spoilt=spoilt))
        else:
            self._do(self.rounds.summed(members))
        finally:
            self.ledger.lap("secure")
            self.secure.protection.dismiss()

    async def _commit(self, reporters: tuple[str, ...]) -> None:
        await self._aggregator.folded()
        await self._summons.end()
        await self.spending.charge(self.rounds.round, self.rounds.attempt)
        self.ledger.lap("train")
        with self.metrics.aggregation.labels("secure" if self.sums else "plain").time():
            self.model = model = await self._aggregator.step(self._present)
        self.ledger.lap("aggregate")
        self.ledger.committed(reporters, model=model.digest)
        number = self.rounds.round
        self._restoring.counted.add(number, reporters)
        if self._restoring.due(number):
            # The disk and the next round's frames need not wait for each other.
            sealed, _ = await asyncio.gather(self._save(model), asyncio.to_thread(model.prepare))
            self.ledger.row["checkpoint"] = sealed
            self.metrics.saved()
        self.ledger.lap("commit")
        if number < self.rounds.rounds and self.spending.over:
            self._do(self.rounds.finish(SPENT))
        self._do(self.rounds.committed(now=time.monotonic()))

    async def _conclude(self, *, skipped: str) -> None:
        await self._summons.end()
        self._values = self.ledger.concluded(skipped=skipped)
        row = self.ledger.row = self.ledger.row | self.spending.facts
        best = self._described() if not skipped and self._best.improved(self._values) else None
        self.board.closed.append(await asyncio.to_thread(self._storage.record, row, best=best))
        self.metrics.closed(row)
        log.info("round closed", result=row["result"], metrics=self._values, seconds=row["seconds"]["total"])
        self._do(self.rounds.concluded(ending=self._best.ending(measured_in(row))))

    async def _finish(self, reason: str) -> None:
        if self._restoring.kept is not self._present:
            # One that was told to end may go on from here.
            await self._save(self._present)
        message = self.spending.farewell(reason, done=self.rounds.round) or self._best.farewell(reason)
        await self._closing.complete(self._described(), reason, message, counts=self.ledger.counts)
        await self._summons.dismiss(reason)

    def _described(self) -> Saved:
        return self._restoring.described(self._present, round=self.rounds.round, metrics=self._values)

    @property
    def _present(self) -> Model:
        """The model that there is; the job has one before its first round."""
        if self.model is None:
            raise JobError("there is no model yet")
        return self.model

    # -- what the scheduler tells, called by the summons --

    def chosen(self, cohort: pb.Cohort, purpose: Purpose) -> None:
        """The scheduler has named the cohort of the open call, or a new one has found it again."""
        self._muster.over()
        if cohort.dissenters:
            log.warning("initial weights differ", workers=list(cohort.dissenters), used=cohort.workers[0])
            self.board.notices.append(dissent(cohort))
        if purpose == "initialise":
            self.first.asked(cohort)
        elif purpose == "train" and self.rounds.phase == r.Phase.SELECTING:
            self.ledger.convened(cohort.workers, **selection(cohort))
            self.ledger.lap("select")
            log.info("cohort", workers=len(cohort.workers))
            self._do(self.rounds.convened(cohort.workers, silent=cohort.silent, now=time.monotonic()))
        else:
            for worker in self.missing():
                if worker not in cohort.workers:
                    self.lost(worker, GONE)
        self._answer.set()

    def missing(self) -> list[str]:
        """Those of whom the open round still expects something."""
        return sorted(self.rounds.gathering.missing) if self.rounds.gathering is not None else []

    def lost(self, worker: str, reason: str, *, live: int = 0) -> None:
        """The scheduler has lost a worker of the cohort; one that has handed in its part may go."""
        self.first.lost(worker, reason)
        reason = self.refusals.behind(worker, reason)
        if self.sums is not None:
            self.sums.protection.lost(worker, reason)
        if self.rounds.gathering is not None and worker in self.rounds.gathering.missing:
            log.warning("worker lost", worker=worker, reason=reason)
            self._dropped(worker, reason)
            self._do(self.rounds.lost(worker, reason=reason, live=live))
        elif reason == LEFT and worker in self.ledger.row.get("dropouts", ()):
            self._dropped(worker, reason)

    def _dropped(self, worker: str, reason: str) -> None:
        reason = self.refusals.behind(worker, reason)
        if self.ledger.dropped(worker, reason):
            self.metrics.dropped(reason)

    def waiting(self, waiting: pb.Waiting) -> None:
        """The scheduler waits for more workers."""
        self.board.standing.live = waiting.live
        self._muster.heard(waiting)
        self.board.changed()

    def failed(self, error: FLJobError) -> None:
        """Nothing can go on: `run` raises this."""
        self.first.failed(error)
        self._agenda.fail(error)
