"""A virtual environment for a peer, made on first use, so that its dependencies never meet ours."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True)
class Environment:
    """A folder with a Python of its own and what a requirements file pins."""

    folder: Path
    requirements: Path

    @property
    def programs(self) -> Path:
        """Where the environment's commands are."""
        return self.folder / "bin"

    def prepare(self) -> None:
        """Make the environment unless it already holds exactly what the requirements say now."""
        stamp = self.folder / "installed.txt"
        wanted = self.requirements.read_text()
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", self.folder], check=True)
        install: list[str | Path] = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            self.requirements,
        ]
        subprocess.run([self.programs / "python", *install], check=True)
        stamp.write_text(wanted)

    def variables(self, **more: str) -> dict[str, str]:
        """Make the variables of a process in it: its commands come first in PATH, ours do not leak in."""
        kept = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        return {**kept, "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}", **more}

    def versions(self, *packages: str) -> dict[str, str]:
        """Ask the environment itself which versions it has."""
        command: list[str | Path] = [self.programs / "python", "-c", VERSIONS, *packages]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, str] = json.loads(answer.stdout)
        return found
