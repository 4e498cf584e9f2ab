"""A program's digest is that of the files that Python would import, by name and content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fl_core.bundle import bundle, bundle_digest
from fl_core.errors import ProgramError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program of two modules, with data and another package beside it."""
    for name in (
        "program.py",
        "model.py",
        "data.csv",
        "other/__init__.py",
        "other/deep/part.py",
        "other/note.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}")
    return tmp_path


def test_a_module_goes_with_those_beside_it(folder: Path) -> None:
    """The entrypoint's module and its neighbours, but no data and no folders."""
    assert list(bundle(folder, "program")) == ["model.py", "program.py"]


def test_a_package_goes_as_a_whole(folder: Path) -> None:
    """All modules of the entrypoint's package at any depth, whichever of them is named, and no caches."""
    (folder / "other" / "__pycache__").mkdir()
    (folder / "other" / "__pycache__" / "part.py").write_text("")
    assert list(bundle(folder, "other.deep.part")) == ["other/__init__.py", "other/deep/part.py"]


def test_a_mounted_package_is_the_same(folder: Path, tmp_path: Path) -> None:
    """Behind the symbolic links of a volume that Kubernetes fills, a package has the same files and digest."""
    volume = tmp_path / "volume"
    (volume / "..1").mkdir(parents=True)
    shutil.copytree(folder / "other", volume / "..1" / "other")
    (volume / "..data").symlink_to("..1")
    (volume / "other").symlink_to("..data/other")
    assert bundle_digest(bundle(volume, "other")) == bundle_digest(bundle(folder, "other"))


def test_a_folder_of_the_modules_name_is_no_package(folder: Path) -> None:
    """Beside `program.py` a folder `program/` with data only is not what Python imports."""
    (folder / "program").mkdir()
    (folder / "program" / "rows.csv").write_text("1,2")
    assert list(bundle(folder, "program")) == ["model.py", "program.py"]
    (folder / "program" / "__init__.py").touch()
    assert list(bundle(folder, "program")) == ["program/__init__.py"]


def test_no_program_says_where_it_was_looked_for(folder: Path) -> None:
    """The message names the file and the folder that there are not."""
    with pytest.raises(ProgramError, match="no missing.py and no folder missing/ in"):
        bundle(folder, "missing.part")


def test_every_change_is_another_digest(folder: Path) -> None:
    """Other content, another name, one file more or one less is another program; a new date is not."""
    files = bundle(folder, "program")
    before = {bundle_digest(files)}
    (folder / "program.py").touch()
    assert {bundle_digest(files)} == before
    changed = [
        {"model.py": files["model.py"]},
        {**files, "more.py": files["model.py"]},
        {"other.py": files["model.py"], "program.py": files["program.py"]},
        {"model.py": files["program.py"], "program.py": files["model.py"]},
    ]
    digests = [bundle_digest(one) for one in changed]
    (folder / "program.py").write_text("# changed")
    assert len(before | set(digests) | {bundle_digest(files)}) == 6


def test_the_order_of_files_does_not_matter(folder: Path) -> None:
    """The digest is that of sorted names, in whatever order a file system lists them."""
    files = bundle(folder, "program")
    assert bundle_digest(dict(reversed(files.items()))) == bundle_digest(files)
