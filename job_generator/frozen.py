"""What of a job is fixed: by its author's first word, and for as long as one attempt of it runs.

An attempt's children are rendered once and kept, so that an operator of another version, with other images or
another renderer, touches nothing that runs (as a ControllerRevision does for a StatefulSet).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fl_core.errors import MismatchError
from fl_core.plan import canonical
from job_generator import names
from job_generator.manifests import Rendering, owned
from job_generator.pods import Object
from job_generator.spec import FLJob

KEY: Final = "children.json.gz"
MUTABLE: Final = (
    ("suspend",),
    ("suspendGraceSeconds",),
    ("rounds",),
    ("activeDeadlineSeconds",),
    ("ttlSecondsAfterFinished",),
    ("podCleanupPolicy",),
    ("workers", "replicas"),
)
"""What may change at any time."""
TEMPLATES: Final = (("server", "template"), ("scheduler", "template"), ("workers", "template"))
"""What may change while the job is suspended, and then makes a new attempt; those of sites do so too."""


def lasting_digest(job: FLJob) -> str:
    """SHA-256 of all that may never change; CEL sees most of that, but not what no schema names."""
    spec = _without(job.document()["spec"], (*MUTABLE, *TEMPLATES))
    sites = [{name: value for name, value in site.items() if name != "template"} for site in spec["sites"]]
    return _digest({**spec, "sites": sorted(sites, key=lambda site: str(site["name"]))})


def templates_digest(job: FLJob) -> str:
    """SHA-256 of the pod templates; another one needs a new attempt."""
    spec = job.document()["spec"]
    given = [spec[role].get("template") for role, _ in TEMPLATES]
    return _digest([given, {site["name"]: site.get("template") for site in spec["sites"]}])


def freeze(of: Rendering, objects: Iterable[Object]) -> Object:
    """The immutable ConfigMap that keeps an attempt's children; its name holds their digest."""
    text = canonical(list(objects))
    name = names.child(of.plan.job, f"attempt-{of.attempt}", hashlib.sha256(text.encode()).hexdigest()[:10])
    data = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    labels = {**names.of_job(of.plan.job), names.ATTEMPT: str(of.attempt)}
    frozen = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "immutable": True,
        "binaryData": {KEY: data},
    }
    return owned(of, frozen)


def thaw(frozen: Mapping[str, Any]) -> list[Object]:
    """The children that `freeze` kept."""
    try:
        objects: list[Object] = json.loads(gzip.decompress(base64.b64decode(frozen["binaryData"][KEY])))
    except (KeyError, ValueError, OSError, EOFError) as error:
        name = frozen.get("metadata", {}).get("name")
        raise MismatchError(f"the ConfigMap {name} keeps no attempt: {error}") from error
    return objects


def _digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _without(spec: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    copy = dict(spec)
    for first, *rest in paths:
        if rest and first in copy:
            copy[first] = _without(copy[first], [tuple(rest)])
        elif not rest:
            copy.pop(first, None)
    return copy
