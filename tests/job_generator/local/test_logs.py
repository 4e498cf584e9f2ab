from __future__ import annotations

import json
from pathlib import Path

from job_generator.local.child import last_words
from job_generator.local.logs import Filter, Logs


def write(path: Path, *entries: object) -> None:
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def events(logs: Logs) -> list[str]:
    return [entry.event for entry in logs.entries()]


def test_merged_by_time(tmp_path: Path) -> None:
    """Lines of several processes come in the order of their time."""
    write(tmp_path / "server.log", {"timestamp": "T1", "event": "a"}, {"timestamp": "T3", "event": "c"})
    write(tmp_path / "worker-0.log", {"timestamp": "T2", "event": "b"})
    assert events(Logs(tmp_path, Filter())) == ["a", "b", "c"]


def test_filters(tmp_path: Path) -> None:
    """Lines can be asked for by process, by kind of process, and by round."""
    for name in ("server", "worker-1", "worker-12"):
        write(tmp_path / f"{name}.log", {"timestamp": "T", "event": name, "round": len(name)})
    assert events(Logs(tmp_path, Filter(role="worker-1"))) == ["worker-1"]
    assert events(Logs(tmp_path, Filter(role="worker"))) == ["worker-1", "worker-12"]
    assert events(Logs(tmp_path, Filter(round=6))) == ["server"]


def test_follow(tmp_path: Path) -> None:
    """Following goes on with new lines and new processes, and ends with the run."""
    write(tmp_path / "server.log", {"timestamp": "T1", "event": "first"})
    alive = iter([True, False])

    def going_on() -> bool:
        write(tmp_path / "worker-0.log", {"timestamp": "T2", "event": "more"})
        return next(alive)

    followed = [entry.event for entry in Logs(tmp_path, Filter()).follow(going_on)]
    assert followed == ["first", "more", "more"]


def test_traceback_stays_in_place(tmp_path: Path) -> None:
    """A line that is no JSON keeps its place after the line before it."""
    write(
        tmp_path / "server.log",
        {"timestamp": "T1", "event": "a"},
        "Traceback",
        {"timestamp": "T2", "event": "b"},
    )
    write(tmp_path / "worker-0.log", {"timestamp": "T15", "event": "w"})
    assert events(Logs(tmp_path, Filter())) == ["a", "Traceback", "w", "b"]


def test_last_words(tmp_path: Path) -> None:
    """The last error line of this life of a process counts, with its traceback."""
    log = tmp_path / "w.log"
    write(log, {"level": "error", "event": "of an earlier life"})
    begin = log.stat().st_size
    write(log, {"level": "info", "event": "hello"})
    assert last_words(log, begin) == ("", "")
    write(log, {"level": "error", "event": "no data", "exception": "Traceback"}, "noise")
    assert last_words(log, begin) == ("no data", "Traceback")
