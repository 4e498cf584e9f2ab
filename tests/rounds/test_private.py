"""Whole jobs with differential privacy: real processes spend what `plan` foretold, and never forget it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.lineage import makers
from fl_core.plan import InitialModel
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.chain import Charge
from fl_core.privacy.job import NEIGHBOURS, cost_of, opening_of
from fl_core.privacy.ledger import Ledger
from fl_core.weights import digest
from fl_core.wire.channels import open_channel
from fl_server.checkpoints import Saved, read, write
from fl_server.privacy import LEDGER
from job_generator.local.observer import Observation, Observer
from job_generator.outlay import outlay

pytestmark = pytest.mark.rounds

Build = Callable[..., Any]

DIMENSION = 5
UID = "job-1"
SECURE = {"enabled": True}


def private(name: str, *, epsilon: float = 50, multiplier: float = 2.0, **more: Any) -> dict[str, Any]:
    """A spec with this mechanism; secure sums where it needs them."""
    own = {
        "mechanism": {"name": name, "clip": 1.0, "noiseMultiplier": multiplier},
        "budget": {"epsilon": epsilon, "delta": 1e-5},
    }
    secure = {"secureAggregation": SECURE} if name == "skellam" else {}
    return {"privacy": own, **secure, **more}


def moving(name: str) -> dict[str, Any]:
    """A spec whose clip norm begins far below any update, and takes large steps; half a unit of noise on the count."""
    spec = private(name, multiplier=0.5, epsilon=900, rounds=6, secureAggregation=SECURE)
    spec["privacy"]["mechanism"]["clip"] = 0.001
    spec["privacy"]["adaptiveClip"] = {"quantile": 0.45, "learningRate": 1, "countNoise": 0.5}
    return spec


def epsilons(run: Any) -> list[float]:
    """What was spent by the end of each recorded round."""
    return [row["privacy"]["epsilon"] for row in run.rounds()]


def charges(run: Any) -> list[tuple[int, int]]:
    """Round and attempt of every charge on disk."""
    lines = [json.loads(line)["entry"] for line in (run.storage / "privacy.jsonl").read_text().splitlines()]
    return [(one["round"], one["attempt"]) for one in lines if one["kind"] == "charge"]


@pytest.mark.parametrize(
    ("name", "secure"), [("gaussian", False), ("gaussian", True), ("skellam", True), ("local", True)]
)
def test_a_job_spends_what_was_foretold(job: Build, name: str, *, secure: bool) -> None:
    """Each mechanism ends with the epsilon that `plan` foretold; nothing of the training but its model is told."""
    run = job(spec=private(name, secureAggregation={"enabled": secure}), selection={"minimum": 3})
    rows = run.finish()
    foretold = outlay(run.plan, dimension=DIMENSION)
    assert foretold is not None
    assert run.code("server") == 0
    assert [row["result"] for row in rows] == ["Committed"] * 4
    assert rows[-1]["privacy"]["epsilon"] == pytest.approx(foretold.epsilon)
    assert rows[-1]["privacy"]["epsilonCovers"] == "modelOnly"
    assert charges(run) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert [(row["train"], "examples" in row) for row in rows] == [({}, False)] * 4
    assert len({row["model"] for row in rows}) == 4


@pytest.mark.parametrize("secure", [True, False])
def test_examples_are_hidden_by_their_worker(job: Build, *, secure: bool) -> None:
    """Under dp_sgd workers take private steps: charged before they are asked, learned from, in a sum of either kind."""
    options = {"rate": 0.5, "steps": 30, "learningRate": 0.3}
    spec = private("dp_sgd", multiplier=1.0, epsilon=60, secureAggregation={"enabled": secure})
    spec["privacy"]["unit"] = "example"
    spec["privacy"]["mechanism"] |= {**options, "clip": 4.0}
    run = job(spec=spec, selection={"minimum": 3})
    rows, foretold = run.finish(), outlay(run.plan)
    assert run.code("server") == 0
    assert foretold is not None
    assert charges(run) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert rows[-1]["privacy"]["unit"] == "example"
    assert rows[-1]["privacy"]["epsilon"] == pytest.approx(foretold.epsilon)
    assert [(row["train"], "examples" in row) for row in rows] == [({}, False)] * 4
    assert rows[-1]["metrics"]["loss"] < 2


@pytest.mark.parametrize("name", ["gaussian", "skellam"])
def test_the_clip_norm_moves_with_the_updates(job: Build, name: str) -> None:
    """Updates far longer than the first norm make it grow, for the price of one that stays; record and metrics tell."""
    run = job(spec=moving(name), selection={"minimum": 3}, gate=6)
    run.begin()
    run.wait_held()
    gauges = dict(line.rsplit(" ", 1) for line in run.scrape("server").splitlines() if line[0] != "#")
    run.release()
    assert run.code("server") == 0
    rows, foretold = run.rounds(), outlay(run.plan, dimension=DIMENSION)
    norms = [row["clip"] for row in rows]
    assert foretold is not None
    assert norms[0] == 0.001
    assert len(set(norms)) == len(rows) == 6
    assert norms[-1] > 2 * norms[0]
    assert float(gauges["fl_privacy_clip_norm"]) == norms[-1]
    assert rows[-1]["privacy"]["epsilon"] == pytest.approx(foretold.epsilon)


def test_a_killed_server_goes_on_with_the_norm_in_force(job: Build) -> None:
    """The norm comes back with the checkpoint's model: the round that was open is trained with the same one."""
    run = job(spec=moving("skellam"), selection={"minimum": 3}, gate=4)
    run.begin()
    run.wait_held()
    address = run.announced["server"]["address"]
    saved = read(max((run.storage / "checkpoints").glob("round-*")))
    run.kill("server")
    run.server(address)
    run.release()
    assert run.code("server") == 0
    assert saved.facts["round"] == 3
    assert run.rounds()[3]["clip"] == saved.facts["clip"] != run.rounds()[2]["clip"]
    assert len(run.rounds()) == 6


