"""The server's driver: carries out what `fl_core.rounds` decides, with sockets, disk and the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable

import structlog

from fl_core import logs
from fl_core import rounds as r
from fl_core.errors import FLJobError, JobError, ShortfallError, SpecError, UpdateError
from fl_core.extensions import build
from fl_core.metrics import Measurement
from fl_core.plan import Plan
from fl_core.roster import MOST_ABSENT
from fl_core.stages import Pipeline, State
from fl_core.updates import ExactSum
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_server.board import Board
from fl_server.checkpoints import Saved
from fl_server.ledger import Ledger
from fl_server.metrics import Metrics
from fl_server.model import Model
from fl_server.spool import Spool
from fl_server.storage import Storage
from fl_server.summons import Purpose, Summons

log = structlog.get_logger()


class Coordinator:
    """One job's rounds, from the first model to the last."""

    def __init__(self, plan: Plan, storage: Storage, summons: Summons) -> None:
        self.plan = plan
        self.model: Model | None = None
        self.board = Board(plan.rounds, plan.workers)
        self.rounds = r.Rounds(plan.selection, rounds=plan.rounds, evaluation_every=plan.evaluation_every)
        self.ledger = Ledger()
        self.metrics = Metrics()
        self._storage = storage
        self._summons = summons
        self._strategy = build(plan.strategy, within="fl_core.strategies")
        self._rule = build(plan.aggregation, within="fl_core.aggregation")
        self._pipeline = Pipeline.of(plan.compression)
        self._stage_states = self._pipeline.fresh()
        self._strategy_state: State = {}
        self._sum: ExactSum | None = None
        self._folds: list[asyncio.Task[None]] = []
        self._fold_lock = asyncio.Lock()
        self._initial: asyncio.Future[Model | None] | None = None
        self._initial_from = ""
        self._answer = asyncio.Event()
        self._absent: list[str] = []
        self._unready: asyncio.TimerHandle
        self._actions: asyncio.Queue[r.Action | FLJobError | None] = asyncio.Queue()
        self._best: float | None = None

    async def run(self) -> None:
        """Train until the job is over; raises the error that ends it otherwise."""
        await self._restore()
        loop = asyncio.get_running_loop()
        self._unready = loop.call_later(self.plan.ready_seconds, self._not_ready)
        try:
            await self._rounds()
        finally:
            self._unready.cancel()
            await self._close()

    async def _rounds(self) -> None:
        await self._first_model()
        self._do(self.rounds.begin())
        while True:
            action = await self._next()
            if isinstance(action, r.Finish):
                await self._finish(action.reason)
                return
            await self._carry_out(action)

    # -- what workers hand in, called by the service --

    async def answered(self, transfer: pb.Transfer) -> None:
        """Wait for the scheduler's answer where a worker has heard of it first and was quick."""
        here = (self.rounds.round, self.rounds.attempt)
        training = (transfer.context.round, transfer.context.attempt) == here
        if self._initial is not None and not self._initial.done():
            training = transfer.kind == pb.KIND_INITIAL
        if training and self.rounds.phase in {r.Phase.WAITING, r.Phase.SELECTING}:
            await self._answer.wait()

    def expects(self, transfer: pb.Transfer, worker: str) -> Manifest | None:
        """The manifest that this transfer must have; None where the job has no model yet."""
        if transfer.kind == pb.KIND_INITIAL:
            if self._initial is None or self._initial.done() or worker != self._initial_from:
                raise UpdateError(f"{worker} was not asked for initial weights")
            return None
        self._check_open(transfer.context, worker, r.Phase.TRAINING)
        if self.model is None or transfer.model != self.model.digest:
            raise UpdateError(
                f"{worker}'s update was made from the model {transfer.model[:12]}, not this round's"
            )
        return self._pipeline.wire(self.model.manifest)

    def initialise(self, model: Model) -> None:
        """The chosen worker's initial weights have come."""
        if self._initial is not None and not self._initial.done():
            self._initial.set_result(model)

    async def take(self, worker: str, transfer: pb.Transfer, *, spool: Spool, largest: float) -> None:
        """A whole update has been verified: fold it in, and let the round know."""
        self._check_open(transfer.context, worker, r.Phase.TRAINING)
        weight = self._strategy.weight(transfer.examples)
        measured = measurements(transfer.metrics)
        summed = self._sum
        if summed is None:
            raise UpdateError("no round is open")
        summed.check(weight=weight, largest=largest)
        self.metrics.bytes.labels("received", "update").inc(transfer.nbytes)
        self.ledger.trained(worker, examples=transfer.examples, metrics=measured, nbytes=transfer.nbytes)
        actions = self.rounds.reported(worker, now=time.monotonic())
        fold = asyncio.create_task(self._fold(summed, spool, weight))
        self._folds.append(fold)
        self._do(actions)
        await asyncio.shield(fold)

    def measured(self, worker: str, request: pb.MeasureRequest) -> None:
        """A worker has measured the new model."""
        self._check_open(request.context, worker, r.Phase.EVALUATING)
        if self.model is None or request.model != self.model.digest:
            raise UpdateError(f"{worker} measured the model {request.model[:12]}, not this round's")
        self.ledger.evaluated(worker, measurements(request.metrics))
        self._do(self.rounds.reported(worker, now=time.monotonic()))

    def moved(self, worker: str) -> None:
        """A worker trains, or its transfer goes on."""
        self.rounds.moved(worker, now=time.monotonic())

    def sent(self, nbytes: int) -> None:
        """So much of the model went to a worker."""
        self.ledger.down += nbytes
        self.metrics.bytes.labels("sent", "model").inc(nbytes)

    def _check_open(self, context: pb.Context, worker: str, phase: r.Phase) -> None:
        here = (self.rounds.round, self.rounds.attempt)
        if self.rounds.phase != phase or (context.round, context.attempt) != here:
            raise UpdateError(
                f"{worker} speaks of round {context.round}, attempt {context.attempt}; "
                f"the server is {self.rounds.phase} in round {here[0]}, attempt {here[1]}"
            )
        if self.rounds.gathering is None or not self.rounds.gathering.accepts(worker):
            raise UpdateError(f"nothing (more) is expected of {worker} in round {here[0]}")

    # -- carrying out --

    def _do(self, actions: Iterable[r.Action]) -> None:
        for action in actions:
            self._actions.put_nowait(action)
        self._actions.put_nowait(None)
        self._show()

    async def _next(self) -> r.Action | FLJobError:
        getter = asyncio.ensure_future(self._actions.get())
        try:
            while True:
                wake = self.rounds.wake()
                timeout = None if wake is None else max(wake - time.monotonic(), 0)
                done, _ = await asyncio.wait({getter}, timeout=timeout)
                if not done:
                    self._pass_time()
                elif (action := getter.result()) is not None:
                    return action
                else:
                    getter = asyncio.ensure_future(self._actions.get())
        finally:
            getter.cancel()

    def _pass_time(self) -> None:
        gathering = self.rounds.gathering
        actions = self.rounds.tick(now=time.monotonic())
        for worker, reason in gathering.dropped.items() if gathering is not None else ():
            self._dropped(worker, reason)
        self._do(actions)

    async def _carry_out(self, action: r.Action | FLJobError) -> None:
        match action:
            case FLJobError():
                raise action
            case r.Convene(number, attempt):
                self._open(number, attempt)
            case r.Abandon(_, _, reason):
                log.warning("attempt abandoned", reason=reason)
                self.metrics.abandoned()
                await self._close()
            case r.Commit(_, _, reporters):
                await self._commit(reporters)
            case r.Evaluate(_, workers):
                await self._evaluate(workers)
            case r.Conclude() | r.Skip():
                await self._conclude(skipped=action.reason if isinstance(action, r.Skip) else "")
            case r.Fail(sentence):
                raise ShortfallError(sentence)

    async def _restore(self) -> None:
        """Take up what the newest checkpoint holds, and what the best model scored."""
        saved = await asyncio.to_thread(self._storage.checkpoints.newest)
        if saved is None:
            return
        self.model = Model.of(saved.weights)
        self.rounds.round = saved.facts["round"]
        self._strategy_state = saved.states.get("strategy", {})
        count = len(self._stage_states)
        self._stage_states = tuple(saved.states.get(str(number), {}) for number in range(count))
        best = await asyncio.to_thread(self._storage.model, "best")
        self._best = self._score(best.facts["metrics"]) if best is not None else None
        log.info("restored", round=self.rounds.round, model=self.model.digest)

    async def _first_model(self) -> None:
        while self.model is None:
            self._initial = asyncio.get_running_loop().create_future()
            self._answer.clear()
            self._summons.start("initialise", (0, 1), self)
            self.model = await self._initial
            await self._summons.end()

    def _open(self, number: int, attempt: int) -> None:
        if self.model is None:
            raise JobError("a round needs a model")
        logs.bind(round=number, attempt=attempt)
        self.ledger.open(number, attempt)
        self.metrics.round.set(number)
        self._sum = ExactSum(self._pipeline.wire(self.model.manifest), capacity=self.plan.selection.asked)
        self._folds = []
        self._answer.clear()
        self._summons.start("train", (number, attempt), self)

    async def _fold(self, summed: ExactSum, spool: Spool, weight: int) -> None:
        async with self._fold_lock:
            await asyncio.to_thread(summed.add, spool.chunks(), weight=weight)

    async def _commit(self, reporters: tuple[str, ...]) -> None:
        await asyncio.gather(*self._folds)
        await self._close()
        self.ledger.lap("train")
        with self.metrics.aggregation.labels("plain").time():
            await asyncio.to_thread(self._step)
        self.ledger.lap("aggregate")
        self.ledger.committed(reporters, model=self._digest)
        if (
            self.rounds.round % self.plan.checkpoint.every_rounds == 0
            or self.rounds.round == self.rounds.rounds
        ):
            await asyncio.to_thread(self._storage.checkpoints.save, self._saved())
            self.metrics.saved()
        self.ledger.lap("commit")
        self._do(self.rounds.committed(now=time.monotonic()))

    def _step(self) -> None:
        if self.model is None or self._sum is None:
            raise JobError("there is nothing to step from")
        mean = self._rule.combine(self._sum)
        mean, self._stage_states = self._pipeline.on_server(mean, self._stage_states)
        weights, self._strategy_state = self._strategy.step(self.model.weights, mean, self._strategy_state)
        self.model, self._sum = Model.of(weights), None

    async def _evaluate(self, workers: tuple[str, ...]) -> None:
        self._summons.start("evaluate", (self.rounds.round, self.rounds.attempt), self, workers=workers)

    async def _conclude(self, *, skipped: str) -> None:
        await self._close()
        values = self.ledger.concluded(skipped=skipped)
        row = self.ledger.row
        self.metrics.closed(row)
        self.board.closed.append(await asyncio.to_thread(self._storage.record, row))
        if row["result"] == "Committed":
            await asyncio.to_thread(self._keep_best, values)
        log.info("round closed", result=row["result"], metrics=values, seconds=row["seconds"]["total"])
        self._do(self.rounds.concluded(ending="TargetReached" if self._reached(values) else ""))

    def _reached(self, values: dict[str, float]) -> bool:
        target = self.plan.target
        if target is None or not values:
            return False
        if target.metric not in values:
            raise SpecError(
                f"spec.target.metric: {target.metric!r} is not among the program's metrics, "
                f"{', '.join(sorted(values))}; name one of them, or let the program measure it"
            )
        return target.reached(values[target.metric])

    async def _close(self) -> None:
        await self._summons.end()

    def _keep_best(self, values: dict[str, float]) -> None:
        score = self._score(values)
        if score is not None and (self._best is None or score > self._best):
            self._best = score
            self._storage.keep_model("best", self._saved())

    def _score(self, values: dict[str, float]) -> float | None:
        target = self.plan.target
        name = target.metric if target else "loss"
        if name not in values:
            return None
        return values[name] if target is not None and target.at_least is not None else -values[name]

    async def _finish(self, reason: str) -> None:
        await asyncio.to_thread(self._storage.keep_model, "last", self._saved())
        self.board.ending = pb.Ending(complete=True, reason=reason, model=self._digest)
        self._show()
        log.info("job complete", reason=reason, model=self._digest)
        await self._summons.dismiss(reason)

    @property
    def _digest(self) -> str:
        return self.model.digest if self.model is not None else ""

    def _saved(self) -> Saved:
        if self.model is None:
            raise JobError("there is no model to save")
        facts = {"round": self.rounds.round, "plan": self.plan.digest, "digest": self.model.digest}
        states = {str(number): state for number, state in enumerate(self._stage_states)}
        return Saved(
            self.model.weights,
            {**facts, "metrics": self.ledger.row.get("metrics", {})},
            {**states, "strategy": self._strategy_state},
        )

    # -- what the scheduler tells, called by the summons --

    def chosen(self, cohort: pb.Cohort, purpose: Purpose) -> None:
        """The scheduler has named the cohort of the open call, or a new one has found it again."""
        self._unready.cancel()
        if cohort.dissenters:
            log.warning("initial weights differ", workers=list(cohort.dissenters), used=cohort.workers[0])
            self.board.standing.notice = _dissent(cohort)
        if purpose == "initialise":
            self._initial_from = cohort.workers[0]
        elif purpose == "train" and self.rounds.phase == r.Phase.SELECTING:
            self.ledger.convened(cohort.workers)
            self.ledger.lap("select")
            log.info(
                "cohort", round=self.rounds.round, attempt=self.rounds.attempt, workers=len(cohort.workers)
            )
            self._do(self.rounds.convened(cohort.workers, silent=cohort.silent, now=time.monotonic()))
        else:
            open_ = self.rounds.gathering.missing if self.rounds.gathering is not None else frozenset()
            for worker in sorted(open_ - set(cohort.workers)):
                self.lost(worker, "gone")
        self._answer.set()

    def lost(self, worker: str, reason: str) -> None:
        """The scheduler has lost a worker of the cohort."""
        self._dropped(worker, reason)
        if self.model is None and self._initial is not None and not self._initial.done():
            self._initial.set_result(None)
        self._do(self.rounds.lost(worker, reason=reason))

    def _dropped(self, worker: str, reason: str) -> None:
        if self.ledger.dropped(worker, reason):
            self.metrics.dropped(reason)

    def waiting(self, waiting: pb.Waiting) -> None:
        """The scheduler waits for more workers."""
        self.board.standing.live = waiting.live
        self._absent = list(waiting.absent)
        self.board.changed()

    def failed(self, error: FLJobError) -> None:
        """Nothing can go on: `run` raises this."""
        if self._initial is not None and not self._initial.done():
            self._initial.set_exception(error)
        self._actions.put_nowait(error)

    def _not_ready(self) -> None:
        live, minimum = self.board.standing.live, self.plan.selection.minimum
        others = " and others" if len(self._absent) == MOST_ABSENT else ""
        missing = f" (not there: {', '.join(self._absent)}{others})" if self._absent else ""
        self.failed(
            ShortfallError(
                f"{live} of {self.plan.workers} workers were ready after {self.plan.ready_seconds:g} s "
                f"(spec.preRunningDeadlineSeconds), and spec.selection.minimum asks for {minimum}{missing}; "
                "their logs say why, or allow more time"
            )
        )

    def _show(self) -> None:
        standing, gathering = self.board.standing, self.rounds.gathering
        standing.round, standing.attempt = self.rounds.round, self.rounds.attempt
        standing.phase = str(self.rounds.phase)
        standing.ClearField("dropped")
        if gathering is not None:
            standing.selected[:] = sorted(gathering.cohort)
            standing.reported[:] = gathering.reported
            for worker, reason in gathering.dropped.items():
                standing.dropped.add(worker=worker, reason=reason)
        self.board.changed()


def _dissent(cohort: pb.Cohort) -> str:
    """Say whose first model is not the job's."""
    return (
        f"the first model of {', '.join(cohort.dissenters)} is not that of the others, so that of "
        f"{cohort.workers[0]} was taken; the program draws from a random stream that the seed does not govern"
    )


def measurements(text: str) -> dict[str, Measurement]:
    """Read the measurements of a message; refuses anything else."""
    try:
        rows = json.loads(text or "{}")
        return {str(name): Measurement.from_json(row) for name, row in rows.items()}
    except (ValueError, AttributeError, JobError) as error:
        raise UpdateError(f"measurements are a JSON object of name to measurement: {error}") from error
