"""Running an example as a user does, and reading the document that the run ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 280


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run `fl-submit run examples/<name>/job.yaml` and give its JSON document."""

    def ran(name: str, *options: str) -> dict[str, Any]:
        command = Path(sys.executable).with_name("fl-submit")
        job = ROOT / "examples" / name / "job.yaml"
        line = [command, "run", job, "--output", "json", "--folder", tmp_path / name, *options]
        result = subprocess.run(
            list(map(str, line)),
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    return ran