def test_two_runs_of_one_seed_draw_other_noise(job: Build) -> None:
    """Noise does not follow from the seed: whoever knows it cannot take it off."""
    models = {job(spec=private("gaussian")).finish()[0]["model"] for _ in range(2)}
    assert len(models) == 2


@pytest.mark.parametrize("name", ["gaussian", "skellam"])
def test_a_killed_server_forgets_no_charge(job: Build, name: str) -> None:
    """A server killed while workers train goes on with its ledger; what was spent only grows."""
    run = job(spec=private(name), selection={"minimum": 3}, gate=3)
    run.begin()
    run.wait_held()
    before = charges(run)
    address = run.announced["server"]["address"]
    run.kill("server")
    run.server(address)
    run.release()
    assert run.code("server") == 0
    assert before == [(1, 1), (2, 1)]
    assert charges(run)[:2] == before
    assert len(charges(run)) >= 4
    spent, foretold = epsilons(run), outlay(run.plan, dimension=DIMENSION)
    assert spent == sorted(spent)
    assert foretold is not None
    assert spent[-1] >= foretold.epsilon - 1e-9


def test_epsilon_can_be_watched(job: Build) -> None:
    """Prometheus and whoever observes the server are told what was spent by now."""
    run = job(spec=private("gaussian"), gate=3)
    run.begin()
    run.wait_held()
    gauges = dict(line.rsplit(" ", 1) for line in run.scrape("server").splitlines() if line[0] != "#")
    assert float(gauges["fl_privacy_epsilon"]) == epsilons(run)[1]
    assert float(gauges["fl_privacy_epsilon_budget"]) == 50
    facts = run.rounds()[1]["privacy"]
    about = ",".join(f'{name}="{facts[name]}"' for name in ("adversary", "neighbours", "unit"))
    assert gauges[f"fl_privacy_info{{{about}}}"] == "1.0"
    told = asyncio.run(observed(run)).standing.privacy
    assert told is not None
    assert told.model_dump(by_alias=True) == run.rounds()[1]["privacy"]
    run.release()


async def observed(run: Any) -> Observation:
    """What the server says at once."""
    address, identity = run.announced["server"]["address"], run.identity("observer")
    async with open_channel(address, identity, peer="server") as channel:
        return await anext(Observer(channel, UID, run.plan.digest).observations())


def test_a_rolled_back_checkpoint_lowers_nothing(job: Build) -> None:
    """Rounds that are trained again from an older checkpoint are charged again, on top of what was released."""
    run = job(spec=private("gaussian"), gate=3)
    run.begin()
    run.wait_held()
    address = run.announced["server"]["address"]
    run.kill("server")
    newest = max((run.storage / "checkpoints").glob("round-*"))
    newest.unlink()
    run.server(address)
    run.release()
    assert run.code("server") == 0
    assert [number for number, _ in charges(run)] == [1, 2, 2, 3, 4]


def parent_of(run: Any, *, done: int) -> Path:
    """The checkpoint of another job that spent so many rounds as the run's plan does, beside its ledger."""
    mechanism, costs = run.plan.privacy.mechanism, cost_of(run.plan, dimension=DIMENSION)
    folder, job = run.folder / "parent", "job-0"
    (folder / "checkpoints").mkdir(parents=True)
    ledger = Ledger.create(folder / LEDGER, opening_of(run.plan).model_copy(update={"job": job}))
    for number in range(1, done + 1):
        spent = Charge(job=job, round=number, attempt=1, released="update", mechanism=mechanism, costs=costs)
        ledger.charge(spent)
    weights = {"w": np.zeros(DIMENSION, "f4")}
    facts = {"round": done, "makers": {**makers(run.plan), "job": job}, "digest": digest(weights)}
    path = folder / "checkpoints" / f"round-{done:07d}.safetensors"
    write(path, Saved(weights, {**facts, "ledger": asdict(ledger.head)}))
    return path


