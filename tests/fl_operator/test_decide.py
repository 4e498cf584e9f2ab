"""From what is there to what should be: created once, repaired, suspended, ended, and quiet otherwise."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_operator.actions import Apply, Create, Decision, Delete, Finish, Note, Place, Seen
from fl_operator.attempt import SPEC_DIGEST, Attempt, canonical
from fl_operator.cluster.resources import Object
from fl_operator.conditions import TYPES, time_of
from fl_operator.decide import decide
from fl_operator.findings import is_given_up
from fl_operator.status import Report
from job_generator import names
from job_generator.local.observer import Standing
from job_generator.local.record import ClosedRound, Spent
from job_generator.settings import Images, Settings
from job_generator.status import Status

START = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
SPEC: Object = {
    "program": {"entrypoint": "digits:task", "source": {"configMap": {"name": "digits"}}},
    "rounds": 20,
    "workers": {"replicas": 4},
}


@dataclass
class World:
    """A cluster with one job, and an operator that does at once what is decided."""

    spec: Object = field(default_factory=lambda: deepcopy(SPEC))
    now: dt.datetime = START
    settings: Settings = field(default_factory=Settings)
    objects: dict[Place, Object] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    taken: frozenset[Place] = frozenset()
    refused: dict[Place, str] = field(default_factory=dict)
    held: set[Place] = field(default_factory=set)
    report: Report | None = None
    silent_since: dt.datetime | None = None
    status: Object = field(default_factory=dict)
    generation: int = 1
    notes: list[Note] = field(default_factory=list)
    gone: bool = False

    @property
    def job(self) -> Object:
        """The FLJob as the API server holds it."""
        metadata = {"name": "digits", "namespace": "lab", "uid": "u-1", "generation": self.generation}
        return {"metadata": metadata, "spec": self.spec, "status": deepcopy(self.status)}

    @property
    def attempt(self) -> Attempt | None:
        """The frozen attempt, if there is one."""
        kept = self.objects.get(("ConfigMap", f"digits-attempt-{self.status.get('attempt', 1)}"))
        return Attempt.thaw(kept) if kept else None

    def visit(self) -> Decision:
        """Decide once, and carry it out."""
        attempt = self.attempt
        names_ = {place for place in self.objects if place[0] == "Job"}
        if attempt:
            names_ = {(one["kind"], one["metadata"]["name"]) for one in attempt.children}
        seen = Seen(
            job=self.job,
            attempt=attempt,
            children={place: one for place, one in self.objects.items() if place in names_},
            taken=self.taken,
            refused=self.refused,
            held=frozenset(self.held),
            pods=self.pods,
            events=self.events,
            report=self.report,
            silent_since=self.silent_since,
        )
        decision = decide(seen, settings=self.settings, now=self.now)
        for action in decision.actions:
            self._carry_out(action)
        self.status = decision.status or self.status
        self.notes += said(decision)
        return decision

    def settle(self) -> Decision:
        """Visit until there is nothing to do."""
        for _ in range(5):
            decision = self.visit()
            if not decision.actions and decision.status is None:
                return decision
        raise AssertionError(f"it does not come to rest: {decision}")

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        one = next(one for one in self.status["conditions"] if one["type"] == kind)
        return one["status"], one["reason"], one["message"]

    def jobs(self) -> list[Object]:
        """The children that have pods."""
        return [one for (kind, _), one in self.objects.items() if kind == "Job"]

    def child(self, role: str) -> Object:
        """A role's Job."""
        return next(one for one in self.jobs() if one["metadata"]["labels"][names.ROLE] == role)

    def ready(self, workers: int = 4) -> None:
        """Let the server and so many workers be ready."""
        self.pods = [pod("server", ready=True), *(pod("worker", n, ready=True) for n in range(workers))]

    def pass_time(self, **duration: float) -> None:
        """Move the clock."""
        self.now += dt.timedelta(**duration)

    def _carry_out(self, action: Create | Apply | Delete | Finish) -> None:
        match action:
            case Create(made):
                place = (made["kind"], made["metadata"]["name"])
                assert place not in self.objects
                assert place not in self.taken
                self.objects[place] = as_stored(made)
                self.held.add(place)
            case Apply(made):
                place = (made["kind"], made["metadata"]["name"])
                self.objects[place] = merged(self.objects[place], as_stored(made))
            case Delete(old) if "rounds" in old["spec"]:
                self.gone = True
            case Delete(old):
                del self.objects[old["kind"], old["metadata"]["name"]]
                self.held.discard((old["kind"], old["metadata"]["name"]))


def said(decision: Decision) -> list[Note]:
    """The events of a visit all of whose actions are done."""
    done = [action.note for action in decision.actions if not isinstance(action, Finish)]
    return [*filter(None, done), *decision.notes]


def as_stored(made: Object) -> Object:
    """An object as the API server gives it back: with defaults, and whole numbers as such."""
    stored: Object = json.loads(canonical(made))
    stored["metadata"]["uid"] = "u-9"
    if "spec" in stored:
        stored["spec"]["defaulted"] = "by the API server"
    return stored


def merged(live: Any, made: Any) -> Any:
    if isinstance(live, dict) and isinstance(made, dict):
        return {**live, **{name: merged(live.get(name), value) for name, value in made.items()}}
    return made


def pod(role: str, index: int = 0, *, ready: bool = False, **state: Any) -> Object:
    """A pod whose container is in this state."""
    labels = {names.ROLE: role, "batch.kubernetes.io/job-completion-index": str(index)}
    conditions = [{"type": "Ready", "status": str(ready)}]
    container = {"name": "fl", "state": state.get("state", {}), "lastState": state.get("last", {})}
    container["restartCount"] = state.get("restarts", 0)
    limits = {"name": "fl", "resources": {"limits": {"memory": "512Mi"}}}
    return {
        "metadata": {"name": f"digits-{role}-{index}", "labels": labels},
        "spec": {"containers": [limits]},
        "status": {"conditions": conditions, "containerStatuses": [container], **state.get("status", {})},
    }


def ended(code: int, message: str = "", reason: str = "Error") -> Object:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def report(number: int, *, at: dt.datetime = START) -> Report:
    closed = ClosedRound(
        round=number,
        cohort=("worker-0", "worker-1", "worker-2"),
        reporters=("worker-0", "worker-2"),
        dropouts={"worker-1": "deadline"},
        metrics={"loss": 0.5, "accuracy": 0.9375},
        seconds={"total": 1.25},
    )
    standing = Standing(round=number + 1, rounds=20, phase="Training")
    return Report(standing=standing, closed=closed, evaluated=closed, closed_at=at)


@pytest.fixture
def world() -> World:
    """A job that was just made."""
    return World()


@pytest.fixture
def running() -> World:
    """A job whose pods are ready."""
    one = World()
    one.settle()
    one.ready()
    one.settle()
    return one


