from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.errors import ProgramError, SpecError
from job_generator.program import inspect, program_digest, sealed
from job_generator.spec import FLJob

Build = Callable[..., FLJob]
PAIR = ("config", "site")


@pytest.fixture
def seen(tmp_path: Path, a_job: Build) -> Callable[..., list[str]]:
    """What is seen to be wrong with a program of these files."""

    def look(
        text: str, *, entrypoint: str = "program:task", framework: str = "numpy", **others: str
    ) -> list[str]:
        for name, content in {"program": text, **others}.items():
            (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")
        job = a_job(program={"entrypoint": entrypoint, "framework": framework})
        return [str(problem) for problem in inspect(job, tmp_path)]

    return look


@pytest.mark.parametrize(
    "text",
    [
        "def task(config, site): ...",
        "def task(config, site, extra=1): ...",
        "def task(config, /, site, *more, **named): ...",
        "def task(*arguments): ...",
        "def task(config, site, *, depth=2): ...",
        "task = make()",
        "task: object = make()",
        "from elsewhere import task",
        "from elsewhere import other as task",
        "from elsewhere import *",
        "import elsewhere as task",
        "class task: ...",
        "@wrapped\ndef task(): ...",
        "if True:\n    def task(config, site): ...",
        "try:\n    import x\nexcept ImportError:\n    def task(config, site): ...",
        "def task(): ...\ndef task(config, site): ...",
        pytest.param(f"def task(config, site): ...\nx = a{'.b' * 2000}", id="long"),
    ],
)  # fmt: skip
def test_good(seen: Callable[..., list[str]], text: str) -> None:
    """A function that can be called with config and site is good, however the module comes by it."""
    assert seen(text) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("\ndef task(): ...", 0),
        ("\ndef task(config): ...", 1),
        ("\ndef task(a, b, c): ...", 3),
        ("\ndef task(a, b, *, c): ...", 3),
        ("\ndef task(config, *, site): ...", 2),
        ("\nif 1: ...\n\n\ndef task(*, config, site): ...", 2),
    ],
)
def test_parameters(seen: Callable[..., list[str]], text: str, count: int) -> None:
    """A function that cannot be called so is told with its line and how many arguments it takes."""
    line = text[: text.index("def")].count("\n") + 1
    assert seen(text) == [
        f"spec.program.entrypoint: line {line}: it is called as task(config, site), but takes {count} arguments"
    ]


def test_no_function(seen: Callable[..., list[str]]) -> None:
    """A function that is not there is told with those that are."""
    found = seen("def train(): ...\ndef evaluate():\n    def task(config, site): ...\n")
    assert found == [
        "spec.program.entrypoint: the module program has no function task; there are train and evaluate"
    ]
    assert seen("") == ["spec.program.entrypoint: the module program has no function task"]


@pytest.mark.parametrize(
    "text",
    [
        "task = dict[str, float]",
        "task: dict = {}",
        "task = 1",
        "if True:\n    task = f'{1}'",
        "a = task = [1]",
    ],
)
def test_what_is_no_function(seen: Callable[..., list[str]], text: str) -> None:
    """A name that is plainly bound to a value or to a type's alias is refused with the functions there are."""
    line = text.count("\n") + 1 + 1
    (found,) = seen(f"def train(config, site): ...\n{text}")
    assert found == (
        f"spec.program.entrypoint: line {line}: task is neither a function nor a class; expected one that is called as "
        "task(config, site); there is train"
    )


@pytest.mark.parametrize("text", ["task = TASKS['a']", "task = lambda c, s: 1", "task = 1\ntask = make()"])
def test_what_may_be_a_function(seen: Callable[..., list[str]], text: str) -> None:
    """What only running the program would tell is left to `try`."""
    assert seen(text) == []


def test_near_names(seen: Callable[..., list[str]]) -> None:
    """A mistyped function or module is answered with the likest one first."""
    text = "def train(config, site): ...\ndef task(config, site): ..."
    (found,) = seen(text, entrypoint="program:tusk")
    assert found.endswith("has no function tusk (did you mean task?); there are train and task")
    (found,) = seen(text, entrypoint="programm:task")
    assert found.endswith("(did you mean program?)")


def test_nothing_is_imported(seen: Callable[..., list[str]]) -> None:
    """Inspecting a program runs none of it, neither its module nor those beside it."""
    bomb = "raise SystemExit('imported')\n"
    assert seen(f"{bomb}import beside\ndef task(config, site): ...\n", beside=bomb) == []
    assert {"program", "beside"} & set(sys.modules) == set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef task(:\n", "program.py:2: this is not Python: "),
        ("x = '\0'\n", "this is not Python: "),
        pytest.param(f"x = {'-' * 100_000}1\n", "program.py: this is not Python: ", id="deep"),
        pytest.param(f"x = {'(' * 1000}1\n", "program.py:1: this is not Python: ", id="brackets"),
    ],
)
def test_not_python(seen: Callable[..., list[str]], text: str, message: str) -> None:
    """A file that Python cannot read is one problem with its path and line."""
    found = seen(text)
    assert len(found) == 1
    assert found[0].startswith("spec.program: /")
    assert message in found[0]