def test_a_fork_pays_for_its_parent(job: Build) -> None:
    """The rounds of the job whose checkpoint it begins with are in its own epsilon, and in its budget."""
    run = job(spec=private("gaussian", epsilon=8.3, rounds=20))
    parent = parent_of(run, done=6)
    run.plan = run.plan.model_copy(update={"initial_model": InitialModel(round=6)})
    (run.folder / "plan.json").write_text(run.plan.to_json())
    run.begin(**{"initial-model": str(parent)})
    assert run.code("server") == 0
    assert charges(run)[6:] == [(7, 1), (8, 1), (9, 1), (10, 1)]
    before = epsilon([*cost_of(run.plan, dimension=DIMENSION)] * 6, delta=1e-5, neighbours=NEIGHBOURS)
    assert before < epsilons(run)[0] < epsilons(run)[-1] <= 8.3
    assert run.log("server")[-1]["reason"] == "BudgetSpent"


@pytest.mark.parametrize(
    ("demand", "code", "told"),
    [
        ("noiseMultiplier: 2.5", 67, "noiseMultiplier is 2; this site demands at least 2.5"),
        ("epsilon: 4, delta: 1.0e-5", 67, "spec.rounds is 4, whose releases come to epsilon 4.73"),
        ("epsilon: 60, delta: 1.0e-5, clip: 1", 0, ""),
    ],
)
def test_a_site_holds_to_its_demands(job: Build, tmp_path: Path, demand: str, code: int, told: str) -> None:
    """A worker whose site demands more than the job promises ends for good and says why; one that is content trains."""
    run, file = job(spec=private("gaussian")), tmp_path / "site.yaml"
    file.write_text(f"secureAggregation: {{required: false}}\nprivacy: {{{demand}}}\n")
    run.scheduler()
    run.server()
    reading = run.spawn(
        "worker-0",
        ["fl_worker", "train"],
        identity=str(run.identity("worker", 0)),
        index="0",
        program=str(run.program),
        scheduler=run.announced["scheduler"]["address"],
        server=run.announced["server"]["address"],
        policy=str(file),
    )
    if not code:
        run.worker(1, 2)
    assert run.code("worker-0") == code
    os.close(reading)
    assert told in run.said("worker-0")


@pytest.mark.parametrize("name", ["gaussian", "skellam"])
def test_nobody_hears_whose_update_is_not_finite(job: Build, name: str) -> None:
    """The worker is in each round with zeros and noise, as one that is not there, and its own log alone says so."""
    run = job(spec=private(name, rounds=2), selection={"minimum": 3}, nan=2)
    rounds = run.finish()
    assert [(len(row["reporters"]), row["dropouts"]) for row in rounds] == [(3, {})] * 2
    assert all(np.isfinite(row["metrics"]["loss"]) for row in rounds)
    run.code("worker-2")
    told = [
        path.name for path in run.folder.rglob("*") if path.is_file() and b"not finite" in path.read_bytes()
    ]
    assert told == ["worker-2.log"]


def test_the_budget_ends_a_job(job: Build) -> None:
    """A job ends well with the last round that its budget has room for, and says so."""
    run = job(spec=private("gaussian", epsilon=4.1, rounds=10))
    rows = run.finish()
    foretold = outlay(run.plan, dimension=DIMENSION)
    assert foretold is not None
    assert run.code("server") == 0
    assert (len(rows), foretold.fit) == (3, 3)
    assert epsilons(run)[-1] <= 4.1
    assert rows[-1]["metrics"]
    assert (run.storage / "models" / "last.safetensors").exists()
    assert run.log("server")[-1]["reason"] == "BudgetSpent"


def test_a_budget_without_room_for_a_round_fails_the_job(job: Build) -> None:
    """A budget that has room for no round, which no compiler lets pass: the server says what one costs, and ends."""
    run = job(spec=private("gaussian"))
    assert run.plan.privacy is not None
    run.plan = run.plan.model_copy(update={"privacy": run.plan.privacy.model_copy(update={"epsilon": 1.0})})
    (run.folder / "plan.json").write_text(run.plan.to_json())
    assert run.finish() == []
    assert run.code("server") == 65
    assert charges(run) == []
    assert "2.17 that one round costs" in run.said("server")


def test_measurements_can_be_kept_back(job: Build) -> None:
    """With suppressed metrics nobody measures, and epsilon covers everything that is released."""
    spec = private("gaussian")
    spec["privacy"]["metrics"] = "Suppressed"
    rows = job(spec=spec).finish()
    assert [row["metrics"] for row in rows] == [{}] * 4
    assert rows[-1]["privacy"]["epsilonCovers"] == "everything"


@pytest.mark.parametrize("damage", [b"?", b""])
def test_a_damaged_ledger_ends_the_job(job: Build, damage: bytes) -> None:
    """Where it cannot be known what was spent, nothing more is released: the server ends for good with a sentence."""
    run = job(spec=private("gaussian"), gate=3)
    run.begin()
    run.wait_held()
    run.kill("server")
    ledger = run.storage / "privacy.jsonl"
    ledger.write_bytes(damage + ledger.read_bytes()[1:] if damage else damage)
    reading = run.spawn(
        "server",
        ["fl_server"],
        identity=str(run.identity("server")),
        scheduler=run.announced["scheduler"]["address"],
        storage=str(run.storage),
        listen="127.0.0.1:0",
    )
    assert run.code("server") == 72
    os.close(reading)
    assert "nothing may be released until it is known what was" in run.said("server")
    run.release()
