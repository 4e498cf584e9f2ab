"""A site outside joins by one port and a token, with the processes as they are and the operator's own endpoint."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from fl_core.errors import MismatchError
from fl_core.identity import Authority, Credentials, Identity
from fl_core.invitation import Invitation
from fl_core.plan import Plan
from fl_operator.cluster.errors import AlreadyExistsError
from fl_operator.cluster.resources import Key, Object, Resource
from fl_operator.enrolment import Endpoint, Register, Tokens
from fl_operator.sites import Sites
from job_generator.site_tokens import audience

pytestmark = pytest.mark.rounds

UID = "job-1"
SITES = {
    "workers": {"replicas": 2},
    "sites": [{"name": "hospital", "external": {}}],
    "network": {"external": {"hostname": "localhost"}},
}
CLUSTER_KEY = rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Frozen:
    """An attempt, as far as the endpoint reads it."""

    plan: Plan


@dataclass
class Objects:
    """Creates each object once."""

    kept: dict[str, Object] = field(default_factory=dict)

    async def create(self, thing: Object) -> Object:
        if self.kept.setdefault(thing["metadata"]["name"], thing) is not thing:
            raise AlreadyExistsError(thing["metadata"]["name"])
        return thing

    async def read(self, _: Resource, key: Key) -> Object:
        return self.kept[key.name]


async def published() -> dict[str, Any]:
    """The cluster's public keys."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(CLUSTER_KEY.public_key()))
    return {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}


def token(site: str) -> str:
    """What the API server prints for `fl-submit site token`."""
    said = {"namespace": "default", "serviceaccount": {"name": "default"}}
    end = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    claims = {"iss": "x", "aud": [audience(UID, site)], "exp": end, "jti": "one", "kubernetes.io": said}
    return jwt.encode(claims, CLUSTER_KEY, algorithm="RS256", headers={"kid": "one"})


@contextmanager
def operator(authority: Authority, plan: Plan) -> Iterator[str]:
    """The operator's enrolment endpoint on loopback, in a thread; gives its URL."""
    job = {"metadata": {"name": plan.job.name, "namespace": "default", "uid": UID}}
    frozen: Any = Frozen(plan)
    api: Any = Objects()
    sites = Sites(api, lambda *_: job, lambda _: frozen, lambda: dt.datetime.now(dt.UTC))
    nobody = Register(lambda *_: None, lambda _: None)
    endpoint = Endpoint(authority, Tokens(published), nobody, sites.admit, "localhost")
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    loop = asyncio.new_event_loop()
    serving = loop.create_task(endpoint.serve("127.0.0.1", port))
    serving.add_done_callback(lambda _: loop.stop())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"https://localhost:{port}"
    loop.call_soon_threadsafe(serving.cancel)
    thread.join()
    loop.close()


@dataclass
class Outside:
    """The site's side."""

    run: Any
    url: str

    def invitation(self) -> Path:
        """What `fl-submit site token` writes."""
        file: Path = self.run.folder / "hospital.json"
        Invitation(
            site="hospital",
            address=self.run.announced["server"]["relay"],
            enrolment=self.url,
            authority=self.run.authority.dump()[1].decode(),
            plan=self.run.plan,
            token=token("hospital"),
        ).write(file)
        return file

    def join(self, file: Path, *, name: str = "hospital") -> subprocess.Popen[bytes]:
        """`fl-worker train --join`, with a folder of this name for its key; it knows nothing else of the job."""
        identity = str(self.run.folder / name)
        words = ["--join", str(file), "--program", str(self.run.program), "--identity", identity]
        with (self.run.folder / f"{name}.log").open("ab") as log:
            line = [sys.executable, "-m", "fl_worker", "train", *words]
            self.run.processes[name] = subprocess.Popen(line, stderr=log, stdin=subprocess.DEVNULL)
        return self.run.processes[name]


@pytest.fixture
def begun(job: Callable[..., Any]) -> Iterator[Callable[..., Outside]]:
    """Start a job of two workers and a site, whose server relays; the program's config by name."""

    def start(**config: int) -> Outside:
        run = job(spec=SITES, **config)
        url = stack.enter_context(operator(run.authority, run.plan))
        (run.folder / "none").touch()
        run.scheduler()
        run.start(
            "server",
            ["fl_server"],
            identity=str(run.identity("server")),
            scheduler=run.announced["scheduler"]["address"],
            storage=str(run.storage),
            relay="127.0.0.1:0",
            enrol=url,
            **{"token-file": str(run.folder / "none"), "ca-file": str(run.folder / "none")},
        )
        run.worker(0, 1)
        return Outside(run, url)

    with ExitStack() as stack:
        yield start


def test_a_site_takes_part_from_outside(begun: Callable[..., Outside]) -> None:
    """Over the relay alone it enrols, trains and hands in; each round has its update, and it ends with 0."""
    outside = begun()
    site = outside.join(outside.invitation())
    assert outside.run.code("server") == 0, outside.run.said("hospital")
    assert site.wait(60) == 0
    rounds = outside.run.rounds()
    assert [row["reporters"] for row in rounds] == [["worker-0", "worker-1", "worker-2"]] * 4
    assert Credentials.read(outside.run.folder / "hospital").identity == Identity(UID, "worker", 2)


def test_a_token_is_used_once(begun: Callable[..., Outside]) -> None:
    """Started again a site goes on with its certificate; somebody else with the same file is refused, with advice."""
    outside = begun(gate=1)
    run, file = outside.run, outside.invitation()
    (
        run.program / "gate-2"
    ).unlink()  # only the pool waits, so that the job does not end before the site is back
    outside.join(file)
    run.wait_said("hospital", "certificate received")
    run.kill("hospital")
    (run.folder / "hospital.log").unlink()
    thief = outside.join(file, name="thief")
    assert thief.wait(60) == MismatchError.exit_code
    assert "used by another key" in run.said("thief")
    assert "fl-submit site token toy hospital" in run.said("thief")
    again = outside.join(file)
    run.wait_said("hospital", "enrolled")
    run.wait_held()
    run.release()
    assert run.code("server") == 0
    assert again.wait(60) == 0
    assert "certificate received" not in run.said("hospital")