def test_a_job_gets_its_children_once(world: World) -> None:
    """The first visit creates everything, says so, and the next ones find nothing to do."""
    world.visit()
    assert len(world.jobs()) == 3
    assert world.attempt is not None
    assert {(one["kind"], one["metadata"]["name"]) for one in world.attempt.children} < set(world.objects)
    assert world.condition("Compiled")[0] == "True"
    assert world.status["display"] == {"state": "Starting", "reason": "NoQuorum", "round": "0/20"}
    assert [note.reason for note in world.notes] == ["Started"]
    assert world.settle().again is not None
    before = deepcopy(world.objects)
    world.pass_time(minutes=1)
    assert world.visit().actions == ()
    assert world.objects == before


def test_a_wrong_spec_creates_nothing(world: World) -> None:
    """The condition names the YAML path and what would be accepted; mending it is enough."""
    world.spec["selection"] = {"minimum": 9}
    world.settle()
    assert world.objects == {}
    status, reason, message = world.condition("Compiled")
    assert (status, reason) == ("False", "InvalidSpec")
    assert "spec.selection.minimum: 9" in message
    assert [note.reason for note in world.notes] == ["InvalidSpec"]
    world.spec["selection"] = {"minimum": 3}
    world.generation += 1
    world.settle()
    assert world.condition("Compiled")[0] == "True"
    assert len(world.jobs()) == 3


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, one in value.items() for leaf in leaves(one, (*path, name))]
    if isinstance(value, list):
        return [leaf for number, one in enumerate(value) for leaf in leaves(one, (*path, number))]
    return [path]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_edit_of_a_child_is_repaired(data: st.DataObject) -> None:
    """Whatever field somebody changes or removes, it is as it was again, and an event says so."""
    world = World()
    world.settle()
    before = deepcopy(world.objects)
    editable = {p: one for p, one in world.objects.items() if SPEC_DIGEST not in str(one["metadata"])}
    place = data.draw(st.sampled_from(sorted(editable)))
    wanted = next(
        one
        for one in world.attempt.children
        if (one["kind"], one["metadata"]["name"]) == place  # type: ignore[union-attr]
    )
    fixed = [("kind",), ("apiVersion",), ("metadata", "name"), ("metadata", "namespace")]
    fixed.append(("metadata", "labels", names.ATTEMPT))  # what another attempt made is made anew
    paths = [path for path in leaves(wanted) if path not in fixed]
    *way, last = data.draw(st.sampled_from(paths))
    inner = world.objects[place]
    for step in way:
        inner = inner[step]
    if data.draw(st.booleans()) and isinstance(inner, dict) and inner[last]:
        del inner[last]
    else:
        inner[last] = "edited by hand"
    decision = world.visit()
    assert [type(action) for action in decision.actions] == [Apply]
    assert [note.reason for note in said(decision)] == ["Repaired"]
    assert world.objects == before
    world.settle()


def test_storage_that_was_let_go_stays_so() -> None:
    """Whoever takes its owner from a claim wants it to outlive the job; all else of it is repaired."""
    world = World()
    world.spec["server"] = {"storage": {"onDelete": "Delete"}}
    world.settle()
    claim = next(one for (kind, _), one in world.objects.items() if kind == "PersistentVolumeClaim")
    assert [owner["uid"] for owner in claim["metadata"].pop("ownerReferences")] == ["u-1"]
    assert world.visit().actions == ()
    claim["metadata"]["labels"][names.JOB] = "another"
    (repair,) = world.visit().actions
    assert isinstance(repair, Apply)
    assert repair.object["metadata"]["labels"][names.JOB] == "digits"
    assert "ownerReferences" not in repair.object["metadata"]


def test_a_silent_server_is_told_after_some_patience(running: World) -> None:
    """Though its pod is ready; it is told once, through a restart of the operator, until the server speaks."""
    running.silent_since = running.now
    running.pass_time(seconds=119)
    assert running.settle().again == pytest.approx(1)
    assert running.condition("ServerReady")[:2] == ("True", "Ready")
    running.pass_time(seconds=1)
    running.settle()
    status, reason, message = running.condition("ServerReady")
    assert (status, reason) == ("Unknown", "Silent")
    assert "see that the operator may reach port 7443" in message
    running.silent_since = running.now
    assert running.visit().status is None
    assert [note.reason for note in running.notes].count("Silent") == 1
    running.silent_since = None
    running.settle()
    assert running.condition("ServerReady")[:2] == ("True", "Ready")


def test_what_a_program_raised_is_told(running: World) -> None:
    """The message has the sentence with which a worker ended, and below a traceback what was raised."""
    said = "the program raised ValueError; mend it\nTraceback (its lines):\n  File p.py\nValueError: no data\n(more)"
    running.pods[1] = pod("worker", 0, state=ended(66, said))
    running.settle()
    message = running.condition("Degraded")[2]
    assert message == "worker 0: ProgramError (the program raised ValueError; mend it: ValueError: no data)"


def test_more_and_fewer_workers(world: World) -> None:
    """Scaled within `maxReplicas` the pool follows, which is no news; of those that there are enough must be left."""
    world.spec |= {"workers": {"replicas": 4, "maxReplicas": 8}, "selection": {"perRound": 2, "minimum": 2}}
    world.settle()
    world.ready()
    world.settle()
    world.notes.clear()
    for replicas in (7, 3):
        world.spec["workers"]["replicas"] = replicas
        world.generation += 1
        world.settle()
        pool = world.child("worker")
        assert (pool["spec"]["completions"], pool["spec"]["parallelism"]) == (replicas, replicas)
        assert world.status["workers"]["replicas"] == replicas
    assert world.notes == []
    pool["status"] = {"failedIndexes": "1,2"}
    world.settle()
    assert world.condition("Failed") == ("True", "QuorumLost", "2 of 3 workers are lost, 2 are needed")


def test_a_deleted_child_comes_back_when_it_is_gone(running: World) -> None:
    """One that is on its way out is waited for: two of a name would be two of a job."""
    server = running.child("server")
    server["metadata"]["deletionTimestamp"] = "now"
    assert running.visit().actions == ()
    del running.objects["Job", server["metadata"]["name"]]
    decision = running.visit()
    assert [type(action) for action in decision.actions] == [Create]
    assert running.child("server")
    assert [note.note for note in said(decision)] == ["Job digits-server was gone, and is made again"]


def test_a_server_that_was_lost_often_gets_a_new_job(running: World) -> None:
    """Once no pod of it is there: Kubernetes would wait ever longer before it makes the next one."""
    running.pass_time(minutes=1)
    running.child("server")["status"] = {"failed": 2}
    running.pods[0] = pod("server", status={"phase": "Failed"})
    assert running.visit().actions == ()
    running.child("server")["status"] = {"failed": 3}
    running.child("worker")["status"] = {"failed": 9}
    decision = running.visit()
    assert [type(action) for action in decision.actions] == [Delete]
    assert [note.reason for note in said(decision)] == ["Renewed"]
    assert [type(action) for action in running.visit().actions] == [Create]
    assert running.visit().actions == ()


