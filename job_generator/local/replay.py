"""A run that follows the record of another: what it may follow, its plan, and whether the models are the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from fl_core.errors import MismatchError, SpecError, StorageError
from fl_core.plan import Plan, Shortfall
from fl_core.record import COMMITTED, written
from job_generator.local.folder import RunFolder, RunState, write_atomically
from job_generator.local.verification import read_authorities, verify
from job_generator.program import program_digest

ATTEMPTS = 5
"""How often a replayed round is tried: every worker that it asks must report."""


@dataclass(frozen=True)
class Source:
    """A run whose record is followed: its rounds, and where program and data are now."""

    run: RunFolder
    plan: Plan
    state: RunState
    rows: list[dict[str, Any]]
    program: Path
    data: str | None

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
    run = RunFolder(folder)
    if not run.is_run:
        raise MismatchError(
            f"--replay {folder}: that is no folder of a run on this machine, which --replay takes (`fl-submit list` "
            "shows them). The record of a job on a cluster can be shown and verified (`fl-submit record`) and not "
            "replayed: its data are with its workers; submit its job file once more, with the same seed"
        )
    state, plan = run.state(), Plan.read(run.plan)
    rows = _rows(run, plan)
    if plan.privacy is not None:
        raise SpecError(
            f"spec.privacy: the noise of {folder} was drawn in secret and is drawn afresh, so no replay makes "
            "the same models; and it would spend privacy once more"
        )
    where = program or Path(state.program)
    found, recorded = program_digest(where, plan.program.module) or "", {str(row["program"]) for row in rows}
    if {found} != recorded:
        raise MismatchError(
            f"the program in {where} ({found[:12]}) is not the one that {folder} was trained with "
            f"({', '.join(one[:12] for one in sorted(recorded))}); put its files there, and replay again"
        )
    return Source(run, plan, state, rows, where, data or state.data)


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
    selection = of.plan.selection
    patient = Shortfall(action="Retry", attempts=max(ATTEMPTS, selection.on_shortfall.attempts))
    return of.plan.model_copy(
        update={
            "rounds": of.rows[-1]["round"],
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
