from __future__ import annotations

import datetime as dt
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import JobError, UnavailableError
from fl_core.plan import Plan, Site
from job_generator.local import steering
from job_generator.local.folder import RunFolder, RunState


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run's folder whose `run.json` says that it goes on."""
    folder = RunFolder(tmp_path)
    folder.write(RunState(job="digits", started=dt.datetime.now(dt.UTC), program=".", restarts=0, grace=5))
    return folder


@pytest.mark.parametrize(
    ("wish", "number", "said"),
    [
        (steering.stop, signal.SIGUSR1, "else it ends at once, without a model"),
        (steering.suspend, signal.SIGUSR2, "an open round has 5 s to end"),
    ],
)
def test_the_process_that_holds_a_run_is_told(
    run: RunFolder, wish: object, number: signal.Signals, said: str
) -> None:
    """The wish reaches whoever holds the folder, as a signal of its own."""
    heard = threading.Event()
    before = signal.signal(number, lambda *_: heard.set())
    try:
        with run.hold():
            assert run.holder() == os.getpid()
            assert said in wish(run)  # type: ignore[operator]
            assert heard.wait(5)
    finally:
        signal.signal(number, before)


def test_only_a_run_with_rounds_is_said_to_keep_a_model(
    finished: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its first round a stopped run writes its model, whether or not another round is open."""
    folder = finished(1)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with folder.hold():
        assert steering.stop(folder) == f"{folder.path} ends with the round that is open and writes its model"


def test_a_run_that_does_not_go_on_cannot_be_steered(run: RunFolder) -> None:
    """Nobody holds its folder; the sentence says how it stands."""
    with run.hold():
        pass
    with pytest.raises(JobError, match="is Interrupted; only a run that goes on can be steered"):
        steering.stop(run)


@pytest.mark.parametrize(
    ("plan", "replicas", "words"),
    [
        ({}, None, "keeps its 4 workers; only a job with spec.workers.maxReplicas can be scaled"),
        ({"sites": (Site(name="lab", index=3, external=False),)}, 2, "has sites that spec.sites names"),
        ({}, 2, "--workers 9: a round asks 2 workers"),
    ],
)
def test_a_run_that_cannot_be_scaled_is_left_alone(
    run: RunFolder, plan_of: Callable[..., Plan], plan: dict[str, Any], replicas: int | None, words: str
) -> None:
    """Its holder hears nothing, and the sentence says what stands against it."""
    run.plan.write_text(plan_of(workers=4, per_round=2, minimum=2, **plan).to_json())
    run.write(run.state().model_copy(update={"replicas": replicas}))
    with run.hold(), pytest.raises(JobError, match=words):
        steering.scale(run, 9)
    assert run.wish() is None


def test_a_run_of_another_machine_is_left_alone(run: RunFolder) -> None:
    """A process number means nothing on another host."""
    with run.hold():
        (run.path / "lock").write_text(f"{os.getpid()} elsewhere\n")
        with pytest.raises(UnavailableError, match="is held by a process of elsewhere"):
            steering.suspend(run)
