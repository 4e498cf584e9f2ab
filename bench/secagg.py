"""`python -m bench.secagg`: our secure aggregation against Flower's SecAgg+, in processor time, in one run."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from bench.cases import GIBIBYTE, MEBIBYTE
from bench.memory import available
from bench.peers.flower import FLOWER
from bench.report import ratio, table
from bench.secagg_cases import SumCase, named
from fl_core.secagg.keystream import SLACK, CounterMode, Engine, GaloisCounterMode

PEER = Path(__file__).parent / "peers" / "flower_secagg.py"
CASES = (
    "10x100k",
    "10x1M",
    "10x1M:16",
    "100x100k",
    "100x1M",
    "100x1M:16",
    "100x1M:sparse",
    "100x1M:sparse:30%",
    "100x1M:sparse:30%spread",
    "1000x100k:sparse:30%",
    "1000x100k:sparse:30%spread",
)
MEMORY_CASES = ("100x1M", "100x10M")
HEADER = ("case", "system", "mask ns/element", "worker s", "server s", "upload kB", "once s")
RATIOS = ("case", "mask", "worker", "server", "upload")
BLOCK = 256 * 1024
RESERVE = 4 * GIBIBYTE
PEER_BYTES = 10
"""Of Flower's server per element and member, at least: whoever has less memory free need not try."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """Both systems in one case: the least of several repetitions of each figure."""

    text: str
    ours: Figures
    theirs: Figures | None


@click.command()
@click.option(
    "--case", "cases", multiple=True, default=CASES, help="MEMBERSxELEMENTS[:16][:sparse][:LOST%[spread]]."
)
@click.option("--memory", "memory_cases", multiple=True, default=MEMORY_CASES, help="The server's memory.")
@click.option(
    "--times", default=3, type=click.IntRange(1), help="Repetitions; the least of each figure counts."
)
@click.option("--peers/--no-peers", default=True, help="Measure Flower too.")
def main(*, cases: tuple[str, ...], memory_cases: tuple[str, ...], times: int, peers: bool) -> None:
    """Measure what a member and the server of one sum spend; nothing is sent, all is in memory."""
    if peers:
        FLOWER.prepare()
    click.echo(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores at the start\n")
    click.echo(table(("limit of one core", "GB/s"), [(name, f"{rate:.2f}") for name, rate in limits()]))
    rows = [measure(text, times=times, peers=peers) for text in cases]
    click.echo("\n" + table(HEADER, [cells for row in rows for cells in _cells(row)]))
    click.echo("\n" + table(RATIOS, [_ratios(row) for row in rows]))
    held = [_memory(text, peers=peers) for text in memory_cases]
    click.echo("\n" + table(("case", "our server MiB", "Flower's", "memory"), held))
    click.echo(f"\nload {os.getloadavg()[0]:.1f} at the end")


def measure(text: str, *, times: int, peers: bool) -> Row:
    """One case, the systems in turn."""
    case, ours, theirs = SumCase.parse(text), [], []
    for _ in range(times):
        click.echo(f"measuring {text} ...", err=True)
        ours.append(_ours(case))
        if peers:
            theirs.append(_theirs(case))
    return Row(text, _least(ours), _least(theirs) if peers else None)


def server_memory(case: SumCase) -> float:
    """Bytes beyond idle of a server, in a process of its own: nothing that ran before lends it memory."""
    return _ours(case, "memory")["memory"]


def limits() -> list[tuple[str, float]]:
    """What one core does at best with the blocks in which masks are made: processor time, not the clock's."""
    source, target = np.ones(BLOCK, np.uint8), np.empty(BLOCK, np.uint8)
    zeros, stream = memoryview(bytes(BLOCK)), memoryview(bytearray(BLOCK + SLACK))

    def filling(engine: type[Engine]) -> Callable[[], None]:
        keystream = engine(bytes(32))
        return lambda: keystream.fill(0, zeros, stream)

    return [
        ("memcpy, 256 KiB (numpy copy)", _rate(lambda: np.copyto(target, source))),
        ("AES-256-CTR, 256 KiB (cryptography)", _rate(filling(CounterMode))),
        ("AES-256-GCM, 256 KiB (cryptography)", _rate(filling(GaloisCounterMode))),
        ("SHA-256, 256 KiB", _rate(lambda: hashlib.sha256(zeros).digest())),
    ]


def _ours(case: SumCase, *what: str) -> Figures:
    return _said([sys.executable, "-m", "bench.secagg_ours", case.to_json(), *what])


def _theirs(case: SumCase, *what: str) -> Figures:
    parameters = case.parameters
    counts = {
        "elements": case.elements,
        "neighbours": parameters.degree,
        "threshold": parameters.threshold,
        "holders": case.holders,
        "survivors": case.survivors,
        "gone": case.gone,
        "pairs": case.gone * case.sharers,
    }
    python = FLOWER.programs / "python"
    return _said([python, PEER, json.dumps(counts), *what], FLOWER.variables())


def _said(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> Figures:
    """The figures that a process prints as its last line; whatever goes wrong in it ends the benchmark."""
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: Figures = json.loads(answer.stdout.strip().rpartition("\n")[2])
    return figures


def _memory(text: str, *, peers: bool) -> tuple[str, ...]:
    """What both servers hold while all vectors come."""
    case = SumCase.parse(text)
    ours, theirs = server_memory(case), None
    if peers and case.survivors * case.elements * PEER_BYTES + RESERVE < available():
        theirs = _theirs(case, "memory")["memory"]
    shown = "-" if theirs is None else f"{theirs / MEBIBYTE:.0f}"
    return named(text), f"{ours / MEBIBYTE:.0f}", shown, ratio(theirs, ours)


def _least(repeated: Sequence[Figures]) -> Figures:
    return {name: min(figures[name] for figures in repeated) for name in repeated[0]}


def _cells(row: Row) -> list[tuple[str, ...]]:
    elements = SumCase.parse(row.text).elements
    return [
        (
            named(row.text),
            system,
            f"{figures['mask'] / elements * 1e9:.2f}",
            f"{figures['worker']:.4f}",
            f"{figures['server']:.4f}",
            f"{figures['upload'] / 1000:.0f}",
            f"{figures['introduction']:.4f}" if "introduction" in figures else "-",
        )
        for system, figures in (("ours", row.ours), ("flower", row.theirs))
        if figures is not None
    ]


def _ratios(row: Row) -> tuple[str, ...]:
    theirs = row.theirs or {}
    return (named(row.text), *(ratio(theirs.get(name), row.ours[name]) for name in RATIOS[1:]))


def _rate(act: Callable[[], object]) -> float:
    """Billions of bytes per second of processor time, the best of several tries."""
    best = float("inf")
    for _ in range(20):
        start = time.process_time_ns()
        for _ in range(16):
            act()
        best = min(best, time.process_time_ns() - start)
    return 16 * BLOCK / best


if __name__ == "__main__":
    main()
