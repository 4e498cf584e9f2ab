"""What the dashboards ask Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

CHART = Path(__file__).parents[2] / "helm" / "fljob"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
VALUES = {"$__rate_interval": "1m", "$namespace": ".*", "$fljob": ".*"}
"""What Grafana would put in the place of its variables."""


def panels() -> Iterator[tuple[str, str]]:
    """Each query of a panel, by the dashboard and the panel's title."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            yield from ((f"{file.stem}: {panel['title']}", one["expr"]) for one in panel.get("targets", ()))


def variables() -> Iterator[tuple[str, str]]:
    """Each query that fills a variable of a dashboard."""
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{file.stem}: {variable['name']}", variable["definition"]


def filled(query: str) -> str:
    """The query as Grafana sends it."""
    return re.sub("|".join(map(re.escape, VALUES)), lambda found: VALUES[found[0]], query)
