"""`python -m bench.commit`: what a commit costs beside one plain write, and what a long record costs at a restart.

A commit is what lies between a round's new model and the next round: the checkpoint under its name, the oldest one
gone, the round's line, all on the disk. It is divided by one sequential write of as many bytes to a new file with one
fsync, both in turn on the same disk, so that what others do there weighs on both. A restart is what a server does
before it opens its next round: claim the storage, read the newest checkpoint and the whole record.

With `--store` the same commit is made by a server that keeps its storage there, beside one PUT of as many bytes.
"""

import os
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np

from bench.cases import MEGABYTE
from bench.plans import plain
from fl_core.plan import Plan, Program, canonical
from fl_core.record import LINES, Head
from fl_core.weights import Weights
from fl_server.checkpoints import Saved
from fl_server.model import Model
from fl_server.objects import opened
from fl_server.storage import Storage

AIM = 1.5
AIM_RESUME_SECONDS = 2.0
ARRAYS = 10
COHORT = 10


@click.command()
@click.option("--megabytes", multiple=True, default=(1, 10, 100), help="Sizes of the model; may be repeated.")
@click.option("--rounds", multiple=True, default=(1_000, 10_000, 100_000), help="Rounds on record; the same.")
@click.option("--times", default=9, help="Commits, and as many plain writes, per size.")
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True), help="On which disk; the temporary folder."
)
@click.option("--store", help="Also in this store of objects, as s3://bucket/folder.")
def main(
    *, megabytes: tuple[int, ...], rounds: tuple[int, ...], times: int, folder: Path | None, store: str | None
) -> None:
    """Print the tables."""
    load = os.getloadavg()[0]
    print(f"load {load:.1f} on {os.cpu_count()} cores\n")
    print("| model | plain write | commit | ratio | processor time of both |")
    print("|---|---|---|---|---|")
    for size in megabytes:
        with TemporaryDirectory(prefix="bench-", dir=folder) as place:
            print(_commits(Path(place), size, times), flush=True)
    print(f"\naim: {AIM}x at 100 MB\n")
    if store is not None:
        print("| model | plain PUT | commit in the store | ratio | processor time of both |")
        print("|---|---|---|---|---|")
        for size in megabytes:
            with TemporaryDirectory(prefix="bench-", dir=folder) as place:
                print(_stored_commits(Path(place), size, times, store), flush=True)
        print()
    print("| rounds on record | bytes of record | restart | of it processor time |")
    print("|---|---|---|---|")
    for count in rounds:
        with TemporaryDirectory(prefix="bench-", dir=folder) as place:
            print(_restart(Path(place), count, times), flush=True)
    print(f"\naim: {AIM_RESUME_SECONDS:g} s at 10,000 rounds")


def _commits(place: Path, megabytes: int, times: int) -> str:
    """One row: medians, and the median of the ratios of neighbours in time."""
    storage = Storage(place / "storage", plan())
    model = Model.of(weights(megabytes))
    content = bytes(model.buffer)
    pairs = []
    for number in range(1, times + 1):
        plain = _spent(lambda number=number: _write(place / f"plain-{number}", content))
        pairs.append((plain, _spent(lambda number=number: _commit(storage, model, number))))
        if number > storage.checkpoints.keep:
            (place / f"plain-{number - storage.checkpoints.keep}").unlink()
    return _told(megabytes, pairs)


def _stored_commits(place: Path, megabytes: int, times: int, store: str) -> str:
    """The same row beside plain PUTs; the job's objects stay, in a folder of their own."""
    own = f"{store}/{secrets.token_hex(4)}"
    for made in (own, f"{own}-plain"):
        if made.startswith("file://"):
            Path(made.removeprefix("file://")).mkdir()
    storage, objects = Storage(place / "storage", plan(), store=own), opened(f"{own}-plain")
    model = Model.of(weights(megabytes))
    content = bytes(model.buffer)
    pairs = []
    for number in range(1, times + 1):
        plain = _spent(lambda number=number: objects.put(f"{number}", content))
        pairs.append((plain, _spent(lambda number=number: _commit(storage, model, number))))
    objects.remove([f"{number}" for number in range(1, times + 1)])
    return _told(megabytes, pairs)


