"""One process at a time is the worker of an identity."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fl_core.alone import stay_alone
from fl_core.errors import StorageError


def test_a_second_process_waits_a_while_and_is_refused(tmp_path: Path) -> None:
    """One whose predecessor dies meanwhile is not, though that one's child lives on."""
    program = (
        "import os, sys, time; from pathlib import Path; from fl_core.alone import stay_alone\n"
        "stay_alone(Path(sys.argv[1])); os.fork() and print('held', flush=True); time.sleep(600)"
    )
    start = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(start, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert b"held\n" in process.stdout, "it has no lock"
            why = r"worker.lock has been locked by another process for 0\.2 s"
            with pytest.raises(StorageError, match=why):
                stay_alone(tmp_path, patience=0.2)
            threading.Timer(0.3, process.kill).start()
            stay_alone(tmp_path)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_grandchild_keeps_its_own_files(tmp_path: Path) -> None:
    """The number of the lock's descriptor may be another file's in a child, which its children are left."""
    program = """
import os, sys
from pathlib import Path
from fl_core.alone import stay_alone
spare = os.open(os.devnull, os.O_RDONLY)
os.close(spare)  # the lock's number
stay_alone(Path(sys.argv[1]))
if os.fork() == 0:
    assert os.open(os.devnull, os.O_RDONLY) == spare
    if os.fork() == 0:
        os.fstat(spare)
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    """Nobody is the worker of what is no folder."""
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match=r"taken/worker.lock cannot be locked: File exists"):
        stay_alone(tmp_path / "taken")


def test_a_worker_is_alone_before_it_has_a_certificate(tmp_path: Path) -> None:
    """A second process of a new identity ends before it reads its invitation, let alone makes a key."""
    program = """
import functools, click, fl_core.process as module
module.stay_alone = functools.partial(module.stay_alone, patience=0.2)

@module.process
@click.option("--join")
def worker(settings, join):
    raise AssertionError("it has an identity")

worker()
"""
    stay_alone(tmp_path / "identity")
    options = ["--identity", str(tmp_path / "identity"), "--join", str(tmp_path / "no-invitation")]
    done = subprocess.run(
        [sys.executable, "-c", program, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == StorageError("").exit_code
    assert "worker.lock has been locked by another process for 0.2 s" in done.stderr + done.stdout
