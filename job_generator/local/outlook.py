"""The page of `fl-submit plan`: what a job will need, for people."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fl_core.plan import Plan
from job_generator.forecast import Forecast, Model
from job_generator.local.picture import volume

COLOURS = {"warning": "bold yellow", "note": "dim"}


def show(plan: Plan, model: Model | None, expected: Forecast) -> None:
    """Print the forecast as a page."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _rows(plan, model, expected):
        table.add_row(name, value)
    console.print(
        Text.assemble((plan.job.name, "bold cyan"), f"  {plan.strategy.name}, {plan.rounds} rounds")
    )
    console.print(table)
    for finding in expected.findings:
        console.print(
            Text.assemble((f"{finding.level}: ", COLOURS[finding.level]), finding.message), soft_wrap=True
        )


def _rows(plan: Plan, model: Model | None, expected: Forecast) -> list[tuple[str, str]]:
    rows = [
        ("processes", f"{expected.processes}: a server, a scheduler, {plan.workers} workers"),
        (
            "each round",
            f"asks {expected.asked}, closes with {plan.selection.per_round}, at least {expected.quorum}",
        ),
        ("can be lost", f"{expected.losses} of them"),
        ("model", _model(model)),
    ]
    if expected.down is not None and expected.up is not None and expected.total is not None:
        rows.append(("bytes a round", f"{volume(expected.down)} to the workers, {volume(expected.up)} back"))
        rows.append(("bytes in all", f"at most {volume(expected.total)}, evaluation included"))
    rows.append(
        ("memory here", f"about {volume(expected.memory)}" + ("" if model else ", without the model"))
    )
    rows.append(("plan digest", plan.digest[:16]))
    return rows


def _model(model: Model | None) -> str:
    if model is None:
        return "unknown: the program was not loaded (--no-measure)"
    return f"{model.arrays} arrays, {model.parameters:,} parameters, {volume(model.nbytes)}"
