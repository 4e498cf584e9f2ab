"""One run from its first process to its last: certificates, supervision, observation, Ctrl-C, the ending."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from fl_core.errors import TERMINATED_EXIT_CODE, UnavailableError
from fl_core.identity import Credentials
from fl_core.plan import Plan
from fl_core.replay import Replay
from fl_core.wire.channels import open_channel
from job_generator.local import chaos_report
from job_generator.local.chaos import Chaos
from job_generator.local.chaos_spec import Faults
from job_generator.local.child import DiedError, Outcome
from job_generator.local.disturbance import PEACE
from job_generator.local.folder import Parent, RunFolder, RunState, State
from job_generator.local.keys import identities
from job_generator.local.live import Display
from job_generator.local.losses import Losses
from job_generator.local.observer import Observation, Observer
from job_generator.local.steering import FINISH, SCALE, SUSPEND
from job_generator.local.summary import Result
from job_generator.local.supervisor import Commands, Graces, Reports, Staffing, Supervisor

LAST_OBSERVATION_SECONDS = 3.0
AGAIN_SECONDS = 1.0
"""How long a server that is silent, but not gone, is left alone before it is dialled again."""
STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run needs to know: its folder and plan, the program's folder, the data, the allowed restarts.

    `files` are those of the job; `words` were typed for a fork besides parent and round; `before` is how the run stood
    when it is resumed; `replicas` is how many workers of the pool there are at first, all of them
    without it; each process has so many `threads`, or a share of the cores; `faults` are done to it on purpose.
    """

    folder: RunFolder
    plan: Plan
    program: Path
    data: str | None
    restarts: int
    log_level: str | None = None
    files: tuple[str, ...] = ()
    initial_model: str | None = None
    store: str | None = None
    replicas: int | None = None
    parent: Parent | None = None
    words: tuple[str, ...] = ()
    grace: float = 30.0
    threads: int | None = None
    before: Result | None = None
    faults: Faults | None = None

    @property
    def staffing(self) -> Staffing:
        """The workers that the plan asks for."""
        plan = self.plan
        pool = plan.pool if self.replicas is None else self.replicas
        numbers = (*range(pool), *range(plan.pool, plan.workers))
        replayed = Replay.read(self.folder.replay).cohorts if self.folder.replay.exists() else {}
        return Staffing(
            workers=len(numbers),
            numbers=numbers,
            quorum=plan.selection.minimum,
            restarts=self.restarts,
            ready_seconds=plan.ready_seconds,
            indispensable=frozenset(chain.from_iterable(replayed.values())),
            threads=self.threads,
        )


MakeCommands = Callable[[Run, Path], Commands]


