"""The page of `fl-submit plan`: what a job will need, for people."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fl_core.plan import Plan
from job_generator.forecast import Forecast, Model
from job_generator.local.live import target_text
from job_generator.local.picture import volume
from job_generator.outlay import Outlay

COLOURS = {"warning": "bold yellow", "note": "dim"}
GIGABYTE = 1e9


def show(plan: Plan, model: Model | None, expected: Forecast, spent: Outlay | None = None) -> None:
    """Print the forecast as a page."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in (*_rows(plan, model, expected), *_privacy(spent)):
        table.add_row(name, value)
    console.print(
        Text.assemble((plan.job.name, "bold cyan"), f"  {plan.strategy.name}, {plan.rounds} rounds")
    )
    console.print(table)
    for finding in expected.findings:
        console.print(
            Text.assemble((f"{finding.level}: ", COLOURS[finding.level]), finding.message), soft_wrap=True
        )
    if spent is not None and spent.shortfall:
        console.print(Text.assemble(("warning: ", COLOURS["warning"]), spent.shortfall), soft_wrap=True)


def _rows(plan: Plan, model: Model | None, expected: Forecast) -> list[tuple[str, str]]:
    rows = [
        ("processes", f"{expected.processes}: a server, a scheduler, {plan.workers} workers"),
        (
            "each round",
            f"asks {expected.asked}, closes with {plan.selection.per_round}, at least {expected.quorum}",
        ),
        ("can be lost", f"{expected.losses} of them"),
        *_early(plan),
        ("model", _model(model)),
    ]
    if expected.down is not None and expected.up is not None and expected.total is not None:
        rows.append(("bytes a round", f"{volume(expected.down)} to the workers, {volume(expected.up)} back"))
        rows.append(("bytes in all", f"at most {volume(expected.total)}, evaluation included"))
    rows.append(
        (
            "memory here",
            f"about {expected.memory / GIGABYTE:.1f} GB" + ("" if model else ", without the model"),
        )
    )
    rows.append(("plan digest", plan.digest[:16]))
    return rows


def _early(plan: Plan) -> list[tuple[str, str]]:
    """What ends the job before its last round."""
    patience = plan.early_stopping.patience if plan.early_stopping else 0
    reasons = [f"{target_text(plan)} is reached"] if plan.target else []
    reasons += [f"{patience} measured rounds in a row make no progress"] if patience else []
    return [("ends early", f"when {', or when '.join(reasons)}")] if reasons else []


def _privacy(spent: Outlay | None) -> list[tuple[str, str]]:
    """What the job will spend, with all that the number depends on."""
    if spent is None:
        return []
    done = min(spent.fit, spent.rounds)
    least = "" if spent.exact else "at least "
    covers = ", for the models only" if spent.covers == "modelOnly" else ""
    figures = f"{least}epsilon {spent.epsilon:.3g} of {spent.budget:g} at delta {spent.delta:g}"
    return [
        ("privacy", f"{figures} after {done} rounds{covers}"),
        ("one round", f"epsilon {spent.first:.3g}; {spent.fit} rounds fit into the budget"),
        ("it protects", f"one {spent.unit} ({spent.neighbours}) against {spent.adversary}"),
    ]


def _model(model: Model | None) -> str:
    if model is None:
        return "unknown: the program was not loaded (--no-measure)"
    return f"{model.arrays} arrays, {model.parameters:,} parameters, {volume(model.nbytes)}"
