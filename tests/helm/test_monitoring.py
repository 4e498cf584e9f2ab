"""Alerts and dashboards ask for what the processes measure, and fire when they should."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from panels import DASHBOARDS, filled, panels, variables
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from fl_core.serving import tell_expiry
from fl_operator.metrics import OperatorMetrics
from fl_scheduler.metrics import Metrics as SchedulerMetrics
from fl_server.metrics import Metrics as ServerMetrics
from fl_worker.telemetry import Telemetry

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "fljob"
ALERTS = CHART / "files" / "alerts.yaml"
NAME = re.compile(r"\b((?:fl|fljob|workqueue|rest_client)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|without) \(([^)]*)\)")
MATCHER = re.compile(r"(\w+) *(?:=~|!~|!=|=)")
SCRAPED = {"namespace", "pod", "fljob", "role", "le"}
"""Labels that come from the scrape, or from a histogram."""


def series() -> dict[str, set[str]]:
    """Every series that a process of ours can give, with the labels that it has of its own."""
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    tell_expiry(registry, dt.datetime.now(dt.UTC))
    made: dict[str, set[str]] = {}
    for each in (
        registry,
        ServerMetrics().registry,
        SchedulerMetrics("uniform").registry,
        Telemetry().registry,
    ):
        for source, names in list(each._collector_to_names.items()):
            if isinstance(source, MetricWrapperBase):
                made |= {name: set(source._labelnames) for name in names}
            else:
                made |= {family.name: set(family._labelnames) for family in source.collect()}
    return made


def alerts() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])


ASKED = [*alerts(), *panels(), *variables()]


@pytest.mark.parametrize(("where", "expression"), ASKED, ids=[where for where, _ in ASKED])
def test_every_metric_and_label_exists(where: str, expression: str) -> None:
    """Each metric that an alert or a panel asks for is made by some process, with each label that it is asked by."""
    made = series()
    asked = NAME.findall(expression)
    assert asked, where
    for name, matchers in asked:
        assert name in made, f"{where}: {name}"
        assert set(MATCHER.findall(matchers)) <= made[name] | SCRAPED, f"{where}: {name}"
    known = set().union(*(made[name] for name, _ in asked)) | SCRAPED
    for labels in GROUPED.findall(expression):
        assert {label.strip() for label in labels.split(",")} <= known, where


def test_the_check_above_sees_what_is_wrong() -> None:
    """A metric or a label that nobody makes would be found."""
    made = series()
    assert "fl_round_currant" not in made
    assert "fl_rounds_total" in made
    assert "fl_round_duration_seconds_bucket" in made
    assert "worker" not in made["fl_rounds_total"] | SCRAPED


def test_alerts_fire_when_they_should(promtool: str) -> None:
    """Each alert fires on the trouble it is for, and stays silent on what looks like it (promtool test rules)."""
    tests = Path(__file__).parent / "alerts.test.yaml"
    done = subprocess.run(
        [promtool, "test", "rules", str(tests)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = {
        one["alertname"]
        for test in yaml.safe_load(tests.read_text())["tests"]
        for one in test["alert_rule_test"]
    }
    assert tried == {name for name, _ in alerts()}


def test_panels_are_good_expressions(promtool: str, tmp_path: Path) -> None:
    """Prometheus parses each panel's expression, with Grafana's variables filled in."""
    rules = [
        {"record": f"panel:{number}", "expr": filled(query), "labels": {"where": where}}
        for number, (where, query) in enumerate(panels())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout + done.stderr


def test_what_begins_a_series_is_counted(promtool: str, tmp_path: Path) -> None:
    """A counter is born with its first event, and `increase` alone would not see that one."""
    queries = [filled(query) for where, query in panels() if where == "operator: Failed in a day"]
    (query,) = queries
    failures = 'fljob_jobs_finished_total{result="failed", reason="ProgramError", pod="%s"}'
    tests = {
        "interval": "1h",
        "input_series": [
            {"series": failures % "new", "values": "_x30 1x30"},
            {"series": failures % "gone", "values": "_x35 2x3 stale"},
            {"series": failures % "old", "values": "7x33 8x30"},
        ],
        "promql_expr_test": [
            {"expr": f"round({query})", "eval_time": when, "exp_samples": [{"labels": "{}", "value": number}]}
            for when, number in (("29h", 0), ("31h", 1), ("34h", 2), ("38h", 4))
        ],
    }
    file = tmp_path / "births.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1h", "tests": [tests]}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_runbook() -> None:
    """The page of the runbooks has a section for each alert, and for nothing else that is called like one."""
    page = (ROOT / "docs" / "how-to" / "alerts.md").read_text()
    assert re.findall(r"^## (FLJob\w+)$", page, re.MULTILINE) == [name for name, _ in alerts()]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_lie_side_by_side(file: Path) -> None:
    """No two panels of a dashboard overlap, none is wider than the grid, and each has a number of its own."""
    board = json.loads(file.read_text())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
