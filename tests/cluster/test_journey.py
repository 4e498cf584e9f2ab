"""The whole of `fl-submit` against the operator that users install: from a folder with a program to its model."""

from __future__ import annotations

import json
import subprocess
import threading
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from fl_core.attestation import content_of
from harness.runtime import by_digest
from job_generator.settings import Images
from tests.cluster.line import write
from tests.cluster.tenant import FL_SUBMIT, Map, Tenant, arrays, local, same, upgrade

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job whose program is a package with folders."""
    return write(tmp_path)


def committed(tenant: Tenant) -> list[int]:
    """The rounds of the record, all of which are committed."""
    record = tenant.record("line")
    assert {row["result"] for row in record} == {"Committed"}
    return [row["round"] for row in record]


def test_from_a_folder_to_a_model(tenant: Tenant, tmp_path: Path) -> None:
    """A job is submitted, watched to its end, looked at, its model fetched, as a local run makes it; its record names
    the server's image by digest, and can be verified; and it is deleted.
    """
    image = by_digest(Images.of(version("fljob")).control)
    template = {"spec": {"containers": [{"name": "fl", "image": image}]}}
    job = write(tmp_path, server={"template": template})
    assert {one["ok"] for one in json.loads(tenant.fl_submit("doctor", "--output", "json"))} == {True}
    made = json.loads(tenant.fl_submit("submit", str(job), "--output", "json"))["created"]
    assert made[1] == "fljob/line"
    assert tenant.get(made[0])["immutable"] is True

    shown = tenant.fl_submit("watch", "line")
    assert "line: fedavg, 3 workers, numpy, 6 rounds" in shown
    assert "round 6/6  3/3 workers" in shown
    assert shown.splitlines()[-1].startswith("✓ line: the final model is written after round 6")

    assert tenant.fl_submit("status", "line").startswith("Complete  line: round 6/6, cohort 3/3, distance=")
    told = yaml.safe_load(tenant.fl_submit("status", "line", "--output", "yaml"))
    assert (told["display"]["state"], told["training"]["round"]) == ("Complete", 6)
    (listed,) = json.loads(tenant.fl_submit("list", "--output", "json"))
    assert listed["metadata"]["name"] == "line"
    assert "line is Complete, after round 6 of 6." in tenant.fl_submit("explain", "line")
    assert "round closed" in tenant.fl_submit("logs", "line", "--role", "server", "--round", "3")

    assert committed(tenant) == [1, 2, 3, 4, 5, 6]
    assert same(tenant.model("line", tmp_path), local(job, tmp_path))
    check_record(tenant, image, tmp_path / "line.intoto.json")
    check_replay(tenant, job, tmp_path)
    assert "is Complete and does not start again" in tenant.fl_submit("submit", str(job), code=64)
    assert "fljob/line is deleted; its storage is kept" in tenant.fl_submit("delete", "line")
    assert "there is no FLJob line" in tenant.fl_submit("status", "line", code=64)
    tenant.kubectl("wait", "--for=delete", made[0], "--timeout=60s")


def check_record(tenant: Tenant, image: str, statement: Path) -> None:
    """The record of the job's six rounds is whole, and signed by its server; each line and the statement name the plan
    and the program that the cluster has, the server's image, by digest, and the workers', by tag.
    """
    found, plan = tenant.get("fljob", "line"), tenant.plan("line")
    uid, program = found["metadata"]["uid"], found["spec"]["program"]["sha256"]
    rows = json.loads(tenant.fl_submit("record", "show", "line", "--output", "json"))
    assert [(row["round"], row["plan"], row["program"], row["software"]["image"]) for row in rows] == [
        (number, plan.digest, program, image) for number in range(1, 7)
    ]
    worker = found["status"]["images"]["worker"]
    assert [row["images"] for row in rows] == [{worker: 3}] * 6
    told = tenant.fl_submit("record", "verify", "line")
    assert f"of 6 rounds are one chain, signed by the server of job {uid} at " in told
    tenant.fl_submit("record", "export", "line", "-o", str(statement))
    said = content_of(json.loads(statement.read_text(encoding="utf-8")))
    assert [said["predicate"][name] for name in ("plan", "program", "model", "round")] == [
        plan.digest,
        program,
        rows[-1]["model"],
        6,
    ]
    ran = [(one["uri"], "digest" in one) for one in said["predicate"]["resolvedDependencies"]]
    assert ran == [(f"docker://{image}", True), (f"docker://{worker}", False)]
    signed = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
    assert (
        signed["metrics.jsonl"] == sha256((tenant.storage("line") / "metrics.jsonl").read_bytes()).hexdigest()
    )
    story = tenant.fl_submit("explain", "line", "--round", "3")
    assert story.startswith("Round 3 was committed in attempt 1: the updates of 3 of 3 workers")


def check_replay(tenant: Tenant, job: Path, folder: Path) -> None:
    """The record that was fetched is whole where no cluster is asked, and its rounds, trained again on this machine,
    make the same models, to the byte.
    """
    record = str(folder / "line-record")
    tenant.fl_submit("record", "fetch", "line", "-o", record)
    again = ("run", str(job), "--replay", record, "--folder", str(folder / "again"), "--plain")
    for words, told in (
        (("record", "verify", record), "of 6 rounds are one chain"),
        (again, "✓ 6 rounds replayed: the same models, byte for byte"),
    ):
        done = subprocess.run([*FL_SUBMIT, *words], capture_output=True, text=True, check=False, timeout=300)
        assert told in done.stdout, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_held_and_stopped(tenant: Tenant, tmp_path: Path) -> None:
    """A job is suspended, goes on after its last round, is stopped with a model; its logs are followed to the end."""
    tenant.fl_submit("submit", str(write(tmp_path, rounds=60)))
    with tenant.beside(*tenant.line("logs", "line", "-f", "--role", "server")) as following:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(following.stdout or ()))
        reader.start()
        tenant.eventually("line", lambda: tenant.round("line") >= 2)
        assert "has 30 s to end" in tenant.fl_submit("suspend", "line")
        tenant.eventually("line", lambda: tenant.shown("line")["state"] == "Suspended")
        tenant.eventually("line", lambda: not tenant.get("pods"))
        held = tenant.round("line")
        assert "To go on: fl-submit resume line" in tenant.fl_submit("explain", "line")
        assert tenant.fl_submit("status", "line").startswith("Suspended")

        assert "goes on" in tenant.fl_submit("resume", "line")
        tenant.eventually("line", lambda: tenant.round("line") > held)
        assert "and writes its model" in tenant.fl_submit("stop", "line")
        tenant.completes("line")
        assert following.wait(60) == 0
        reader.join(10)
    last = tenant.round("line")
    assert held < last < 60
    assert committed(tenant) == list(range(1, last + 1))
    rounds = [
        number for number in range(1, last + 1) if any(f"[{number}] round closed" in one for one in said)
    ]
    # The logs of a pod may end before the line of the round that was open when it was suspended.
    assert set(committed(tenant)) - set(rounds) <= {held, held + 1}, said
    tenant.fl_submit("model", "line", "-o", str(tmp_path / "stopped.npz"))
    assert same(arrays(tmp_path / "stopped.npz"), local(write(tmp_path, rounds=last), tmp_path))


def test_a_job_that_cannot_go_on(tenant: Tenant, job: Path) -> None:
    """A program that raises ends the watching with its exit code, and `explain` says who must act; what it raised may
    hold data, and is in its own log alone.
    """
    (job.parent / "program" / "__init__.py").write_text(
        "def task(config, site):\n    raise ValueError('no data')\n"
    )
    done = subprocess.run(
        tenant.line("submit", str(job), "--watch"), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 66, f"{done.stdout}{done.stderr}{tenant.everything('line')}"
    assert "which the worker's own log tells" in done.stdout
    assert "no data" not in done.stdout
    assert "no data" in tenant.fl_submit("logs", "line")
    assert "To do by you" in tenant.fl_submit("explain", "line")


def test_workers_come_and_go(tenant: Tenant, tmp_path: Path) -> None:
    """The first round waits for none that are not there; new workers take part, and those taken away are not lost. An
    operator that is upgraded meanwhile leaves all pods as they are, and does the rest.
    """
    workers = {"replicas": 3, "maxReplicas": 6}
    selection = {"perRound": 2, "joinSeconds": 900}
    tenant.fl_submit("submit", str(write(tmp_path, rounds=100, workers=workers, selection=selection)))
    tenant.eventually("line", lambda: tenant.round("line") >= 2)
    before = pods(tenant)
    assert len(before) == 5
    upgrade(tenant.cluster, "podTemplate.metadata.annotations.newer=yes")
    assert pods(tenant) == before
    upgraded = len(tenant.record("line"))
    tenant.eventually("line", lambda: tenant.round("line") > upgraded)
    assert pods(tenant) == before
    tenant.kubectl("scale", "fljob/line", "--replicas=5")
    tenant.eventually("line", lambda: {"worker-3", "worker-4"} <= reporters(tenant.record("line")))

    tenant.kubectl("scale", "fljob/line", "--replicas=2")
    tenant.eventually("line", lambda: len(tenant.get("pods", "-l", "fljob.dev/role=worker")) == 2)
    since = len(tenant.record("line"))  # the status may be some rounds behind
    tenant.eventually("line", lambda: tenant.round("line") >= since + 4)
    status = tenant.get("fljob", "line")["status"]
    assert status["workers"]["lost"] == 0
    assert {one["type"]: one["status"] for one in status["conditions"]}["Degraded"] == "False"
    assert "Nothing is wrong with it" in tenant.fl_submit("explain", "line")
    tenant.fl_submit("stop", "line")
    tenant.completes("line")
    record = tenant.record("line")
    assert committed(tenant) == list(range(1, len(record) + 1))
    assert reporters(record[since + 2 :]) == {"worker-0", "worker-1"}

    def noted() -> set[str]:
        about = tenant.get("events", "--field-selector", "involvedObject.kind=FLJob")
        return {one["reason"] for one in about}

    tenant.eventually("line", lambda: "Complete" in noted())  # events come after the status
    assert "Repaired" not in noted()


def pods(tenant: Tenant) -> dict[str, int]:
    """How often the container of each pod was started again, by the pod's uid."""
    found = tenant.get("pods", "-l", "fljob.dev/job=line")
    return {one["metadata"]["uid"]: one["status"]["containerStatuses"][0]["restartCount"] for one in found}


def reporters(record: list[Map]) -> set[str]:
    return {worker for row in record for worker in row["reporters"]}
