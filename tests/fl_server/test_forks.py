"""Epsilon never falls: not when a server starts again, goes back to an older checkpoint, or a job is forked."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fl_core.errors import JobError, MismatchError, SpecError
from fl_core.lineage import makers
from fl_core.plan import InitialModel, Job, Plan
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.costs import Cost
from fl_core.privacy.job import NEIGHBOURS, cost_of, opening_of
from fl_core.weights import ArraySpec, Manifest, digest
from fl_server.board import Board
from fl_server.checkpoints import Saved, write
from fl_server.metrics import Metrics
from fl_server.origin import Origin
from fl_server.privacy import LEDGER, Privacy
from fl_server.spending import Spending
from fl_server.storage import Storage
from tests.conftest import plan_of, private

PlanOf = Callable[..., Plan]

MANIFEST = Manifest((ArraySpec("w", "float32", (2000,)),))
DELTA = 1e-5


def private_plan(uid: str, *, noise: float = 4.0, budget: float = 500.0) -> Plan:
    job = Job(name="test", namespace="default", uid=uid)
    return plan_of(job=job, privacy=private(noise=noise, epsilon=budget))


def opened(
    plan: Plan, folder: Path, *, seen: dict[str, Any] | None = None, parents: tuple[Path, ...] = ()
) -> Privacy:
    folder.mkdir(exist_ok=True)
    one = Privacy.of(plan, folder, parents=parents)
    assert one is not None
    one.open(seen, begun=seen is not None)
    one.settle(MANIFEST)
    return one


class Lineage(RuleBasedStateMachine):
    """One job and its forks, as their servers live through them; `paid` is every release that ever was."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.paid: list[Cost] = []
        self.highest = 0.0
        self.jobs = 0
        self._job(noise=4.0, parents=())

    def _job(self, *, noise: float, parents: tuple[Path, ...]) -> None:
        self.jobs += 1
        self.place = Path(self.folder.name) / f"{self.jobs}"
        self.plan = private_plan(f"job-{self.jobs}", noise=noise)
        self.privacy = opened(self.plan, self.place, parents=parents)
        self.round, self.attempt = 0, 1
        self.checkpoints = [(0, self.privacy.head)]

    @rule()
    def train(self) -> None:
        """A round is charged, and saved."""
        self.round, self.attempt = self.round + 1, 1
        self._charge()
        self.checkpoints.append((self.round, self.privacy.head))

    @rule()
    def retry(self) -> None:
        """Another attempt of the round, whose checkpoint is not written."""
        if self.round:
            self.attempt += 1
            self._charge()

    def _charge(self) -> None:
        assert self.privacy.charge(self.round, self.attempt)
        self.paid += cost_of(self.plan, dimension=2000)

    @rule(back=st.integers(0, 5))
    def restart(self, back: int) -> None:
        """The server starts again from the newest checkpoint, or from an older one, and goes on from there."""
        self.checkpoints = self.checkpoints[: max(1, len(self.checkpoints) - back)]
        self.round, head = self.checkpoints[-1]
        self.privacy = opened(self.plan, self.place, seen=head)

    @rule(noise=st.sampled_from([2.0, 8.0]))
    def fork(self, noise: float) -> None:
        """Another job begins with what the newest one has spent."""
        self._job(noise=noise, parents=(self.place / LEDGER,))

    @invariant()
    def epsilon_is_that_of_every_release(self) -> None:
        """What is told is what all releases of the lineage come to, and never less than before."""
        assert self.privacy.epsilon == epsilon(self.paid, delta=DELTA, neighbours=NEIGHBOURS)
        assert self.privacy.epsilon >= self.highest
        self.highest = self.privacy.epsilon

    def teardown(self) -> None:
        self.folder.cleanup()


Lineage.TestCase.settings = settings(max_examples=12, stateful_step_count=16, deadline=None)
test_epsilon_never_falls = Lineage.TestCase


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """The ledger of a job that has spent two rounds."""
    one = opened(private_plan("job-1"), tmp_path / "parent")
    assert one.charge(1, 1)
    assert one.charge(2, 1)
    return one.path


def test_a_fork_has_what_is_left_of_the_budget(parent: Path, tmp_path: Path) -> None:
    """With the parent's rounds counted fewer fit, and the budget is not passed."""
    rounds = []
    for parents in ((), (parent,)):
        one = opened(private_plan("job-2", budget=3.0), tmp_path / f"child-{len(parents)}", parents=parents)
        number = 0
        while one.affords():
            number += 1
            one.charge(number, 1)
        assert one.epsilon <= 3
        rounds.append(number)
    assert rounds[0] - rounds[1] == 2


def test_a_fork_whose_parents_spent_the_budget_is_refused(parent: Path, tmp_path: Path) -> None:
    """It says what they spent, before any worker is asked."""
    with pytest.raises(SpecError, match=r"epsilon: 1\.5 is less than .* after the 1\.\d+ that job-1 spent"):
        opened(private_plan("job-2", budget=1.5), tmp_path / "child", parents=(parent,))


def test_a_fork_needs_its_parents_ledger(parent: Path, tmp_path: Path) -> None:
    """A ledger that is missing or damaged is not taken for one of a job that spent nothing."""
    parent.write_bytes(parent.read_bytes()[:-9])
    for path in (parent, tmp_path / "absent.jsonl"):
        with pytest.raises(JobError, match="nothing may be released"):
            opened(private_plan("job-2"), tmp_path / "child", parents=(path,))


