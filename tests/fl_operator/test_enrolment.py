"""Only a pod of a job gets a certificate, and only that of the process that it is."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fl_core.enrolment import signing_request
from fl_core.errors import MismatchError
from fl_core.identity import Authority, Credentials, Identity, private_pem
from fl_operator.attempt import Attempt
from fl_operator.cluster.errors import UnreachableError
from fl_operator.cluster.resources import FLJOBS, JOBS, PODS, Key, Object, Resource
from fl_operator.enrolment import REFRESH_SECONDS, EarlyError, Endpoint, RefusedError, Register, Tokens
from job_generator import names
from job_generator.settings import Settings

PRIVATE = rsa.generate_private_key(65537, 2048)
NOW = dt.datetime.now(dt.UTC)
SITE_JOB: Object = {
    "metadata": {"name": "digits", "namespace": "lab", "uid": "job-uid", "generation": 1},
    "spec": {
        "program": {"entrypoint": "digits:task"},
        "rounds": 2,
        "workers": {"replicas": 2},
        "sites": [{"name": "berlin"}, {"name": "aachen"}],
    },
}


def owned(kind: str, name: str, uid: str, **labels: str) -> Object:
    """An object that a controller of this kind owns."""
    owner = {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": True}
    return {"metadata": {"uid": "u", "labels": labels, "ownerReferences": [owner]}}


@dataclass
class Cluster:
    """What the operator knows: one FLJob, its Jobs and their pods."""

    objects: dict[tuple[str, Key], Object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.put(FLJOBS, "digits", SITE_JOB)
        self.add("server", "digits-server", "digits-server-0", {})
        self.add("worker", "digits-worker", "digits-worker-1", {})
        self.add("worker", "digits-site-aachen", "digits-site-aachen-0", {names.SITE: "aachen"})

    def add(self, role: str, job: str, pod: str, labels: dict[str, str]) -> None:
        """A Job of the FLJob, and one pod of it."""
        one = owned("FLJob", "digits", "job-uid", **{names.ROLE: role, **labels})
        self.put(JOBS, job, one | {"metadata": one["metadata"] | {"uid": f"uid of {job}", "name": job}})
        index = {"batch.kubernetes.io/job-completion-index": pod[-1]}
        made = owned("Job", job, f"uid of {job}", **{names.ROLE: role, **labels, **index})
        self.put(PODS, pod, made | {"metadata": made["metadata"] | {"uid": f"uid of {pod}", "name": pod}})

    def put(self, resource: Resource, name: str, thing: Object) -> None:
        self.objects[str(resource), Key("lab", name)] = deepcopy(thing)

    def find(self, resource: Resource, key: Key) -> Object | None:
        return self.objects.get((str(resource), key))

    @property
    def register(self) -> Register:
        attempt = Attempt.render(SITE_JOB, Settings(), number=1)
        return Register(self.find, lambda _: attempt)


def claims_of(pod: str, **changes: Any) -> dict[str, Any]:
    """What the token of a pod says."""
    bound = {"namespace": "lab", "pod": {"name": pod, "uid": f"uid of {pod}"}}
    times = {"iat": NOW, "exp": NOW + dt.timedelta(hours=1)}
    return {"iss": "the cluster", "aud": ["fljob"], "kubernetes.io": bound, **times, **changes}


def token(claims: Mapping[str, Any], *, key: Any = PRIVATE, kid: str = "one") -> str:
    return jwt.encode(dict(claims), key, algorithm="RS256", headers={"kid": kid})


@dataclass
class Published:
    """The cluster's keys, and how often they were read."""

    reads: int = 0

    async def __call__(self) -> dict[str, Any]:
        self.reads += 1
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(PRIVATE.public_key()))
        return {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}


@pytest.mark.parametrize(
    ("pod", "identity"),
    [
        ("digits-server-0", Identity("job-uid", "server")),
        ("digits-worker-1", Identity("job-uid", "worker", 1)),
        ("digits-site-aachen-0", Identity("job-uid", "worker", 2)),
    ],
)
def test_a_pod_is_what_the_cluster_says_it_is(pod: str, identity: Identity) -> None:
    """Role and index come from its Job; a site has the number that the Plan gives it."""
    assert Cluster().register.identity(claims_of(pod)) == identity


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ({}, "bound to no pod"),
        ({"kubernetes.io": {"namespace": "lab"}}, "bound to no pod"),
        ({"kubernetes.io": {"pod": {"name": "digits-server-0"}}}, "bound to no pod"),
    ],
)
def test_a_token_of_no_pod_is_refused(spoil: dict[str, Any], complaint: str) -> None:
    """A service account's own token names no process."""
    with pytest.raises(RefusedError, match=complaint):
        Cluster().register.identity({"iss": "x", **spoil})


