"""How the cluster is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from job_generator.cluster.connection import Connection, RefusedError

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [
        {"name": "lab", "context": {"cluster": "c", "user": "u", "namespace": "research"}},
        {"name": "bare", "context": {"cluster": "c", "user": "u"}},
    ],
}


def namespace(folder: Path, *, current: str | None, context: str | None, given: str | None = None) -> str:
    """Of which namespace a command would speak with this kubeconfig."""
    file = folder / "config"
    file.write_text(yaml.safe_dump(CONFIG | ({} if current is None else {"current-context": current})))
    return Connection.open(kubeconfig=file, context=context, namespace=given).namespace


@pytest.mark.parametrize("current", [None, "", "lab", "bare"])
def test_a_named_context_needs_no_current_one(tmp_path: Path, current: str | None) -> None:
    """As with kubectl: the context that is named counts, whatever the file says of another."""
    assert namespace(tmp_path, current=current, context="lab") == "research"
    assert namespace(tmp_path, current=current, context="bare") == "default"
    assert namespace(tmp_path, current=current, context="lab", given="mine") == "mine"


def test_the_current_context_counts_otherwise(tmp_path: Path) -> None:
    """Where none is named; a file without one, or with one that is not there, says so."""
    assert namespace(tmp_path, current="lab", context=None) == "research"
    assert namespace(tmp_path, current="bare", context=None) == "default"
    for current in (None, "gone"):
        with pytest.raises(RefusedError, match="there is no cluster to speak to"):
            namespace(tmp_path, current=current, context=None)
    with pytest.raises(RefusedError, match="there is no cluster to speak to"):
        namespace(tmp_path, current="lab", context="gone")
