"""What it costs to verify a record, as a multiple of hashing its bytes once, in the same run.

    python -m bench.record --rounds 10000

Writes a record of so many rounds with a cohort of 10, signs it, verifies it as `fl-submit record verify` does; reads
it as a server does that is started again. Prints medians of processor time and of the clock, and how each grows.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click

from bench.plans import UID, plain
from fl_core import attestation, record
from fl_core.identity import Authority, Credentials, Identity
from fl_core.plan import Plan, Program
from fl_core.seals import Seal
from fl_server.storage import Storage
from job_generator.local.verification import verify

WORKERS = [f"worker-{number}" for number in range(10)]


def plan_of(rounds: int) -> Plan:
    """A plain job."""
    program = Program(entrypoint="toy:task", framework="numpy", sha256="ab" * 32)
    return plain(rounds=rounds, cohort=len(WORKERS), program=program, workers=10_000)


def written(folder: Path, plan: Plan, credentials: Credentials) -> bytes:
    """Write and sign a record; its bytes."""
    head, lines, seal = record.Head.of(plan.digest), [], Seal(credentials)
    for number in range(1, plan.rounds + 1):
        row = {
            "round": number,
            "attempt": 1,
            "result": "Committed",
            "base": hashlib.sha256(b"%d" % (number - 1)).hexdigest(),
            "model": hashlib.sha256(b"%d" % number).hexdigest(),
            "plan": plan.digest,
            "program": plan.program.sha256,
            "software": {"fljob": "0.1.0", "numpy": "2.3.0", "python": "3.11.7", "machine": "x86_64"},
            "cohort": WORKERS,
            "selection": {"live": plan.workers, "passedOver": [f"worker-{n}" for n in range(10, 26)]},
            "reporters": WORKERS[:9],
            "dropouts": {"worker-9": "no heartbeat"},
            "examples": 5_000,
            "metrics": {"accuracy": 0.123456789, "loss": 1.23456789},
            "train": {"loss": 1.3456789},
            "seconds": {"select": 0.001, "train": 1.234567, "aggregate": 0.01, "commit": 0.02, "total": 1.3},
            "bytes": {"up": 1_000_000, "down": 1_000_000},
        }
        line = record.written(seal.under(head.bound(row)))
        seal.written()
        head = head.after(line)
        lines.append(line + b"\n")
    content = b"".join(lines)
    (folder / record.LINES).write_bytes(content)
    ending = attestation.Ending("RoundsDone", dt.datetime.now(dt.UTC), "", plan.rounds)
    Storage(folder, plan, seal=seal).sign(ending, credentials)
    return content


def _resumed(folder: Path, plan: Plan, credentials: Credentials) -> None:
    Storage(folder, plan, seal=Seal(credentials)).resumed(plan.rounds, model="", made=True)


def seconds(act: Callable[[], object], *, times: int) -> tuple[float, float]:
    """The medians of so many times: by the clock, and of the processor."""
    taken = []
    for _ in range(times):
        clock, processor = time.perf_counter(), time.process_time()
        act()
        taken.append((time.perf_counter() - clock, time.process_time() - processor))
    return median(one for one, _ in taken), median(one for _, one in taken)


def measured(rounds: int, *, times: int) -> None:
    """Print one line."""
    plan, authority = plan_of(rounds), Authority(UID)
    credentials = authority.issue(Identity(plan.job.uid, "server"))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        content = written(folder, plan, credentials)
        trusted = [authority.dump()[1]]
        assert not verify(folder, plan, authorities=trusted, over=True).findings
        hashing = seconds(lambda: hashlib.sha256(content).digest(), times=times)
        verifying = seconds(lambda: verify(folder, plan, authorities=trusted, over=True), times=times)
        resuming = seconds(lambda: _resumed(folder, plan, credentials), times=times)
    print(
        f"{rounds:>7} rounds  {len(content) / 1e6:6.1f} MB  hashing {hashing[1] * 1e3:6.1f} ms  "
        f"verify {verifying[1]:6.3f} s = {verifying[1] / hashing[1]:5.1f} x ({verifying[0]:.3f} s by the clock)  "
        f"read at a restart {resuming[1]:6.3f} s ({resuming[0]:.3f} s by the clock)"
    )


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), multiple=True, default=(1_000, 10_000, 20_000))
@click.option("--times", type=click.IntRange(min=1), default=5, show_default=True)
def main(*, rounds: tuple[int, ...], times: int) -> None:
    """Verify records of so many rounds."""
    for several in rounds:
        measured(several, times=times)


if __name__ == "__main__":
    main()