def test_a_pod_that_is_not_known_yet_may_ask_again() -> None:
    """The copies may be a moment behind; a pod of an earlier uid is not this one."""
    cluster = Cluster()
    with pytest.raises(EarlyError, match="lab/other is not known"):
        cluster.register.identity(claims_of("other"))
    stale = claims_of("digits-server-0")
    stale["kubernetes.io"]["pod"]["uid"] = "an earlier one"
    with pytest.raises(EarlyError, match="not known"):
        cluster.register.identity(stale)
    del cluster.objects[str(JOBS), Key("lab", "digits-server")]
    with pytest.raises(EarlyError, match="the Job of pod lab/digits-server-0 is not known"):
        cluster.register.identity(claims_of("digits-server-0"))


def test_a_pod_of_somebody_else_is_refused() -> None:
    """A pod without a Job, a Job without an FLJob, a Job without a role, a pod that is going."""
    cluster = Cluster()
    cluster.put(PODS, "bare", {"metadata": {"uid": "uid of bare"}})
    with pytest.raises(RefusedError, match="belongs to no FLJob"):
        cluster.register.identity(claims_of("bare"))
    cluster.put(JOBS, "own", {"metadata": {"uid": "uid of own", "name": "own"}})
    mine = owned("Job", "own", "uid of own")
    cluster.put(PODS, "own-0", mine | {"metadata": mine["metadata"] | {"uid": "uid of own-0"}})
    with pytest.raises(RefusedError, match="belongs to no FLJob"):
        cluster.register.identity(claims_of("own-0"))
    cluster.add("janitor", "digits-janitor", "digits-janitor-0", {})
    with pytest.raises(RefusedError, match="has no role"):
        cluster.register.identity(claims_of("digits-janitor-0"))
    cluster.objects[str(PODS), Key("lab", "digits-server-0")]["metadata"]["deletionTimestamp"] = "now"
    with pytest.raises(RefusedError, match="on its way out"):
        cluster.register.identity(claims_of("digits-server-0"))


def test_a_good_token_says_what_it_says() -> None:
    """Signed by the cluster, for us, and in its time."""
    said = asyncio.run(Tokens(Published()).claims(token(claims_of("digits-server-0"))))
    assert said["kubernetes.io"]["pod"]["name"] == "digits-server-0"


def test_clocks_may_differ_a_little() -> None:
    """A token that was made four minutes from now, by another clock, is good; so is one that ended as long ago."""
    few, now = dt.timedelta(minutes=4), dt.datetime.now(dt.UTC)
    for times in ({"iat": now + few, "nbf": now + few}, {"exp": now - few}):
        said = asyncio.run(Tokens(Published()).claims(token(claims_of("digits-server-0", **times))))
        assert said["kubernetes.io"]["pod"]["name"] == "digits-server-0"


@pytest.mark.parametrize(
    "bad",
    [
        "no token",
        "",
        token(claims_of("p", aud=["https://kubernetes.default.svc"])),
        token(claims_of("p", aud=["fljob:site:", "fljob:site:a", "fljob:other:a:b"])),
        token(claims_of("p", exp=NOW - dt.timedelta(minutes=6))),
        token(claims_of("p", iat=NOW + dt.timedelta(minutes=60))),
        token({name: value for name, value in claims_of("p").items() if name != "exp"}),
        token(claims_of("p"), key=rsa.generate_private_key(65537, 2048)),
        "\ud800.a.b",
        jwt.encode(
            claims_of("p"),
            "a secret that is long enough for the hash",
            algorithm="HS256",
            headers={"kid": "one"},
        ),
        jwt.encode(claims_of("p"), None, algorithm="none", headers={"kid": "one"}),
    ],
    ids=[
        "garbage",
        "empty",
        "audience",
        "half an audience",
        "expired",
        "of the future",
        "endless",
        "forged",
        "no text",
        "symmetric",
        "unsigned",
    ],
)
def test_a_bad_token_is_refused(bad: str) -> None:
    """Whatever is wrong with it, it is no reason to sign."""
    with pytest.raises(RefusedError):
        asyncio.run(Tokens(Published()).claims(bad))


