"""`fl-worker train`: the user's code in the main thread, the conversation on an event loop beside it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import click

from fl_core import logs
from fl_core.environment import GRACE
from fl_core.errors import TERMINATED_EXIT_CODE, FLJobError, MismatchError, OrderError, RoundError
from fl_core.identity import wall_time
from fl_core.process import Settings, leave, process
from fl_core.secagg.signing import AuthorityTrust, CertifiedSigner
from fl_core.secagg.worker import Me
from fl_core.serving import Health, answering
from fl_core.steps import reached
from fl_core.weights import Manifest, Weights, check_finite, digest
from fl_core.wire.channels import open_channel
from fl_worker.discretion import Discretion
from fl_worker.farewell import time_to_finish, told_to_end
from fl_worker.memory import FileMemory
from fl_worker.patience import stack_of, told_when_long
from fl_worker.policy import OPEN_POLICY, SitePolicy
from fl_worker.product import Product
from fl_worker.protection import Protection
from fl_worker.remembered import Remembered
from fl_worker.session import Introduction, Outside, Session, Work
from fl_worker.task import Site
from fl_worker.telemetry import Telemetry
from fl_worker.work import Learner

log = logs.logger()


STUCK_SECONDS = 3.0
"""How long user code may go on once the job is over."""

GOODBYE_SECONDS = 5.0
"""How long a worker whose program has failed may take to tell the scheduler."""


@dataclass(slots=True)
class Hand:
    """What the main thread does with each order."""

    learner: Learner
    remembered: Remembered
    telemetry: Telemetry
    secret: bool = False
    steps: int = 0

    def moved(self) -> None:
        """Count a step."""
        self.steps += 1

    def do(self, work: Work) -> Product:
        """Carry out one order."""
        if work.kind == "initialise":
            return Product(0, {}, self.learner.initial())
        if work.weights is None:
            raise OrderError(f"round {work.round}: an order to {work.kind} came without a model")
        if work.kind == "evaluate":
            reached("evaluate", work.round)
            measured = self.learner.evaluate(work.weights, moved=self.moved)
            log.info("evaluated", **self._open(examples=measured.examples))
            return Product(measured.examples, measured.metrics)
        return self._train(work, work.weights)

    def _open(self, **numbers: float) -> dict[str, float]:
        """What may be told of this worker alone: nothing where sums are secure or private."""
        return {} if self.secret else numbers

    def _train(self, work: Work, weights: Weights) -> Product:
        spoil = reached("train", work.round)
        started = time.monotonic()
        finished = self.learner.train(
            weights,
            round=work.round,
            states=self.remembered.before(work.round, work.counted),
            moved=self.moved,
            clip=work.clip,
            spoil=spoil,
        )
        self.remembered.keep(work.round, finished.states)
        seconds = round(time.monotonic() - started, 6)
        self.telemetry.trained(**self._open(examples=finished.examples, seconds=seconds))
        log.info("trained", **self._open(examples=finished.examples, seconds=seconds))
        return Product(finished.examples, finished.metrics, finished.update, finished.vote, work.clip)


@dataclass(slots=True)
class Conversation:
    """The thread beside the main one: it talks, and it has the last word on how the process ends."""

    inbox: SimpleQueue[Work | None]
    attend: Callable[[], Coroutine[None, None, None]]
    error: BaseException | None = None
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    main_is_free: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Attend to the end, then let the main thread go; one that does not come back is left behind."""
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self.attend())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.error = error
        self.inbox.put(None)
        if not self.main_is_free.wait(STUCK_SECONDS):
            code = self.error.exit_code if isinstance(self.error, FLJobError) else int(bool(self.error))
            stack = stack_of(threading.main_thread().ident)
            log.warning("the program does not return; it is left", traceback=stack, exit_code=code)
            os._exit(code)


@dataclass(frozen=True, slots=True)
class Folders:
    """The program's, and that for what the stages remember."""

    program: Path
    states: Path


def train(
    settings: Settings,
    *,
    scheduler: str,
    server: str,
    folders: Folders,
    site: Site,
    policy: SitePolicy,
    grace: float,
) -> None:
    """Attend one job from enrolment to Stop."""
    logs.bind(worker=site.name)
    policy.check(settings.plan, image=settings.image)
    telemetry, health = Telemetry(), Health()
    settings.announce(metrics=settings.serve(telemetry.registry, health))
    with told_when_long("the program is still being loaded"):
        learner = Learner.load(settings.plan, folder=folders.program, site=site)
    remembered = Remembered(folders.states, learner.pipeline.fresh())
    discretion = Discretion.of(settings.plan, worker=site.name)
    hand = Hand(learner, remembered, telemetry, secret=discretion.secret)
    initial = learner.initial()
    check_finite(initial, whose=f"{site.name}'s initial weights")
    moves = learner.backend.moves
    own = Introduction(digest(initial), Manifest.of(initial), moves, discretion, image=settings.image)
    policy.check_cost(settings.plan, dimension=own.manifest.size)
    inbox: SimpleQueue[Work | None] = SimpleQueue()
    outside = Outside(telemetry, health)
    session = Session(
        settings.plan,
        own,
        inbox=inbox,
        steps=lambda: hand.steps,
        outside=outside,
        protection=_protection(settings, own.manifest, learner, policy),
        grace=time_to_finish(grace),
    )
    attend = partial(_attend, session, settings.identity_folder, scheduler=scheduler, server=server)
    conversation = Conversation(inbox, attend)
    health.alive = answering(conversation.loop)
    with told_to_end(conversation.loop, session.part):
        converse(conversation, hand.do)


