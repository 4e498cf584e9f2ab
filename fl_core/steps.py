"""The steps of a round, told to whoever started this process, who may hold it there: so a fault hits a known moment.

Only a process that was started with `--chaos-fd`, a socket that it inherits, tells its steps and waits for an answer;
in any other one `reached` does nothing. Nothing that comes over the network can change that. `fl-submit run --chaos`
is at the other end.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from io import BufferedRWPair
from pathlib import Path
from typing import Any, Literal, get_args

Step = Literal[
    "open", "select", "send", "train", "upload", "unmask", "commit", "evaluate", "record", "finish"
]
STEPS: tuple[Step, ...] = get_args(Step)
"""In the order of a round; `record` is its line, `finish` the writing of the final model."""

STARTED = "start"
"""What a process tells first."""

WRITING = os.O_WRONLY | os.O_RDWR
CHANGING = {"os.rename", "os.mkdir"}


@dataclass(slots=True)
class Listener:
    """Who is told; nobody, until a descriptor is given."""

    _stream: BufferedRWPair | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self, descriptor: int) -> None:
        """Tell whoever holds the other end of this socket, from here on."""
        end = socket.socket(fileno=descriptor)
        self._stream = end.makefile("rwb")
        self.reached(STARTED)

    def reached(self, step: str, round: int = 0) -> str:
        """Say that this process has come to a step of a round, and wait; the word says how to spoil its work there."""
        if self._stream is None:
            return ""
        with self._lock:
            try:
                self._stream.write(json.dumps({"step": step, "round": round}).encode() + b"\n")
                self._stream.flush()
                answer = json.loads(self._stream.readline() or b"{}")
            except OSError:  # whoever listened is gone
                self._stream = None
                return ""
        if "full" in answer:
            fill(Path(answer["full"]), seconds=answer["seconds"])
        return str(answer.get("spoil", ""))


LISTENER = Listener()
reached = LISTENER.reached


def fill(folder: Path, *, seconds: float) -> None:
    """Have no space left below this folder for so long: whatever opens, moves or makes a file there gets ENOSPC.

    It is an audit hook (PEP 578), so no code that writes files needs to know; one that is open already can be written.
    """
    end, root = time.monotonic() + seconds, str(folder)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if time.monotonic() >= end:
            return
        path = arguments[0] if event in CHANGING or (event == "open" and arguments[2] & WRITING) else None
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    sys.addaudithook(refuse)
