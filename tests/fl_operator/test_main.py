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


def test_help_is_quick() -> None:
    """`fl-operator --help` loads neither the API's types nor Kubernetes."""
    program = (
        "import sys; from fl_operator.__main__ import main; main(['--help'], standalone_mode=False); "
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {"pydantic", "yaml", "kubernetes", "numpy"} & set(done.stdout.split()) == set()
