"""A job in pods whose storage is in a bucket, by credentials from a Secret: no claim, no volume, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.network import NODE_ADDRESS
from tests.cluster import line
from tests.cluster.tenant import Tenant, load_images, local, same
from tests.moto import ABSENT, MOTO, SECRET, Moto

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.level(4),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not MOTO.exists(), reason=ABSENT),
]

NAME = "bucket"
ROUNDS = 12
KEYS = "keys"


@pytest.fixture
def moto(tenant: Tenant) -> Iterator[Moto]:
    """S3 with an empty bucket where pods can reach it, and the Secret that leads there; the image of its servers."""
    load_images("server")
    server = Moto(host=NODE_ADDRESS)
    try:
        server.ask("PUT", "jobs")
        literals = [f"--from-literal={name}={value}" for name, value in server.environment.items()]
        tenant.kubectl("create", "secret", "generic", KEYS, *literals)
        yield server
    finally:
        server.stop()


@pytest.mark.usefixtures("moto")
def test_a_server_that_is_killed_goes_on_from_the_bucket(tenant: Tenant, tmp_path: Path) -> None:
    """Its pod and the folder in it are gone; the next one takes up what the bucket holds, each round is committed once,
    and the model, fetched through a pod that reads the bucket, is that of an undisturbed local run.
    """
    storage = {"uri": f"s3://jobs/{NAME}", "secretName": KEYS}
    job = line.write(tmp_path, name=NAME, rounds=ROUNDS, server={"storage": storage})
    tenant.fl_submit("submit", str(job))
    tenant.eventually(NAME, lambda: tenant.round(NAME) >= 2)
    pod = tenant.get("pods", "-l", "fljob.dev/role=server")[0]["metadata"]["name"]
    tenant.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    assert tenant.round(NAME) < ROUNDS
    tenant.completes(NAME)
    rows = json.loads(tenant.fl_submit("record", "show", NAME, "--output", "json"))
    assert [(row["round"], row["result"]) for row in rows] == [(n, "Committed") for n in range(1, ROUNDS + 1)]
    undisturbed = line.write(tmp_path / "undisturbed", name=NAME, rounds=ROUNDS)
    assert same(tenant.model(NAME, tmp_path), local(undisturbed, tmp_path))
    assert tenant.get("pvc") == []
    assert SECRET not in json.dumps(tenant.get("fljobs,jobs,pods,configmaps"))
