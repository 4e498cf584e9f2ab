"""How a container ended, in words."""

from __future__ import annotations

import pytest

from fl_operator.deaths import cause_of, death_of


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1, "Error", "exit code 1"),
        (137, "Error", "exit code 137, SIGKILL"),
        (137, "OOMKilled", "OOMKilled, exit code 137"),
        (255, "", "exit code 255"),
    ],
)
def test_a_death_is_told_by_who_ended_it(code: int, reason: str, told: str) -> None:
    """The kubelet's reason where it has one, else the signal that the exit code stands for."""
    assert death_of({"exitCode": code, "reason": reason}) == told


@pytest.mark.parametrize(("code", "cause"), [(74, "the disk is full"), (1, "of no use here")])
def test_own_sentences_begin_and_logs_end_with_the_cause(code: int, cause: str) -> None:
    """Errors raised on purpose leave a sentence; of others the kubelet keeps the end of the log."""
    assert cause_of({"exitCode": code, "message": f"the disk is full\n({cause})\n{cause}"}).startswith(cause)