def _told(megabytes: int, pairs: Sequence[tuple["Spent", "Spent"]]) -> str:
    plain, commit = (_median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(ours.wall / theirs.wall for theirs, ours in pairs)
    both = f"{plain.processor:.3f} and {commit.processor:.3f} s"
    return f"| {megabytes} MB | {plain.wall:.3f} s | {commit.wall:.3f} s | {ratio:.2f}x | {both} |"


def _commit(storage: Storage, model: Model, number: int) -> None:
    facts = {
        "round": number,
        "plan": plan().digest,
        "metrics": {},
        "row": row(number),
        "digest": model.digest,
    }
    storage.checkpoints.save(Saved(model.weights, facts, {"strategy": {}}, model.digest))
    storage.record(row(number))


def _restart(place: Path, count: int, times: int) -> str:
    storage = Storage(place / "storage", plan())
    _commit(storage, Model.of(weights(1)), count)
    record = place / "storage" / LINES
    record.write_text("".join(f"{line}\n" for line in chained(count)))
    spent = _median([_spent(lambda: _restarted(place / "storage")) for _ in range(min(times, 5))])
    size = record.stat().st_size / MEGABYTE
    return f"| {count:,} | {size:.1f} MB | {spent.wall:.2f} s | {spent.processor:.2f} s |"


def _restarted(folder: Path) -> None:
    """What `Restoring` does of it, in its order."""
    storage = Storage(folder, plan())
    saved = storage.checkpoints.newest()
    assert saved is not None
    Model.of(saved.weights)
    found = storage.resumed(saved.facts["round"], model=saved.digest, made=True)
    assert found.over == len(found.rows)


def chained(count: int) -> Iterator[str]:
    """The lines of so many rounds."""
    of = plan().digest
    head = Head.of(of)
    for number in range(1, count + 1):
        line = canonical(head.bound({**row(number), "plan": of, "base": f"{number - 1:064x}"}))
        head = head.after(line.encode())
        yield line


def row(number: int) -> dict[str, Any]:
    """A round's line as ten workers make it."""
    names = [f"worker-{index}" for index in range(COHORT)]
    seconds = {
        "select": 0.01,
        "train": 1.25,
        "aggregate": 0.125,
        "commit": 0.25,
        "evaluate": 0.5,
        "total": 2.135,
    }
    return {
        "round": number, "attempt": 1, "result": "Committed", "cohort": names, "reporters": names, "dropouts": {},
        "seconds": seconds, "examples": 12_345, "model": f"{number:064x}", "bytes": {"up": 10**9, "down": 10**9},
        "train": {"loss": 1 / number}, "metrics": {"loss": 1 / number, "accuracy": 1 - 1 / number},
    }  # fmt: skip


def weights(megabytes: int) -> Weights:
    """Ten equal arrays of random values."""
    random = np.random.default_rng(1)
    size = megabytes * MEGABYTE // 4 // ARRAYS
    return {f"layer{number}.weight": random.random(size, "f4") for number in range(ARRAYS)}


def plan() -> Plan:
    """A job of ten workers."""
    program = Program(entrypoint="noop:task", framework="numpy")
    return plain(rounds=1_000_000, cohort=COHORT, program=program)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class Spent(NamedTuple):
    """Seconds on the clock and of the processor."""

    wall: float
    processor: float


def _spent(action: Callable[[], object]) -> Spent:
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return Spent(time.perf_counter() - wall, time.process_time() - processor)


def _median(spent: Sequence[Spent]) -> Spent:
    return Spent(
        statistics.median(one.wall for one in spent), statistics.median(one.processor for one in spent)
    )


if __name__ == "__main__":
    main()
