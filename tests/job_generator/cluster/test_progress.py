"""A status in the pictures of a local run."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from fl_core.plan import Plan
from job_generator.cluster.jobs import exit_code
from job_generator.cluster.progress import observation, show
from job_generator.local.live import PlainDisplay
from job_generator.local.observer import Observation
from job_generator.local.picture import Picture


def job(round: int, *, state: str = "Running", reason: str = "") -> dict[str, Any]:
    ended = [{"type": state, "status": "True", "reason": reason, "message": "over"}] if reason else []
    training = {"round": round, "rounds": 3, "selected": 4, "reported": 3, "metrics": {"loss": 0.5}}
    status = {"training": training, "conditions": ended, "display": {"state": state}}
    return {
        "metadata": {"name": "digits", "namespace": "n", "uid": "u"},
        "spec": {"rounds": 3},
        "status": status,
    }


class Shown:
    """A display that remembers."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.said: list[str] = []

    def show(self, one: Observation) -> None:
        self.rounds += [closed.round for closed in one.closed]

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def test_observation() -> None:
    """The turnout and the metrics of the last round are those of the status."""
    closed = observation(job(2)).closed[0]
    assert (closed.round, len(closed.cohort), len(closed.reporters), closed.loss) == (2, 4, 3, 0.5)


def test_epsilon_comes_with_what_it_means() -> None:
    """Whoever watches a job in a cluster is told the relation and the adversary, as on one machine."""
    private = job(1)
    told = {"epsilon": 2.0, "epsilonNeighbours": "add or remove one", "epsilonAdversary": "everyone"}
    private["status"]["training"] |= told
    (closed,) = observation(private).closed
    assert str(closed.privacy) == "epsilon 2, for one worker (add or remove one), against everyone"


def test_shown_until_it_is_over() -> None:
    """Each round is shown, a trouble is told when it begins, and the last thing shown is the job's end."""
    trouble = {"type": "Degraded", "status": "True", "reason": "OOMKilled", "message": "worker 3"}
    troubled = job(2)
    troubled["status"]["conditions"] = [trouble, {**trouble, "type": "Stalled"}]
    over, shown = job(3, state="Complete", reason="RoundsDone"), Shown()
    assert show([job(1), troubled, troubled, job(2), troubled, over, job(9)], shown) is over  # type: ignore[arg-type]
    assert sorted(set(shown.rounds)) == [1, 2, 3]
    assert shown.said == ["OOMKilled: worker 3"] * 2


def test_rounds_that_nobody_saw_are_counted() -> None:
    """A status holds the last round only, and a fast job has several between two looks."""
    shown = Shown()
    show([job(1), job(7), job(10, state="Complete", reason="RoundsDone")], shown)  # type: ignore[arg-type]
    assert shown.said == ["7 more rounds are on the record: fl-submit record show digits"]


def test_a_server_that_went_back_is_told(plan_of: Callable[..., Plan]) -> None:
    """Its later rounds are told again when they are made again, each once."""
    file = StringIO()
    jobs = [job(number) for number in (1, 2, 3, 1, 1, 2, 2)] + [job(3, state="Complete", reason="RoundsDone")]
    with PlainDisplay(Picture(plan_of(rounds=3)), Console(file=file, width=200)) as shown:
        show(jobs, shown)
    told = [line.split("  ")[0] for line in file.getvalue().splitlines()[1:]]
    assert [line.partition("/")[0] for line in told] == [
        "round 1",
        "round 2",
        "round 3",
        "The server lost a newer model and went back to that of round 1; later rounds are given up.",
        "round 2",
        "round 3",
    ]


def test_a_job_that_is_held_is_told_so() -> None:
    """Who watches a suspended job learns how it goes on."""
    shown = Shown()
    show([job(1, state="Suspended"), job(1, state="Complete", reason="Stopped")], shown)  # type: ignore[arg-type]
    assert shown.said == ["digits is suspended; to go on: fl-submit resume digits"]


@pytest.mark.parametrize(("reason", "code"), [("InvalidSpec", 65), ("ProgramError", 66), ("Deadline", 64)])
def test_exit_codes(reason: str, code: int) -> None:
    """Why a job failed is the exit code of whoever watched it."""
    assert exit_code(job(1, state="Failed", reason=reason)) == code
    assert exit_code(job(1)) is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("InvalidSpec", 65),
        ("ImmutableFieldChanged", None),
        ("AttemptLost", None),
        ("NoStorageClass", None),
        ("ChildRefused", None),
        ("NameTaken", None),
    ],
)
def test_what_may_pass_ends_no_watching(reason: str, code: int | None) -> None:
    """Of a job that is not compiled only a wrong spec is an end; the rest goes on by itself, or leaves what runs."""
    one = job(1)
    one["status"]["conditions"] = [
        {"type": "Compiled", "status": "False", "reason": reason, "message": "why"}
    ]
    assert exit_code(one) == code
    shown = Shown()
    show([one, job(2, state="Complete", reason="RoundsDone")], shown)  # type: ignore[arg-type]
    assert shown.said == ([] if code else [f"{reason}: why"])
