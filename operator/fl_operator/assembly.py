"""What the operator is made of: the objects it follows, and its own logic on top of the engine."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fl_operator.attempts import Attempts
from fl_operator.authority import authority_of
from fl_operator.census import census
from fl_operator.cluster.informer import Selection
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import (
    CLAIMS,
    CONFIG_MAPS,
    FLJOBS,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    Object,
    Resource,
    uid_of,
)
from fl_operator.enrolment import Endpoint, Register, Tokens
from fl_operator.kept import of_claim, of_job, of_pod, tells
from fl_operator.loop import controller, itself, labelled, wished
from fl_operator.progress import Progress
from fl_operator.reconcile import Reconciler, present
from fl_operator.rehearsal import approve_template
from fl_operator.run import Engine, Parts, Watch
from fl_operator.sites import Sites
from fl_operator.warning_events import WarningEvents
from job_generator import names

OURS: Final = "app.kubernetes.io/managed-by=fljob-operator"
JWKS: Final = ("/openid/v1/jwks", "application/jwk-set+json")


def _owned(resource: Resource) -> Watch:
    return Watch(Selection(resource, labels=OURS), controller(FLJOBS))


WATCHES: Final = (
    Watch(Selection(FLJOBS), itself, at_once=wished),
    Watch(Selection(PODS, labels=OURS, project=of_pod), labelled(names.JOB), news=tells),
    Watch(Selection(CLAIMS, labels=OURS, project=of_claim), labelled(names.JOB)),
    Watch(Selection(JOBS, labels=OURS, project=of_job), controller(FLJOBS)),
    *map(_owned, (SERVICES, CONFIG_MAPS, NETWORK_POLICIES)),
)
"""The first are the jobs themselves; children point to the job that owns them, pods and kept claims by label."""


async def assemble(engine: Engine) -> Parts:
    """The operator's logic for this process."""
    settings, connection = engine.settings, engine.connection
    authority = await authority_of(connection, settings.namespace)
    jobs = settings.for_jobs(authority=authority.dump()[1].decode())
    place = next(iter(settings.watch_namespaces), settings.namespace)
    await approve_template(connection, jobs, namespace=place, path=settings.template)
    progress = Progress(authority, engine.look_at)
    attempts = Attempts(engine.mirror)
    reconciler = Reconciler(
        connection=connection,
        mirror=engine.mirror,
        attempts=attempts,
        recorder=engine.recorder,
        metrics=engine.metrics,
        progress=progress,
        warnings=WarningEvents(connection),
        settings=jobs,
    )

    engine.metrics.jobs.states = lambda: census(engine.mirror.objects(FLJOBS))

    async def keys() -> Any:  # noqa: ANN401 - a JSON document
        return await connection.document(JWKS[0], accept=JWKS[1])

    endpoint = Endpoint(
        authority=authority,
        tokens=Tokens(keys),
        register=Register(engine.mirror.find, attempts.of),
        admit=Sites(connection, partial(_job_of, engine.mirror), attempts.of, present).admit,
        host=f"{settings.service}.{settings.namespace}.svc",
    )
    host, _, port = settings.enrolment.rpartition(":")

    async def enrol() -> None:
        await endpoint.serve(host, int(port))

    return Parts(reconcile=reconciler.reconcile, leading=(progress.run,), always=(enrol,))


def _job_of(mirror: Mirror, namespace: str, uid: str) -> Object | None:
    """The FLJob of this uid in this namespace; nobody's token has the others looked through."""
    found = (mirror.find(FLJOBS, key) for key in mirror.keys(FLJOBS) if key.namespace == namespace)
    return next((job for job in found if job is not None and uid_of(job) == uid), None)
