from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from fl_core.plan import Plan
from job_generator.local.curve import draw
from job_generator.local.live import LiveDisplay, PlainDisplay, View, round_line
from job_generator.local.observer import Ending, Observation, Standing
from job_generator.local.picture import Picture, duration, names, volume
from job_generator.local.record import ClosedRound
from tests.conftest import private

COHORT = ("worker-0", "worker-1")


def a_round(number: int, **changes: object) -> ClosedRound:
    fields = {
        "cohort": COHORT,
        "reporters": COHORT,
        "metrics": {"loss": 1 / number, "accuracy": 1 - 0.5 / number},
        "seconds": {"total": 2.0},
        "bytes": {"down": 2_000_000, "up": 1500},
    }
    return ClosedRound.model_validate({"round": number, **fields, **changes})


def drawn(picture: Picture, *, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=True, no_color=True)
    with console.capture() as capture:
        console.print(View(picture))
    return capture.get()


def test_view(a_plan: Callable[..., Plan]) -> None:
    """The live view shows the job, the pace, the last rounds, the curves and who is still missing."""
    standing = Standing(3, 4, 1, "Training", 2, 2, COHORT, COHORT[:1])
    text = drawn(Picture(a_plan()).observed(Observation(standing, (a_round(1), a_round(2)))))
    for expected in ("digits", "round 2/4", "about 4.00 s left", "COHORT", "0.7500", "↓2.0 MB ↑1.5 kB"):
        assert expected in text
    assert "waiting for worker-1" in text
    assert "⠀" in text


@pytest.mark.parametrize("width", [20, 60, 79, 200])
def test_any_width(a_plan: Callable[..., Plan], width: int) -> None:
    """The view fits the terminal, whatever its width and whatever is known."""
    rounds = (a_round(1), a_round(2, result="Skipped", metrics={}), a_round(3, train={"loss": 1.0}))
    text = drawn(Picture(a_plan(), rounds), width=width)
    assert "digits" in text


def test_table_is_bounded(a_plan: Callable[..., Plan]) -> None:
    """A job of many rounds shows the last ones."""
    text = drawn(Picture(a_plan(rounds=90), tuple(a_round(number) for number in range(1, 61))))
    assert " 60 " in text
    assert " 52 " not in text


def test_epsilon_has_a_column_where_it_is_spent(a_plan: Callable[..., Plan]) -> None:
    """A private job's table and lines say what was spent by the end of each round; another's have no column for it."""
    closed = a_round(1, privacy={"epsilon": 2.1687, "delta": 1e-5})
    text = drawn(Picture(a_plan().model_copy(update={"privacy": private()}), (closed, a_round(2))))
    assert "EPSILON" in text
    assert "2.17" in text
    assert "epsilon 2.17" in round_line(closed, rounds=4)
    assert "EPSILON" not in drawn(Picture(a_plan(), (a_round(1),)))


def test_an_epsilon_has_a_caption(a_plan: Callable[..., Plan]) -> None:
    """Under the table stands what epsilon means: delta, relation, adversary and what is not covered."""
    told = {
        "neighbours": "add or remove one",
        "adversary": "everyone but the server",
        "epsilonCovers": "modelOnly",
    }
    closed = a_round(1, privacy={"epsilon": 2.1687, "delta": 1e-5, **told})
    text = drawn(Picture(a_plan().model_copy(update={"privacy": private()}), (closed,)), width=200)
    expected = (
        "epsilon at delta 1e-05, for one worker (add or remove one), against everyone but the server; the"
    )
    assert expected in text
    assert "epsilon at" not in drawn(Picture(a_plan(), (a_round(1),)), width=200)


def test_plain_lines(a_plan: Callable[..., Plan]) -> None:
    """Without a terminal each round is one line, printed once, however often it is observed."""
    file = StringIO()
    with PlainDisplay(Picture(a_plan()), Console(file=file, width=40)) as display:
        for rounds in ((a_round(1),), (a_round(1), a_round(2)), ()):
            display.show(Observation(Standing(), rounds))
        display.say("worker-1 crashed")
    lines = file.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["round 1/4", "round 2/4"]
    assert len(lines) == 4


def test_plain_lines_of_a_resumed_run(a_plan: Callable[..., Plan]) -> None:
    """A run that goes on says how far it is, and prints only what is new."""
    file = StringIO()
    with PlainDisplay(Picture(a_plan(), (a_round(1), a_round(2))), Console(file=file, width=40)) as display:
        display.show(Observation(Standing(), (a_round(3),)))
    head, *lines = file.getvalue().splitlines()
    assert head.endswith("4 rounds, 2 of them done")
    assert [line.split("  ")[0] for line in lines] == ["round 3/4"]


def went_back() -> tuple[ClosedRound, ...]:
    """What a server says that lost the model of round 2, and whose sum of that round cannot be sought again."""
    back = ClosedRound(round=1, line=3, result="Restored")
    return (back, a_round(2, line=4, result="Skipped", reason="round 2: its sum was signed, and lost"))