def test_a_broken_neighbour(seen: Callable[..., list[str]]) -> None:
    """A module beside the program is read, too: it is part of the digest and may be imported."""
    found = seen("def task(config, site): ...", beside="def (:\n")
    assert len(found) == 1
    assert "beside.py:1: this is not Python" in found[0]


@pytest.mark.parametrize(
    ("framework", "imports", "wrong"),
    [
        ("paddle", "import torch.nn as nn", "is paddle, but the program imports torch"),
        ("sklearn", "def f():\n    import jax, torch", "is sklearn, but the program imports jax and torch"),
        ("sklearn", "from paddle.nn import Linear", "is sklearn, but the program imports paddle"),
        ("paddle", "import paddle, torch", None),
        ("paddle", "import sklearn", None),
        ("sklearn", "import sklearn.linear_model", None),
        ("numpy", "import torch", None),
        ("paddle", "from .model import net", None),
    ],
)  # fmt: skip
def test_framework(seen: Callable[..., list[str]], framework: str, imports: str, wrong: str | None) -> None:
    """A program that imports only another framework than the job names is told so."""
    found = seen(f"{imports}\ntask = make()\n", framework=framework)
    assert found == ([f"spec.program.framework: {wrong}"] if wrong else [])


@pytest.mark.parametrize("entrypoint", ["nowhere:task", "nowhere.deeper:task", "__main__:task"])
def test_no_program(seen: Callable[..., list[str]], entrypoint: str) -> None:
    """A module that is neither beside the job nor installed is told with the file that was looked for."""
    found = seen("", entrypoint=entrypoint)
    assert len(found) == 1
    top = entrypoint.replace(".", ":").partition(":")[0]
    assert found[0].startswith(f"spec.program.entrypoint: there is no {top}.py")


def test_an_installed_program(tmp_path: Path, a_job: Build) -> None:
    """An installed module is taken as it is: no file, no digest, nothing imported."""
    job = a_job(program={"entrypoint": "this:s", "framework": "numpy"})
    assert list(inspect(job, tmp_path)) == []
    assert program_digest(tmp_path, "this") is None
    assert sealed(job, tmp_path).spec.program.sha256 is None
    assert "this" not in sys.modules


def test_a_package(tmp_path: Path, a_job: Build) -> None:
    """The entrypoint's module may lie in a package, and only that package is the program."""
    (tmp_path / "pack" / "inner").mkdir(parents=True)
    for name, text in {
        "pack/__init__.py": "",
        "pack/inner/__init__.py": "def task(config, site): ...\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "other.py").write_text("not python")
    job = a_job(program={"entrypoint": "pack.inner:task", "framework": "numpy"})
    assert list(inspect(job, tmp_path)) == []


def test_seal(tmp_path: Path, a_job: Build) -> None:
    """A sealed job holds the digest of its program, whose every byte and name counts."""
    (tmp_path / "program.py").write_text("x = 1\n")
    first = sealed(a_job(), tmp_path, uid="4f0d")
    assert (first.spec.program.sha256, first.metadata.uid) == (program_digest(tmp_path, "program"), "4f0d")
    (tmp_path / "beside.py").write_text("")
    assert program_digest(tmp_path, "program") != first.spec.program.sha256
    with pytest.raises(SpecError, match="put the right files there, or leave the field out"):
        sealed(first, tmp_path)


def test_seal_without_a_program(tmp_path: Path, a_job: Build) -> None:
    """A job cannot be bound to a program that is not there."""
    with pytest.raises(ProgramError, match=r"there is no program\.py and no folder program/"):
        sealed(a_job(), tmp_path)


def test_only_the_cluster_has_it(tmp_path: Path, a_job: Build) -> None:
    """A program that only the cluster has is not missed here, and keeps the digest that its author gave."""
    source = {"image": {"reference": "mine:1"}}
    job = a_job(program__source=source, program__sha256="a" * 64)
    assert list(inspect(job, tmp_path)) == []
    assert sealed(job, tmp_path).spec.program.sha256 == "a" * 64
    (tmp_path / "program.py").write_text("def task(config, site): ...\n", encoding="utf-8")
    with pytest.raises(SpecError, match="is not the digest of the program"):
        sealed(job, tmp_path)