def _protection(
    settings: Settings, manifest: Manifest, learner: Learner, policy: SitePolicy
) -> Protection | None:
    """The worker's way into secure sums, with the key of its certificate; None where the job has none."""
    if settings.plan.secure_aggregation is None:
        return None
    credentials = settings.credentials
    signer, job = CertifiedSigner(credentials), settings.plan.job.uid
    me = Me(
        signer=signer,
        trust=AuthorityTrust.of(job, credentials.authority, clock=wall_time),
        memory=FileMemory(settings.identity_folder / "sums.jsonl"),
        random=os.urandom,
        policy=policy.sums(),
        endorsement=policy.endorsement(job=job, worker=signer.worker, own=signer.certificate),
    )
    return Protection(settings.plan, me, manifest, learner.weight)


def converse(conversation: Conversation, do: Callable[[Work], Product]) -> None:
    """Talk in a thread and work in this one, until the job is over or either of them fails."""
    context = copy_context()  # so that this thread's log lines name the job and the worker too
    thread = threading.Thread(target=context.run, args=(conversation.run,), name="session", daemon=True)
    thread.start()
    try:
        work_off(conversation.inbox, do)
    finally:
        conversation.main_is_free.set()
        thread.join(GOODBYE_SECONDS)
    if conversation.error is not None:
        raise conversation.error


def work_off(inbox: SimpleQueue[Work | None], do: Callable[[Work], Product]) -> None:
    """Carry out orders until None comes; a spoilt round is handed back, any other error ends the process."""
    while (work := inbox.get()) is not None:
        if not work.result.set_running_or_notify_cancel():
            continue
        try:
            product = work.context.run(do, work)
        except RoundError as error:
            work.result.set_exception(error)
        except FLJobError as error:
            work.result.set_exception(error)
            raise
        else:
            work.result.set_result(product)


async def _attend(session: Session, folder: Path, *, scheduler: str, server: str) -> None:
    async with (
        open_channel(scheduler, folder, peer="scheduler") as to_scheduler,
        open_channel(server, folder, peer="server") as to_server,
    ):
        told_to_go = await session.attend(to_scheduler, to_server)
    if told_to_go:
        leave(TERMINATED_EXIT_CODE)  # whatever the main thread is at: nobody waits for it any more


@process
@click.option(
    "--join",
    type=click.Path(path_type=Path),
    help="What `fl-submit site token` wrote, for a site outside the cluster; it stands for --plan, --enrol, "
    "--index, --scheduler and --server.",
)
@click.option("--index", type=int, help="Which worker this is, from 0.")
@click.option("--scheduler", help="The scheduler's host:port.")
@click.option("--server", help="The server's host:port.")
@click.option("--program", type=click.Path(path_type=Path), required=True, help="The program's folder.")
@click.option("--data", type=click.Path(path_type=Path), help="This worker's own data.")
@click.option(
    "--states",
    type=click.Path(path_type=Path),
    help="Where it keeps what its stages remember, to go on with it when it is started again; beside its identity "
    "if not given.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    envvar="FLJOB_SITE_POLICY",
    show_envvar=True,
    help="What this site insists on, whatever the job says (YAML).",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    envvar=GRACE,
    show_envvar=True,
    help="Seconds from SIGTERM to SIGKILL, in which what was begun for the open round is handed in.",
)
def main(
    settings: Settings,
    *,
    index: int | None,
    grace: float,
    program: Path,
    data: Path | None,
    policy: Path | None,
    states: Path | None,
    **peers: str,
) -> None:
    """Take part in a job until it ends."""
    own, plan = settings.identity.index, settings.plan
    if own is None or index not in {None, own}:
        raise MismatchError(f"--index {index}, but the certificate is that of {settings.identity.name}")
    if settings.invitation is not None:
        peers = dict.fromkeys(peers, settings.invitation.address)
    site = Site(plan.called(own), own, plan.workers, data=data, seed=plan.seed)
    insisted = SitePolicy.read(policy) if policy else OPEN_POLICY
    folders = Folders(program, states or settings.identity_folder / "states")
    with Discretion.of(plan, worker=site.name).last_words():
        train(settings, **peers, folders=folders, site=site, policy=insisted, grace=grace)
