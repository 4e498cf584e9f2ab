"""Which external site a token admits, and that it admits one key only.

Somebody with rights in the job's namespace has the API server print the token (TokenRequest) for one site of one job:
that is its audience. What is kept of it is an object that the API server creates once, whichever replica asks: the
fingerprint of the key that was signed, so that a lost answer can be given again, and to nobody else.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.identity import Identity
from fl_core.plan import Job
from fl_operator.attempt import Attempt, owned_by
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import AlreadyExistsError
from fl_operator.cluster.resources import CONFIG_MAPS, Object, key_of
from fl_operator.conditions import is_over
from fl_operator.enrolment import EarlyError, RefusedError, audiences
from job_generator import names
from job_generator.site_tokens import SERVICE_ACCOUNT, read_audience

BOUND: Final = ("pod", "node", "secret")
"""What a token may be bound to. A pod may have tokens for any audience, so one of a pod's says nothing."""


@dataclass(frozen=True, slots=True)
class Sites:
    """Admits sites by their tokens; the token itself has been verified."""

    connection: Connection
    job_of: Callable[[str, str], Object | None]
    """The FLJob of a namespace and a uid."""
    attempt_of: Callable[[Object], Attempt | None]
    now: Callable[[], dt.datetime]

    async def admit(self, claims: Mapping[str, Any], key: ec.EllipticCurvePublicKey) -> Identity:
        """The identity of the site that the token is for, which no other key than this one gets by it."""
        uid, name = _asked(claims)
        namespace, token = _printed(claims)
        job = self.job_of(namespace, uid)
        if job is None:
            raise EarlyError(
                f"in namespace {namespace}, which the token is of, no FLJob of the uid {uid} is known"
            )
        attempt = self._attempt(job)
        site = next((one for one in attempt.plan.sites if one.name == name), None)
        if site is None or not site.external:
            raise RefusedError(f"FLJob {attempt.plan.job.name} has no external site called {name}")
        await self._use(self._record(job, site=name, token=token, key=key))
        return Identity(uid, "worker", site.index)

    def _attempt(self, job: Object) -> Attempt:
        name, leaving = job["metadata"]["name"], job["metadata"].get("deletionTimestamp")
        if leaving or is_over(job):
            raise RefusedError(f"FLJob {name} is over")
        attempt = self.attempt_of(job)
        if attempt is None:
            raise EarlyError(f"the attempt of FLJob {name} is not known here")
        return attempt

    def _record(self, job: Object, *, site: str, token: str, key: ec.EllipticCurvePublicKey) -> Object:
        """What remembers that a token was used; it goes with the job."""
        metadata = job["metadata"]
        identity = Job(name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names.used_token(identity, token),
                "namespace": identity.namespace,
                "labels": {**names.of_job(identity), names.SITE: site},
                "ownerReferences": [owned_by(job)],
            },
            "immutable": True,
            "data": {"site": site, "time": self.now().isoformat(timespec="seconds"), "key": fingerprint(key)},
        }

    async def _use(self, record: Object) -> None:
        """Have the token used up by this key, or find that it was by the same one."""
        try:
            await self.connection.create(record)
        except AlreadyExistsError:
            kept = await self.connection.read(CONFIG_MAPS, key_of(record))
        else:
            return
        if (kept.get("data") or {}).get("key") != record["data"]["key"]:
            raise RefusedError("the token has been used by another key; it is good only once")


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER), as hex."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _asked(claims: Mapping[str, Any]) -> tuple[str, str]:
    """The job's uid and the site's name that a token is for."""
    said = audiences(claims)
    place = read_audience(said[0]) if len(said) == 1 else None
    if place is None:
        raise RefusedError(f"the token is for {', '.join(said)}, which is not one site of an FLJob")
    return place


def _printed(claims: Mapping[str, Any]) -> tuple[str, str]:
    """The namespace of a token that a person had printed, and its number (`jti`)."""
    said = claims.get("kubernetes.io") or {}
    if bound := next((kind for kind in BOUND if kind in said), None):
        raise RefusedError(f"the token is bound to a {bound}; a site's is bound to nothing")
    account = (said.get("serviceaccount") or {}).get("name")
    if account != SERVICE_ACCOUNT:
        raise RefusedError(f"the token is that of the service account {account}, not {SERVICE_ACCOUNT}")
    namespace, number = said.get("namespace"), claims.get("jti")
    if not namespace or not number:
        raise RefusedError(
            "the token names no namespace, or has no number by which its use could be remembered"
        )
    return str(namespace), str(number)
