"""How jobs in pods begin and end otherwise: forked, with a model that is there, and when they get no better."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.cluster import line
from tests.cluster.tenant import Tenant, local, same

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]


def test_a_fork_ends_as_its_parent_would_have(tenant: Tenant, tmp_path: Path) -> None:
    """It has its parent's labels and the digest of the checkpoint, and trains the rounds that its parent had not;
    a round that is not kept is refused with those that are, and nothing is made.
    """
    tenant.fl_submit("submit", str(line.write(tmp_path, rounds=4)))
    tenant.kubectl("label", "fljob", "line", "team=vision")
    tenant.completes("line")
    words = ("line", "--name", "line-2", "--set", "rounds=6", "--from-round")
    kept = "line has no checkpoint of round 1, but of rounds 2, 3 and 4"
    assert kept in tenant.fl_submit("fork", *words, "1", code=64)
    assert [one["metadata"]["name"] for one in tenant.get("fljobs")] == ["line"]
    assert "goes on from round 3 of line" in tenant.fl_submit("fork", *words, "3")
    assert tenant.get("pods", "-l", "app.kubernetes.io/component=reader") == []
    tenant.completes("line-2")
    fork = tenant.get("fljob", "line-2")
    file = tenant.storage("line") / "checkpoints" / "round-0000003.safetensors"
    assert fork["spec"]["initialModel"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert fork["metadata"]["labels"]["team"] == "vision"
    assert [row["round"] for row in tenant.record("line-2")] == [4, 5, 6]
    assert same(tenant.model("line-2", tmp_path), local(line.write(tmp_path, rounds=6), tmp_path))


def test_a_job_begins_with_a_model_and_ends_without_progress(tenant: Tenant, tmp_path: Path) -> None:
    """The model comes from a claim; two rounds that are no better by enough end the job, and its condition says so."""
    before = tmp_path / "before"
    local(line.write(before, rounds=2), before)
    content = (before / "local.npz").read_bytes()
    tenant.volume("models", {"before.npz": content})
    ends = {
        "target": {"metric": "distance", "atMost": 0.0},
        "earlyStopping": {"patience": 2, "minDelta": 50.0},
    }
    claimed = {"persistentVolumeClaim": {"claimName": "models", "path": "before.npz"}}
    pinned = {"sha256": hashlib.sha256(content).hexdigest()}
    tenant.fl_submit("submit", str(line.write(tmp_path, rounds=20, initialModel=claimed | pinned, **ends)))
    tenant.completes("line")
    told = {one["type"]: one for one in tenant.get("fljob", "line")["status"]["conditions"]}["Complete"]
    assert told["reason"] == "NoProgress", told
    assert [row["round"] for row in tenant.record("line")] == [1, 2, 3]
    found = line.write(tmp_path, rounds=3, initialModel={"uri": str(before / "local.npz")})
    assert same(tenant.model("line", tmp_path), local(found, tmp_path))
