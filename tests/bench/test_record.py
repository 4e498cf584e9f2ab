"""The benchmark of records runs, and the record that it makes is whole."""

from __future__ import annotations

from click.testing import CliRunner

from bench.record import main


def test_it_prints_a_line_for_each_size() -> None:
    """A record of few rounds is written, signed, verified, and measured."""
    done = CliRunner().invoke(main, ["--rounds", "20", "--rounds", "40", "--times", "1"])
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2), done.output
    assert done.stdout.splitlines()[1].split()[:2] == ["40", "rounds"]
