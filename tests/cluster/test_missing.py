"""A machine that cannot run a cluster is told why, in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import binaries, fixtures, levels, processes
from harness.errors import MissingError, NotReadyError
from harness.processes import Daemon

MAIN = Path(__file__).parent / "__main__.py"


@pytest.mark.parametrize(("required", "status"), [("0", 0), ("1", 1)])
def test_tests_without_go_are_skipped_or_fail(required: str, status: int, tmp_path: Path) -> None:
    """Without Go and without programs the tests are skipped; where they are required, they fail."""
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {"PATH": str(tmp_path), "FLJOB_CACHE": str(tmp_path), "FLJOB_CLUSTER_REQUIRED": required}
    command = [sys.executable, str(MAIN), "test", "--level", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("skipped: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_level_without_its_programs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs that are there need no Go; each level needs its own."""
    for name in levels.PROGRAMS[2]:
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("FLJOB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(levels, "there", lambda name: name)
    levels.require(2)
    with pytest.raises(MissingError, match="^Go 1.26"):
        levels.require(3)
    assert binaries.binary("etcd") == tmp_path / "etcd"


def test_what_a_test_lacks_is_a_failure_where_nothing_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without its images is skipped, and fails where clusters are required."""
    monkeypatch.setenv("FLJOB_CLUSTER_REQUIRED", "0")
    with pytest.raises(pytest.skip.Exception, match="no images"):
        fixtures.lacking("there are no images")
    monkeypatch.setenv("FLJOB_CLUSTER_REQUIRED", "1")
    with pytest.raises(pytest.fail.Exception, match="no images"):
        fixtures.lacking("there are no images")


def test_a_missing_program_names_its_package() -> None:
    """A program of the operating system that is missing is told with the package that brings it."""
    with pytest.raises(MissingError, match="install it .Debian: apt-get install nowhere."):
        processes.system("no-such-program", package="nowhere")


def test_all_packages_that_are_missing_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever tries the highest level first installs what it needs with one command, and less for the others."""
    for name in levels.PROGRAMS[4]:
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setattr(levels, "buildable", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(levels, "there", lambda name: None if name in {"ip", "runc", "buildah"} else name)
    monkeypatch.setattr(levels, "PLUGINS", tmp_path / "nothing")
    packages = "iproute2 runc buildah containernetworking-plugins"
    with pytest.raises(MissingError, match=f"^Level 4 needs {packages}: .* apt-get install {packages}"):
        levels.require(4)
    with pytest.raises(MissingError, match="^Level 2 needs iproute2: "):
        levels.require(2)


def test_a_daemon_that_ends_says_why(tmp_path: Path) -> None:
    """A daemon that ends instead of getting ready is an error with the end of its log."""
    daemon = Daemon("broken", [sys.executable, "-c", "raise SystemExit('no port')"], tmp_path)
    with pytest.raises(NotReadyError, match=r"broken ended with 1; the end of .*broken.log:\n  no port"):
        daemon.ready(lambda: False)


def test_a_daemon_that_is_never_ready_is_told(tmp_path: Path) -> None:
    """A daemon that does not get ready in time is an error, too."""
    daemon = Daemon("slow", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path)
    with pytest.raises(NotReadyError, match="slow is not ready after 0 s"):
        daemon.ready(lambda: False, within=0.2)
    daemon.stop()
