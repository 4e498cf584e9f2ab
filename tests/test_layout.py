"""The shape of the repository: what must be where, and what must not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fl_core.extensions import resolve

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(
    folder
    for place in (ROOT, ROOT / "operator")
    for folder in (*place.glob("fl_*"), *place.glob("job_generator"))
    if any(folder.rglob("*.py"))
)
EXTENSIONS = sorted(
    path
    for package in ("strategies", "aggregation", "selection", "compression", "privacy/mechanisms")
    for path in (ROOT / "fl_core" / package).glob("*.py")
    if path.stem != "__init__"
)
GENERATED = {"fl_pb2", "fl_pb2_grpc"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_by(*modules: str) -> set[str]:
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_these_tests_look_at_something() -> None:
    """The packages and extensions that are checked below have been found."""
    assert {"fl_core", "job_generator"} <= {path.name for path in PACKAGES}
    assert {"fedavg", "mean", "uniform", "float16", "gaussian"} <= {path.stem for path in EXTENSIONS}


def test_the_operators_folder_is_no_package() -> None:
    """`operator/` has no `__init__.py`, which would hide the standard library's module (decision 0002)."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_tests_are_no_packages() -> None:
    """No folder of tests has an `__init__.py`, so that no test folder hides a module of the same name."""
    assert [name_of(path) for path in (ROOT / "tests").rglob("__init__.py")] == []
    assert not (ROOT / "tests" / "operator").exists()


def test_the_standard_library_is_reachable_from_the_root() -> None:
    """With the root first on the path, `operator` is the standard library's module."""
    program = "import sys; sys.path.insert(0, '.'); import operator, collections; print(operator.add(1, 2))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "3"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_module_is_called_like_one_of_the_standard_library(package: Path) -> None:
    """A module called as a standard one would be a trap for whoever runs a script beside it."""
    names = {path.stem for path in package.rglob("*.py")} - {"__init__", "__main__"}
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_module_is_a_drawer(package: Path) -> None:
    """No module is called utils, common or helpers: its name would not say what is in it."""
    assert {path.stem for path in package.rglob("*.py")} & {
        "utils",
        "util",
        "common",
        "helpers",
        "misc",
    } == set()


@pytest.mark.parametrize("path", EXTENSIONS, ids=name_of)
def test_an_extension_module_exports_one_name(path: Path) -> None:
    """The YAML word finds a class because its module exports exactly one name, which it defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exported = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert len(exported) == 1
    assert len(exported[0]) == 1
    assert set(exported[0]) <= classes


@pytest.mark.parametrize("path", EXTENSIONS, ids=name_of)
def test_the_yaml_word_is_the_file_name(path: Path) -> None:
    """`fedprox` is `strategies/fedprox.py`, and `resolve` finds it."""
    found = resolve(path.stem, within=".".join(path.relative_to(ROOT).parent.parts))
    assert found.__name__.lower() == path.stem.replace("_", "")


@pytest.mark.parametrize("path", EXTENSIONS, ids=name_of)
def test_an_extension_has_a_test_file_of_its_name(path: Path) -> None:
    """`fl_core/strategies/fedprox.py` is tested by `tests/fl_core/strategies/test_fedprox.py`."""
    test = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
    assert test.is_file(), f"{name_of(path)} needs tests: write {name_of(test)}"
    assert "\ndef test_" in test.read_text(encoding="utf-8")


def test_the_packages_import_no_framework() -> None:
    """Importing the core and the supervisor loads neither a learning framework nor Kubernetes."""
    loaded = imported_by(
        "fl_core.wire.channels", "fl_core.rounds", "fl_core.roster", "job_generator.local.supervisor"
    )
    assert "fl_core.rounds" in loaded
    assert loaded & {"paddle", "sklearn", "torch", "jax", "kubernetes"} == set()


def test_every_command_exists() -> None:
    """Every command that the distribution promises has a module and a function behind it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for command, target in project["scripts"].items():
        module = target.partition(":")[0].replace(".", "/")
        roots = (ROOT, ROOT / "operator")
        places = [root / end for root in roots for end in (f"{module}.py", f"{module}/__init__.py")]
        found = [path for path in places if path.exists()]
        assert found, command
        assert "def main(" in found[0].read_text(encoding="utf-8"), command


def test_constraints_name_versions_and_nothing_else() -> None:
    """`constraints.txt` pins every direct requirement and says nothing of where packages come from."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [
        line
        for line in pins
        if not re.fullmatch(r'[a-z0-9-]+==[\w.]+( ; python_version [<>=]+ "3\.\d+")?', line)
    ] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[<>=\[]", one)[0].lower().replace("_", "-") for one in wanted} - {"fljob"}
    assert names - {line.partition("==")[0] for line in pins} == set()


def test_what_is_generated_is_excluded_by_name_only() -> None:
    """The linter skips the generated gRPC modules and nothing else in the packages."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert {Path(path).stem for path in settings["extend-exclude"]} == GENERATED