def test_a_server_that_ended_for_good_ends_the_job(running: World) -> None:
    """However often it was lost before: a new Job would only fail again."""
    running.pass_time(minutes=1)
    running.child("server")["status"] = {"failed": 3}
    running.pods[0] = pod("server", state=ended(72, "its storage is damaged"), status={"phase": "Failed"})
    decision = running.visit()
    assert not any(isinstance(action, Delete) for action in decision.actions)
    assert running.condition("Failed")[0] == "True"


@pytest.mark.parametrize("left", ["one that starts", "one on its way out"])
def test_a_job_that_has_a_pod_is_not_made_anew(running: World, left: str) -> None:
    """It needs no other, or would have to wait for the old one's end, which a lost node may never tell."""
    running.pass_time(minutes=1)
    running.child("server")["status"] = {"failed": 7}
    running.pods[0] = pod("server", status={"phase": "Failed"} if "out" in left else {})
    running.pods[0]["metadata"] |= {"deletionTimestamp": "now"} if "out" in left else {}
    assert running.visit().actions == ()


def test_a_server_that_has_ended_well_keeps_its_job(running: World) -> None:
    """Though it was lost often before, and its Job does not tell of its end yet."""
    running.pass_time(minutes=1)
    running.child("server")["status"] = {"failed": 3}
    running.pods[0] = pod("server", status={"phase": "Succeeded"})
    assert running.visit().actions == ()


@pytest.mark.parametrize("left", ["Failed", ""])
def test_a_job_that_is_resumed_gets_its_pod_at_once(running: World, left: str) -> None:
    """The losses are of a time before; only when no pod comes its Job is made anew."""
    running.child("server")["status"] = {"failed": 3}
    running.spec |= {"suspend": True, "suspendGraceSeconds": 0}
    running.pods[:] = [pod("server", status={"phase": left})] if left else []
    running.settle()
    running.pass_time(minutes=5)
    running.spec["suspend"] = False
    running.visit()
    running.pass_time(seconds=9)
    decision = running.visit()
    assert (decision.actions, decision.again) == ((), pytest.approx(1))
    running.pass_time(seconds=1)
    assert [type(action) for action in running.visit().actions] == [Delete]


def test_somebody_elses_object_is_never_touched(world: World) -> None:
    """A name that is taken is told, the rest is made, and nothing of the other's is changed."""
    world.taken = frozenset({("Service", "digits-server")})
    world.visit()
    assert ("Service", "digits-server") not in world.objects
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "NameTaken")
    assert message.startswith("Service digits-server exists and is not this job's; remove it")


def test_an_upgrade_of_the_operator_touches_no_running_job(running: World) -> None:
    """Another default image, another renderer: what was frozen stays."""
    running.settings = Settings(images=Images.of("9.9.9"), operator_namespace="elsewhere")
    assert running.visit() == Decision(again=running.visit().again)
    assert "9.9.9" not in json.dumps(running.status)


def test_what_cannot_change_does_not(running: World) -> None:
    """A change that only the operator can see is told, and the running attempt goes on."""
    running.spec["strategy"] = {"name": "fedprox", "mu": 0.1}
    running.generation += 1
    assert running.visit().actions == ()
    assert running.condition("Compiled")[:2] == ("False", "ImmutableFieldChanged")
    assert running.status["display"]["state"] == "Running"
    del running.spec["strategy"]
    running.generation += 1
    running.settle()
    assert running.condition("Compiled")[:2] == ("True", "Compiled")


def test_templates_may_change_while_it_is_suspended(running: World) -> None:
    """What pods are made from is a new attempt, with the same Plan; the Jobs are made anew when it is resumed."""
    over = {"spec": {"containers": [{"name": "fl", "resources": {"limits": {"memory": "4Gi"}}}]}}
    running.spec["workers"]["template"] = over
    running.settle()
    assert running.condition("Compiled")[:2] == ("False", "ImmutableFieldChanged")
    running.spec |= {"suspend": True, "suspendGraceSeconds": 0}
    plan = running.status["planDigest"]
    for _ in range(8):
        running.visit()
    assert running.condition("Compiled")[:2] == ("True", "Compiled")
    assert (running.status["attempt"], running.status["planDigest"]) == (2, plan)
    running.spec["suspend"] = False
    running.settle()
    container = running.child("worker")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "4Gi"}
    assert len(running.jobs()) == 3


OVER = {"spec": {"containers": [{"name": "fl", "resources": {"limits": {"memory": "4Gi"}}}]}}


def test_templates_that_were_changed_in_time_count(running: World) -> None:
    """Though nobody has looked before the job was told to go on: its pods were gone when they were changed."""
    running.spec |= {"suspend": True, "suspendGraceSeconds": 0}
    running.settle()
    running.spec["workers"]["template"] = OVER
    running.spec["suspend"] = False
    running.settle()
    assert (running.status["attempt"], running.condition("Compiled")[0]) == (2, "True")
    container = running.child("worker")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "4Gi"}
    assert not any(child["spec"]["suspend"] for child in running.jobs())


def test_templates_that_were_changed_too_soon_are_told(running: World) -> None:
    """Before the pods are gone nothing is taken over, and none is refused yet; told to go on, an event says it is."""
    running.spec |= {"suspend": True, "suspendGraceSeconds": 30}
    running.report = report(3)
    running.spec["workers"]["template"] = OVER
    running.pass_time(seconds=1)
    running.settle()
    assert running.condition("Suspended")[0] == "Unknown"
    assert running.condition("Compiled")[0] == "True"
    running.spec["suspend"] = False
    running.settle()
    assert running.condition("Compiled")[:2] == ("False", "ImmutableFieldChanged")
    assert running.status["attempt"] == 1
    assert [note.reason for note in running.notes].count("ImmutableFieldChanged") == 1
    assert "when Suspended is True" in running.notes[-1].note
    running.spec["suspend"] = True
    for _ in range(8):
        running.pass_time(seconds=31)
        running.visit()
    assert running.status["attempt"] == 2


@pytest.mark.parametrize("number", [1, 2])
def test_what_keeps_the_attempt_is_made_again(running: World, number: int) -> None:
    """Deleted by hand: the same attempt is kept again, also after `rounds` was lowered, and no child is touched."""
    if number > 1:
        another_attempt(running)
    running.spec["rounds"] = 12
    running.settle()
    status = deepcopy(running.status)
    del running.objects["ConfigMap", f"digits-attempt-{number}"]
    others = deepcopy(running.objects)
    decision = running.visit()
    assert [note.note for note in said(decision)] == [
        f"ConfigMap digits-attempt-{number} was gone, and is made again"
    ]
    (kept,) = (action.object for action in decision.actions if isinstance(action, Create))
    assert (len(decision.actions), kept["metadata"]["name"]) == (1, f"digits-attempt-{number}")
    assert decision.again == pytest.approx(0.1)
    running.settle()
    assert (running.objects | others, running.status) == (running.objects, status)


