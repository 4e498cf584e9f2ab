"""`python -m bench.secagg_round`: what secure sums add to a round of a job, the example `digits`, as real processes.

The same job is run with and without secure aggregation, in turn. Printed are the medians of a round's seconds over all
rounds but the first two, in which Paddle compiles and ranges are learned, and what the server, the scheduler and a
worker take of the processor a round, which other work disturbs less; the differences; and what these make for all
processes together, divided by the cores that they share: the clock can see no less where the cores are busy.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import yaml

from bench.followed import ROLES, Followed
from fl_core.record import LINES

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits" / "job.yaml"
WARM_UP = 2
AIM_SECONDS = 0.050


@click.command()
@click.option("--rounds", default=12, type=click.IntRange(WARM_UP + 2), help="Of each run.")
@click.option("--times", default=3, type=click.IntRange(1), help="Runs of each kind.")
@click.option(
    "--job",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=EXAMPLE,
    help="A job's file; the example digits.",
)
def main(*, rounds: int, times: int, job: Path) -> None:
    """Run a job with and without secure sums, and compare their rounds."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    workers = 0
    spent: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    with TemporaryDirectory() as scratch:
        for number in range(times):
            for secure in (True, False):
                folder = Path(scratch) / f"{number}-{secure}"
                found, of_processor = measured(job, folder, secure=secure, rounds=rounds)
                workers = json.loads((folder / "run" / "plan.json").read_text())["workers"]
                seconds[secure] += found
                spent[secure].append(of_processor)
                kind, figures = "secure" if secure else "plain ", _told(of_processor)
                click.echo(f"{kind}  median of {len(found)}: {median(found):.3f} s; {figures}")
    added = {role: _middle(spent[True], role) - _middle(spent[False], role) for role in ROLES}
    clock = median(seconds[True]) - median(seconds[False])
    click.echo(
        f"added to a round: by the clock {1000 * clock:.0f} ms, {_told(added)}; the aim is {1000 * AIM_SECONDS:.0f} ms"
    )
    everybody, cores = sum(added.values()) + (workers - 1) * added["worker"], len(os.sched_getaffinity(0))
    click.echo(
        f"all {workers + len(ROLES) - 1} processes: {1000 * everybody:.0f} ms of the processor, "
        f"{1000 * everybody / cores:.0f} ms by the clock of {cores} cores that do nothing else"
    )


def _middle(spent: list[dict[str, float]], role: str) -> float:
    return median(one[role] for one in spent)


def _told(spent: dict[str, float]) -> str:
    return "of the processor " + ", ".join(f"{role} {1000 * spent[role]:.0f} ms" for role in ROLES)


def measured(job: Path, folder: Path, *, secure: bool, rounds: int) -> tuple[list[float], dict[str, float]]:
    """Seconds of each round of one run, those of the warm-up left out, and of the processor by role."""
    change = {"spec": {"rounds": rounds, "target": None, "secureAggregation": {"enabled": secure}}}
    folder.mkdir()
    over = folder / "over.yaml"
    over.write_text(yaml.safe_dump(change))
    command = [sys.executable, "-m", "job_generator.cli", "run", "-f", job, "-f", over, "--plain"]
    run = Followed(folder / "run", rounds, WARM_UP)
    run.run([*command, "--folder", run.folder])
    lines = (run.folder / "storage" / LINES).read_text().splitlines()
    return [json.loads(line)["seconds"]["total"] for line in lines][WARM_UP:], run.spent


if __name__ == "__main__":
    main()
