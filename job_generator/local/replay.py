"""A run that follows the record of another, or of a job on a cluster: what it may follow, its plan, and whether the
models are the same.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import from_json

from fl_core.errors import MismatchError, SpecError, StorageError
from fl_core.plan import Plan, Shortfall
from fl_core.record import COMMITTED, written
from fl_core.seals import read_authorities
from job_generator.aside import for_this_machine
from job_generator.local.fetched import FetchedRecord
from job_generator.local.folder import RunFolder, RunState, write_atomically
from job_generator.local.verification import verify
from job_generator.program import program_digest
from job_generator.spec import FLJob

ATTEMPTS = 5
"""How often a replayed round is tried: every worker that it asks must report."""


@dataclass(frozen=True)
class Source:
    """What is followed: the job, its plan, how its run was begun, its rounds; where program and data are now.

    `digest` is that of the program here, `notes` are what may make a difference.
    """

    job: str
    plan: Plan
    state: RunState
    rows: list[dict[str, Any]]
    program: Path
    data: str | None
    digest: str | None
    notes: tuple[str, ...] = ()

    def write(self, target: Path) -> None:
        """Write the rounds for the processes that follow them."""
        write_atomically(target, "".join(f"{written(row).decode()}\n" for row in self.rows))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two runs made the same models, and what is to be said of it."""

    same: bool
    sentence: str


def source(folder: Path, *, program: Path | None, data: str | None) -> Source:
    """Read what is to be followed; refuses a record that does not hold, and one of another program."""
    run, fetched = RunFolder(folder), FetchedRecord(folder)
    if fetched.is_there:
        return _of_cluster(fetched, program=program, data=data)
    if not run.is_run:
        raise MismatchError(
            f"--replay {folder}: that is no folder of a run on this machine (`fl-submit list` shows them), nor of a "
            f"record that was fetched. For a job on a cluster: `fl-submit record fetch {folder.name}` makes one, "
            f"`fl-submit run JOBFILE --replay {folder.name}-record` trains its rounds here, with a copy of its "
            "workers' data (--data) if they read any"
        )
    state = run.state()
    job = run.job.read_text(encoding="utf-8")
    return _checked(run, job, state, program=program or Path(state.program), data=data or state.data)


def _of_cluster(fetched: FetchedRecord, *, program: Path | None, data: str | None) -> Source:
    """What a job on a cluster leaves: neither its program nor its data, which are to be given."""
    job, path = fetched.job, fetched.path
    if program is None:
        raise SpecError(
            f"--replay {path}: the record of a job on a cluster comes without its program; give the job file that "
            f"lies beside it: fl-submit run job.yaml --replay {path}"
        )
    state = RunState(
        job=job.metadata.name,
        started=fetched.origin.fetched,
        program=str(program),
        restarts=job.spec.workers.restarts_per_worker,
        grace=job.spec.suspend_grace_seconds,
        threads=1,
    )
    here = for_this_machine(job).document()
    shown = yaml.safe_dump(here, sort_keys=False, allow_unicode=True)
    found = _checked(fetched.folder, shown, state, program=program, data=data)
    if data is None and (read := _read_data(job, found)):
        raise SpecError(
            f"{read}; give a copy of the same shards here, such as --data 'shards/{{index}}', where {{index}} is the "
            "worker's number in the record"
        )
    return found


def _read_data(job: FLJob, found: Source) -> str:
    """Which workers of the record had data of their own on the cluster, by the job; empty where none had."""
    pool, reporters = found.plan.pool, {name for row in found.rows for name in row["reporters"]}
    if job.spec.workers.data and not reporters.isdisjoint(f"worker-{index}" for index in range(pool)):
        return f"spec.workers.data: on the cluster workers read the claim {job.spec.workers.data.claim_name}"
    numbers = {site.name: site.index for site in found.plan.sites}
    for place, site in enumerate(job.spec.sites):
        number = numbers.get(site.name)
        if f"worker-{number}" in reporters and (site.data or site.external):
            where = f"read the claim {site.data.claim_name}" if site.data else "has data of its own"
            return f"spec.sites[{place}]: {site.name}, which is worker-{number}, {where}"
    return ""


