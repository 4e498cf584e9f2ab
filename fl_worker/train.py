"""`fl-worker train`: the user's code in the main thread, the conversation on an event loop beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import click
import structlog

from fl_core.errors import FLJobError, MismatchError, RoundError
from fl_core.process import Settings, process
from fl_core.serving import Health, serve
from fl_core.stages import State
from fl_core.weights import Manifest, check_finite, digest
from fl_core.wire.channels import open_channel
from fl_worker.session import Introduction, Outside, Product, Session, Work
from fl_worker.task import Site
from fl_worker.telemetry import Telemetry
from fl_worker.work import Learner

log = structlog.get_logger()


@dataclass(slots=True)
class Hand:
    """What the main thread does with each order, and what it remembers between rounds."""

    learner: Learner
    telemetry: Telemetry
    states: tuple[State, ...]
    pending: tuple[int, tuple[State, ...]] = field(default=(0, ()))
    steps: int = 0

    def moved(self) -> None:
        """Count a step."""
        self.steps += 1

    def do(self, work: Work) -> Product:
        """Carry out one order."""
        if work.kind == "initialise" or work.weights is None:
            return Product(0, {}, self.learner.initial())
        if work.kind == "evaluate":
            measured = self.learner.evaluate(work.weights, moved=self.moved)
            log.info("evaluated", examples=measured.examples)
            return Product(measured.examples, measured.metrics)
        return self._train(work)

    def _train(self, work: Work) -> Product:
        if self.pending[0] and self.pending[0] < work.round:
            self.states, self.pending = self.pending[1], (0, ())
        started = time.monotonic()
        finished = self.learner.train(
            work.weights or {}, round=work.round, states=self.states, moved=self.moved
        )
        seconds = time.monotonic() - started
        self.pending = (work.round, finished.states)
        self.telemetry.training.observe(seconds)
        self.telemetry.examples.inc(finished.examples)
        log.info("trained", examples=finished.examples, seconds=round(seconds, 6))
        return Product(finished.examples, finished.metrics, finished.update)


def train(settings: Settings, *, scheduler: str, server: str, program: Path, site: Site) -> None:
    """Attend one job from enrolment to Stop."""
    telemetry, health = Telemetry(), Health()
    settings.announce(metrics=serve(settings.metrics, telemetry.registry, health))
    learner = Learner.load(settings.plan, folder=program, site=site)
    hand = Hand(learner, telemetry, learner.pipeline.fresh())
    initial = learner.initial()
    check_finite(initial, whose=f"{site.name}'s initial weights")
    own = Introduction(digest(initial), Manifest.of(initial), learner.backend.moves)
    inbox: SimpleQueue[Work | None] = SimpleQueue()
    session = Session(settings.plan, own, inbox, lambda: hand.steps, Outside(telemetry, health))
    ended: list[FLJobError] = []

    def converse() -> None:
        try:
            asyncio.run(_attend(session, settings.identity_folder, scheduler=scheduler, server=server))
        except FLJobError as error:
            ended.append(error)
        finally:
            inbox.put(None)

    context = copy_context()  # so that this thread's log lines name the job and the worker too
    conversation = threading.Thread(target=context.run, args=(converse,), name="session", daemon=True)
    conversation.start()
    work_off(inbox, hand.do)
    conversation.join()
    if ended:
        raise ended[0]


def work_off(inbox: SimpleQueue[Work | None], do: Callable[[Work], Product]) -> None:
    """Carry out orders until None comes; a spoilt round is handed back, any other error ends the process."""
    while (work := inbox.get()) is not None:
        if not work.result.set_running_or_notify_cancel():
            continue
        try:
            product = work.context.run(do, work)
        except RoundError as error:
            work.result.set_exception(error)
        else:
            work.result.set_result(product)


async def _attend(session: Session, folder: Path, *, scheduler: str, server: str) -> None:
    async with (
        open_channel(scheduler, folder, peer="scheduler") as to_scheduler,
        open_channel(server, folder, peer="server") as to_server,
    ):
        await session.attend(to_scheduler, to_server)


@process
@click.option("--index", type=int, required=True, help="Which worker this is, from 0.")
@click.option("--scheduler", required=True, help="The scheduler's host:port.")
@click.option("--server", required=True, help="The server's host:port.")
@click.option("--program", type=click.Path(path_type=Path), required=True, help="The program's folder.")
@click.option("--data", type=click.Path(path_type=Path), help="This worker's own data.")
def main(
    settings: Settings, *, index: int, scheduler: str, server: str, program: Path, data: Path | None
) -> None:
    """Take part in a job until it ends."""
    if settings.identity.index != index:
        raise MismatchError(f"--index {index}, but the certificate is that of {settings.identity.name}")
    plan = settings.plan
    site = Site(settings.identity.name, index, plan.workers, data=data, seed=plan.seed)
    train(settings, scheduler=scheduler, server=server, program=program, site=site)
