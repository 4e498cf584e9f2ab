"""Which records may be followed, and what is said of the models that come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import JobError, MismatchError, SpecError, StorageError
from fl_core.extensions import Extension
from fl_core.plan import Plan, Privacy
from fl_core.record import written
from job_generator.local.folder import RunFolder, write_atomically
from job_generator.local.replay import compare, following, source
from job_generator.program import program_digest

Finished = Callable[..., RunFolder]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program's folder."""
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "toy.py").write_text("def task(config, site): ...\n")
    return tmp_path / "program"


@pytest.fixture
def recorded(finished: Finished, program: Path) -> Callable[..., RunFolder]:
    """Make a run of that program."""

    def made(**changes: Any) -> RunFolder:
        return finished(program=program_digest(program, "toy"), **changes)

    return made


def test_the_run_that_follows_has_the_same_plan_but_for_its_patience(
    recorded: Finished, program: Path
) -> None:
    """The recorded rounds, and attempts until all have reported; the uid, which deals buckets, is the same."""
    run = recorded()
    of = source(run.path, program=program, data=None)
    plan = following(of)
    assert (plan.job, plan.rounds) == (of.plan.job, 10)
    assert (plan.selection.on_shortfall.action, plan.selection.on_shortfall.attempts) == ("Retry", 5)
    assert plan.model_dump(exclude={"selection"}) == Plan.read(run.plan).model_dump(exclude={"selection"})


def test_a_job_on_a_cluster_is_not_replayed(tmp_path: Path) -> None:
    """Its name is no folder of a run; the sentence says what can be done with its record, and what instead."""
    with pytest.raises(MismatchError, match=r"no folder of a run .*`fl-submit record`.* submit its job file"):
        source(tmp_path / "digits", program=None, data=None)


def test_another_program_is_refused(recorded: Finished, program: Path) -> None:
    """By both digests, and with what to do."""
    run = recorded()
    (program / "toy.py").write_text("def task(config, site): pass\n")
    with pytest.raises(MismatchError, match=r"is not the one that .* put its files there, and replay again"):
        source(run.path, program=program, data=None)


def test_a_record_that_does_not_hold_is_refused(recorded: Finished, program: Path) -> None:
    """With the line that is wrong."""
    run = recorded()
    run.record.write_text(run.record.read_text().replace("worker-1", "worker-3", 1))
    with pytest.raises(StorageError, match=r"does not hold \(line 1 \(round 1\): it was changed"):
        source(run.path, program=program, data=None)


def test_a_record_without_a_model_is_refused(recorded: Finished, program: Path) -> None:
    """There is nothing to follow in skipped rounds alone."""
    skipped: Any = {"result": "Skipped", "reporters": []}
    run = recorded(rounds=1, signed=False, round_1=skipped)
    with pytest.raises(JobError, match="no committed round"):
        source(run.path, program=program, data=None)


def test_a_private_job_is_refused(recorded: Finished, program: Path) -> None:
    """Its noise is secret: other models would come, and privacy be spent."""
    gaussian = Extension(name="gaussian", options={"noise": 1.0, "clip": 1.0})
    privacy = Privacy(unit="worker", mechanism=gaussian, epsilon=8, delta=1e-5, corrupt=0, measured=True)
    run = recorded(privacy=privacy)
    with pytest.raises(SpecError, match="spec.privacy: the noise of .* drawn afresh"):
        source(run.path, program=program, data=None)


@pytest.mark.parametrize(
    ("change", "same", "sentence"),
    [
        ({}, True, "✓ 10 rounds replayed: the same models, byte for byte, to "),
        ({"model": "ab" * 32}, False, "✗ the models differ from round 4 on: abababababab was recorded, "),
        ({"round": 99}, False, "✗ round 99 was recorded, and is not trained again"),
    ],
)
def test_the_first_difference_is_named(
    recorded: Finished, program: Path, *, change: dict[str, Any], same: bool, sentence: str
) -> None:
    """Round by round the models are held against those of the record."""
    run = recorded()
    rows = source(run.path, program=program, data=None).rows
    rows[3] |= change
    write_atomically(run.replay, "".join(f"{written(row).decode()}\n" for row in rows))
    told = compare(run)
    assert (told.same, told.sentence.startswith(sentence)) == (same, True)
