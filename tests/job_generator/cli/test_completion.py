from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from job_generator.cli.__main__ import COMMANDS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(submit: Callable[..., Result], shell: str, tmp_path: Path) -> None:
    """The script belongs to the command and its variable, and its shell can read it, where there is one."""
    result = submit("completion", shell)
    assert result.exit_code == 0
    assert "_FL_SUBMIT_COMPLETE" in result.stdout
    (tmp_path / "script").write_text(result.stdout)
    if shutil.which(shell):
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_no_shell(submit: Callable[..., Result]) -> None:
    """A shell that is none of the three is wrong usage."""
    assert submit("completion", "cmd").exit_code == 2


@pytest.mark.parametrize(
    ("words", "found"), [("fl-submit ", list(COMMANDS)), ("fl-submit completion ", ["bash", "zsh", "fish"])]
)
def test_completes(words: str, found: list[str]) -> None:
    """What the script asks for is answered: commands, and the words that they take."""
    program = "import sys; sys.argv[0] = 'fl-submit'; from job_generator.cli.__main__ import main; main()"
    asked = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split())),
        "_FL_SUBMIT_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert sorted(line.removeprefix("plain,") for line in done.stdout.splitlines()) == sorted(found)
