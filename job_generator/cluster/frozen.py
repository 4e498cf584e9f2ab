"""How the pods of a job's server are run, as its attempt has frozen that, for a pod of ours that reads beside it.

The operator's template and the job's own are in it: who the pod is, where it may run, how its images are pulled.
"""

from __future__ import annotations

import json
from typing import Final

from job_generator import names
from job_generator.cluster.connection import AbsentError, Cluster, Object, Request
from job_generator.cluster.jobs import core, identity
from job_generator.pods import CONTAINER

OF_THE_POD: Final = (
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "tolerations",
)
OF_THE_CONTAINER: Final = ("imagePullPolicy", "securityContext")


def server_spec(cluster: Cluster, job: Object) -> Object:
    """The spec of the server's pods in the job's attempt; empty where none is kept."""
    number = job.get("status", {}).get("attempt")
    if number is None:
        return {}
    of = identity(job)
    try:
        kept = cluster.send(Request("GET", core(of.namespace, "configmaps", names.attempt(of, number))))
    except AbsentError:
        return {}
    children: list[Object] = json.loads(kept["data"][names.CHILDREN])
    place = ("Job", names.child(of, "server"))
    server = next(one for one in children if (one["kind"], one["metadata"]["name"]) == place)
    return dict(server["spec"]["template"]["spec"])


def run_as(server: Object, pod: Object) -> Object:
    """A pod's spec, where its containers run as this server's; of what attracts pods, only nodes count."""
    own: Object = next((one for one in server.get("containers", ()) if one["name"] == CONTAINER), {})
    taken = {name: own[name] for name in OF_THE_CONTAINER if name in own}
    kinds = [kind for kind in ("initContainers", "containers") if kind in pod]
    nodes = (server.get("affinity") or {}).get("nodeAffinity")
    return {
        **pod,
        **{name: server[name] for name in OF_THE_POD if name in server},
        **({"affinity": {"nodeAffinity": nodes}} if nodes else {}),
        **{kind: [{**one, **taken} for one in pod[kind]] for kind in kinds},
    }
