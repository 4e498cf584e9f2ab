"""What a run came to: as one document for programs, and as a page for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fl_core.errors import PERMANENT_EXIT_CODES, ShortfallError, UnusableError
from fl_core.models import checkpoints
from fl_core.plan import Plan
from job_generator.local.folder import RunFolder, RunState
from job_generator.local.live import target_text
from job_generator.local.picture import duration, figure
from job_generator.local.record import ClosedRound, Spent, last_evaluated
from job_generator.local.recovered import is_lost, way_back

PREDICTION = {
    "paddle": "task.model(next(iter(task.test))[0]).argmax(axis=1).numpy()",
    "sklearn": "task.model.predict(task.test[0])",
    "numpy": "task.evaluate(weights)",
}
OPEN_MODEL = """\
from fl_worker import trained
task, weights = trained("{run}")
print({prediction})"""

ANEW = {*PERMANENT_EXIT_CODES} - {ShortfallError.exit_code, UnusableError.exit_code}
"""After these the program or the job must change, and a run is bound to both."""


@dataclass(frozen=True, slots=True)
class Result:
    """A run that is over, or stands where it stands."""

    folder: RunFolder
    plan: Plan
    state: RunState
    rounds: tuple[ClosedRound, ...]

    @classmethod
    def read(cls, folder: RunFolder) -> Result:
        """Read a run's folder."""
        state = folder.state()
        return cls(folder, Plan.read(folder.plan), state, tuple(folder.rounds()))

    @property
    def lost(self) -> str:
        """What to do where nothing of the storage is on this machine, but in a store; else nothing."""
        return way_back(self.folder, self.state) if is_lost(self.folder, self.state) else ""

    @property
    def last(self) -> ClosedRound | None:
        """The newest committed round."""
        return next((closed for closed in reversed(self.rounds) if closed.committed), None)

    @property
    def evaluated(self) -> ClosedRound | None:
        """The newest evaluated round."""
        return last_evaluated(list(self.rounds))

    @property
    def done(self) -> int | None:
        """The last round that is over; None where nothing of the storage is on this machine."""
        if self.lost:
            return None
        return self.rounds[-1].round if self.rounds else self.plan.done

    @property
    def best(self) -> ClosedRound | None:
        """The best evaluated round: by the target's metric, or else by the lowest loss."""
        target = self.plan.target
        name = target.metric if target else "loss"
        sign = -1.0 if target and target.at_least is not None else 1.0
        scored = [
            (sign * value, closed)
            for closed in self.rounds
            if (value := closed.metrics.get(name)) is not None
        ]
        return min(scored, key=lambda pair: (pair[0], pair[1].round))[1] if scored else None

    @property
    def privacy(self) -> Spent | None:
        """The privacy that was spent; None where the job has no differential privacy."""
        return self.rounds[-1].privacy if self.rounds else None

    @property
    def seconds(self) -> float:
        """How long the run took, from first to last process; before its end, how long at least."""
        if self.state.seconds is not None:
            return self.state.seconds
        return max(self.state.earlier_seconds, sum(closed.total_seconds for closed in self.rounds))

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; None without a target."""
        target = self.plan.target
        if target is None:
            return None
        value = self.evaluated.metrics.get(target.metric) if self.evaluated else None
        return value is not None and target.reached(value)

    @property
    def onward(self) -> str:
        """What to type next for a run that has not ended well, and why; empty for one that needs nothing."""
        state = self.state
        if state.state in {"Complete", "Running"}:
            return ""
        if state.recurs:
            return f"mended:  {self.fork or self.again}"
        if state.exit_code in ANEW:
            return f"mended:  {self.again}"
        word = "mended: " if state.exit_code == UnusableError.exit_code else "go on:  "
        return f"{word} fl-submit run --resume {shlex.quote(str(self.folder.path))}"

    @property
    def again(self) -> str:
        """What to type for a new run of the same job."""
        if (parent := self.state.parent) is not None:
            more = "".join(f" {shlex.quote(word)}" for word in self.state.words)
            return f"fl-submit fork {_typed(parent.folder)} --from-round {parent.round}{more}"
        files = " -f ".join(map(_typed, self.state.files)) or "job.yaml"
        data = f" --data {_typed(self.state.data)}" if self.state.data else ""
        return f"fl-submit run {files}{data}"

    @property
    def fork(self) -> str:
        """What to type for a new run that goes on from the newest checkpoint; empty where no round is in one."""
        number = next(iter(checkpoints(self.folder.storage / "checkpoints")), None)
        if self.last is None or number is None:
            return ""
        return f"fl-submit fork {shlex.quote(str(self.folder.path))} --from-round {number}"

    def document(self) -> dict[str, Any]:
        """Everything a program wants to know."""
        last, best, evaluated = self.last, self.best, self.evaluated
        model = self.folder.last_model
        return {
            "folder": str(self.folder.path),
            "job": self.plan.job.name,
            "state": self.state.state,
            "parent": self.state.parent.model_dump() if self.state.parent else None,
            "ended": self.state.reason or None,
            "message": self.state.message or None,
            "rounds": self.done,
            "store": self.state.store,
            "metrics": dict(evaluated.metrics) if evaluated else {},
            "best": {"round": best.round, "metrics": dict(best.metrics)} if best else None,
            "privacy": spent.model_dump(by_alias=True) if (spent := self.privacy) else None,
            "target_reached": self.reached,
            "model": str(model) if model.exists() else None,
            "digest": last.model if last else None,
            "seconds": round(self.seconds, 3),
        }


def account(result: Result) -> list[str]:
    """How a run stands or has ended, what became of its rounds, and what to type next."""
    state = result.state
    why = " ".join(part for part in (state.reason and f"({state.reason})", state.message) if part)
    told = f"{state.job} is {state.state}{f' {why}' if why else ''}."
    return [told, result.lost] if result.lost else [told, *_became(result)]


def _became(result: Result) -> Iterator[str]:
    rounds = result.rounds
    made = sum(closed.committed for closed in rounds)
    yield f"Of {result.plan.rounds} rounds {_verb(result.plan.done + made)} committed."
    if len(rounds) > made:
        yield f"{_verb(len(rounds) - made)} closed without a model."
    if lost := sum(len(closed.cohort) - len(closed.reporters) for closed in rounds):
        yield f"{lost} times an update that was asked for is in no model."
    if result.onward:
        yield " ".join(result.onward.split())
    if rounds:
        path = shlex.quote(str(result.folder.path))
        yield f"One round by itself: fl-submit explain {path} --round {rounds[-1].round}"


def _verb(count: int) -> str:
    return f"{count} {'was' if count == 1 else 'were'}"


def closing(result: Result) -> RenderableType:
    """Draw the page at the end of a run that made a model."""
    if result.last is None:
        return Text(f"\nNo round was committed, so there is no model.\n  {result.onward}".rstrip())
    code = OPEN_MODEL.format(run=result.folder.path, prediction=PREDICTION[result.plan.program.framework])
    parts = [Text(""), _headline(result), *_spending(result), Text(""), *_places(result), Text("")]
    parts += [Text("Load it and predict:", style="bold"), *(Text(f"  {line}") for line in code.splitlines())]
    parts += [Text(""), Text("Next:", style="bold"), *_advice(result)]
    return Group(*parts)


def _typed(path: str) -> str:
    """A path as one would type it here."""
    absolute, here = Path(path), Path.cwd()
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))


def _headline(result: Result) -> Text:
    closed = result.evaluated
    figures = [f"{name} {figure(closed.metrics[name])}" for name in sorted(closed.metrics)] if closed else []
    verdict = {None: "", True: f"  target {target_text(result.plan)} reached"}.get(
        result.reached, f"  target {target_text(result.plan)} not reached"
    )
    mark = ("✓ ", "bold green") if result.state.state == "Complete" else ("■ ", "bold yellow")
    return Text.assemble(
        mark,
        (f"{result.plan.job.name}: ", "bold"),
        (", ".join(figures), "bold cyan"),
        f" after {_rounds(result.rounds)} in {duration(result.seconds)}.",
        (verdict, "green" if result.reached else "yellow"),
    )


def _spending(result: Result) -> list[Text]:
    """What was spent, and why the job has ended where that was not to be foreseen."""
    spent = [Text(str(result.privacy), style="magenta")] if result.privacy is not None else []
    early = result.state.state == "Complete" and result.state.message
    return [*spent, *([Text(result.state.message, style="yellow")] if early else [])]


def _rounds(rounds: Sequence[ClosedRound]) -> str:
    """How many there were, and of how many nothing came."""
    count, skipped = len(rounds), sum(not closed.committed for closed in rounds)
    said = f"{count} round{'s' if count != 1 else ''}"
    return f"{said}, {skipped} of them skipped," if skipped else said


def _places(result: Result) -> list[Text]:
    folder, best, target = result.folder, result.best, result.plan.target
    score = target.metric if target else "loss"
    rows = [("model", folder.last_model, "")]
    if best and folder.best_model.exists():
        rows.append(("best", folder.best_model, f"  (round {best.round}, by {score})"))
    rows += [("metrics", folder.record, ""), ("logs", folder.logs, "")]
    return [Text.assemble(f"{name:<8} ", (str(path), "cyan"), note) for name, path, note in rows]


def _advice(result: Result) -> list[Text]:
    path = shlex.quote(str(result.folder.path))
    rows = [(f"fl-submit logs {path}", "what happened, by time")]
    if result.state.state in {"Stopped", "Suspended"}:
        rows.insert(0, (f"fl-submit run --resume {path}", "go on where it stopped"))
    if result.plan.program.framework == "paddle":
        rows.append((f"fl-submit model {path} -o model.pdparams", "for paddle.load"))
    else:
        rows.append((f"fl-submit model {path} -o model.npz", "for numpy.load"))
    if result.last is not None and result.plan.privacy is None:  # a budget may be spent
        onward = f"--from-round {result.last.round} --set rounds={result.last.round + 10}"
        rows.append((f"fl-submit fork {path} {onward}", "train on, with changes if you like"))
    return [Text.assemble("  ", (command, "cyan"), ("  # " + purpose, "dim")) for command, purpose in rows]
