"""An invitation for a site outside the cluster, printed under the user's own rights.

Who may create tokens for the namespace's service account may invite; nobody reads a Secret, and no server of ours
takes part: the API server signs, and the operator sees the token when the site shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fl_core.errors import JobError, RetryError
from fl_core.invitation import Invitation
from fl_core.plan import Plan
from job_generator import names
from job_generator.cluster.connection import AbsentError, Cluster, Object, Request
from job_generator.cluster.jobs import core, display, identity, read
from job_generator.deployment import Listener
from job_generator.site_tokens import SERVICE_ACCOUNT, audience

OVER: Final = {"Complete", "Failed"}


@dataclass(frozen=True, slots=True)
class Printed:
    """An invitation, and until when its token is good (as the API server writes a time)."""

    invitation: Invitation
    until: str


def invite(cluster: Cluster, name: str, site: str, *, seconds: int) -> Printed:
    """Print a token for an external site of a job, and lay beside it what else the site needs."""
    job = read(cluster, name)
    _check(job, site)
    plan, trust = configuration(cluster, job)
    if "enrolment" not in trust:
        raise JobError(
            f"FLJob {name} was begun by an operator that admits no external sites; submit it again"
        )
    listener = Listener.model_validate(job["spec"]["network"]["external"])
    status = _token(cluster, audience(job["metadata"]["uid"], site), seconds)
    invitation = Invitation(
        site=site,
        address=f"{listener.hostname}:{listener.port}",
        enrolment=trust["enrolment"],
        authority=trust["ca.pem"],
        plan=plan,
        token=status["token"],
    )
    return Printed(invitation, status["expirationTimestamp"])


def _check(job: Object, site: str) -> None:
    name, sites = job["metadata"]["name"], {one["name"]: one for one in job["spec"].get("sites", ())}
    outside = [other for other, one in sites.items() if "external" in one]
    have = f"its external sites are {', '.join(outside)}" if outside else "it has no external site"
    if site not in sites:
        raise JobError(f"FLJob {name} has no site {site}; {have}")
    if site not in outside:
        raise JobError(f"{site} of FLJob {name} is in the cluster, where it needs no token; {have}")
    if (state := display(job)["state"]) in OVER:
        raise JobError(f"FLJob {name} is {state}; nobody joins it any more")


def configuration(cluster: Cluster, job: Object) -> tuple[Plan, dict[str, str]]:
    """The Plan of the job's attempt, and whom its processes trust and where they enrol."""
    name, of = job["metadata"]["name"], identity(job)
    begun = f"`fl-submit status {name}` shows where it is"
    digest = job.get("status", {}).get("planDigest")
    if digest is None:
        raise RetryError(f"FLJob {name} has no attempt yet; {begun}; then try again")
    try:
        plan, trust = (
            cluster.send(Request("GET", core(cluster.namespace, "configmaps", one)))["data"]
            for one in (names.configuration(of, digest), names.authority(of))
        )
    except AbsentError as error:
        raise RetryError(f"the attempt of FLJob {name} is not whole: {error}; {begun}") from error
    return Plan.from_json(plan["plan.json"]), trust


def _token(cluster: Cluster, whom: str, seconds: int) -> dict[str, str]:
    """A token for nobody but the enrolment, bound to no pod."""
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [whom], "expirationSeconds": seconds},
    }
    path = f"{core(cluster.namespace, 'serviceaccounts', SERVICE_ACCOUNT)}/token"
    status: dict[str, str] = cluster.send(Request("POST", path, body=body))["status"]
    return status