def another_attempt(running: World) -> None:
    """A job whose templates were changed while it was suspended."""
    running.spec |= {"suspend": True, "suspendGraceSeconds": 0}
    running.settle()
    running.spec["workers"]["template"] = OVER
    running.settle()
    running.spec["suspend"] = False
    running.settle()
    assert running.status["attempt"] == 2
    assert "Repaired" not in {note.reason for note in running.notes}


def test_an_attempt_that_cannot_be_kept_again_is_told(running: World) -> None:
    """Of a spec with another plan nothing is made beside what runs."""
    before = {
        place: one for place, one in running.objects.items() if place != ("ConfigMap", "digits-attempt-1")
    }
    running.objects = deepcopy(before)
    running.spec["strategy"] = {"name": "fedprox", "mu": 0.1}
    running.settle()
    assert running.objects == before
    assert running.condition("Stalled")[:2] == ("True", "AttemptLost")
    assert "change back" in running.condition("Stalled")[2]
    del running.spec["strategy"]
    running.settle()
    assert running.condition("Stalled")[0] == "False"


@pytest.mark.parametrize("upgraded", [False, True])
def test_an_attempt_that_made_other_pods_is_not_kept_again(running: World, *, upgraded: bool) -> None:
    """Their templates cannot be changed: those of a changed spec, or of an operator with other images."""
    if upgraded:
        running.settings = Settings(images=Images.of("9.9.9"))
    else:
        running.spec["workers"]["template"] = OVER
        running.settle()
    del running.objects["ConfigMap", "digits-attempt-1"]
    before = deepcopy(running.objects)
    running.settle()
    assert running.objects == before
    assert running.condition("Stalled")[:2] == ("True", "AttemptLost")
    assert running.condition("Ready")[0] == "True"


def test_a_new_attempt_that_was_refused_for_long_begins_in_its_own_time(running: World) -> None:
    """A quota kept a resumed job from its new templates: neither that hour nor the suspension counts."""
    running.spec |= {"suspend": True, "suspendGraceSeconds": 0, "activeDeadlineSeconds": 600}
    running.settle()
    running.spec["workers"]["template"] = OVER
    running.spec["suspend"] = False
    running.refused = {("ConfigMap", "digits-attempt-2"): "exceeded quota"}
    running.visit()
    assert running.condition("Compiled")[:2] == ("False", "ChildRefused")
    del running.objects["ConfigMap", "digits-attempt-2"]
    running.now += dt.timedelta(hours=1)
    running.refused = {}
    running.settle()
    assert running.status["attempt"] == 2
    assert running.status["startTime"] == time_of(running.now)
    assert running.condition("Failed")[0] == "False"
    assert len(running.jobs()) == 3


def test_templates_may_change_after_rounds_were_lowered(running: World) -> None:
    """The plan has the rounds of its beginning, which may be lowered at any time."""
    running.spec["rounds"] = 12
    another_attempt(running)
    assert running.condition("Compiled")[:2] == ("True", "Compiled")


def test_the_plan_cannot_change_even_then(running: World) -> None:
    """Another strategy would be another job, also while it is suspended."""
    running.spec |= {"suspend": True, "suspendGraceSeconds": 0, "strategy": {"name": "fedprox", "mu": 0.1}}
    for _ in range(6):
        running.visit()
    assert running.condition("Compiled")[:2] == ("False", "ImmutableFieldChanged")
    assert running.status["attempt"] == 1


def test_a_managed_job_of_another_controller_is_left_alone(world: World) -> None:
    """`managedBy` somebody else, or on its way out: nothing is done, nothing is said."""
    world.spec["managedBy"] = "example.org/other"
    assert world.visit() == Decision()


# -- how it stands


def test_the_columns_tell_the_round(running: World) -> None:
    """State, round, cohort and metric, as the server last said them."""
    running.report = report(7)
    running.settle()
    assert running.status["display"] == {
        "state": "Running",
        "reason": "Quorum",
        "round": "7/20",
        "cohort": "2/3",
        "metric": "accuracy=0.9375",
    }
    assert running.status["training"]["dropped"] == 1
    assert running.status["workers"] | {"selector": ""} == {
        "replicas": 4,
        "ready": 4,
        "lost": 0,
        "selector": "",
    }


LOG = """{"event": "round 3 begins", "level": "info"}
{"event": "no data", "level": "error", "exception": "Traceback (most recent call last):\\n  File\\nKeyError: 'x'"}
"""
"""The end of a process's log, as a kubelet keeps it."""

TROUBLES = [
    (
        pod("worker", 3, last=ended(137, reason="OOMKilled")),
        "OOMKilled",
        "worker 3: OOMKilled (limit 512Mi); raise the memory limit in its template",
    ),
    (
        pod("server", state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
        "ImagePullBackOff",
        "server: ImagePullBackOff (no such image); check the image's name and the pull secrets",
    ),
    (
        pod("server", state={"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}),
        "ErrImageNeverPull",
        "server: ErrImageNeverPull (not present); load the image on the node, or let imagePullPolicy pull it",
    ),
    (
        pod(
            "worker",
            status={
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes",
                    }
                ]
            },
        ),
        "Unschedulable",
        "worker 0: Unschedulable (0/3 nodes); add nodes, or lower the requests in its template",
    ),
    (
        pod("worker", 1, status={"reason": "Evicted", "message": "low on memory"}),
        "Evicted",
        "worker 1: Evicted (low on memory); its node ran out of something; raise the requests in its template",
    ),
    (
        pod("scheduler", state={"waiting": {"reason": "CrashLoopBackOff"}}, last=ended(1, "Traceback")),
        "CrashLoopBackOff",
        "scheduler: CrashLoopBackOff (exit code 1: Traceback); look at its log",
    ),
    (
        pod("worker", 2, state={"waiting": {"reason": "CrashLoopBackOff"}}, last=ended(139, LOG)),
        "CrashLoopBackOff",
        "worker 2: CrashLoopBackOff (exit code 139, SIGSEGV: no data: KeyError: 'x'); look at its log",
    ),
    (
        pod(
            "worker",
            3,
            state={"waiting": {"reason": "CrashLoopBackOff"}},
            last=ended(137, reason="OOMKilled"),
        ),
        "CrashLoopBackOff",
        (
            "worker 3: CrashLoopBackOff (OOMKilled, exit code 137); look at its log; "
            "worker 3: OOMKilled (limit 512Mi); raise the memory limit in its template"
        ),
    ),
    (
        pod("worker", state={"waiting": {"reason": "CrashLoopBackOff"}}, last=ended(1, LOG.splitlines()[0])),
        "CrashLoopBackOff",
        "worker 0: CrashLoopBackOff (exit code 1: it did not say why); look at its log",
    ),
]


@pytest.mark.parametrize(("trouble", "reason", "message"), TROUBLES, ids=range(len(TROUBLES)))
def test_the_trouble_of_a_pod_shows_in_the_job(
    running: World, trouble: Object, reason: str, message: str
) -> None:
    """Who, what, and what to do; once it is over the condition says so."""
    healthy, running.pods = running.pods, [*running.pods, trouble]
    running.settle()
    assert running.condition("Degraded") == ("True", reason, message)
    assert Note(reason, message, "Warning") in running.notes
    running.pods = healthy
    running.settle()
    assert running.condition("Degraded")[:2] == ("False", "AllWell")


def test_a_container_that_keeps_dying_is_in_trouble_while_it_runs_again(running: World) -> None:
    """From its third new start on, until ten minutes after its last death; one that was told to end is not."""
    at = running.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def death(code: int) -> Object:
        return {"terminated": {**ended(code, "Traceback")["terminated"], "finishedAt": at}}

    for restarts, code, reason in ((2, 1, "AllWell"), (3, 143, "AllWell"), (3, 1, "CrashLoopBackOff")):
        running.pods[1] = pod("worker", ready=True, last=death(code), restarts=restarts)
        decision = running.settle()
        assert running.condition("Degraded")[1] == reason
    waits = {"waiting": {"reason": "ImagePullBackOff"}}
    running.pods.append(pod("worker", 1, state=waits, last=death(1), restarts=3))
    running.settle()
    assert "worker 1: ImagePullBackOff" in running.condition("Degraded")[2]
    running.pods.pop()
    running.settle()
    told = "worker 0: CrashLoopBackOff (exit code 1: Traceback); look at its log"
    assert running.condition("Degraded")[2] == told
    assert decision.again is not None
    assert decision.again <= 600
    running.pass_time(minutes=10)
    running.settle()
    assert running.condition("Degraded")[1] == "AllWell"


def test_a_pod_may_wait_a_moment_for_its_node(running: World) -> None:
    """A claim that is being made is no trouble yet; after ten seconds it is, and nobody need look before."""
    since = running.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "unbound claim"}
    condition = {**waits, "lastTransitionTime": since}
    running.pods[0] = pod("server", status={"conditions": [condition]})
    assert running.settle().again == pytest.approx(10)
    assert running.condition("Degraded")[0] == "False"
    running.pass_time(seconds=10)
    running.settle()
    assert running.condition("Degraded")[:2] == ("True", "Unschedulable")


