from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from job_generator.problems import InvalidJobError
from job_generator.source import Document

Build = Callable[..., dict[str, Any]]
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "subPath": lambda value: {"workers__data": {"claimName": "a", "subPath": value}},
    "size": lambda value: {"server__storage": {"size": value}},
    "uri": lambda value: {"server__storage": {"uri": value}},
    "cidr": lambda value: {"network__egress": [{"cidr": value}]},
    "hostname": lambda value: {
        "sites": [{"name": "a", "external": {}}],
        "network__external": {"hostname": value},
    },
    "claimName": lambda value: {"workers__data": {"claimName": value}},
    "site": lambda value: {"sites": [{"name": value}]},
    "reference": lambda value: {"program__source": {"image": {"reference": value}}},
    "path": lambda value: {"program__source": {"image": {"reference": "a", "path": value}}},
    "managedBy": lambda value: {"managedBy": value},
}
"""How a field is set, and what has to stand beside it."""


def good(job_map: Build, field: str, value: Any) -> bool:
    """Whether a job with this value in this field is a good one."""
    try:
        Document(job_map(**PLACES[field](value))).job()
    except InvalidJobError:
        return False
    return True


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("subPath", ["a", "part/{index}", "a.b/c-d/_e", "{index}", "part-{index}.d"]),
        ("size", ["1Gi", "500Mi", "2T", "100G"]),
        ("uri", ["s3://models/digits", "gs://a.b-c/d/e", "az://c/d", "abfs://c/d.1", "file:///mnt/share"]),
        ("cidr", ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "192.168.1.7/32"]),
        ("hostname", ["fl.example.org", "localhost", "a-b.c1"]),
        ("claimName", ["shards", "a.b-c", "9", "a" * 253]),
        ("site", ["a", "hospital-a", "a" * 40]),
        ("reference", ["mine", "house/mine:1", "mine@sha256:" + "a" * 64]),
        ("path", ["/", "/app", "/srv/a.b"]),
        ("managedBy", ["fljob.dev/operator", "kueue.x-k8s.io/multikueue"]),
    ],
)
def test_accepted(job_map: Build, field: str, values: list[str]) -> None:
    """What Kubernetes takes in such a place is taken."""
    assert [value for value in values if not good(job_map, field, value)] == []


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("subPath", ["", "/a", "..", "a/..", "../a", "a//b", "a/", "$(HOME)", "a b", ".a", "a" * 254]),
        (
            "uri",
            [
                "s3://models",
                "models/digits",
                "memory://a/b",
                "s3://key:secret@a/b",
                "s3://a/../b",
                "s3://a/b?c=d",
            ],
        ),
        (
            "uri",
            ["file://host/a", "file:///", "https://a/b", "S3://a/b", "s3:///a", "s3://a/b/", "s3://a//b"],
        ),
        ("size", ["", "1", "0Gi", "1gi", "-1Gi", "1.5Gi", "Gi", 1]),
        ("cidr", ["", "10.0.0.0", "any", "10.0.0.0/", "10.0.0.1/8", "1:2/999", "a/b/c"]),
        ("hostname", ["", "A.b", "a..b", ".a", "a_b", "a:1", "https://a"]),
        ("claimName", ["", "A", "a_b", "-a", "a" * 254]),
        ("site", ["", "A", "1a", "a.b", "a_", "a" * 41]),
        ("reference", ["", "a b", "a\n"]),
        ("path", ["", "app", "/$(HOME)", "/a b"]),
        ("managedBy", ["", "operator", "/a", "a/", "A/b", "a/b/c", "a" * 60 + "/b.c"]),
    ],
)
def test_refused(job_map: Build, field: str, values: list[Any]) -> None:
    """What would lead out of a volume, be filled in by Kubernetes, or be refused by it later is refused here."""
    assert [value for value in values if good(job_map, field, value)] == []


def test_external_has_no_fields(job_map: Build) -> None:
    """An external site is marked by an empty map, and nothing in it."""
    with pytest.raises(
        InvalidJobError, match=r"spec.sites\[0\].external.host: there is no such field; expected a map"
    ):
        Document(job_map(sites=[{"name": "a", "external": {"host": "b"}}])).job()


@pytest.mark.parametrize("place", ["server", "scheduler", "workers"])
def test_templates(job_map: Build, place: str) -> None:
    """A template holds metadata and spec, each of any fields; anything beside them is an error."""
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"volumes": [{"name": "v", "hostPath": {"path": "/a"}}]},
    }
    Document(job_map(**{f"{place}__template": template})).job()
    with pytest.raises(
        InvalidJobError, match=f"spec.{place}.template.specs: there is no such field .did you mean spec"
    ):
        Document(job_map(**{f"{place}__template": {"specs": {}}})).job()