def test_unknown_keys_do_not_flood_the_api_server() -> None:
    """The cluster's keys are read when they are needed first, and then now and then, however many tokens lie."""
    published, clock = Published(), [0.0]
    tokens = Tokens(published, lambda: clock[0])

    async def ask(kid: str) -> None:
        await tokens.claims(token(claims_of("digits-server-0"), kid=kid))

    asyncio.run(ask("one"))
    for _ in range(20):
        with pytest.raises(EarlyError):
            asyncio.run(ask("two"))
    assert published.reads == 1
    clock[0] += REFRESH_SECONDS + 1
    with pytest.raises(EarlyError):
        asyncio.run(ask("two"))
    assert published.reads == 2


def test_keys_that_are_being_read_refuse_nobody() -> None:
    """Two pods that ask at once are both admitted, and a read that failed is tried again at once."""
    published = Published()

    async def fails() -> dict[str, Any]:
        raise UnreachableError("down")

    async def ask() -> None:
        tokens, good = Tokens(published), token(claims_of("digits-server-0"))
        first, second = await asyncio.gather(tokens.claims(good), tokens.claims(good))
        assert first == second
        assert published.reads == 1
        tokens = Tokens(fails)
        with pytest.raises(UnreachableError):
            await tokens.claims(good)
        tokens.keys = published
        assert await tokens.claims(good) == first

    asyncio.run(ask())


@pytest.mark.parametrize("index", ["2", "99", "", "-1", "²"])
def test_a_pod_that_claims_the_index_of_a_site_is_refused(index: str) -> None:
    """The label of a pod may be forged; the numbers of sites are given to sites alone."""
    cluster = Cluster()
    labels = cluster.objects[str(PODS), Key("lab", "digits-worker-1")]["metadata"]["labels"]
    labels["batch.kubernetes.io/job-completion-index"] = index
    with pytest.raises(RefusedError, match="no worker's"):
        cluster.register.identity(claims_of("digits-worker-1"))


SITE = Identity("job-uid", "worker", 3)


def endpoint() -> Endpoint:
    async def admit(claims: Mapping[str, Any], _: ec.EllipticCurvePublicKey) -> Identity:
        assert "pod" not in claims["kubernetes.io"]
        return SITE

    return Endpoint(Authority("cluster"), Tokens(Published()), Cluster().register, admit, "localhost")


@pytest.mark.parametrize(
    ("audience", "signed"),
    [
        (["fljob"], Identity("job-uid", "worker", 1)),
        (["fljob", "fljob:site:job-uid:berlin"], Identity("job-uid", "worker", 1)),
        (["fljob:site:job-uid:berlin"], SITE),
        ("fljob:site:job-uid:berlin", SITE),
    ],
)
def test_whom_a_token_is_for(audience: Any, signed: Identity) -> None:
    """A token for the endpoint is a pod's, whatever else it is for; one for a site alone is that site's."""
    claims = claims_of("digits-worker-1", aud=audience)
    if signed == SITE:
        claims["kubernetes.io"] = {"namespace": "lab"}
    asked = {
        "token": token(claims),
        "request": signing_request(ec.generate_private_key(ec.SECP256R1())),
    }
    given = asyncio.run(endpoint().sign(asked))
    assert Credentials(b"", given["certificate"].encode(), b"").identity == signed


def test_what_is_signed_is_the_pods_own_key() -> None:
    """The certificate is for the key of the request and for nobody's name but the pod's."""
    key, desk = ec.generate_private_key(ec.SECP256R1()), endpoint()
    asked = {"token": token(claims_of("digits-worker-1")), "request": signing_request(key)}
    given = asyncio.run(desk.sign(asked))
    own = Credentials(given["authority"].encode(), given["certificate"].encode(), private_pem(key))
    assert own.identity == Identity("job-uid", "worker", 1)
    assert given["authority"].encode() == desk.authority.dump()[1]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"token": 1, "request": "x"},
        {"token": token(claims_of("digits-worker-1"))},
        {"token": token(claims_of("digits-worker-1")), "request": "no request"},
    ],
)
def test_a_request_of_another_shape_is_refused(asked: dict[str, Any]) -> None:
    """Missing texts, other types, and requests that are none."""
    with pytest.raises(MismatchError):
        asyncio.run(endpoint().sign(asked))
