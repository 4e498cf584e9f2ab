from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import Result

from fl_core import errors
from job_generator.cli.__main__ import COMMANDS, main

Submit = Callable[..., Result]


def test_every_command_is_there() -> None:
    """Each module of the package is a command, and each command is a module of it."""
    files = {path.stem for path in Path(str(main.callback.__code__.co_filename)).parent.glob("*.py")}  # type: ignore[union-attr]
    modules = {place.partition(":")[0].rpartition(".")[2] for place, _ in COMMANDS.values()}
    assert modules == files - {"__init__", "__main__", "files"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help(submit: Submit, name: str) -> None:
    """Every command shows how it is called, by examples that name it as it is called."""
    result = submit(name, "--help")
    assert result.exit_code == 0
    head, _, examples = result.stdout.partition("Example")
    assert f"fl-submit {name}" in head.splitlines()[0]
    assert f"    fl-submit {name} " in examples
    assert submit(name, "-h").stdout == result.stdout


@pytest.mark.parametrize("name", ["run", "resume", "fork", "watch"])
def test_plain(submit: Submit, name: str) -> None:
    """Whatever shows a job as it goes on can do so by lines."""
    assert "--plain" in submit(name, "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries(submit: Submit, name: str) -> None:
    """A command's line in the list says what its own help says: it starts with the same word."""
    line = COMMANDS[name][1]
    own = " ".join(submit(name, "--help").stdout.split("\n\n")[1].split())
    assert line.split()[0].rstrip(",") == own.split()[0].rstrip(",:")
    assert line.endswith(".")
    assert len(line) <= 70


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(submit: Submit, name: str) -> None:
    """Every option in an example is one that the command takes."""
    text = submit(name, "--help").stdout
    examples, _, options = text.partition("Example")[2].partition("\nOptions:")
    used = {
        word for line in examples.splitlines() for word in line.split() if re.fullmatch(r"--?[a-z-]+", word)
    }
    assert {word for word in used if word not in re.split(r"[\s,/]+", options)} == set()


def options(command: click.Command) -> Iterator[tuple[str, click.Parameter]]:
    """The options of a command, and of those below it, by each of their names."""
    context = click.Context(command)
    for parameter in command.params:
        yield from ((name, parameter) for name in parameter.opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from options(found)


def test_output_is_data_for_programs() -> None:
    """`--output json` means the same wherever it is taken: no command writes a file of that name."""
    found = [parameter.type for name, parameter in options(main) if name == "--output"]
    assert len(found) > 10
    assert {tuple(one.choices) for one in found if isinstance(one, click.Choice)} == {("json", "yaml")}
    assert all(isinstance(one, click.Choice) for one in found)


def test_commands_of_a_command_are_whole_sentences(submit: Submit) -> None:
    """The list of what `record` can do is wrapped, not cut."""
    text = submit("record", "--help").stdout.partition("Commands:")[2]
    assert "..." not in text
    assert "and models that no round made." in " ".join(text.split())


def test_list(submit: Submit) -> None:
    """The commands are listed in the order of their use, each in one line."""
    text = submit("--help").stdout
    rows = re.findall(r"^  (\w+) {2,}(.*)$", text.partition("Commands:")[2], re.MULTILINE)
    assert rows == [(name, line) for name, (_, line) in COMMANDS.items()]


def test_exit_codes(submit: Submit) -> None:
    """The exit codes of the help are those of the errors."""
    text = " ".join(submit("--help").stdout.split())
    for kind, words in (
        (errors.SpecError, "the job is wrong"),
        (errors.ProgramError, "its program"),
        (errors.MismatchError, "a process does not fit"),
        (errors.ShortfallError, "too few workers"),
        (errors.StorageError, "a disk or file"),
        (errors.UnavailableError, "try again"),
    ):
        assert f"{kind.exit_code} {words}" in text


def test_version(submit: Submit) -> None:
    """The version is that of the distribution."""
    assert submit("--version").stdout == f"fl-submit, version {version('fljob')}\n"


@pytest.mark.parametrize(
    "words", [["chek"], ["--nonsense"], ["check", "--nonsense"], ["run", "nowhere.yaml"], ["init"]]
)
def test_usage(submit: Submit, words: list[str]) -> None:
    """What is typed wrongly ends with 2 and says how it is typed."""
    result = submit(*words)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert result.stdout == ""


HEAVY = {"numpy", "grpc", "pydantic", "rich", "yaml", "structlog", "cryptography", "asyncio"}


@pytest.mark.parametrize(("typed", "meant"), [("chek", "check"), ("statu", "status"), ("complie", "compile")])
def test_did_you_mean(submit: Submit, typed: str, meant: str) -> None:
    """A command that is typed nearly right is named."""
    assert f"No such command {typed!r}. Did you mean {meant!r}?" in submit(typed).stderr


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], HEAVY),
        *[([name, "--help"], HEAVY) for name in COMMANDS],
    ],
)
def test_help_is_quick(
    loaded: Callable[[Sequence[str]], set[str]], words: list[str], heavy: set[str]
) -> None:
    """Help loads nothing that it does not show."""
    found = loaded(words)
    assert "job_generator.cli.__main__" in found
    assert heavy & found == set()