def test_a_pod_without_its_claim_is_no_lack_of_nodes(running: World) -> None:
    """Who waits for a claim is told to make it, not to add nodes."""
    missing = {"reason": "Unschedulable", "message": 'persistentvolumeclaim "code" not found'}
    condition = {"type": "PodScheduled", "status": "False", **missing}
    running.pods.append(pod("worker", 3, status={"conditions": [condition]}))
    running.settle()
    told = 'worker 3: Unschedulable (persistentvolumeclaim "code" not found); make the claim that it names'
    assert running.condition("Degraded")[2].startswith(told)


@pytest.mark.parametrize("end", [{"phase": "Failed"}, {}], ids=["lost", "going"])
def test_what_a_lost_node_said_last_does_not_count(running: World, end: Object) -> None:
    """A pod that is over, or on its way out, is not ready, whatever its conditions still say."""
    for one in running.pods[1:3]:
        one["status"] |= end
        if not end:
            one["metadata"]["deletionTimestamp"] = "now"
    running.settle()
    assert running.status["workers"]["ready"] == 2
    assert running.condition("Ready")[:2] == ("False", "QuorumLost")


def test_two_words_for_an_image_are_one_trouble(running: World) -> None:
    """A kubelet alternates between trying and waiting; the status stands still."""
    cause = "failed to resolve image: not found"
    running.pods[0] = pod("server", state={"waiting": {"reason": "ErrImagePull", "message": cause}})
    running.settle()
    assert running.condition("Degraded")[2].startswith(f"server: ImagePullBackOff ({cause}); check the image")
    waiting = f'Back-off pulling image "x": ErrImagePull: {cause}'
    running.pods[0] = pod("server", state={"waiting": {"reason": "ImagePullBackOff", "message": waiting}})
    assert running.visit().status is None


def test_a_job_that_is_not_ready_is_looked_at_again(world: World) -> None:
    """Events are not watched; the longer it waits, the less often."""
    world.settle()
    assert world.visit().again == pytest.approx(15)
    world.pass_time(minutes=4)
    assert world.visit().again == pytest.approx(60)
    world.spec["preRunningDeadlineSeconds"] = 864_000
    world.pass_time(days=1)
    assert world.visit().again == pytest.approx(300)


def test_what_a_kubelet_has_not_read_yet_is_no_trouble(running: World) -> None:
    """It tries again at once, and its haste must not hide what is really missing."""
    told = 'MountVolume.SetUp failed for volume "plan" : '
    passing = told + "failed to sync configmap cache: timed out waiting for the condition"
    about = {"kind": "Pod", "name": "digits-worker-0", "uid": "u-9"}
    event = {"type": "Warning", "reason": "FailedMount", "regarding": about}
    running.ready(workers=2)
    running.events = [{**event, "note": passing}]
    running.settle()
    assert running.condition("Degraded")[0] == "False"
    running.events.append({**event, "note": told + 'configmap "plan" not found'})
    running.settle()
    assert running.condition("Degraded")[2].startswith("Pod digits-worker-0: FailedMount (MountVolume")
    assert "timed out" not in running.condition("Degraded")[2]


def test_what_shows_only_in_events_shows_in_the_job(running: World) -> None:
    """A quota or a policy refuses pods of a Job that itself looks well, and counts no more once the job is ready."""
    about = {"kind": "Job", "name": "digits-worker"}
    note = "pods forbidden: exceeded quota"
    running.ready(workers=2)
    running.events = [{"type": "Warning", "reason": "FailedCreate", "regarding": about, "note": note}]
    running.settle()
    assert running.condition("Degraded") == (
        "True",
        "FailedCreate",
        f"Job digits-worker: FailedCreate ({note}); mend what the message names, or the namespace's quota or policy",
    )
    running.ready()
    running.visit()
    assert running.condition("Degraded")[:2] == ("False", "AllWell")


# -- suspension


def test_a_job_made_suspended_has_no_pods(world: World) -> None:
    """Its spec is judged, its attempt frozen; the rest is made when it is resumed."""
    world.spec["suspend"] = True
    world.settle()
    assert world.jobs() == []
    assert world.status["display"]["state"] == "Suspended"
    assert "startTime" not in world.status
    world.spec["suspend"] = False
    world.settle()
    assert len(world.jobs()) == 3
    assert all(one["spec"]["suspend"] is False for one in world.jobs())
    assert world.condition("Suspended")[0] == "False"


def test_an_open_round_may_end_first(running: World) -> None:
    """Suspended while it runs: the pods go when the round has closed, or the grace is over."""
    running.report = report(7, at=running.now)
    running.settle()
    running.pass_time(seconds=5)
    running.spec |= {"suspend": True, "suspendGraceSeconds": 60}
    assert running.settle().again == pytest.approx(60)
    assert running.condition("Suspended")[:2] == ("Unknown", "Suspending")
    running.pass_time(seconds=20)
    running.report = report(8, at=running.now)
    running.settle()
    assert all(one["spec"]["suspend"] is True for one in running.jobs())
    assert running.status["display"]["state"] == "Suspended"