class Session:
    """Conducts one run and writes down how it stands."""

    def __init__(
        self,
        run: Run,
        display: Display,
        make_commands: MakeCommands,
        *,
        graces: Graces = Graces(),  # noqa: B008 - frozen
    ) -> None:
        self._run = run
        self._display = display
        self._make_commands = make_commands
        self._graces = graces
        self._supervisor: Supervisor | None = None
        self._observer: Observer | None = None
        self._watching: asyncio.Task[None] | None = None
        self._interrupted = self._suspended = self._is_up = False
        self._last = 0
        self._wanted: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._chaos: Chaos | None = None
        self._noticed = ""
        self._losses = Losses(run.folder.path, run.plan)
        self._state = opening(run, now=dt.datetime.now(dt.UTC))

    async def conduct(self) -> Outcome:
        """Run the job; returns how it ended, which `run.json` says too."""
        with self._signals(), self._run.folder.hold(), identities(self._run.plan) as keys:
            self._run.folder.trust(Credentials.read(keys / "server").authority)
            self._save()
            outcome = Outcome(70, "fl-submit", "ended by an error of its own")
            try:
                outcome = self._stopped(await self._supervised(keys))
            except DiedError as error:
                outcome = error.outcome
            finally:
                self._end(outcome)
            return outcome

    def _stopped(self, outcome: Outcome) -> Outcome:
        """The wish to stop now counts, too, where it came once a job that was asked to finish had done so."""
        ending = self._display.picture.ending
        if self._wanted is None or outcome.exit_code or ending is None or ending.reason != STOPPED:
            return outcome
        return Outcome(self._wanted, "", "stopped while its processes ended")

    async def _supervised(self, keys: Path) -> Outcome:
        run = self._run
        reports = Reports(tell=self._display.say, started=self._started)
        commands = self._make_commands(run, keys)
        if run.faults is not None:
            self._chaos = Chaos(
                run.faults,
                workers=run.plan.workers,
                storage=run.folder.storage,
                tell=self._display.say,
            )
        async with Supervisor(
            commands,
            run.staffing,
            logs=run.folder.logs,
            reports=reports,
            # Who is too many may stay for as long as a round may take.
            graces=replace(self._graces, leave=run.plan.selection.deadline_seconds + self._graces.stop),
            disturbance=self._chaos or PEACE,
        ) as supervisor:
            self._supervisor = supervisor
            if self._wanted is not None:
                supervisor.stop_now(self._wanted)
            address = await supervisor.start()
            self._is_up = True
            await self._scale_as_wished(supervisor)
            async with open_channel(address, keys / "observer", peer="server") as channel:
                self._observer = Observer(channel, run.plan.job.uid, run.plan.digest)
                self._watch_server(self._observer)
                outcome = await supervisor.ended()
                if self._watching and (outcome.exit_code == 0 or outcome.culprit == "server"):
                    await asyncio.wait({self._watching}, timeout=LAST_OBSERVATION_SECONDS)
                self._stop_watching()
                await self._calm()
            return outcome

    async def _calm(self) -> None:
        """Let go of what faults still hold, and write down what they were."""
        if self._chaos is not None and self._run.faults is not None:
            story = await self._chaos.end()
            chaos_report.write(
                chaos_report.report(story, self._run.folder, seed=self._run.faults.seed), self._run.folder
            )

    def _watch_server(self, observer: Observer) -> None:
        self._stop_watching()
        self._watching = asyncio.create_task(self._watch(observer))

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, observer: Observer) -> None:
        """Show what a server says, dialled again while it is silent; its end is the supervisor's to tell."""
        while not await self._watched(observer):  # noqa: ASYNC110 - another process says when
            await asyncio.sleep(AGAIN_SECONDS)

    async def _watched(self, observer: Observer) -> bool:
        """Show what comes until the server says no more; whether it has said that the job is over."""
        ending, known = False, False
        with suppress(UnavailableError):
            async for observation in observer.observations():
                if self._interrupted and not known:  # this server may have come after the one that was asked
                    await self._finish(observer)
                known = True
                self._display.show(observation)
                self._notice(observation.standing.notice)
                for sentence in self._losses.news(observation):
                    self._display.say(sentence)
                if any(not closed.restored for closed in observation.closed) and self._supervisor is not None:
                    self._supervisor.progressed()
                ending = observation.ending is not None
        return ending

    def _notice(self, notice: str) -> None:
        if notice != self._noticed:
            self._noticed = notice
            self._display.say(notice)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        wishes = {
            signal.SIGINT: self._interrupt,
            FINISH: self._finish_soon,
            SUSPEND: self._suspend,
            SCALE: self._scale,
        }
        for number, act in wishes.items():
            loop.add_signal_handler(number, act)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_now, 128 + number)
        try:
            yield
        finally:
            for number in (*wishes, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        """Ctrl-C: finish the round; the second time, or before there are rounds, stop now."""
        if self._interrupted:
            self._stop_now(128 + signal.SIGINT)
        else:
            self._finish_soon(128 + signal.SIGINT, also=" Ctrl-C again to stop now.")

    def _suspend(self) -> None:
        """End the round if it takes no longer than the grace, and all processes."""
        self._suspended = True
        self._finish_soon()
        asyncio.get_running_loop().call_later(self._run.grace, self._stop_now, TERMINATED_EXIT_CODE)

    def _scale(self) -> None:
        """Have as many workers as somebody wishes for, from the next round on."""
        if self._supervisor is not None and self._is_up:
            self._do(self._scale_as_wished(self._supervisor))

    async def _scale_as_wished(self, supervisor: Supervisor) -> None:
        wanted = self._run.folder.wish()
        if wanted is None or self._state.replicas in {None, wanted}:
            return
        self._state = self._state.model_copy(update={"replicas": wanted})
        self._save()
        self._display.say(f"Scaling to {wanted} workers.")
        await supervisor.scale(wanted)

    @property
    def _begun(self) -> bool:
        """Whether a round has begun since this run was started."""
        return self._display.picture.standing.round > self._run.plan.done

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _finish_soon(self, exit_code: int = TERMINATED_EXIT_CODE, also: str = "") -> None:
        """End with the open round; at once, with this code, where there is none."""
        if self._observer is None or not self._begun:
            self._stop_now(exit_code)
        elif not self._interrupted:
            self._interrupted = True
            # Who makes room waits for no workers; a stop gets the round that is shown.
            self._last = 0 if self._suspended else self._display.picture.standing.round
            self._display.say(f"Finishing: this round ends and the model is written.{also}")
            self._do(self._finish(self._observer))

    async def _finish(self, observer: Observer) -> None:
        try:
            await observer.finish(last=self._last)
        except UnavailableError as error:
            self._display.say(f"{error}. It is asked again when it is back; Ctrl-C again to stop now.")

    def _stop_now(self, exit_code: int) -> None:
        self._wanted = exit_code
        if self._supervisor is not None:
            self._display.say("Stopping now.")
            self._supervisor.stop_now(exit_code)

    def _started(self, name: str, pid: int) -> None:
        self._state = self._state.model_copy(update={"pids": {**self._state.pids, name: pid}})
        self._save()
        if name == "server" and self._observer is not None:
            self._show_recorded()
            self._watch_server(self._observer)

    def _save(self) -> None:
        self._run.folder.write(self._state)

    def _show_recorded(self) -> None:
        """Show the rounds of the record: a server that dies tells no more, and its successor only of its own."""
        self._display.show(Observation(self._display.picture.standing, tuple(self._run.folder.lines())))

    def _end(self, outcome: Outcome) -> None:
        """Show the rounds that were not heard of, and write down how the run ended."""
        self._show_recorded()
        ending = self._display.picture.ending
        reason, message = (ending.reason, ending.message) if ending else ("", "")
        state = final_state(outcome, reason, suspended=self._suspended)
        if state == "Suspended":  # it has not ended
            reason = message = ""
        elif outcome.exit_code:
            message = f"{outcome.culprit}: {outcome.sentence}" if outcome.culprit else outcome.sentence
        recurs = bool(ending and ending.recurs and outcome.culprit == "server")
        how = {
            "state": state,
            "reason": reason,
            "message": message,
            "exit_code": outcome.exit_code,
            "recurs": recurs,
        }
        self._state = self._state.model_copy(update={**how, "ended": dt.datetime.now(dt.UTC), "pids": {}})
        self._save()


def opening(run: Run, *, now: dt.datetime) -> RunState:
    """What `run.json` says when a run starts, or goes on."""
    state = RunState(
        job=run.plan.job.name,
        started=now,
        files=run.files,
        program=str(run.program),
        data=run.data,
        initial_model=run.initial_model,
        store=run.store,
        parent=run.parent,
        words=run.words,
        replicas=run.replicas,
        grace=run.grace,
        threads=run.threads,
        restarts=run.restarts,
    )
    if run.before is None:
        return state
    started, earlier = run.before.state.started, run.before.seconds
    return state.model_copy(update={"started": started, "resumed": now, "earlier_seconds": earlier})


def final_state(outcome: Outcome, reason: str, *, suspended: bool = False) -> State:
    """Tell a finished run from one that was stopped, suspended or failed."""
    if outcome.culprit and outcome.exit_code:
        return "Failed"
    if outcome.exit_code == 0 and reason != STOPPED:
        return "Complete"
    return "Suspended" if suspended else "Stopped"
