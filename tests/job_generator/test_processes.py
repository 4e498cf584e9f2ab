from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from job_generator.processes import (
    COMMANDS,
    MODULES,
    ROLES,
    TAKEN,
    Place,
    Role,
    arguments,
    installed,
    of_this_python,
)

EVERYTHING = Place(
    plan="p.json", identity="id", metrics="m:0", listen="l:0", scheduler="s:1", server="s:2", storage="st", relay="r:0",
    store="file:///s", initial_model="m.npz", index="3", replicas="3", replay="r.jsonl", program="prog", data="d",
    states="s", authorities="a.pem", log_level="debug",
    enrol="https://o:1", token_file="t", ca_file="c",  # noqa: S106 - a path
)  # fmt: skip


@pytest.fixture(scope="session")
def helps() -> dict[Role, str]:
    """What each process says of its own options."""
    lines = {role: [sys.executable, "-m", *MODULES[role], "--help"] for role in ROLES}
    started = {
        role: subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for role, line in lines.items()
    }
    return {role: process.communicate(timeout=60)[0] for role, process in started.items()}


@pytest.mark.parametrize("role", ROLES)
def test_options_exist(role: Role, helps: dict[Role, str]) -> None:
    """Every option that a process is started with is one that it takes, with a value."""
    taken = dict(re.findall(r"^ +(--[a-z-]+) ([A-Z\[]\S*)", helps[role], re.MULTILINE))
    given = arguments(role, EVERYTHING)
    assert len(given) == 2 * len(TAKEN[role])
    assert set(given[::2]) - set(taken) == set()


@pytest.mark.parametrize("role", ROLES)
def test_options_suffice(role: Role, helps: dict[Role, str]) -> None:
    """Every option that a process cannot do without is given to it."""
    options = re.split(r"\n(?=  --)", helps[role].partition("Options:")[2])
    required = {text.split()[0] for text in options if "[required]" in text}
    assert required
    assert required - set(arguments(role, EVERYTHING)) == set()


@pytest.mark.parametrize("role", ROLES)
def test_accepted(role: Role, tmp_path: Path) -> None:
    """The process itself takes the whole line: it gets past its options, to the plan that is not there."""
    line = of_this_python(role, EVERYTHING, executable=sys.executable)
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 67, done.stderr
    assert "p.json cannot be read" in done.stderr


def test_left_out() -> None:
    """What a place does not name is not on the line; what it names is there once."""
    line = arguments("server", Place(plan="p", identity="i", metrics="m", storage=""))
    assert line == ["--plan", "p", "--identity", "i", "--metrics", "m", "--storage", ""]


def test_everything_is_somebodys() -> None:
    """Each thing that a place can name is an option of some role."""
    assert {field.name for field in fields(Place)} == {name for names in TAKEN.values() for name in names}


@pytest.mark.parametrize("role", ROLES)
def test_two_names(role: Role) -> None:
    """The installed command and the module are started with the same options."""
    by_name, by_module = installed(role, EVERYTHING), of_this_python(role, EVERYTHING, executable="py")
    assert (
        by_name[len(COMMANDS[role]) :] == by_module[2 + len(MODULES[role]) :] == arguments(role, EVERYTHING)
    )
    assert by_module[:2] == ["py", "-m"]
    assert by_name[0].replace("-", "_") == by_module[2]
