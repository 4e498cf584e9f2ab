from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fl_core.commands import Commands
from fl_core.errors import FLJobError, RetryError, SpecError, StorageError

LATER = {"late": ("late_command:late", "Come late."), "lost": ("late_command:nowhere", "Be lost.")}


@click.group(cls=Commands, later=LATER)
def group() -> None:
    """Some commands."""


@group.command()
@click.option("--kind", type=click.Choice(["spec", "storage", "retry", "root"]))
def fail(kind: str) -> None:
    """Fail on purpose.

    Not in the list.
    """
    kinds: dict[str, type[FLJobError]] = {
        "spec": SpecError, "storage": StorageError, "retry": RetryError, "root": FLJobError,
    }  # fmt: skip
    raise kinds[kind]("first line\nsecond line")


@group.command()
def crash() -> None:
    """Fail by mistake."""
    raise KeyError("oops")


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is imported when its command is called."""
    text = "import click\n@click.command()\ndef late():\n    '''Come late.'''\n    click.echo('here')\n"
    (tmp_path / "late_command.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "late_command", raising=False)


@pytest.mark.parametrize(("kind", "code"), [("spec", 65), ("storage", 74), ("retry", 75), ("root", 70)])
def test_our_errors(kind: str, code: int) -> None:
    """An error of ours is its sentence on standard error, and the exit code that says who must act."""
    result = CliRunner().invoke(group, ["fail", "--kind", kind])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "Error: first line\nsecond line\n")


def test_other_errors() -> None:
    """An error that nobody raised on purpose is not hidden."""
    result = CliRunner().invoke(group, ["crash"])
    assert isinstance(result.exception, KeyError)


def test_list() -> None:
    """The list has each command's own line, those of later ones without importing them, in order."""
    text = CliRunner().invoke(group, ["--help"]).stdout
    rows = [line.strip() for line in text.partition("Commands:\n")[2].splitlines()]
    assert rows == [
        "crash  Fail by mistake.",
        "fail   Fail on purpose.",
        "late   Come late.",
        "lost   Be lost.",
    ]
    assert "late_command" not in sys.modules


@pytest.mark.usefixtures("late")
def test_later() -> None:
    """A later command is imported when it is called, by either name of help, too."""
    assert CliRunner().invoke(group, ["late"]).stdout == "here\n"
    assert "Come late." in CliRunner().invoke(group, ["late", "-h"]).stdout
    assert "late_command" in sys.modules


@pytest.mark.parametrize("words", [["nothing"], ["fail", "--kind", "x"], ["--nothing"]])
def test_usage(words: list[str]) -> None:
    """Wrong usage is click's: 2, and how it is used."""
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("word", "hint"), [("fial", " Did you mean 'fail'?"), ("lte", " Did you mean 'late'?"), ("zzz", "")]
)
def test_near(word: str, hint: str) -> None:
    """A mistyped command is told with the nearest one, also where that comes later, if any is near."""
    last = CliRunner().invoke(group, [word]).stderr.splitlines()[-1]
    assert last == f"Error: No such command {word!r}.{hint}"


def test_light() -> None:
    """A group by itself loads none of the libraries that commands need."""
    program = "import sys, fl_core.commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"grpc", "numpy", "pydantic", "yaml", "rich", "structlog"} & set(done.stdout.split()) == set()


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose module needs a package that is not there names the package and what installs it."""
    (tmp_path / "early_command.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    bare = Commands(
        name="fl-bare", later={"early": ("early_command:early", "Be early.")}, extra="fljob[early]"
    )
    result = CliRunner().invoke(bare, ["early"])
    assert result.exit_code == 64
    assert result.stderr == (
        "Error: fl-bare early needs the package no_such_package; install it with: pip install 'fljob[early]'\n"
    )
