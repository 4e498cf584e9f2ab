"""fl-submit, called within the test or as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from job_generator.cli.__main__ import main

Completed = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def submit() -> Callable[..., Result]:
    """`fl-submit` with these words, within the test."""
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words], prog_name="fl-submit")


@pytest.fixture(scope="session")
def process() -> Callable[..., Completed]:
    """`fl-submit` with these words, as a process of its own."""

    def start(*words: object, cwd: Path | None = None, **options: Any) -> Completed:
        line = [sys.executable, "-m", "job_generator.cli", *(str(word) for word in words)]
        return subprocess.run(
            line, cwd=cwd, capture_output=True, text=True, check=False, timeout=120, env=quiet(), **options
        )

    return start


@pytest.fixture(scope="session")
def loaded() -> Callable[[Sequence[str]], set[str]]:
    """The modules that a process has loaded when fl-submit with these words is done."""

    def look(words: Sequence[str]) -> set[str]:
        program = (
            "import sys\nfrom job_generator.cli.__main__ import main\n"
            f"try: main({list(words)!r}, standalone_mode=False)\n"
            "finally: print('\\n' + ' '.join(sys.modules))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=quiet()
        )
        return set(done.stdout.splitlines()[-1].split())

    return look


def quiet() -> dict[str, str]:
    """One thread for whatever mathematics is loaded."""
    return os.environ | {"OMP_NUM_THREADS": "1"}
