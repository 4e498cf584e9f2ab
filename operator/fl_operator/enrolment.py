"""Who may have which certificate: a process shows its token, and the cluster says which one of which job it is.

A pod's token (KEP-1205: bound to the pod, for the audience `fljob`) is verified with the cluster's own keys; pod, Job
and FLJob are looked up in the copies that the operator holds anyway. Nothing that the pod says of itself counts,
so that a worker cannot lie about its name. Any replica may sign, leader or not. Sites outside: `sites.py`.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.enrolment import public_key_of
from fl_core.errors import MismatchError
from fl_core.identity import CLOCK_SKEW, Authority, Identity
from fl_operator.attempt import Attempt
from fl_operator.cluster.errors import ClusterError
from fl_operator.cluster.resources import FLJOBS, JOBS, PODS, Key, Object, owner_of, uid_of
from fl_operator.findings import INDEX
from job_generator import names
from job_generator.pods import AUDIENCE
from job_generator.site_tokens import read_audience

log = structlog.get_logger()

MOST_REQUEST: Final = 1 << 16
ALGORITHMS: Final = ("RS256", "ES256")
REFRESH_SECONDS: Final = 30.0
"""The cluster's keys are read again at most so often, however many tokens name an unknown one."""
LIFE_SECONDS: Final = 86_400.0
"""How often the endpoint's own certificate is made anew."""


class RefusedError(MismatchError):
    """This process gets no certificate, whenever it asks."""


class EarlyError(Exception):
    """This process is not known yet; it may ask again."""


Find = Callable[[Any, Key], Object | None]
"""An object by its resource and its key."""
Keys = Callable[[], Awaitable[Mapping[str, Any]]]
"""The cluster's public keys (RFC 7517)."""
Admit = Callable[[Mapping[str, Any], ec.EllipticCurvePublicKey], Awaitable[Identity]]
"""The identity for which a site's token, by what it says, admits this key; raises RefusedError or EarlyError."""


@dataclass(slots=True)
class Tokens:
    """Verifies service-account tokens with the keys that the API server publishes."""

    keys: Keys
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, jwt.PyJWK] = field(default_factory=dict)
    _read: float = float("-inf")
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def claims(self, token: str) -> Mapping[str, Any]:
        """What a good token says; raises RefusedError, or EarlyError where its key may be a new one."""
        try:
            kid = str(jwt.get_unverified_header(token).get("kid"))
            key = await self._key(kid)
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                leeway=CLOCK_SKEW,
                options={"require": ["exp", "iss", "aud"], "verify_aud": False},
            )
        except (jwt.PyJWTError, UnicodeError) as error:
            raise RefusedError(f"the token is not good: {error}") from error
        if not any(one == AUDIENCE or read_audience(one) for one in audiences(claims)):
            raise RefusedError(f"the token is for {', '.join(audiences(claims))}, not for {AUDIENCE}")
        return dict(claims)

    async def _key(self, kid: str) -> jwt.PyJWK:
        async with self._reading:
            if kid not in self._known and self.clock() - self._read > REFRESH_SECONDS:
                found = jwt.PyJWKSet.from_dict(dict(await self.keys()))
                self._known = {key.key_id: key for key in found.keys if key.key_id}
                self._read = self.clock()
        if kid not in self._known:
            raise EarlyError("the token is signed by no key of this cluster that is known here")
        return self._known[kid]


def audiences(claims: Mapping[str, Any]) -> list[str]:
    """Whom a token is for."""
    said = claims["aud"]
    return [said] if isinstance(said, str) else list(map(str, said))


