"""`python -m bench`: measure the machine and the systems on it in one run, and print what came out."""

import shlex
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from bench import limits as machine_limits
from bench.cases import GIBIBYTE, Case, Runner
from bench.memory import Limits
from bench.ours import Ours
from bench.peers.flower import FlowerGrpc, FlowerSuperLink
from bench.report import Machine, Report, Row

# A model of 10 kB shows what a round costs before any data moves.
CASES = ("2x0.01", "2x1", "10x1", "10x25", "50x25", "10x250")
OWN_PACKAGES = ("grpcio", "protobuf", "numpy")


@click.command()
@click.option("--case", "names", multiple=True, default=CASES, help="CLIENTSxMEGABYTES; may be repeated.")
@click.option("--rounds", default=6, type=click.IntRange(2), help="Rounds per case; the first is dropped.")
@click.option("--peers/--no-peers", default=True, help="Measure the peers too.")
@click.option("--limits/--no-limits", default=True, help="Measure the limits of the machine too.")
@click.option("--system", "only", multiple=True, help="Measure only this system; may be repeated.")
@click.option("--timeout", default=600.0, help="Seconds per case and system.")
@click.option("--memory", default=16.0, help="GiB one system may take, clients included.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def main(  # noqa: PLR0913  # one parameter per option
    *,
    names: tuple[str, ...],
    rounds: int,
    peers: bool,
    limits: bool,
    only: tuple[str, ...],
    timeout: float,
    memory: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure seconds per round and server memory of our system and its peers, all with no-op clients."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cases = _cases(names, rounds)
    allowed = Limits(total_bytes=int(memory * GIBIBYTE), seconds=timeout)
    runners = _chosen([runner for runner in _runners(allowed) if peers or runner.name == "ours"], only)
    report = Report(
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        machine=Machine.here(),
        versions={"bench": {name: version(name) for name in OWN_PACKAGES}}
        | {runner.name: runner.versions() for runner in runners},
        limits=machine_limits.measure() if limits else [],
        rows=list(_measure(cases, runners)),
    )
    click.echo(report.json() if as_json else report.markdown())
    if output is not None:
        output.write_text(report.markdown())


def _runners(allowed: Limits) -> list[Runner]:
    """Name every system under test."""
    return [Ours(allowed), FlowerGrpc(allowed), FlowerSuperLink(allowed)]


def _chosen(runners: list[Runner], only: tuple[str, ...]) -> list[Runner]:
    known = {runner.name for runner in runners}
    if unknown := set(only) - known:
        raise click.BadParameter(
            f"{sorted(unknown)} found, one of {sorted(known)} expected", param_hint="--system"
        )
    return [runner for runner in runners if not only or runner.name in only]


def _cases(names: tuple[str, ...], rounds: int) -> list[Case]:
    try:
        return [Case.parse(name, rounds=rounds) for name in names]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--case") from error


def _measure(cases: list[Case], runners: list[Runner]) -> Iterator[Row]:
    """Take the systems of one case one after another, so that they are compared in the same minutes."""
    for case in cases:
        for runner in runners:
            click.echo(f"measuring {runner.name} {case.name} ...", err=True)
            yield Row(case, runner.name, runner.measure(case))


if __name__ == "__main__":
    main()