def test_plain_lines_say_what_is_given_up(a_plan: Callable[..., Plan]) -> None:
    """A committed round that became a skipped one is told, once, however often the server tells all that it knows."""
    file, known = StringIO(), (a_round(1, line=1), a_round(2, line=2))
    with PlainDisplay(Picture(a_plan(), known), Console(file=file, width=40)) as display:
        for rounds in (known, went_back(), went_back(), (*went_back(), a_round(3, line=5))):
            display.show(Observation(Standing(), rounds))
    back, skipped, third = file.getvalue().splitlines()[1:]
    assert back == (
        "The server lost a newer model and went back to that of round 1; later rounds are given up."
    )
    assert skipped == "round 2/4 skipped: its sum was signed, and lost"
    assert third.startswith("round 3/4")


def test_the_live_view_says_what_is_given_up(a_plan: Callable[..., Plan]) -> None:
    """It notes that the server went back, once, and shows the round as skipped."""
    known = (a_round(1, line=1), a_round(2, line=2))
    display = LiveDisplay(Picture(a_plan(), known), Console(file=StringIO()))
    for _ in range(2):
        display.show(Observation(Standing(), went_back()))
    assert [note.startswith("The server lost a newer model") for note in display.picture.notes] == [True]
    assert "round 2/4 skipped: its sum was signed, and lost" in drawn(display.picture, width=120)


def test_live_display_ends(a_plan: Callable[..., Plan]) -> None:
    """The live display leaves its last picture on the screen, without the spinner."""
    console = Console(file=StringIO(), width=80, force_terminal=True, no_color=True)
    with LiveDisplay(Picture(a_plan()), console) as display:
        display.show(Observation(Standing(), (a_round(4),), Ending(True, "RoundsDone", "", "ab")))
    assert "round 4/4" in console.file.getvalue()  # type: ignore[attr-defined]


def test_skipped_round() -> None:
    """A round that was skipped says why, or else who was lost and why, without its number twice."""
    closed = a_round(1, result="Skipped", reporters=(), dropouts={"worker-1": "stalled"})
    assert round_line(closed, rounds=4) == "round 1/4 skipped: worker-1: stalled"
    for said, told in (
        ("round 1: its sum was signed", "its sum was signed"),
        ("round 1, attempt 2: 0 updates", "attempt 2: 0 updates"),
        ("too few", "too few"),
    ):
        assert (
            round_line(closed.model_copy(update={"reason": said}), rounds=12)
            == f"round  1/12 skipped: {told}"
        )


def test_skipped_rounds_say_why_under_the_table(a_plan: Callable[..., Plan]) -> None:
    """The live view has a line for each skipped round that its table shows."""
    skipped = a_round(2, result="Skipped", reason="round 2: too few", metrics={})
    assert "round 2/4 skipped: too few" in drawn(Picture(a_plan(), (a_round(1), skipped)))
    assert "skipped" not in drawn(Picture(a_plan(), (a_round(1),)))


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("Waiting", "waiting for workers: 1 of 2 are here"),
        ("Initialising", "taking the initial weights from a worker"),
        ("Selecting", "round 3, attempt 2: selecting"),
    ],
)
def test_activity(a_plan: Callable[..., Plan], phase: str, expected: str) -> None:
    """Every phase is told in words."""
    standing = Standing(round=3, rounds=4, attempt=2, phase=phase, live=1, expected=2)
    assert Picture(a_plan(), standing=standing).activity == expected


def test_curve_falls() -> None:
    """A falling line starts at the upper left and ends lower, and ends where the last round does."""
    lines = draw([(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.5)], width=30, height=5, last=4)
    assert all(len(line) <= 30 for line in lines)
    assert lines[0][10] != chr(0x2800)
    assert lines[4][-1] != chr(0x2800)


@pytest.mark.parametrize(
    ("done", "last"), [(3, "100 of 1,000"), (101, "200 of 1,000"), (999, "1,000"), (1000, "1,000")]
)
def test_long_curve(done: int, last: str) -> None:
    """Of a job of more rounds than dots, the axis ends at a round figure ahead of what is done, and says so."""
    lines = draw([(n, 1 / n) for n in range(1, done + 1)], width=40, height=5, last=1000)
    assert lines[-1].split(maxsplit=1) == ["1", last]
    assert all(len(line) <= 40 for line in lines)


def test_constant_curve() -> None:
    """A value that never changes is drawn in the middle, not divided by zero."""
    assert len(draw([(1, 0.0), (2, 0.0)], width=30, height=5, last=2)) == 7


def test_figures() -> None:
    """Sizes, times and long lists of names read as people write them."""
    assert [volume(size) for size in (7, 1500, 25_000_000)] == ["7 B", "1.5 kB", "25.0 MB"]
    assert [duration(seconds) for seconds in (0.5, 12.34, 247, 3723, 200_000)] == [
        "0.50 s",
        "12.3 s",
        "4:07",
        "1:02:03",
        "2 d 7 h",
    ]
    assert names(tuple(f"worker-{number}" for number in range(9))) == "worker-0 1 2 3 4 5 and 3 more"
