"""What `make images` would build, and what it builds from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from job_generator.settings import Images

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "images" / "lock.py"
REGISTRY = "registry.example.com/ml/"
CHOSEN = (f"REGISTRY={REGISTRY}", "VERSION=1.2.3", "BASE=base", "CONTAINER=podman")
"""Chosen here, so that nothing of this machine counts."""


def lock(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LOCK), str(folder)], capture_output=True, text=True, check=False
    )


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Make as from a shell, whether or not another make runs these tests."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    typed = ["make", *words]
    return subprocess.run(typed, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def builds() -> list[str]:
    """The commands by which `make images` would build, each on one line."""
    shown = make("--dry-run", "images", *CHOSEN).stdout
    return [line for line in shown.replace("\\\n", " ").splitlines() if line.startswith("podman build")]


def test_every_image_is_built_that_the_operator_gives_to_jobs(builds: list[str]) -> None:
    """Each name that the operator knows is built once, and no other."""
    known = Images.of("1.2.3", prefix=REGISTRY)
    built = [found[1] for line in builds if (found := re.search(r"--tag (\S+)", line))]
    assert sorted(built) == sorted([known.control, known.store, *known.workers.values()])


def test_every_image_is_built_from_a_file_that_is_there_and_its_own_wheels(builds: list[str]) -> None:
    """The file exists, the folder of wheels is named for the image, and no two share one."""
    files = [found[1] for line in builds if (found := re.search(r"--file (\S+)", line))]
    assert len(files) == len(builds) > 0
    assert all((ROOT / file).is_file() for file in files)
    assert len({line.split()[-1] for line in builds}) == len(builds)


def test_without_a_builder_nothing_is_collected() -> None:
    """Where none of the programs is there that build images, make says so before it does anything else."""
    done = make("images", "CONTAINER=")
    assert done.returncode != 0
    assert done.stderr.startswith("docker with its daemon, podman or buildah is needed")
    assert done.stdout == ""


def test_what_is_installed_is_named_with_its_digest(tmp_path: Path) -> None:
    """Each wheel is one requirement that its own bytes satisfy."""
    wheel = tmp_path / "a_toy-1.0-py3-none-any.whl"
    wheel.write_bytes(b"toy")
    assert lock(tmp_path).returncode == 0
    expected = f"a-toy==1.0 --hash=sha256:{sha256(b'toy').hexdigest()}\n"
    assert (tmp_path / "requirements.txt").read_text() == expected


def test_two_wheels_of_one_name_are_refused(tmp_path: Path) -> None:
    """Of two versions of a package none is chosen in silence."""
    for version in ("1.0", "1.1"):
        (tmp_path / f"toy-{version}-py3-none-any.whl").write_bytes(b"toy")
    done = lock(tmp_path)
    assert done.returncode != 0
    assert "two wheels of toy" in done.stderr
    assert not (tmp_path / "requirements.txt").exists()
