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
from tests.rounds.submitted import heard

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
        self.left = config["left"]

    def train(self, weights):
        self.trainings += 1
        if self.first and self.trainings == 3 and not (self.disk / "room").exists():
            ballast = shutil.disk_usage(self.disk).free - self.left
            (self.disk / "ballast").write_bytes(bytes(ballast))
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


def fill(file: Path, disk: Path, *, left: int) -> None:
    """Let the job in this file leave so many bytes of the disk in its third round."""
    job = yaml.safe_load(file.read_text())
    job["spec"]["program"]["config"] = {"size": 50_000, "disk": str(disk), "left": left}
    file.write_text(yaml.safe_dump(job))
    (program,) = file.parent.glob("*.py")
    program.write_text(program.read_text() + FILLING)


def test_room_that_comes_back_costs_a_round_nothing(disk: Path) -> None:
    """A checkpoint for which there is no room waits, and the server says so: the round is committed as it was made."""
    line = prepared(disk, [], secure=False, rounds=4, workers=4, seed=1, selection=None)
    file = Path(line[4])
    fill(file, disk, left=100_000)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = heard(process, "cannot be written: No space left on device")
        (disk / "ballast").unlink()
        said += process.communicate(timeout=PATIENCE)[0]
    run = Tried(Path(line[line.index("--folder") + 1]), file.parent, process.returncode, said)
    assert (run.code, "crashed" in run.said) == (0, False), run.said
    assert [(row["result"], row["attempt"]) for row in run.rounds()] == [("Committed", 1)] * 4
    assert [row["model"] for row in run.rounds()] == run.should_be()


def test_a_disk_that_stays_full_loses_no_round(disk: Path) -> None:
    """The run ends with 74 and signs nothing that it cannot keep; with room, --resume makes every round."""
    line = prepared(disk, [], secure=True, rounds=4, workers=4, seed=1, selection=None)
    file = Path(line[4])
    fill(file, disk, left=400_000)
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
