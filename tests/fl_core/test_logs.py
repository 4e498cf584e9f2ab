"""Log lines, as a process writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging, structlog
from fl_core import logs

logs.configure(style="json", level="info")
logs.bind(job="toy", process="worker-1", round=3)
structlog.get_logger().info("ours", seconds=1)
logging.getLogger("theirs").warning("low on %s", "memory")
logging.getLogger("theirs").debug("noise")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("theirs").exception("it broke")
"""


def lines() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_names_job_process_and_round() -> None:
    """Our lines and those that a program or library logs are JSON of one form, and say where they belong."""
    ours, theirs, broke = lines()
    assert (ours["event"], theirs["event"]) == ("ours", "low on memory")
    assert all(
        (line["job"], line["process"], line["round"]) == ("toy", "worker-1", 3) for line in (ours, theirs)
    )
    assert all({"level", "timestamp"} <= line.keys() for line in (ours, theirs, broke))
    assert "ZeroDivisionError" in broke["exception"]