def test_a_fork_names_whom_its_parents_rounds_are_not_hidden_from(tmp_path: Path) -> None:
    """Its epsilon holds against no more than the weakest of its rounds, and the record says so, also later on."""
    trusting = private_plan("job-1")
    opened(trusting, tmp_path / "parent").charge(1, 1)
    own = private(noise=4.0, epsilon=500.0)
    alone = own.model_copy(update={"mechanism": own.mechanism.model_copy(update={"name": "local"})})
    plan = private_plan("job-2").model_copy(update={"privacy": alone})
    fork = opened(plan, tmp_path / "child", parents=(tmp_path / "parent" / LEDGER,))
    server = opening_of(trusting).adversary
    told = f"{opening_of(plan).adversary}; in the rounds of job-1: {server}"
    assert server != opening_of(plan).adversary
    assert fork.facts["adversary"] == told
    assert opened(plan, tmp_path / "child", seen=fork.head).facts["adversary"] == told


def test_parents_cannot_be_named_afterwards(parent: Path, tmp_path: Path) -> None:
    """A job that began as nobody's fork stays so; one that began as a fork needs its parents' files no more."""
    plan, child = private_plan("job-2"), tmp_path / "child"
    first = opened(plan, child)
    head = first.head
    with pytest.raises(MismatchError, match="was begun without the charges in"):
        opened(plan, child, seen=head, parents=(parent,))
    fork = opened(private_plan("job-3"), tmp_path / "fork", parents=(parent,))
    head, spent = fork.head, fork.epsilon
    parent.unlink()
    again = opened(private_plan("job-3"), tmp_path / "fork", seen=head, parents=(parent,))
    assert again.epsilon == spent > 0


def ledger(folder: Path, uid: str, *, rounds: int) -> dict[str, Any]:
    """The ledger of a job that has spent so many rounds, and the head that its checkpoint knows."""
    one = opened(private_plan(uid), folder)
    for number in range(1, rounds + 1):
        assert one.charge(number, 1)
    return one.head


def begun(storage: Path, child: Path) -> Privacy:
    """A fork from the checkpoint of round 2 in its parent's storage, as its server begins."""
    plan = private_plan("job-2").model_copy(update={"initial_model": InitialModel(round=2)})
    origin = Origin(plan, storage / "checkpoints" / "round-0000002.safetensors")
    kept = Storage(child, plan, parents=origin.ledgers)
    spending = Spending(plan, kept, board=Board(20, 4, lambda _: None), metrics=Metrics())
    spending.origin = origin
    asyncio.run(spending.restore(None))
    assert spending.privacy is not None
    return spending.privacy


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """What a job has kept of two rounds, with one more in its ledger than its checkpoint knows."""
    folder, weights = tmp_path / "parent", {"w": np.zeros(3, "f4")}
    ledger(folder, "job-1", rounds=3)
    seen = ledger(tmp_path / "as-it-was", "job-1", rounds=2)
    facts = {"round": 2, "digest": digest(weights), "makers": makers(private_plan("job-1")), "ledger": seen}
    write(folder / "checkpoints" / "round-0000002.safetensors", Saved(weights, facts))
    return folder


def test_a_ledger_may_be_newer_than_the_checkpoint(storage: Path, tmp_path: Path) -> None:
    """What the parent spent since counts, too."""
    known = opened(private_plan("job-3"), tmp_path / "third", parents=(storage / LEDGER,))
    assert begun(storage, tmp_path / "child").epsilon == known.epsilon > 1


@pytest.mark.parametrize(
    ("uid", "rounds", "complaint"),
    [
        (
            "job-1",
            0,
            r"up to round 2 is not known: .* was shortened: it had 3 entries and has 1; .* of job job-1",
        ),
        ("job-1", 1, r"up to round 2 is not known: .* was shortened: .*restore the file from a copy"),
        ("job-7", 3, r"made by job job-1, but .*jsonl of job job-7; put privacy.jsonl and .* of job-1 there"),
    ],
)
def test_a_ledger_is_that_of_the_checkpoint(
    storage: Path, tmp_path: Path, uid: str, rounds: int, complaint: str
) -> None:
    """An older copy and another job's are refused, nothing is begun, and the right one mends it."""
    ledger(tmp_path / "wrong", uid, rounds=rounds)
    files = [LEDGER, f"{LEDGER}.head"]
    right = {name: (storage / name).read_bytes() for name in files}
    for name in files:
        (storage / name).write_bytes((tmp_path / "wrong" / name).read_bytes())
    with pytest.raises(MismatchError, match=f"spec.initialModel: .*{complaint}"):
        begun(storage, tmp_path / "child")
    assert not (tmp_path / "child" / LEDGER).exists()
    for name, content in right.items():
        (storage / name).write_bytes(content)
    assert begun(storage, tmp_path / "child").epsilon > 1


def test_a_checkpoint_that_is_gone_is_told_before_its_ledger(storage: Path, tmp_path: Path) -> None:
    """The sentence is that of any fork whose checkpoint is not there."""
    (storage / "checkpoints" / "round-0000002.safetensors").unlink()
    with pytest.raises(MismatchError, match="cannot be read: No such file"):
        begun(storage, tmp_path / "child")
    assert not (tmp_path / "child" / LEDGER).exists()
