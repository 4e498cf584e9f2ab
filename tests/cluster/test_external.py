"""A site outside the cluster joins a job through one port, with a token that is good once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fl_core.errors import JobError, MismatchError
from fl_core.identity import Credentials
from fl_core.invitation import Invitation
from harness.network import NODE_ADDRESS
from job_generator.site_tokens import audience as site_audience
from tests.cluster.tenant import ENVIRONMENT, FL_SUBMIT, ROOT, Map, Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

FIRST = ROOT / "manifests" / "samples" / "first.yaml"
SITE = "hospital"


def job(port: int) -> tuple[Map, Map]:
    """The first sample with two workers and a site outside, without whom no round closes; its program first."""
    program, document = yaml.safe_load_all(FIRST.read_text(encoding="utf-8"))
    document["spec"] |= {
        "rounds": 5,
        "workers": {"replicas": 2},
        "selection": {"minimum": 3},
        "sites": [{"name": SITE, "external": {}}],
        "network": {"external": {"type": "NodePort", "hostname": NODE_ADDRESS, "port": port}},
    }
    return program, document


def begun(tenant: Tenant, program: Map, document: Map) -> str:
    """Apply a job and its program, and wait for its attempt; gives its name."""
    tenant.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([program, document]))
    name: str = document["metadata"]["name"]
    tenant.eventually(name, lambda: tenant.get("fljob", name).get("status", {}).get("planDigest"))
    return name


def invited(
    tenant: Tenant, name: str, site: str, file: Path, *, user: object = None
) -> subprocess.CompletedProcess[str]:
    """`fl-submit site token`, as its user types it; `user` is another one's kubeconfig."""
    where = ["--kubeconfig", str(user or tenant.cluster.kubeconfig), "-n", tenant.namespace]
    line = [*FL_SUBMIT, "site", "token", name, site, *where, "-o", str(file)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def worker(invitation: Path, program: Path, identity: Path) -> Iterator[subprocess.Popen[str]]:
    """`fl-worker train --join`: a process of the machine, in no pod and with no rights on the cluster."""
    words = ["--join", str(invitation), "--program", str(program), "--identity", str(identity)]
    line = [sys.executable, "-m", "fl_worker", "train", *words]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(invitation: Path, program: Path, identity: Path) -> tuple[int, str]:
    """The exit code of a worker that does not get far, and what it said."""
    with worker(invitation, program, identity) as process:
        said = process.communicate(timeout=120)[1]
        return process.returncode, said


def test_a_site_joins_from_outside(tenant: Tenant, tmp_path: Path) -> None:
    """Every round has its update; a wrong start costs it nothing, and a thief of the token gets nothing."""
    program, document = job(30_443)
    name = begun(tenant, program, document)
    invitation, own, right, wrong = (tmp_path / one for one in ("file", "identity", "right", "wrong"))
    for folder in (right, wrong):
        folder.mkdir()
        for file, text in program["data"].items():
            (folder / file).write_text(text + ("" if folder is right else "\n# changed\n"), encoding="utf-8")

    printed = invited(tenant, name, SITE, invitation)
    assert printed.returncode == 0, printed.stderr
    assert f"fl-worker train --join {invitation.name}" in printed.stdout
    assert invited(tenant, name, "nowhere", invitation).stderr.startswith(f"Error: FLJob {name} has no site")

    code, said = ended(invitation, wrong, own)
    assert code == MismatchError.exit_code, said
    assert "certificate received" in said, said
    code, said = ended(invitation, right, tmp_path / "thief")
    assert code == MismatchError.exit_code, said
    assert "used by another key" in said
    assert not (tmp_path / "thief" / "cert.pem").exists()

    with worker(invitation, right, own) as process:
        tenant.completes(name)
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    rounds = tenant.record(name)
    me = Credentials.read(own).identity.name
    assert me == "worker-2"
    assert [me in row["reporters"] for row in rounds] == [True] * 5
    (used,) = tenant.get("configmaps", "-l", f"fljob.dev/site={SITE}")
    assert used["data"]["site"] == SITE
    assert used["metadata"]["ownerReferences"][0]["name"] == name
    over = invited(tenant, name, SITE, invitation)
    assert f"FLJob {name} is Complete" in over.stderr


def test_nobody_else_gets_in(tenant: Tenant, tmp_path: Path) -> None:
    """Who may edit may invite; other tokens of the same account, a pod's among them, are no invitations."""
    program, document = job(30_444)
    name = begun(tenant, program, document)
    engineer, stranger = (
        tenant.cluster.user(f"{one}-{tenant.namespace}") for one in ("engineer", "stranger")
    )
    tenant.kubectl("create", "rolebinding", "e", "--clusterrole=edit", f"--user=engineer-{tenant.namespace}")
    file, own = tmp_path / "file", tmp_path / "identity"
    refused = invited(tenant, name, SITE, file, user=stranger)
    assert refused.returncode == JobError.exit_code
    assert "forbidden" in refused.stderr
    assert not file.exists()
    printed = invited(tenant, name, SITE, file, user=engineer)
    assert printed.returncode == 0, printed.stderr

    invitation = Invitation.read(file)
    servers = ("pods", "-l", f"fljob.dev/job={name},fljob.dev/role=server")
    (server,) = tenant.eventually(name, lambda: tenant.get(*servers))
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={server['metadata']['name']}")
    whom = site_audience(tenant.get("fljob", name)["metadata"]["uid"], SITE)
    tenant.kubectl("create", "serviceaccount", "other")
    for account, words, complaint in (
        ("default", [f"--audience={whom}", *bound], "the token is bound to a pod"),
        ("other", [f"--audience={whom}"], "of the service account other, not default"),
        ("default", ["--audience=fljob"], "the token is bound to no pod"),
        ("default", [], "not for fljob"),
        ("default", [f"--audience={whom}x"], f"no external site called {SITE}x"),
    ):
        token = tenant.kubectl("create", "token", account, *words).strip()
        invitation.model_copy(update={"token": token}).write(file)
        code, said = ended(file, tmp_path, own)
        assert code == MismatchError.exit_code, said
        assert complaint in said
    assert tenant.get("configmaps", "-l", f"fljob.dev/site={SITE}") == []
