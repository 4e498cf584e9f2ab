"""WarningEvents of namespaces: read once for all who ask, and again when they are old."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fl_operator.cluster.errors import UnreachableError
from fl_operator.warning_events import FRESH_SECONDS, WarningEvents


@dataclass
class Cluster:
    """Events of two namespaces."""

    reads: list[str] = field(default_factory=list)
    down: bool = False

    async def document(self, path: str) -> Any:
        """The list of a namespace's events."""
        split = urlsplit(path)
        assert parse_qs(split.query)["fieldSelector"] == ["type=Warning"]
        self.reads.append(split.path)
        await asyncio.sleep(0)
        if self.down:
            raise UnreachableError("down")
        return {"items": [{"regarding": {"uid": "u-1"}, "note": f"{split.path} {len(self.reads)}"}]}


def test_a_namespace_is_read_once_for_all_its_jobs() -> None:
    """Until what was read is old."""
    cluster, now = Cluster(), [100.0]
    warnings = WarningEvents(cluster, lambda: now[0])  # type: ignore[arg-type]

    async def ask() -> None:
        lab = "/apis/events.k8s.io/v1/namespaces/lab/events"
        (found,) = await warnings.about(["u-0", "u-1"], namespace="lab")
        assert found["note"] == f"{lab} 1"
        assert await warnings.about(["u-2"], namespace="lab") == []
        assert cluster.reads == [lab]
        await warnings.about(["u-1"], namespace="ward")
        assert len(cluster.reads) == 2
        now[0] += FRESH_SECONDS + 1
        (found,) = await warnings.about(["u-1"], namespace="lab")
        assert found["note"] == f"{lab} 3"
        assert list(warnings._readings) == ["lab"]  # what is old is not kept

    asyncio.run(ask())


def test_nobody_is_told_that_all_is_well_while_they_are_read() -> None:
    """Who asks at the same time waits for the same answer; one that does not come is an error."""
    cluster = Cluster()
    warnings = WarningEvents(cluster)  # type: ignore[arg-type]

    async def ask() -> None:
        first, second = await asyncio.gather(*(warnings.about(["u-1"], namespace="lab") for _ in range(2)))
        assert first == second != []
        assert len(cluster.reads) == 1
        cluster.down = True
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await warnings.about(["u-1"], namespace="ward")
        cluster.down = False
        assert await warnings.about(["u-1"], namespace="ward") != []

    asyncio.run(ask())
