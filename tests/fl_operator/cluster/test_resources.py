"""Where objects are in the API."""

from __future__ import annotations

import pytest

from fl_operator.cluster import resources
from fl_operator.cluster.resources import CONFIG_MAPS, FLJOBS, JOBS, NODES, Key, key_of, owner_of, resource_of
from job_generator.spec import API_VERSION


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CONFIG_MAPS.path(), "/api/v1/configmaps"),
        (CONFIG_MAPS.path("n"), "/api/v1/namespaces/n/configmaps"),
        (JOBS.path("n", "j"), "/apis/batch/v1/namespaces/n/jobs/j"),
        (
            FLJOBS.path("n", "j", subresource="status"),
            "/apis/fljob.dev/v1alpha1/namespaces/n/fljobs/j/status",
        ),
        (NODES.path("", "a"), "/api/v1/nodes/a"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    """Paths are those of the API server, with and without group, namespace, name and subresource."""
    assert path == expected


def test_every_kind_is_found() -> None:
    """An object that says what it is has its resource; an unknown kind is named."""
    for resource in resources._ALL:
        assert resource_of({"apiVersion": resource.api_version, "kind": resource.kind}) is resource
    with pytest.raises(ValueError, match="apps/v1 Deployment is no kind that the operator knows"):
        resource_of({"apiVersion": "apps/v1", "kind": "Deployment"})


def test_the_fljob_is_the_generators() -> None:
    """The operator follows the version that the generator writes."""
    assert FLJOBS.api_version == API_VERSION


def test_keys_and_owners() -> None:
    """A key names an object; its owner is the one that controls it."""
    owners = [{"name": "other", "uid": "1"}, {"name": "job", "uid": "2", "controller": True}]
    thing = {"metadata": {"namespace": "n", "name": "a", "ownerReferences": owners}}
    assert (key_of(thing), str(key_of(thing))) == (Key("n", "a"), "n/a")
    assert owner_of(thing) == owners[1]
    assert owner_of({"metadata": {"name": "a"}}) is None
