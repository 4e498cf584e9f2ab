"""Log lines are JSON for machines, carry what was bound, and stay below the chosen level's noise."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from fl_core import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave no configuration to other tests."""
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def test_a_json_line_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line on stderr is one JSON object with level, time and all that was bound."""
    logs.configure(style="json", level="info")
    logs.bind(job="test", process="worker-1")
    structlog.get_logger().info("cohort\nchosen", workers=3)
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    row = json.loads(line)
    assert row.pop("timestamp").endswith("Z")
    assert row == {
        "event": "cohort\nchosen",
        "level": "info",
        "job": "test",
        "process": "worker-1",
        "workers": 3,
    }
    assert captured.out == ""


def test_a_traceback_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception does not tear a JSON line apart."""
    logs.configure(style="json", level="info")
    try:
        float("nonsense")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: could not convert" in json.loads(capsys.readouterr().err)["exception"]


@pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("INFO", 2), ("warning", 1)])
def test_the_level_holds(capsys: pytest.CaptureFixture[str], level: str, seen: int) -> None:
    """Lines below the chosen level are not written."""
    logs.configure(style="console", level=level)
    log = structlog.get_logger()
    for say in (log.debug, log.info, log.warning):
        say("something")
    assert len(capsys.readouterr().err.splitlines()) == seen
