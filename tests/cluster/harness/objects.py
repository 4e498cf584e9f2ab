"""What `kubectl` tells, asked of the API server itself: who waits asks often, and each kubectl is a start of the
largest of all programs here.
"""

from __future__ import annotations

import json
import ssl
from functools import cache
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any, Final, cast
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from harness.cluster import SERVER, Cluster

Map = dict[str, Any]
GROUPS: Final = {
    "configmaps": "api/v1",
    "events": "api/v1",
    "fljobs": "apis/fljob.dev/v1alpha1",
    "jobs": "apis/batch/v1",
    "namespaces": "api/v1",
    "networkpolicies": "apis/networking.k8s.io/v1",
    "nodes": "api/v1",
    "persistentvolumeclaims": "api/v1",
    "persistentvolumes": "api/v1",
    "pods": "api/v1",
    "resourcequotas": "api/v1",
    "serviceaccounts": "api/v1",
    "services": "api/v1",
    "storageclasses": "apis/storage.k8s.io/v1",
}
"""Of each kind that is asked for, where the API server has it."""
OF_NO_NAMESPACE: Final = {"namespaces", "nodes", "persistentvolumes", "storageclasses"}
SHORT: Final = {"pv": "persistentvolumes", "pvc": "persistentvolumeclaims"}
SELECTORS: Final = {"-l": "labelSelector", "--field-selector": "fieldSelector"}
PATIENCE: Final = 30.0  # seconds


def objects(cluster: Cluster, namespace: str, *words: str) -> Any:
    """What `kubectl -n NAMESPACE get WORDS` finds: an object where one is named, else a list; None if there is none.

    The words are a kind or several (`pods`, `pod`, `jobs,services`), a name, and selectors, as kubectl takes them.
    Raises OSError when the API server does not answer.
    """
    first, *rest = words
    kinds, _, name = first.partition("/")
    if rest and rest[0] not in SELECTORS:
        name, *rest = rest
    query = urlencode({SELECTORS[flag]: value for flag, value in zip(rest[::2], rest[1::2], strict=True)})
    places = [_place(kind, namespace) for kind in kinds.split(",")]
    if name:
        return _answer(cluster, f"{places[0]}/{name}")
    lists = [_answer(cluster, f"{place}?{query}") for place in places]
    return None if None in lists else [one for found in lists for one in _items(found)]


def everywhere(cluster: Cluster, plural: str) -> list[Map]:
    """All objects of a kind, of all namespaces."""
    return _items(_answer(cluster, f"/{GROUPS[plural]}/{plural}"))


def make_namespace(cluster: Cluster, prefix: str) -> str:
    """Make a namespace that nobody has yet; its name."""
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": prefix}}
    with _asked(cluster, "/api/v1/namespaces", method="POST", body=made) as answer:
        return str(json.load(answer)["metadata"]["name"])


def remove_namespace(cluster: Cluster, name: str) -> None:
    """Begin to remove a namespace with all that is in it."""
    with _asked(cluster, f"/api/v1/namespaces/{name}", method="DELETE"):
        pass


def refusal(cluster: Cluster, namespace: str, thing: Map, *, patch: bool = False, dry: bool = True) -> str:
    """What the API server has against a new object, or against a merge patch of one: nothing if it takes it.

    A field that it does not know counts, as with `kubectl create` and `kubectl patch`, and so does a warning.
    """
    query = urlencode({"fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})})
    place = _place(thing["kind"].lower(), namespace) + (f"/{thing['metadata']['name']}" if patch else "")
    method, kind = ("PATCH", "merge-patch+json") if patch else ("POST", "json")
    try:
        with _asked(cluster, f"{place}?{query}", method=method, body=thing, kind=kind) as answer:
            return " ".join(answer.headers.get_all("Warning") or ())
    except HTTPError as error:
        return str(json.load(error)["message"])


def _place(kind: str, namespace: str) -> str:
    plural = SHORT.get(kind, kind if kind in GROUPS else f"{kind}s")
    of = "" if plural in OF_NO_NAMESPACE else f"namespaces/{namespace}/"
    return f"/{GROUPS[plural]}/{of}{plural}"


def _items(found: Map) -> list[Map]:
    """The objects of a list, each of which knows what it is, as kubectl shows them."""
    known = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
    return [known | one for one in found["items"]]


def _answer(cluster: Cluster, path: str) -> Any:
    """What the administrator is told; None where nothing is there."""
    try:
        with _asked(cluster, path) as answer:
            return json.load(answer)
    except HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return None
        raise


def _asked(
    cluster: Cluster, path: str, *, method: str = "GET", body: Map | None = None, kind: str = "json"
) -> HTTPResponse:
    """The answer to the administrator; raises HTTPError, which is an OSError, where it is a refusal."""
    request = Request(  # noqa: S310  # our own
        SERVER + path,
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": f"application/{kind}"},
        method=method,
    )
    answer = urlopen(request, context=_trust(cluster), timeout=PATIENCE)  # noqa: S310
    return cast("HTTPResponse", answer)


@cache
def _trust(cluster: Cluster) -> ssl.SSLContext:
    """How the administrator and the API server know each other."""
    context = ssl.create_default_context(cafile=cluster.authority.certificate)
    context.load_cert_chain(cluster.administrator.certificate, cluster.administrator.key)
    return context