@dataclass(frozen=True, slots=True)
class Register:
    """Which process a pod is."""

    find: Find
    attempt_of: Callable[[Object], Attempt | None]
    """The frozen attempt of an FLJob."""

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """The identity of the pod that a token is bound to."""
        bound = claims.get("kubernetes.io") or {}
        place = bound.get("pod") or {}
        key = Key(str(bound.get("namespace", "")), str(place.get("name", "")))
        if not key.namespace or not key.name:
            raise RefusedError("the token is bound to no pod")
        pod = self.find(PODS, key)
        if pod is None or uid_of(pod) != place.get("uid"):
            raise EarlyError(f"pod {key} is not known here")
        if pod["metadata"].get("deletionTimestamp"):
            raise RefusedError(f"pod {key} is on its way out")
        job = self._owner(pod, JOBS, key)
        fljob = self._owner(job, FLJOBS, key)
        return self._identity(pod, job, fljob)

    def _owner(self, thing: Object, resource: Any, key: Key) -> Object:  # noqa: ANN401 - a Resource
        owner = owner_of(thing)
        if owner is None or owner.get("kind") != resource.kind:
            raise RefusedError(f"pod {key} belongs to no FLJob")
        found = self.find(resource, Key(key.namespace, str(owner["name"])))
        if found is None or uid_of(found) != owner["uid"]:
            raise EarlyError(f"the {resource.kind} of pod {key} is not known here")
        return found

    def _identity(self, pod: Object, job: Object, fljob: Object) -> Identity:
        """By what was frozen of the Job, and the index, which the Job controller gave; a live label may be forged."""
        name, uid = job["metadata"]["name"], uid_of(fljob)
        attempt = self.attempt_of(fljob)
        if attempt is None:
            raise EarlyError(f"the attempt of Job {name} is not known here")
        labels = attempt.job_labels.get(name)
        if labels is None:
            raise RefusedError(f"Job {name} has no role in FLJob {fljob['metadata']['name']}")
        if (role := labels[names.ROLE]) != "worker":
            return Identity(uid, role)
        if names.SITE in labels:
            indexes = {site.name: site.index for site in attempt.plan.sites}
            return Identity(uid, role, indexes[labels[names.SITE]])
        index = pod["metadata"].get("labels", {}).get(INDEX, "")
        if not index.isdecimal() or int(index) >= attempt.plan.pool:
            raise RefusedError(f"pod {pod['metadata']['name']} has the index {index!r}, which is no worker's")
        return Identity(uid, role, int(index))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The web server that signs."""

    authority: Authority
    tokens: Tokens
    register: Register
    admit: Admit
    host: str
    """The name under which pods dial it, and for which relays send sites here."""

    async def serve(self, address: str, port: int) -> None:
        """Answer until cancelled."""
        app = web.Application(client_max_size=MOST_REQUEST)
        app.router.add_post("/", self._answer)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._renew(context)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port, ssl_context=context).start()
            while True:
                await asyncio.sleep(LIFE_SECONDS)
                self._renew(context)
        finally:
            await runner.cleanup()

    async def sign(self, asked: Mapping[str, Any]) -> dict[str, str]:
        """The certificate for a request; raises RefusedError or EarlyError."""
        token, request = asked.get("token"), asked.get("request")
        if not isinstance(token, str) or not isinstance(request, str):
            raise RefusedError("a request is a map with the texts token and request")
        claims = await self.tokens.claims(token)
        key = public_key_of(request)
        of_pod = AUDIENCE in audiences(claims)
        identity = self.register.identity(claims) if of_pod else await self.admit(claims, key)
        certificate = self.authority.sign(identity, key)
        log.info("certificate signed", identity=identity.uri)
        return {"certificate": certificate.decode(), "authority": self.authority.dump()[1].decode()}

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            return web.json_response(await self.sign(asked if isinstance(asked, dict) else {}))
        except MismatchError as error:
            log.warning("certificate refused", reason=str(error), peer=request.remote)
            return web.Response(status=403, text=str(error))
        except ValueError:
            return web.Response(status=400, text="a request is JSON in UTF-8")
        except (EarlyError, ClusterError) as error:
            return web.Response(status=503, text=str(error))

    def _renew(self, context: ssl.SSLContext) -> None:
        """New connections see the new certificate; its key never reaches a disk that lasts."""
        key, certificate = self.authority.issue_host(self.host)
        with tempfile.NamedTemporaryFile() as file:
            file.write(key + certificate)
            file.flush()
            context.load_cert_chain(file.name)
