"""A job whose disk gets full, for real: a small file system that the program fills up in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.rounds.faults import PATIENCE, Tried, prepared

pytestmark = [
    pytest.mark.rounds,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="mounts a tmpfs, as root on Linux"
    ),
]

MOUNT, UMOUNT = (shutil.which(name) or name for name in ("mount", "umount"))

FILLING = """
from pathlib import Path
import shutil

class Full(Hospital):
    def __init__(self, site, config):
        super().__init__(site, config)
        self.disk, self.first, self.trainings = Path(config["disk"]), site.index == 0, 0

    def train(self, weights):
        self.trainings += 1
        if self.first and self.trainings == 3 and not (self.disk / "room").exists():
            left = shutil.disk_usage(self.disk).free - 400_000
            (self.disk / "ballast").write_bytes(bytes(left))
        return super().train(weights)

def task(config, site):
    return Full(site, config)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    done = subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=32m", "tmpfs", where], check=False)
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield where
    subprocess.run([UMOUNT, "-l", where], check=True)


def test_a_disk_that_stays_full_loses_no_round(disk: Path) -> None:
    """The run ends with 74 and signs nothing that it cannot keep; with room, --resume makes every round."""
    line = prepared(disk, [], secure=True, rounds=4, workers=4, seed=1, selection=None)
    file = Path(line[4])
    job = yaml.safe_load(file.read_text())
    job["spec"]["program"]["config"] = {"size": 50_000, "disk": str(disk)}
    file.write_text(yaml.safe_dump(job))
    (program,) = file.parent.glob("*.py")
    program.write_text(program.read_text() + FILLING)
    full = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert full.returncode == 74, full.stdout + full.stderr
    assert "no room for the next checkpoint" in full.stdout + full.stderr
    (disk / "ballast").unlink()
    (disk / "room").touch()
    folder = line[line.index("--folder") + 1]
    again = [*line[:4], "--resume", folder, "--plain"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=PATIENCE, check=False)
    run = Tried(Path(folder), file.parent, done.returncode, done.stdout + done.stderr)
    assert run.code == 0, run.said
    assert [row["result"] for row in run.rounds()] == ["Committed"] * 4
    assert [row["model"] for row in run.rounds()] == run.should_be()