def test_an_operator_that_starts_anew_does_not_cut_a_round_off(running: World) -> None:
    """Until it hears of the server it cannot know whether a round is open; without a server there is none."""
    running.report = None
    running.spec |= {"suspend": True, "suspendGraceSeconds": 60}
    assert running.settle().again == pytest.approx(60)
    assert running.condition("Suspended")[:2] == ("Unknown", "Suspending")
    running.pods = [one for one in running.pods if one["metadata"]["labels"][names.ROLE] != "server"]
    running.settle()
    assert running.condition("Suspended")[0] == "True"


@pytest.mark.parametrize("held", [True, False])
def test_only_another_hand_is_told_of_suspension(running: World, *, held: bool) -> None:
    """What was asked of the job is no news, also where no status could be written; the rest is undone."""
    for wanted in (True, held):
        running.spec |= {"suspend": wanted, "suspendGraceSeconds": 0}
        before = deepcopy(running.status)
        running.visit()
        running.status = before  # as after a conflict
        running.settle()
        assert all(one["spec"]["suspend"] is wanted for one in running.jobs())
    assert "Repaired" not in {note.reason for note in running.notes}
    running.child("worker")["spec"]["suspend"] = not held
    running.settle()
    assert running.child("worker")["spec"]["suspend"] is held
    assert [note.note for note in running.notes if note.reason == "Repaired"] == [
        "Job digits-worker had been changed"
    ]


def test_workers_that_go_home_are_not_missed(running: World) -> None:
    """Between the first process that has done and the server's own end the job stays as ready as it was."""
    running.report = report(20, at=running.now)
    running.settle()
    before = ("Running", "True", "Quorum")
    assert (running.status["display"]["state"], *running.condition("Ready")[:2]) == before
    for one in reversed(running.pods):
        one["status"] |= {"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False"}]}
        running.settle()
        assert (running.status["display"]["state"], *running.condition("Ready")[:2]) == before


def test_a_round_that_does_not_end_is_given_up(running: World) -> None:
    """After the grace the pods go all the same, and time that is suspended does not count."""
    running.report = report(7, at=running.now)
    running.spec |= {"suspend": True, "activeDeadlineSeconds": 1000}
    running.pass_time(seconds=1)
    running.settle()
    running.pass_time(seconds=31)
    running.settle()
    assert all(one["spec"]["suspend"] is True for one in running.jobs())
    running.pass_time(days=2)
    running.settle()
    running.spec["suspend"] = False
    running.settle()
    assert all(one["spec"]["suspend"] is False for one in running.jobs())
    assert running.condition("Failed")[0] == "False"


# -- the ends


def complete(world: World, *, words: str | None = None) -> None:
    counts = {"selected": 3, "reported": 2, "dropped": 1}
    said = {
        "reason": "TargetReached",
        "round": 12,
        **counts,
        "metrics": {"accuracy": 0.975},
        "model": "c0ffee",
    }
    world.child("server")["status"] = {"succeeded": 1}
    world.pods = [pod("server", state=ended(0, json.dumps(said) if words is None else words, "Completed"))]
    world.settle()


def test_a_job_completes_with_its_server(running: World) -> None:
    """The last words of the server's pod are the status, though the operator was not there to hear the rounds."""
    complete(running)
    assert running.condition("Complete") == (
        "True",
        "TargetReached",
        "the final model is written after round 12; fetch it with `fl-submit model`",
    )
    assert running.condition("Ready")[:2] == ("True", "Complete")
    assert running.status["display"]["round"] == "12/20"
    assert running.status["display"]["cohort"] == "2/3"
    assert running.status["display"]["metric"] == "accuracy=0.975"
    assert running.status["display"]["state"] == "Complete"


SPENT = {
    "epsilon": 3.1875,
    "delta": 1e-5,
    "budget": 4,
    "neighbours": "add or remove one",
    "adversary": "everyone but the server",
    "epsilonCovers": "modelOnly",
}


def test_a_job_tells_what_it_spends(running: World) -> None:
    """While it runs the status has the epsilon of the server's last word, whether the open round is closed or not."""
    standing = Standing(round=8, rounds=20, phase="Training", privacy=Spent.model_validate(SPENT))
    running.report = replace(report(7), standing=standing)
    running.settle()
    training = running.status["training"]
    assert (training["epsilon"], training["epsilonCovers"]) == (3.1875, "modelOnly")
    assert training["epsilonNeighbours"] == "add or remove one"
    assert training["epsilonAdversary"] == "everyone but the server"
    assert running.status["display"]["epsilon"] == "3.19"


def test_what_an_epsilon_is_about_fits_into_the_status(running: World) -> None:
    """A fork of forks names all their adversaries, and the API server takes what is left of that."""
    spent = Spent.model_validate({**SPENT, "adversary": "everyone; " * 1000})
    running.report = replace(
        report(7), standing=Standing(round=8, rounds=20, phase="Training", privacy=spent)
    )
    running.settle()
    assert Status.model_validate(running.status).training is not None


def test_a_job_whose_budget_is_spent_is_complete(running: World) -> None:
    """The reason, the server's sentence and the epsilon are in the status when the server is gone."""
    said = {
        "reason": "BudgetSpent",
        "round": 12,
        "message": "epsilon 3.19 of 4 is spent",
        "metrics": {},
        "privacy": SPENT,
    }
    complete(running, words=json.dumps(said))
    assert running.condition("Complete") == (
        "True",
        "BudgetSpent",
        "epsilon 3.19 of 4 is spent; the final model is written after round 12; fetch it with `fl-submit model`",
    )
    assert running.status["training"]["epsilon"] == 3.1875
    assert running.status["display"]["epsilon"] == "3.19"


@pytest.mark.parametrize(
    "words", ["", "{}", "[1]", '{"reason": 1, "round": "x", "metrics": {}}', "free text"]
)
def test_last_words_of_another_kind_do_not_matter(running: World, words: str) -> None:
    """The job is complete whatever the pod says."""
    complete(running, words=words)
    assert running.condition("Complete")[:2] == ("True", "RoundsDone")


@pytest.mark.parametrize(("policy", "stopped", "deleted"), [("Running", 3, 0), ("All", 0, 3), ("None", 0, 0)])
def test_pods_go_as_the_policy_says(running: World, policy: str, stopped: int, deleted: int) -> None:
    """A moment after the end: those that run, all of them, or none; the storage stays in any case."""
    running.spec["podCleanupPolicy"] = policy
    complete(running)
    assert not any(one["spec"]["suspend"] for one in running.jobs())
    running.pass_time(seconds=31)
    running.settle()
    assert sum(one["spec"]["suspend"] for one in running.jobs()) == stopped
    assert 3 - len(running.jobs()) == deleted
    assert [kind for kind, _ in running.objects if kind == "PersistentVolumeClaim"]


