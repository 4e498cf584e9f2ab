"""One job made right: observe it in the copies, decide, act on the cluster, report in one status write."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from fl_core.errors import UnavailableError
from fl_operator.actions import (
    Action,
    Apply,
    Create,
    Decision,
    Delete,
    Finish,
    Note,
    Place,
    Seen,
    changed,
    place_of,
    steps,
)
from fl_operator.attempt import belongs, holds_attempt
from fl_operator.attempts import Attempts
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import (
    AlreadyExistsError,
    ForbiddenError,
    InvalidError,
    NamespaceTerminatingError,
    NotFoundError,
    WebhookError,
)
from fl_operator.cluster.events import Note as Event
from fl_operator.cluster.events import Recorder
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import (
    CONFIG_MAPS,
    FLJOBS,
    JOBS,
    NAMESPACES,
    PODS,
    Key,
    Object,
    key_of,
    resource_of,
    uid_of,
)
from fl_operator.conditions import COMPLETE, FAILED, READY, holds, is_over
from fl_operator.decide import decide
from fl_operator.drift import differs
from fl_operator.findings import listener_of, pods_of
from fl_operator.loop import GATHER_SECONDS, Requeue
from fl_operator.memory import Memory
from fl_operator.metrics import OperatorMetrics
from fl_operator.progress import Progress
from fl_operator.rehearsal import lacks_class, unfit, written
from fl_operator.stopwatch import together
from fl_operator.trial import UNCLASSED
from fl_operator.warning_events import WarningEvents
from job_generator.problems import Problem
from job_generator.settings import Settings

log = structlog.get_logger()

STATUS_SECONDS: Final = 5.0
"""News of the training are written at most so often for one job."""
REFUSED_SECONDS: Final = 15.0
"""What the API server refuses is tried again after so long: a quota may have been raised, a name be free, and a rule
about a field of a template may be a webhook's.
"""
CLASSED_SECONDS: Final = 60.0
"""A cluster that has a default storage class is not asked for it again for so long; one without for REFUSED_SECONDS,
however many jobs wait.
"""
SERVER_SECONDS: Final = 5.0
"""A server that could not be asked to finish is asked again after so long."""

Now = Callable[[], dt.datetime]


def present() -> dt.datetime:
    """The time of day."""
    return dt.datetime.now(dt.UTC)


@dataclass(slots=True)
class Reconciler:
    """Makes one job after another right; keys may come in any order and any number of times."""

    connection: Connection
    mirror: Mirror
    attempts: Attempts
    recorder: Recorder
    metrics: OperatorMetrics
    progress: Progress
    settings: Settings
    warnings: WarningEvents
    now: Now = present
    clock: Callable[[], float] = time.monotonic
    _memories: dict[str, Memory] = field(default_factory=dict)
    _uids: dict[Key, str] = field(default_factory=dict)
    _classless: bool = False
    """Whether claims that name no storage class get none, as was learnt last."""
    _class_known_until: float = float("-inf")

    async def reconcile(self, key: Key) -> Requeue | None:
        """Look at one job and do what is due."""
        job = self.mirror.find(FLJOBS, key)
        known = self._uids.get(key)
        if known is not None and (job is None or uid_of(job) != known):
            await self._forget(key, known)
        if job is None:
            return None
        self._uids[key] = uid_of(job)
        memory = self._memories.setdefault(uid_of(job), Memory())
        seen = await self._seen(job, memory)
        if await self._namespace_ends(seen):
            await self._let_go(job)
            return None
        await self._follow(key, seen)
        seen = replace(seen, silent_since=self.progress.silent_since(uid_of(job)))
        decision = await self._decided(seen, memory)
        waits = [decision.again, REFUSED_SECONDS if seen.taken and not is_over(job) else None]
        for step in steps(decision.actions):
            waits += await together(self._act(job, action, memory) for action in step)
            if any(place_of(one) not in seen.refused for one in self._unkept(step)):
                return _soonest(waits)  # nothing is made, and nothing said, of an attempt that is not kept
        waits.append(await self._report(job, decision, memory))
        return _soonest(waits)

    def _unkept(self, step: Sequence[Action]) -> list[Object]:
        """The attempts that should be kept by now, and are not, or with other children."""
        wanted = [one.object for one in step if isinstance(one, Create) and holds_attempt(one.object)]
        found = [self.mirror.find(CONFIG_MAPS, key_of(one)) for one in wanted]
        return [
            one for one, kept in zip(wanted, found, strict=True) if (kept or {}).get("data") != one["data"]
        ]

    async def _decided(self, seen: Seen, memory: Memory) -> Decision:
        """What to do, when the API server has been asked what only it knows: whether it takes a job's templates, has a
        class for its storage, and whether a child was changed or is only written in its own way, of which this process
        may not know yet.
        """
        decision = decide(seen, settings=self.settings, now=self.now())
        wrong = await self._wrong(decision)
        repairs = [one.object for one in decision.actions if isinstance(one, Apply) and one.note is not None]
        doubtful = [one for one in repairs if place_of(one) not in {*memory.accepted, *memory.refused}]
        if not wrong and not doubtful:
            return decision
        for wanted, answer in await written(self.connection, doubtful):
            memory.accept(wanted, answer)
        children = {place: memory.as_wanted(child) for place, child in seen.children.items()}
        known = replace(seen, unfit=wrong, children=children)
        decision = decide(known, settings=self.settings, now=self.now())
        return replace(decision, again=REFUSED_SECONDS) if wrong else decision

    async def _wrong(self, decision: Decision) -> tuple[Problem, ...]:
        """What the API server finds wrong with a job that is not made yet; its default class is asked for rarely."""
        wrong = await unfit(self.connection, decision.trials)
        if decision.unclassed is not None and await self._lacks_class(decision.unclassed):
            return (*wrong, UNCLASSED)
        return wrong

    async def _lacks_class(self, claim: Object) -> bool:
        """Whether a claim would get no storage class, as far as is known."""
        if self.clock() < self._class_known_until:
            return self._classless
        learnt = await lacks_class(self.connection, claim)
        if learnt is not None:
            self._classless = learnt
            self._class_known_until = self.clock() + (REFUSED_SECONDS if learnt else CLASSED_SECONDS)
        return bool(learnt)

    # -- observe

    async def _seen(self, job: Object, memory: Memory) -> Seen:
        attempt = self.attempts.of(job)
        places = [place_of(child) for child in attempt.children] if attempt else []
        await self._ask_for_names(job, memory)
        children, taken = {}, set(memory.taken)
        for place, child in zip(places, attempt.children if attempt else (), strict=True):
            live = self.mirror.find(resource_of(child), key_of(child))
            if live is None:
                continue
            memory.taken.pop(place, None)
            if belongs(live, job):
                children[place] = memory.as_wanted(live)
                taken.discard(place)
            else:
                taken.add(place)
        alive = frozenset(
            place for place, one in children.items() if "deletionTimestamp" not in one["metadata"]
        )
        if attempt is None:  # it may be lost
            owned = self.mirror.owned(JOBS, uid_of(job))
            children = {place_of(one): memory.as_wanted(one) for one in owned}
        owners = [uid_of(child) for (kind, _), child in children.items() if kind == JOBS.kind]
        pods = [pod for uid in owners for pod in self.mirror.owned(PODS, uid)]
        return Seen(
            job=job,
            attempt=attempt,
            children=children,
            taken=frozenset(taken),
            refused=dict(memory.refused),
            held=memory.held(attempt.number if attempt else 0, places, alive=alive),
            pods=pods,
            events=await self._warnings(job, children),
            report=self.progress.report(uid_of(job)),
        )

    async def _ask_for_names(self, job: Object, memory: Memory) -> None:
        """Forget the names that nobody else has any more, of which no watch tells."""
        for place, resource in [] if is_over(job) else list(memory.taken.items()):
            try:
                live = await self.connection.read(resource, Key(job["metadata"]["namespace"], place[1]))
            except NotFoundError:
                del memory.taken[place]
            else:
                if belongs(live, job):
                    self.mirror.learn(live)

    async def _warnings(self, job: Object, children: dict[Place, Object]) -> list[Object]:
        """Warnings about the children of a job that is not ready."""
        conditions = (job.get("status") or {}).get("conditions", ())
        if not children or is_over(job) or holds(conditions, READY):
            return []
        own = {uid_of(child) for child in children.values()}
        own |= {uid_of(pod) for uid in own for pod in self.mirror.owned(PODS, uid)}
        return await self.warnings.about(own, namespace=job["metadata"]["namespace"])

    async def _follow(self, key: Key, seen: Seen) -> None:
        """Listen to the server of a job that runs, and to no other."""
        if is_over(seen.job):
            await self.progress.forget(uid_of(seen.job))
        elif seen.attempt is not None and (server := listener_of(pods_of(seen.pods, "server"))):
            training = (seen.job.get("status") or {}).get("training") or {}
            self.progress.follow(key, seen.attempt.plan, server, told=training.get("round", 0))

    async def _forget(self, key: Key, uid: str) -> None:
        """A job is gone; so is what was remembered of it."""
        self._memories.pop(uid, None)
        self._uids.pop(key, None)
        await self.progress.forget(uid)

    # -- act

    async def _act(self, job: Object, action: Action, memory: Memory) -> float | None:
        """Carry one action out; seconds after which to look again, if there are any."""
        match action:
            case Create() | Apply():
                return await self._make(job, action, memory)
            case Delete(thing, note):
                memory.remove(place_of(thing))
                try:
                    await self.connection.delete(resource_of(thing), key_of(thing), uid=uid_of(thing))
                except NotFoundError:
                    return None
                self._tell(job, note)
            case Finish(last):
                try:
                    await self.progress.finish(uid_of(job), last=last)
                except UnavailableError as error:
                    log.info("the server was not asked to finish", reason=str(error))
                return SERVER_SECONDS
        return None

    async def _make(self, job: Object, action: Create | Apply, memory: Memory) -> float | None:
        wanted, new, place = action.object, isinstance(action, Create), place_of(action.object)
        try:
            made = await self._write(wanted, by=self.connection.create if new else self.connection.apply)
        except AlreadyExistsError:
            return await self._met(job, wanted, memory)
        except NamespaceTerminatingError:
            await self._let_go(job)
            return None
        except (ForbiddenError, InvalidError, WebhookError) as error:
            known, memory.refused[place] = place in memory.refused, str(error)
            return REFUSED_SECONDS if known else GATHER_SECONDS
        refused = memory.refused.pop(place, None)
        memory.accept(wanted, made)
        self._tell(job, action.note)
        return GATHER_SECONDS if refused or not new else None

    async def _write(self, thing: Object, *, by: Callable[[Object], Awaitable[Object]]) -> Object:
        """Write an object; the answer, of which nobody is told, is in the copy from then on."""
        with self.mirror.writing(thing):
            made = await by(thing)
            self.mirror.learn(made)
        return made

    async def _met(self, job: Object, wanted: Object, memory: Memory) -> float | None:
        """Something of this name is there: our own, which the copy does not show yet, or somebody else's."""
        resource, place = resource_of(wanted), place_of(wanted)
        try:
            live = await self.connection.read(resource, key_of(wanted))
        except NotFoundError:
            return 0.1
        if belongs(live, job):
            labels = wanted["metadata"]["labels"]
            if not labels.items() <= (live["metadata"].get("labels") or {}).items():
                # By its labels a copy knows what to show: of a child that lost them no watch tells.
                live = await self.connection.merge(resource, key_of(wanted), {"metadata": {"labels": labels}})
                self._tell(job, changed(place))
            self.mirror.learn(live)
            return 0.1
        memory.taken[place] = resource
        return GATHER_SECONDS

    async def _namespace_ends(self, seen: Seen) -> bool:
        """Whether the job's namespace is being deleted; its pods go first, and before that nobody has to ask."""
        if not any(pod["metadata"].get("deletionTimestamp") for pod in seen.pods):
            return False
        namespace = await self.connection.read(NAMESPACES, Key("", seen.job["metadata"]["namespace"]))
        return "deletionTimestamp" in namespace["metadata"]

    async def _let_go(self, job: Object) -> None:
        """A namespace that is deleted waits for ever for a Job that counts its failures by index."""
        for one in self.mirror.owned(JOBS, uid_of(job)):
            if not one["metadata"].get("deletionTimestamp"):
                log.info("Job removed with its namespace", name=one["metadata"]["name"])
                with suppress(NotFoundError):
                    await self.connection.delete(JOBS, key_of(one), uid=uid_of(one), propagation="Background")

    # -- report

    async def _report(self, job: Object, decision: Decision, memory: Memory) -> float | None:
        """Write the status if it changed, and the events; seconds to wait where it is too soon."""
        for note in (*decision.notes, *self.progress.notes(uid_of(job))):
            self._tell(job, note)
        status = decision.status
        if status is None:
            return None
        wait = memory.written + STATUS_SECONDS - self.clock()
        if wait > 0 and not _matters(status, job.get("status") or {}):
            return wait
        metadata = {name: job["metadata"][name] for name in ("namespace", "name", "resourceVersion")}
        told = {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": metadata, "status": status}
        await self._write(told, by=self.connection.write_status)
        memory.written = self.clock()
        self._count(job, status)
        return None

    def _tell(self, job: Object, note: Note | None) -> None:
        if note is not None:
            warning = note.type == "Warning"
            self.recorder.record(Event.on(job, note.reason, note.note, warning=warning))

    def _count(self, job: Object, status: Object) -> None:
        known = job.get("status") or {}
        before, now = known.get("conditions", ()), status["conditions"]
        for kind, result in ((COMPLETE, "complete"), (FAILED, "failed")):
            if holds(now, kind) and not holds(before, kind):
                reason = next(one["reason"] for one in now if one["type"] == kind)
                self.metrics.finished.labels(result, reason).inc()
        if holds(now, READY) and not _was_ready(known):
            made = dt.datetime.fromisoformat(job["metadata"]["creationTimestamp"])
            self.metrics.ready.observe((self.now() - made).total_seconds())


def _was_ready(status: Object) -> bool:
    """Whether a job has been ready: it is, it lost its quorum since, or a round was closed before it was suspended."""
    ready = next((one for one in status.get("conditions", ()) if one["type"] == READY), None)
    lost = ready is not None and (ready["status"] == "True" or ready["reason"] == "QuorumLost")
    return lost or "selected" in status.get("training", {})


def _soonest(waits: Iterable[float | None]) -> Requeue | None:
    return Requeue(soonest) if (soonest := min(filter(None, waits), default=None)) else None


def _matters(status: Object, before: Object) -> bool:
    """Whether more than the news of the training changed."""
    news = {"training", "display"}
    return differs({name: value for name, value in status.items() if name not in news}, before)
