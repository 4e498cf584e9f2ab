from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fl_core.errors import MismatchError, ProgramError, SpecError
from fl_core.extensions import Extension
from fl_core.plan import Plan, Program
from job_generator.local import preflight
from job_generator.local.preflight import (
    check_data,
    check_extensions,
    check_framework,
    check_program,
    program_digest,
    shared_data,
)


def test_missing_data(tmp_path: Path) -> None:
    """The first missing path is named, and the others are counted."""
    (tmp_path / "0").mkdir()
    with pytest.raises(ProgramError, match=r"/1 does not exist, nor do 1 more of the 3"):
        check_data(f"{tmp_path}/{{index}}", 3)


def test_present_data(tmp_path: Path) -> None:
    """One path for all workers will do, and so will none."""
    check_data(str(tmp_path), 3)
    check_data(None, 3)


def test_shared_data() -> None:
    """That several workers find the same data is said once; one that is alone is not warned."""
    assert shared_data("data", 3) == "--data data has no {index}: all 3 workers get this same path."
    assert [shared_data("data/{index}", 3), shared_data(None, 3), shared_data("data", 1)] == [""] * 3


def test_missing_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework that is not there is named with the command that installs it."""
    monkeypatch.setitem(preflight.PACKAGES, "paddle", "no_such_module")
    with pytest.raises(ProgramError, match=r"pip install 'fljob\[paddle\]'"):
        check_framework("paddle")
    check_framework("numpy")


def test_classes_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_plan: Callable[..., Plan]
) -> None:
    """A module that the processes would not find is named with its field; one in this folder or installed is found."""
    monkeypatch.chdir(tmp_path)
    plan = a_plan(aggregation=Extension(name="trimmed_by_us.rules:Trimmed"))
    with pytest.raises(SpecError, match=r"^spec.aggregation.name: trimmed_by_us.rules:Trimmed: .*PYTHONPATH"):
        check_extensions(plan)
    (tmp_path / "trimmed_by_us").mkdir()
    check_extensions(plan)
    check_extensions(a_plan(strategy=Extension(name="json:Own"), compression=(Extension(name="sys:Own"),)))


def test_changed_program(tmp_path: Path, a_plan: Callable[..., Plan]) -> None:
    """A program other than the plan's is refused, and the plan's own is not."""
    (tmp_path / "program.py").write_text("task = 1")
    digest = program_digest(tmp_path, "program")
    plan = a_plan(program=Program(entrypoint="program:task", framework="numpy", sha256=digest))
    check_program(plan, tmp_path, again="")
    (tmp_path / "program.py").write_text("task = 2")
    with pytest.raises(MismatchError, match="has changed .* start a new run: fl-submit run j.yaml"):
        check_program(plan, tmp_path, again="fl-submit run j.yaml")


def test_installed_program(tmp_path: Path) -> None:
    """An installed module has no digest; one that is nowhere is an error."""
    assert program_digest(tmp_path, "json") is None
    with pytest.raises(ProgramError):
        program_digest(tmp_path, "no_such_module")
