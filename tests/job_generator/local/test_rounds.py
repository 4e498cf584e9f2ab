"""A round is told in sentences: who was chosen, who was not, late, refused or lost, and why."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.errors import MismatchError
from fl_core.plan import Plan
from fl_core.record import Head, Record, read, written
from job_generator.local.rounds import story
from tests.conftest import plan_of
from tests.job_generator.conftest import row_of

PLAN: Plan = plan_of(rounds=9)


def recorded(*rows: dict[str, Any]) -> Record:
    """A record of these rounds."""
    head, content = Head.of(PLAN.digest), b""
    for row in rows:
        line = written(head.bound({"plan": PLAN.digest, **row}))
        head, content = head.after(line), content + line + b"\n"
    return read(content, PLAN.digest)


def told(**changes: Any) -> list[str]:
    """The story of a round 7 with these changes."""
    return story(recorded(row_of(7, "a" * 64, "b" * 64) | changes), 7, PLAN)


def test_a_round_of_each_kind_of_worker() -> None:
    """Each is named with its reason, those who are many as a number."""
    assert told(
        cohort=[f"worker-{n}" for n in range(6)],
        dropouts={
            "worker-2": "no heartbeat",
            "worker-3": "deadline",
            "worker-4": "the program raised KeyError.",
        },
        selection={
            "live": 40,
            "passedOver": [f"worker-{n}" for n in range(6, 22)],
            "away": 3,
            "absent": ["worker-50", "worker-51", "worker-52"],
            "refused": {"worker-9": "the program's digest is 'ab', the job's is 'cd'"},
        },
    ) == [
        (
            f"Round 7 was committed in attempt 1: the updates of 2 of 6 workers that were asked made the model "
            f"{'b' * 12} from {'a' * 12}."
        ),
        "worker-0, worker-1: chosen; their updates are in the model.",
        "worker-2: chosen, and lost: it was not heard for 15 s, or did not come back.",
        "worker-3: chosen, and late: nothing whole had come after 30 s (selection.deadlineSeconds).",
        "worker-4: chosen, and it had nothing to hand in: the program raised KeyError.",
        "worker-5: chosen, and not needed: enough others had reported, so nothing was taken.",
        (
            "worker-6, worker-7, worker-8, worker-9, worker-10, worker-11, worker-12, worker-13, worker-14, "
            "worker-15, worker-16, worker-17 and 22 more: not chosen; the round asked 6 of the 40 that were there."
        ),
        "worker-50, worker-51, worker-52: not there when the cohort was chosen.",
        "worker-9: refused; the program's digest is 'ab', the job's is 'cd'.",
    ]


def test_a_skipped_round_says_why() -> None:
    """The reason of the round stands first, and nobody is said to be in a model."""
    sentences = told(result="Skipped", reason="too few", reporters=[], model="")
    assert sentences[0] == "Round 7 was skipped in attempt 1: too few."
    assert "worker-0, worker-1: chosen; the round came to nothing, for the reason above." in sentences


def test_earlier_attempts_and_left_out_buckets_are_told() -> None:
    """What was given up on the way belongs to the round."""
    ended = {"attempt": 2, "dropouts": {}, "reason": "the server was started again"}
    earlier = [{"attempt": 1, "dropouts": {"worker-1": "stalled"}}, ended]
    sentences = told(attempt=3, earlier=earlier, leftOut={"3": "too few have shared"}, dropouts={})
    assert (
        "Attempt 1 was given up: worker-1: late: it had not moved for 30 s (selection.stallSeconds)."
        in sentences
    )
    assert "Attempt 2 was given up: the server was started again." in sentences
    assert "Bucket 3 has no sum in this round: too few have shared." in sentences
    assert any("or its bucket had no sum" in one for one in sentences)


def test_a_round_that_was_made_again_says_so() -> None:
    """The line that stands is told; the one that was given up is named."""
    one = row_of(1, "a", "b")
    again = story(recorded(one, {"round": 0, "result": "Restored"}, one), 1, PLAN)
    assert again[1].startswith("It had been over before (line 1 of the record); the server lost that model")


def test_a_round_that_was_given_up_and_skipped_was_not_made_again() -> None:
    """Its sum cannot be sought twice: the first sentence says why, the second what it had come to before."""
    one = row_of(1, "a", "b")
    skipped = one | {"result": "Skipped", "reason": "its sum was signed", "reporters": [], "model": ""}
    told = story(recorded(one, {"round": 0, "result": "Restored"}, skipped), 1, PLAN)
    assert told[0] == "Round 1 was skipped in attempt 1: its sum was signed."
    assert told[1].endswith("went back to an older checkpoint, and no other model came of the round.")
    assert not any("made again" in sentence for sentence in told)


def test_who_left_and_who_was_refused() -> None:
    """Neither is said to be lost: one was told to end, of the other the server did not take what it sent."""
    sentences = told(
        cohort=[f"worker-{n}" for n in range(5)],
        dropouts={
            "worker-2": "left",
            "worker-3": "refused: it holds values above the bound",
            "worker-4": "left",
        },
    )
    left = "left: it was told to end, as those are who are scaled down or whose node is drained."
    assert f"worker-2, worker-4: chosen, and {left}" in sentences
    assert "worker-3: chosen, and refused: it holds values above the bound." in sentences


def test_a_round_that_is_not_there() -> None:
    """The sentence says which rounds there are."""
    with pytest.raises(MismatchError, match="has no round 3; it has round 1, and the job has 9"):
        story(recorded(row_of(1, "a", "b")), 3, PLAN)
    with pytest.raises(MismatchError, match="it has none yet"):
        story(recorded(), 1, PLAN)
