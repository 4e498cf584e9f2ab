"""A status in the pictures of a local run."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.errors import UnavailableError
from job_generator.cluster.connection import Request
from job_generator.cluster.jobs import exit_code
from job_generator.cluster.progress import Watch, observation
from job_generator.local.observer import Observation


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


class Answers:
    """An API server that gives these answers for the job, in their order, and one warning."""

    namespace = "n"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def send(self, request: Request) -> Any:
        if request.path.endswith("/events"):
            return {"items": [{"type": "Warning", "reason": "Repaired", "message": "it was changed"}]}
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_observation() -> None:
    """The turnout and the metrics of the last round are those of the status."""
    closed = observation(job(2)).closed[0]
    assert (closed.round, len(closed.cohort), len(closed.reporters), closed.loss) == (2, 4, 3, 0.5)


def test_watch_outlives_a_silent_server() -> None:
    """An API server that is away for a while is told once, and a warning once; then the job's end is seen."""
    gone = UnavailableError("away")
    cluster = Answers(gone, gone, job(2), job(3, state="Complete", reason="RoundsDone"))
    shown = Shown()
    last = Watch(cluster, "digits", sleep=lambda _: None).until_over(shown, job(1))  # type: ignore[arg-type]
    assert exit_code(last) == 0
    assert sorted(set(shown.rounds)) == [1, 2, 3]
    assert shown.said == ["Repaired: it was changed", "away"]


@pytest.mark.parametrize(("reason", "code"), [("InvalidSpec", 65), ("ProgramError", 66), ("Deadline", 64)])
def test_exit_codes(reason: str, code: int) -> None:
    """Why a job failed is the exit code of whoever watched it."""
    assert exit_code(job(1, state="Failed", reason=reason)) == code
    assert exit_code(job(1)) is None