def _checked(run: RunFolder, job: str, state: RunState, *, program: Path, data: str | None) -> Source:
    """Refuse a record that does not hold, or cannot be followed with this program."""
    folder, plan = run.path, Plan.read(run.plan)
    rows = _rows(run, plan)
    if plan.privacy is not None:
        raise SpecError(
            f"spec.privacy: the noise of {folder} was drawn in secret and is drawn afresh, so no replay makes "
            "the same models; and it would spend privacy once more"
        )
    digest, recorded = program_digest(program, plan.program.module), {str(row["program"]) for row in rows}
    found, notes = digest or "", []
    if recorded == {""} and found:
        notes.append(
            f"the record of {folder} names no digest of its program (spec.program.sha256 was not given): whether "
            f"{program} holds the same one, the models will tell"
        )
    elif {found} != recorded:
        raise MismatchError(
            f"the program in {program} ({found[:12]}) is not the one that {folder} was trained with "
            f"({', '.join(one[:12] for one in sorted(recorded))}); put its files there, and replay again"
        )
    notes += other_software(rows[-1].get("software", {}))
    return Source(job, plan, state, rows, program, data, digest, tuple(notes))


def other_software(recorded: Mapping[str, str]) -> list[str]:
    """A note where what the server ran on is of another version here, or another machine."""
    here = {"python": platform.python_version(), "machine": platform.machine()}
    for name in recorded.keys() - {"image", *here}:
        with suppress(PackageNotFoundError):
            here[name] = version(name)
    other = [f"{name} {recorded[name]} (here {here[name]})" for name in sorted(here.keys() & recorded)
             if here[name] != recorded[name]]  # fmt: skip
    return [f"it was recorded with {', '.join(other)}: models may differ in their last bits"] if other else []


def _rows(run: RunFolder, plan: Plan) -> list[dict[str, Any]]:
    """The rounds of a record that holds, one of them committed at least."""
    verdict = verify(run.storage, plan, authorities=read_authorities(run.authorities), over=False)
    if verdict.findings:
        raise StorageError(
            f"the record of {run.path} does not hold ({verdict.findings[0]}), so it is not replayed; "
            f"see: fl-submit record verify {run.path}"
        )
    rows = verdict.record.rows()
    if not any(row["result"] == COMMITTED for row in rows):
        raise MismatchError(f"the record of {run.path} has no committed round; there is nothing to replay")
    return rows


def following(of: Source) -> Plan:
    """The plan of the run that follows: as many rounds as were recorded, each tried until all have reported.

    It keeps the job's uid, by which workers are dealt to buckets (docs/decisions/0015); its authority is another.
    """
    selection, program = of.plan.selection, of.plan.program
    patient = Shortfall(action="Retry", attempts=max(ATTEMPTS, selection.on_shortfall.attempts))
    return of.plan.model_copy(
        update={
            "rounds": of.rows[-1]["round"],
            "program": program.model_copy(update={"sha256": of.digest}),
            "selection": selection.model_copy(update={"on_shortfall": patient}),
        }
    )


def compare(run: RunFolder) -> Comparison:
    """Hold a run's rounds against those that it followed."""
    recorded = [from_json(line) for line in run.replay.read_bytes().splitlines()]
    made = {closed.round: closed.model for closed in run.rounds()}
    pairs = [(row["round"], str(row.get("model", "")), made.get(row["round"])) for row in recorded]
    for number, then, now in pairs:
        if now is None:
            return Comparison(same=False, sentence=f"✗ round {number} was recorded, and is not trained again")
        if then != now:
            sentence = (
                f"✗ the models differ from round {number} on: {then[:12]} was recorded, {now[:12]} came now"
            )
            return Comparison(same=False, sentence=sentence)
    last = next(then for _, then, _ in reversed(pairs) if then)
    return Comparison(
        same=True, sentence=f"✓ {len(pairs)} rounds replayed: the same models, byte for byte, to {last[:12]}"
    )