def test_a_job_is_deleted_after_its_time(running: World) -> None:
    """`ttlSecondsAfterFinished` counts from the end."""
    running.spec["ttlSecondsAfterFinished"] = 100
    complete(running)
    running.pass_time(seconds=99)
    running.settle()
    assert not running.gone
    running.pass_time(seconds=1)
    running.visit()
    assert running.gone


def test_a_job_that_is_over_creates_nothing(running: World) -> None:
    """Whatever is deleted afterwards stays deleted."""
    complete(running)
    for place in list(running.objects):
        del running.objects[place]
    running.pass_time(days=1)
    assert running.visit().actions == ()


def test_an_error_of_the_server_fails_the_job(running: World) -> None:
    """A permanent exit code ends the job with the process's own sentence; its pods are stopped."""
    sentence = "round 3, attempt 3: 1 updates of 4 asked, fewer than selection.minimum (3)"
    running.pods[0] = pod("server", last=ended(68, sentence))
    running.settle()
    assert running.condition("Failed") == ("True", "TooFewWorkers", f"server: TooFewWorkers ({sentence})")
    assert running.status["display"]["state"] == "Failed"
    running.pass_time(seconds=1)
    running.settle()
    assert all(one["spec"]["suspend"] for one in running.jobs())


def test_damage_that_a_restart_cannot_mend_fails_the_job(running: World) -> None:
    """The condition names the file and what to do, and whoever asks is told who must act."""
    sentence = "metrics.jsonl is damaged: line 3: it was changed; nothing was changed: put a copy of it back"
    running.pods[0] = pod("server", last=ended(72, sentence))
    running.settle()
    assert running.condition("Failed") == ("True", "StorageUnusable", f"server: StorageUnusable ({sentence})")


def test_some_workers_may_be_lost(running: World) -> None:
    """With a quorum left the job goes on, though the Job of the workers has failed; without, it fails."""
    program = pod("worker", 1, state=ended(66, "KeyError: 'x'"))
    workers = running.child("worker")
    workers["status"] = {"failedIndexes": "1", "conditions": [{"type": "Failed", "status": "True"}]}
    running.pods[2] = program
    running.settle()
    assert running.status["display"]["state"] == "Running"
    assert running.status["workers"]["lost"] == 1
    workers["status"] = {"failedIndexes": "1-3"}
    running.settle()
    assert running.condition("Failed") == (
        "True",
        "ProgramError",
        "3 of 4 workers are lost, 3 are needed; worker 1: ProgramError (KeyError: 'x')",
    )


@pytest.mark.parametrize(("limit", "lost"), [(3, 0), (2, 1), (0, 1)])
def test_a_worker_that_died_too_often_is_lost(running: World, limit: int, lost: int) -> None:
    """Started again more often than it may be, it counts as lost, and an event says who, why and what to do."""
    running.spec["workers"]["restartsPerWorker"] = limit
    running.pods[2] = pod("worker", 1, ready=True, last=ended(137, reason="OOMKilled"), restarts=1)
    running.settle()
    running.notes.clear()
    running.pods[2] = pod("worker", 1, ready=True, last=ended(137, reason="OOMKilled"), restarts=3)
    running.settle()
    workers = running.status["workers"]
    assert (workers["ready"], workers["lost"]) == (4 - lost, lost)
    assert running.status["display"]["state"] == "Running"
    told = f"worker 1: RestartsExhausted (it was started again more than spec.workers.restartsPerWorker ({limit}) "
    told += (
        "times, last after OOMKilled, exit code 137 (limit 512Mi)); look at its log; mended, it counts again"
    )
    assert (told in running.condition("Degraded")[2]) == bool(lost)
    assert [note.reason for note in running.notes] == ["RestartsExhausted"] * min(lost, limit)
    running.pods[2] = pod("worker", 1, ready=True)
    running.settle()
    assert running.status["workers"]["lost"] == 0


def test_many_workers_that_died_too_often_are_told_once(running: World) -> None:
    """Each of its own cause: an event for each that the condition shows, none at the next look, nor for a new cause."""
    running.spec["workers"]["replicas"] = 12
    running.settle()

    def died(often: int) -> list[Object]:
        return [
            pod("worker", n, last=ended(1, f"OSError: {often} of {n}"), restarts=10 + often) for n in range(8)
        ]

    running.pods += [pod("worker", 9, last=ended(137, reason="OOMKilled"))]
    running.settle()
    running.notes.clear()
    running.pods += died(1)
    running.settle()
    noted = [note.note.partition(" (")[0] for note in running.notes]
    assert noted == [f"worker {n}: RestartsExhausted" for n in range(5)]
    running.pods[-8:] = died(2)
    running.settle()
    running.visit()
    assert "OSError: 2 of 4" in running.condition("Degraded")[2]
    assert len(running.notes) == 5


@pytest.mark.parametrize("code", [75, 143])
def test_a_worker_that_ended_in_order_did_not_die(running: World, code: int) -> None:
    """That it found no server, or began again for a new certificate, is not held against it, nor what was before."""
    running.pods[2] = pod("worker", 1, ready=True, last=ended(1), restarts=98)
    running.settle()
    assert running.status["workers"]["lost"] == 1
    running.pods[2] = pod("worker", 1, ready=True, last=ended(code), restarts=99)
    running.settle()
    assert running.status["workers"]["lost"] == 0


def test_a_job_whose_workers_all_die_too_often_fails(running: World) -> None:
    """Instead of starting them again for ever."""
    running.pods[1:] = [pod("worker", n, last=ended(1), restarts=11) for n in range(4)]
    running.settle()
    status, reason, message = running.condition("Failed")
    assert (status, reason) == ("True", "RestartsExhausted")
    assert message.startswith("4 of 4 workers are lost, 3 are needed; worker 0: RestartsExhausted")


@given(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0, 1, 66, 75, 137, 143]), st.booleans())
def test_only_deaths_beyond_the_limit_count(limit: int, times: int, code: int, goes: bool) -> None:  # noqa: FBT001
    """Of a worker, while its pod stays; server and scheduler are started again for ever."""
    died = bool(code not in {75, 143} and times > limit and not goes)
    for role in ("worker", "server", "scheduler"):
        one = pod(role, last=ended(code), restarts=times)
        one["metadata"] |= {"deletionTimestamp": "now"} if goes else {}
        assert is_given_up(one, limit) == (died and role == "worker")


def test_a_job_that_is_not_ready_in_time_fails(world: World) -> None:
    """And it says what is in the way."""
    world.spec["preRunningDeadlineSeconds"] = 60
    world.settle()
    world.pods = [pod("server", state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})]
    world.pass_time(seconds=59)
    assert world.settle().again == pytest.approx(1)
    world.pass_time(seconds=1)
    world.settle()
    status, reason, message = world.condition("Failed")
    assert (status, reason) == ("True", "PreRunningDeadlineExceeded")
    assert message.startswith("not ready within 0:01:00: server: ImagePullBackOff (not found)")


def test_a_job_that_was_ready_once_has_no_such_deadline(running: World) -> None:
    """A quorum that is lost later is the server's to judge."""
    running.pods = []
    running.pass_time(days=1)
    running.settle()
    assert running.condition("Failed")[0] == "False"


