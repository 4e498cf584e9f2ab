"""The fixtures of tests that need a cluster; a `conftest.py` imports them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NoReturn, cast

import pytest

from harness.cluster import Cluster
from harness.folder import inside
from harness.levels import required, start
from harness.objects import make_namespace, remove_namespace

_RUNNING = pytest.StashKey[Cluster]()
LONGEST = 40  # letters of a namespace's name that tell which test it is of


def lacking(sentence: str) -> NoReturn:
    """Skip a test for which this machine lacks something, or fail it where nothing may be missing."""
    if required():
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The cluster of this session, of the level that `make test-cluster LEVEL=...` says."""
    folder = inside()
    if folder is None:
        lacking("a cluster is needed: run this test with `make test-cluster`")
    stash = request.config.stash
    if _RUNNING not in stash:  # several conftest.py may each have this fixture
        stash[_RUNNING] = start(int(os.environ["FLJOB_CLUSTER_LEVEL"]), folder)
    return stash[_RUNNING]


@pytest.fixture(autouse=True)
def _level(request: pytest.FixtureRequest) -> None:
    """`@pytest.mark.level(3)` skips a test on clusters below that level."""
    mark = request.node.get_closest_marker("level")
    if mark is None:
        return
    running = cast("Cluster", request.getfixturevalue("cluster"))
    if running.level < mark.args[0]:
        pytest.skip(
            f"this test needs a cluster of level {mark.args[0]}: make test-cluster LEVEL={mark.args[0]}"
        )


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, deleted afterwards without waiting for it."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:LONGEST].strip("-")
    name = make_namespace(cluster, f"{word}-")
    yield name
    remove_namespace(cluster, name)
