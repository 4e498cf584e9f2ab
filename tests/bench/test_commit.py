"""The benchmark of commits measures what it says, on a tiny case."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from bench.commit import main


def test_a_store_is_measured(tmp_path: Path) -> None:
    """With a store there is a table of its commits, each divided by a plain PUT."""
    (tmp_path / "store").mkdir()
    line = ["--megabytes", "1", "--rounds", "5", "--times", "5", "--folder", str(tmp_path)]
    done = CliRunner().invoke(main, [*line, "--store", f"file://{tmp_path}/store"], catch_exceptions=False)
    rows = [text.split(" | ") for text in done.output.splitlines() if text.startswith("| 1 MB")]
    assert [len(row) for row in rows] == [5, 5]
    assert float(rows[1][3].rstrip("x")) > 0
    assert not list((tmp_path / "store").glob("*-plain/*"))


def test_a_tiny_case_is_measured(tmp_path: Path) -> None:
    """Both tables have a row for each size that was asked for, and nothing stays on the disk."""
    line = ["--megabytes", "1", "--rounds", "5", "--times", "5", "--folder", str(tmp_path)]
    done = CliRunner().invoke(main, line, catch_exceptions=False)
    rows = [text.split(" | ") for text in done.output.splitlines() if text.startswith(("| 1 MB", "| 5 "))]
    assert [len(row) for row in rows] == [5, 4]
    assert float(rows[0][3].rstrip("x")) > 0
    assert list(tmp_path.iterdir()) == []
