"""An FLJob as the API server gives it back: with a status, and with metadata that its author never wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from job_generator.source import Document
from job_generator.spec import FLJob

WRITTEN: Final = ("name", "namespace", "uid", "labels", "annotations")
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def stored_job(stored: Mapping[str, Any]) -> FLJob:
    """The job that the API server stores; raises InvalidJobError with all that is wrong with it.

    Fields that the API server keeps although no schema names them, such as an unknown argument of a strategy, are
    wrong here as they are in a file.
    """
    metadata = stored.get("metadata", {})
    kept = {name: metadata[name] for name in WRITTEN if name in metadata}
    notes = {name: text for name, text in kept.get("annotations", {}).items() if name != LAST_APPLIED}
    return Document(
        {
            "apiVersion": stored.get("apiVersion"),
            "kind": stored.get("kind"),
            "metadata": {**kept, "annotations": notes},
            "spec": stored.get("spec"),
        }
    ).job()
