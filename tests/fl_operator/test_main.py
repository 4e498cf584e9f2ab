from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml
from click.testing import CliRunner

from fl_operator.__main__ import main

ROOT = Path(__file__).parents[2]


def test_crd() -> None:
    """`fl-operator crd` prints the definition that lies in manifests/."""
    result = CliRunner().invoke(main, ["crd"])
    manifest = (ROOT / "manifests" / "crd.yaml").read_text(encoding="utf-8")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout) == yaml.safe_load(manifest)
    assert result.stderr == ""


def test_help() -> None:
    """The commands are listed, and each shows how it is called."""
    runner = CliRunner()
    assert "crd" in runner.invoke(main, ["--help"]).stdout
    assert "fl-operator crd | kubectl apply -f -" in runner.invoke(main, ["crd", "--help"]).stdout


def test_usage() -> None:
    """A command that is not there is wrong usage."""
    assert CliRunner().invoke(main, ["reconcile"]).exit_code == 2


def loaded(program: str) -> set[str]:
    """The modules that a program has loaded in the end."""
    command = [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_help_is_quick() -> None:
    """`fl-operator --help` loads neither the API's types nor Kubernetes."""
    program = "from fl_operator.__main__ import main; main(['--help'], standalone_mode=False)"
    assert {"pydantic", "yaml", "kubernetes", "numpy"} & loaded(program) == set()


def test_the_operator_draws_nothing() -> None:
    """What people's tables and tracebacks are drawn with is not loaded by a process that writes JSON."""
    assert {"rich", "pygments"} & loaded("import fl_operator.command") == set()
