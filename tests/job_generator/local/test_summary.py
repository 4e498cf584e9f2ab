from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from job_generator.local.folder import Parent, RunFolder
from job_generator.local.summary import Result, closing


def failed(folder: RunFolder, **state: Any) -> Result:
    """The run as it stands after its program has failed."""
    folder.write(folder.state().model_copy(update={"state": "Failed", "exit_code": 66, **state}))
    return Result.read(folder)


def test_a_failed_fork_is_typed_again_with_its_changes(
    finished: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """The line has all that was typed, quoted for a shell, so that it begins the same fork."""
    words = ("--set", "strategy={name: fedprox, mu: 0.1}", "--set", "rounds=30", "--name", "toy-2")
    parent = Parent(uid="1", folder=str(tmp_path / "a run"), round=4)
    said = failed(finished(2), parent=parent, words=words).onward
    typed = shlex.split(said.removeprefix("mended:"))
    assert typed == ["fl-submit", "fork", str(tmp_path / "a run"), "--from-round", "4", *words]


def test_a_fork_is_offered_from_a_checkpoint_that_is_kept(finished: Callable[..., RunFolder]) -> None:
    """The newest round may be in no checkpoint; without any there is nothing to go on from."""
    folder = finished(3)
    kept = sorted(folder.storage.glob("checkpoints/round-*.safetensors"))
    kept[-1].unlink()
    assert failed(folder).fork.endswith("--from-round 2")
    for path in kept[:-1]:
        path.unlink()
    assert failed(folder).fork == ""


@pytest.mark.parametrize(
    ("skipped", "said"), [((), "after 4 rounds in "), ((2, 3), "after 4 rounds, 2 of them skipped, in ")]
)
def test_the_last_line_counts_skipped_rounds(
    finished: Callable[..., RunFolder], skipped: tuple[int, ...], said: str
) -> None:
    """How many rounds there were, and of how many nothing came."""
    result = Result.read(finished(4))
    results = {number: {"result": "Skipped"} for number in skipped}
    rounds = tuple(one.model_copy(update=results.get(one.round, {})) for one in result.rounds)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(closing(replace(result, rounds=rounds)))
    assert said in capture.get()
