"""A site gets one certificate by one token, that somebody with rights in the job's namespace had printed for it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.identity import Identity
from fl_operator.attempt import Attempt
from fl_operator.cluster.errors import AlreadyExistsError, ServerFailureError
from fl_operator.cluster.resources import Key, Object, Resource
from fl_operator.enrolment import EarlyError, RefusedError
from fl_operator.sites import Sites, fingerprint
from job_generator.settings import Settings
from job_generator.site_tokens import audience, read_audience

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
OTHER = ec.generate_private_key(ec.SECP256R1()).public_key()
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
JOB: Object = {
    "metadata": {"name": "digits", "namespace": "lab", "uid": "u1", "generation": 1},
    "spec": {
        "program": {"entrypoint": "digits:task"},
        "rounds": 2,
        "workers": {"replicas": 2},
        "sites": [{"name": "berlin"}, {"name": "hospital", "external": {}}],
        "network": {"external": {"hostname": "fl.example.org"}},
    },
}


@dataclass
class Api:
    """Creates each object once, as the API server does."""

    objects: dict[str, Object] = field(default_factory=dict)
    down: bool = False

    async def create(self, thing: Object) -> Object:
        if self.down:
            raise ServerFailureError("down")
        name = thing["metadata"]["name"]
        if name in self.objects:
            raise AlreadyExistsError(name)
        self.objects[name] = deepcopy(thing)
        return thing

    async def read(self, _: Resource, key: Key) -> Object:
        return self.objects[key.name]


@dataclass
class Door:
    """What the operator knows of one job."""

    job: Object = field(default_factory=lambda: deepcopy(JOB))
    api: Api = field(default_factory=Api)
    begun: bool = True

    def admit(self, claims: dict[str, Any], key: ec.EllipticCurvePublicKey = KEY) -> Identity:
        attempt = Attempt.render(JOB, Settings(), number=1) if self.begun else None
        sites = Sites(
            self.api,  # type: ignore[arg-type] - of a Connection, the two verbs that are used
            lambda *place: self.job if place == ("lab", self.job["metadata"]["uid"]) else None,
            lambda _: attempt,
            lambda: NOW,
        )
        return asyncio.run(sites.admit(claims, key))


def printed(site: str = "hospital", *, uid: str = "u1", **changes: Any) -> dict[str, Any]:
    """What a token says that `fl-submit site token` had printed."""
    account = {"namespace": "lab", "serviceaccount": {"name": "default", "uid": "a"}}
    return {"aud": [audience(uid, site)], "jti": "number one", "kubernetes.io": account, **changes}


def bound(**to: Any) -> dict[str, Any]:
    said = printed()
    return said | {"kubernetes.io": {**said["kubernetes.io"], **to}}


def test_a_site_is_the_worker_that_the_plan_says() -> None:
    """Its number is that of the Plan, where sites come after the pool in the order of their names."""
    assert Door().admit(printed()) == Identity("u1", "worker", 3)


def test_a_token_is_good_for_one_key() -> None:
    """The same key may ask again, as an answer may be lost; another one is refused, and nothing changes."""
    door = Door()
    first = door.admit(printed())
    kept = deepcopy(door.api.objects)
    assert door.admit(printed()) == first
    with pytest.raises(RefusedError, match="used by another key; it is good only once"):
        door.admit(printed(), OTHER)
    assert door.api.objects == kept
    assert door.admit(printed(jti="number two"), OTHER) == first


def test_what_is_kept_of_a_token() -> None:
    """An object that nobody can change and that goes with the job: site, time and key, and nothing of the token."""
    door = Door()
    door.admit(printed())
    ((name, kept),) = door.api.objects.items()
    assert kept["data"] == {"site": "hospital", "time": "2026-01-01T00:00:00+00:00", "key": fingerprint(KEY)}
    assert kept["immutable"] is True
    assert kept["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert kept["metadata"]["labels"]["fljob.dev/job"] == "digits"
    assert kept["metadata"]["namespace"] == "lab"
    assert name.startswith("digits-token-")
    assert "number one" not in str(kept)


@pytest.mark.parametrize(
    ("claims", "complaint"),
    [
        (bound(pod={"name": "p", "uid": "u"}), "bound to a pod"),
        (bound(node={"name": "n", "uid": "u"}, pod={"name": "p", "uid": "u"}), "bound to a pod"),
        (bound(node={"name": "n", "uid": "u"}), "bound to a node"),
        (bound(secret={"name": "s", "uid": "u"}), "bound to a secret"),
        (bound(serviceaccount={"name": "builder"}), "service account builder, not default"),
        (bound(serviceaccount=None), "service account None"),
        (bound(namespace=""), "no namespace"),
        (printed(jti=""), "no number"),
        (printed("berlin"), "no external site called berlin"),
        (printed("nowhere"), "no external site called nowhere"),
        (printed(aud=[audience("u1", "hospital"), audience("u1", "berlin")]), "not one site"),
        (printed(aud=["fljob:site:u1:"]), "not one site"),
    ],
)
def test_other_tokens_are_refused(claims: dict[str, Any], complaint: str) -> None:
    """A pod's, another account's, another namespace's, one for a site inside or for none: nothing is used up."""
    door = Door()
    with pytest.raises(RefusedError, match=complaint):
        door.admit(claims)
    assert door.api.objects == {}


@pytest.mark.parametrize("kind", ["Complete", "Failed", "going"])
def test_a_job_that_is_over_admits_nobody(kind: str) -> None:
    """Its server is gone, and a certificate would be good for nothing."""
    door = Door()
    if kind == "going":
        door.job["metadata"]["deletionTimestamp"] = "now"
    else:
        door.job["status"] = {"conditions": [{"type": kind, "status": "True"}]}
    with pytest.raises(RefusedError, match="digits is over"):
        door.admit(printed())


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda door: door.job["metadata"].update(uid="u2"), EarlyError),
        (lambda door: setattr(door, "begun", False), EarlyError),
        (lambda door: setattr(door.api, "down", True), ServerFailureError),
    ],
)
def test_who_is_not_known_yet_may_ask_again(spoil: Callable[[Door], None], error: type[Exception]) -> None:
    """The copies may be behind, and the API server may be down: neither uses the token up."""
    door = Door()
    spoil(door)
    with pytest.raises(error):
        door.admit(printed())
    assert door.api.objects == {}
    with pytest.raises(EarlyError, match="in namespace other"):
        door.admit(bound(namespace="other"))


@pytest.mark.parametrize("text", ["", "fljob", "fljob:site:", "fljob:site:a", "fljob:site::b", "site:a:b"])
def test_an_audience_is_whole(text: str) -> None:
    """What names no job or no site is for nobody."""
    assert read_audience(text) is None
    assert read_audience(audience("u", "s")) == ("u", "s")