def test_a_job_that_takes_too_long_fails(running: World) -> None:
    """`activeDeadlineSeconds` counts from the start."""
    running.spec["activeDeadlineSeconds"] = 3600
    running.pass_time(seconds=3599)
    running.settle()
    assert running.condition("Failed")[0] == "False"
    running.pass_time(seconds=1)
    running.settle()
    assert running.condition("Failed")[:2] == ("True", "DeadlineExceeded")


def test_fewer_rounds_end_the_job_early(running: World) -> None:
    """The server hears of a lower `rounds` at once, so that it ends with that round however short its rounds are.

    It is told until it says so, and again where another process, which does not know of it, serves.
    """
    running.report = report(5)
    running.settle()
    running.spec["rounds"] = 8
    for _ in range(2):
        assert running.visit().actions == (Finish(8),)
    running.report = replace(report(5), standing=Standing(round=6, rounds=8, phase="Selecting"))
    running.settle()
    running.report = Report(standing=Standing(round=0, rounds=20, phase="Waiting"))
    assert running.visit().actions == (Finish(8),)


FORKED = {"round": 12, "persistentVolumeClaim": {"claimName": "kept", "path": "checkpoints/12.safetensors"}}


def test_a_fork_begins_with_its_parents_rounds() -> None:
    """It tells them before its server says anything, and before that has opened a round."""
    one = World(spec={**deepcopy(SPEC), "initialModel": FORKED})
    one.settle()
    assert one.status["display"]["round"] == "12/20"
    one.ready()
    one.report = Report(standing=Standing(round=0, rounds=20, phase="Waiting"))
    one.settle()
    assert one.status["training"] == {"round": 12, "rounds": 20}


def test_a_server_that_has_read_nothing_yet_takes_no_round_back(running: World) -> None:
    """To an operator that comes as a server begins again, the status stands until the server knows better."""
    running.report = report(5)
    running.settle()
    told = running.status["training"]
    for phase, number in (("Waiting", told["round"]), ("Training", 0)):
        running.report = Report(standing=Standing(round=1, rounds=20, phase=phase))
        running.settle()
        assert running.status["training"]["round"] == number


# -- always


Step = Callable[[World, st.DataObject], None]


def lose_a_child(world: World, draw: st.DataObject) -> None:
    places = sorted(place for place in world.objects if place[0] != "ConfigMap")
    if places:
        del world.objects[draw.draw(st.sampled_from(places))]


def toggle(world: World, _: st.DataObject) -> None:
    world.spec["suspend"] = not world.spec.get("suspend", False)
    world.generation += 1


def change_pods(world: World, draw: st.DataObject) -> None:
    if world.jobs():
        world.ready(draw.draw(st.integers(0, 4)))
        code = draw.draw(st.sampled_from([0, 0, 0, 1, 66, 137]))
        restarts = draw.draw(st.sampled_from([0, 1, 11]))
        world.pods += [pod("worker", 3, last=ended(code), restarts=restarts)] if code else []


def lose_workers(world: World, draw: st.DataObject) -> None:
    for one in world.jobs():
        if one["metadata"]["labels"][names.ROLE] == "worker":
            one["status"] = {"failedIndexes": draw.draw(st.sampled_from(["", "0", "0,2", "0-3"]))}


def wait(world: World, draw: st.DataObject) -> None:
    world.pass_time(seconds=draw.draw(st.sampled_from([1, 40, 1000])))


def close_a_round(world: World, draw: st.DataObject) -> None:
    world.report = report(draw.draw(st.integers(1, 20)), at=world.now)


STEPS = [lose_a_child, toggle, change_pods, lose_workers, wait, close_a_round]


@settings(max_examples=75, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=12), st.data())
def test_it_comes_to_rest_whatever_happens(steps: list[Step], data: st.DataObject) -> None:
    """After any history: at rest, one state that holds, nothing created once it is over, no pods while suspended."""
    world = World()
    world.settle()
    for step in steps:
        over = world.status["display"]["state"] in {"Complete", "Failed"}
        before = set(world.objects)
        step(world, data)
        before &= set(world.objects)
        world.settle()
        if over:
            assert set(world.objects) <= before
        state = world.status["display"]["state"]
        if state == "Suspended":
            assert all(one["spec"]["suspend"] for one in world.jobs())
        if state in {"Starting", "Running"} and world.condition("Suspended")[0] == "False":
            assert [one["spec"]["suspend"] for one in world.jobs()] == [False] * 3
        true = {one["type"] for one in world.status["conditions"] if one["status"] == "True"}
        assert len(true & {"Complete", "Failed"}) <= 1
        assert {one["type"] for one in world.status["conditions"]} == set(TYPES)


def test_a_quorum_with_sites_outside_is_the_servers_to_see() -> None:
    """External sites are no pods: the job is ready when its server trains, and stays so while it selects."""
    outside = {"sites": [{"name": "a", "external": {}}], "network": {"external": {"hostname": "a.b"}}}
    world = World(spec={**deepcopy(SPEC), **outside, "selection": {"minimum": 5}})
    world.settle()
    world.ready()
    world.settle()
    assert world.condition("Ready")[:2] == ("False", "NoQuorum")
    for phase in ("Training", "Selecting"):
        world.report = Report(standing=Standing(round=1, rounds=20, phase=phase))
        world.settle()
        assert world.condition("Ready")[0] == "True"
    world.report = None
    world.pass_time(hours=1)
    world.settle()
    assert world.condition("Ready")[0] == "True"
    assert world.condition("Failed")[0] == "False"
    world.report = Report(standing=Standing(round=1, rounds=20, phase="Waiting"))
    world.settle()
    assert world.condition("Ready")[:2] == ("False", "QuorumLost")


def test_sites_outside_that_have_left() -> None:
    """A server that finds no cohort for long has lost its quorum, and says so until it trains again."""
    outside = {"sites": [{"name": "a", "external": {}}], "network": {"external": {"hostname": "a.b"}}}
    world = World(spec={**deepcopy(SPEC), **outside, "selection": {"minimum": 5, "joinSeconds": 20}})
    world.settle()
    world.ready()
    report = Report(standing=Standing(round=1, rounds=20, phase="Training"))
    for phase, ready, display in (
        ("Training", "True", "Running Quorum"),
        ("Selecting", "False", "Starting QuorumLost"),
        ("Training", "True", "Running Quorum"),
    ):
        report = world.report = report.standing_at(Standing(round=2, rounds=20, phase=phase), world.now)
        again = world.settle().again
        assert world.condition("Ready")[0] == "True"
        assert again is None or phase == "Training" or again == 30
        world.pass_time(seconds=30)
        world.report = report.standing_at(report.standing, world.now)
        world.settle()
        assert world.condition("Ready")[0] == ready
        assert f"{world.status['display']['state']} {world.status['display']['reason']}" == display
        assert ("too few sites outside" in world.condition("Ready")[2]) == (ready == "False")
