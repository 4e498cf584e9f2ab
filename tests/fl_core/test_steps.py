from __future__ import annotations

import errno
import json
import socket
import threading
from pathlib import Path

import pytest

from fl_core.steps import Listener, fill


def test_nobody_is_told_without_a_descriptor() -> None:
    """A process that was started without a socket says nothing, waits for nothing and spoils nothing."""
    assert Listener().reached("train", 3) == ""


def test_a_step_is_told_and_waited_for() -> None:
    """Whoever holds the other end hears each step, and its answer says how the work there is spoilt."""
    ours, theirs = socket.socketpair()
    heard = []

    def answer() -> None:
        with ours.makefile("rwb") as stream:
            for line in stream:
                heard.append(json.loads(line))
                stream.write(b'{"spoil": "nan"}\n' if heard[-1]["round"] else b"{}\n")
                stream.flush()

    thread = threading.Thread(target=answer)
    thread.start()
    listener = Listener()
    listener.connect(theirs.detach())
    assert listener.reached("train", 3) == "nan"
    ours.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert heard == [{"step": "start", "round": 0}, {"step": "train", "round": 3}]
    assert listener.reached("train", 4) == ""


def test_a_full_disk_refuses_writers_below_its_folder_for_its_time(tmp_path: Path) -> None:
    """Opening, making and moving fail with ENOSPC below the folder, reading and other folders do not, nor later."""
    (tmp_path / "full").mkdir()
    kept = tmp_path / "full" / "kept"
    kept.write_text("whole")
    fill(tmp_path / "full", seconds=0.3)
    for change in (
        lambda: kept.write_text("torn"),
        (tmp_path / "full" / "made").mkdir,
        lambda: kept.rename(tmp_path / "full" / "moved"),
    ):
        with pytest.raises(OSError) as refused:  # noqa: PT011 - its number says which
            change()
        assert refused.value.errno == errno.ENOSPC
    assert kept.read_text() == "whole"
    (tmp_path / "elsewhere").write_text("fine")
    threading.Event().wait(0.35)
    kept.write_text("later")
