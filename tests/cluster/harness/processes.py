"""Starting the cluster's daemons: a log for each, and waiting until one can be used."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import MissingError, NotReadyError
from harness.waiting import PATIENCE, until

LINES_SHOWN = 15


class Daemon:
    """One running program whose output is the file `log`."""

    def __init__(self, name: str, command: Sequence[str | Path], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def ready(self, probe: Callable[[], bool], *, within: float = PATIENCE) -> None:
        """Return when `probe` first says yes; raise NotReadyError with the log's end after `within` seconds."""
        if not until(lambda: probe() or self._process.poll() is not None, within=within):
            raise NotReadyError(f"{self.name} is not ready after {within:.0f} s; {self._told()}")
        if self._process.poll() is not None:
            raise NotReadyError(f"{self.name} ended with {self._process.returncode}; {self._told()}")

    def stop(self) -> None:
        """Kill the program: nothing of it is kept, so it need not end in order."""
        self._process.kill()
        self._process.wait()

    def _told(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
        return "\n  ".join([f"the end of {self.log}:", *lines])


def system(name: str, *, package: str) -> str:
    """The path of a program of the operating system. Raises MissingError with the Debian package that brings it."""
    path = there(name)
    if path is None:
        raise MissingError(f"{name} is needed: install it (Debian: apt-get install {package}).")
    return path


def there(name: str) -> str | None:
    """The path of a program of the operating system, if it has it."""
    return shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
