"""What the user sees while a job runs: a live view in a terminal, one line per round elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fl_core.plan import Plan
from job_generator.local.curve import draw
from job_generator.local.observer import Observation
from job_generator.local.picture import Picture, duration, epsilon, figure, short, traffic, turnout
from job_generator.local.record import ClosedRound
from job_generator.local.rounds import went_back

TABLE_ROUNDS = 8
CURVE_HEIGHT = 7
NARROWEST_CURVE = 34
COLOURS = ("magenta", "cyan")


class Display(Protocol):
    """Shows a run while it goes on."""

    @property
    def picture(self) -> Picture:
        """What is known by now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, observation: Observation) -> None:
        """Take in what the server says."""

    def say(self, sentence: str) -> None:
        """Tell the user something."""


class LiveDisplay:
    """A view that is redrawn in place."""

    def __init__(self, picture: Picture, console: Console) -> None:
        self.picture = picture
        self._live = Live(View(picture), console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(View(self.picture, over=True), refresh=True)
        self._live.stop()

    def show(self, observation: Observation) -> None:
        """Draw what the server says."""
        back = [went_back(closed) for closed in self.picture.news(observation) if closed.restored]
        self.picture = self.picture.observed(observation)
        for sentence in back:
            self.picture = self.picture.noted(sentence)
        self._live.update(View(self.picture))

    def say(self, sentence: str) -> None:
        """Draw a sentence under the table."""
        self.picture = self.picture.noted(sentence)
        self._live.update(View(self.picture))


class PlainDisplay:
    """Lines: good for files, pipes and continuous integration."""

    def __init__(self, picture: Picture, console: Console) -> None:
        self.picture = picture
        self._console = console

    def __enter__(self) -> Self:
        done = f", {self.picture.done} of them done" if self.picture.done else ""
        self._line(f"{headline(self.picture.plan)}, {self.picture.plan.rounds} rounds{done}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing open: every line was whole."""

    def show(self, observation: Observation) -> None:
        """Print the rounds that closed, and which of them are given up."""
        rounds = self.picture.plan.rounds
        for closed in self.picture.news(observation):
            self._line(went_back(closed) if closed.restored else round_line(closed, rounds=rounds))
        self.picture = self.picture.observed(observation)

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self.picture = self.picture.noted(sentence)
        self._line(sentence)

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)


class View:
    """One picture of a running job, as wide as the terminal."""

    def __init__(self, picture: Picture, *, over: bool = False) -> None:
        self._picture = picture
        self._over = over
        self._spinner = Spinner("dots", text=Text(picture.activity), style="cyan")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Header, bar, activity, table, curves, notes."""
        parts: list[RenderableType] = [Text(""), header(self._picture), Text("")]
        if self._picture.rounds:
            parts += [
                rounds_table(self._picture),
                *caption(self._picture),
                *skips(self._picture),
                curves(self._picture, width=options.max_width),
                Text(""),
            ]
        parts += [Text(f"! {note}", style="yellow") for note in self._picture.notes]
        if not self._over:
            parts.append(self._spinner)
        yield Padding(Group(*parts), (0, 1))


def headline(plan: Plan) -> str:
    """Say which job this is: its name, strategy, workers and framework."""
    chosen = plan.selection.per_round
    share = f"{plan.workers} workers" if chosen == plan.workers else f"{chosen} of {plan.workers} workers"
    return f"{plan.job.name}: {plan.strategy.name}, {share}, {plan.program.framework}"


def header(picture: Picture) -> RenderableType:
    """Draw the job's name, its progress and the time that is left."""
    plan = picture.plan
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    left = picture.eta_seconds
    eta = "" if not left or picture.ending else f"about {duration(left)} left"
    grid.add_row(
        Text(f"round {picture.done}/{plan.rounds}", style="bold"),
        ProgressBar(total=plan.rounds, completed=picture.done, complete_style="cyan", finished_style="green"),
        Text(eta, style="dim"),
    )
    name, _, rest = headline(plan).partition(": ")
    target = f", until {target_text(plan)}" if plan.target else ""
    return Group(Text.assemble((name, "bold cyan"), f"  {rest}{target}"), grid)


def target_text(plan: Plan) -> str:
    """Write the target: `accuracy ≥ 0.97`."""
    target = plan.target
    if target is None:
        return ""
    if target.at_least is not None:
        return f"{target.metric} ≥ {target.at_least:g}"
    return f"{target.metric} ≤ {target.at_most:g}"


def rounds_table(picture: Picture) -> Table:
    """Draw the last rounds."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2))
    scores = picture.scores
    private = ["EPSILON"] if picture.plan.privacy is not None else []
    titles = (
        "ROUND",
        "COHORT",
        "LOSS",
        *(short(name).upper() for name in scores),
        *private,
        "SECONDS",
        "BYTES",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for closed in picture.rounds[-TABLE_ROUNDS:]:
        partial = len(closed.reporters) < len(closed.cohort)
        style = "" if closed.committed else "yellow"
        table.add_row(
            str(closed.round),
            Text(turnout(closed), style="yellow" if partial else style),
            figure(closed.loss) if closed.committed else closed.result.lower(),
            *(figure(closed.scores.get(name)) for name in scores),
            *[epsilon(closed) for _ in private],
            f"{closed.total_seconds:.2f}",
            traffic(closed),
            style=style,
        )
    return table


def caption(picture: Picture) -> list[RenderableType]:
    """Say what the table's epsilon means: for whom, by which relation, against whom."""
    known = [closed.privacy for closed in picture.rounds if closed.privacy is not None]
    return [Text(f"epsilon{known[-1].meaning}", style="dim"), Text("")] if known else []


def skips(picture: Picture) -> list[RenderableType]:
    """Say why those of the last rounds were skipped of which nothing came."""
    shown = [closed for closed in picture.rounds[-TABLE_ROUNDS:] if not closed.committed]
    lines = [Text(round_line(closed, rounds=picture.plan.rounds), style="yellow") for closed in shown]
    return [*lines, Text("")] if lines else []


def curves(picture: Picture, *, width: int) -> RenderableType:
    """Draw the loss and the first metric, side by side where they fit."""
    lines = [("loss", [(c.round, c.loss) for c in picture.rounds])]
    lines += [(name, [(c.round, c.scores.get(name)) for c in picture.rounds]) for name in picture.scores[:1]]
    known = [(name, [(x, y) for x, y in points if y is not None]) for name, points in lines]
    drawn = [(name, points) for name, points in known if len(points) > 1]
    each = max((width - 4) // max(len(drawn), 1), NARROWEST_CURVE)
    return Columns(
        [
            _curve(name, points, colour=colour, width=min(each - 1, 70), last=picture.plan.rounds)
            for (name, points), colour in zip(drawn, COLOURS, strict=False)
        ],
        padding=(0, 1),
    )


def _curve(
    name: str, points: list[tuple[int, float]], *, colour: str, width: int, last: int
) -> RenderableType:
    title = Text(f"{name.upper()}  {figure(points[-1][1])}".center(width), style="bold")
    body = Text("\n".join(draw(points, width=width, height=CURVE_HEIGHT, last=last)), style=colour)
    return Group(title, body)


def round_line(closed: ClosedRound, *, rounds: int) -> str:
    """Write one round as one line."""
    number = f"round {closed.round:>{len(str(rounds))}}/{rounds}"
    if not closed.committed:
        return f"{number} {closed.result.lower()}: {closed.why_skipped}".rstrip(": ")
    figures = [f"loss {figure(closed.loss)}"] if closed.loss is not None else []
    figures += [f"{name} {figure(value)}" for name, value in closed.scores.items()]
    figures += [f"epsilon {epsilon(closed)}"] if closed.privacy is not None else []
    cost = f"{duration(closed.total_seconds)}  {traffic(closed)}"
    return "  ".join([number, f"{turnout(closed)} workers", *figures, cost])
