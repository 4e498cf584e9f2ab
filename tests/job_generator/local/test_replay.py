"""Which records may be followed, and what is said of the models that come of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_core.errors import JobError, MismatchError, SpecError, StorageError
from fl_core.extensions import Extension
from fl_core.plan import Plan, Privacy, Site
from fl_core.record import written
from job_generator.local.folder import RunFolder, write_atomically
from job_generator.local.replay import compare, following, other_software, source
from job_generator.program import program_digest
from tests.job_generator.conftest import fetched_from

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


def test_what_is_no_record_says_how_to_get_one(tmp_path: Path) -> None:
    """The name of a job on a cluster is no folder; the sentence has the two commands that replay it."""
    told = (
        r"`fl-submit record fetch digits` makes one, `fl-submit run JOBFILE --replay digits-record` .*--data"
    )
    with pytest.raises(MismatchError, match=told):
        source(tmp_path / "digits", program=None, data=None)


@pytest.fixture
def fetched(finished: Finished, program: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a record that was fetched, of a job with this spec; it names the program, or none."""

    def made(spec: dict[str, Any] | None = None, *, named: bool = True, **changes: Any) -> Path:
        run = finished(program=program_digest(program, "toy") if named else None, **changes)
        return fetched_from(run, tmp_path / "toy-record", **(spec or {}))

    return made


def test_a_record_from_a_cluster_is_followed(fetched: Callable[..., Path], program: Path) -> None:
    """As that of a run, with the program that is given, one thread for each process as in a pod, and no source."""
    of = source(fetched(), program=program, data=None)
    assert (of.program, of.state.threads, of.state.restarts, len(of.rows)) == (program, 1, 7, 10)
    assert "source" not in yaml.safe_load(of.job)["spec"]["program"]
    assert following(of).job == of.plan.job


def test_a_record_from_a_cluster_needs_a_job_file(fetched: Callable[..., Path], program: Path) -> None:
    """The program is not in it; another one than was trained is refused as for a run."""
    folder = fetched()
    with pytest.raises(
        SpecError, match=r"without its program; .* fl-submit run job.yaml --replay .*toy-record"
    ):
        source(folder, program=None, data=None)
    (program / "toy.py").write_text("def task(config, site): pass\n")
    with pytest.raises(MismatchError, match=r"is not the one that .* put its files there"):
        source(folder, program=program, data=None)


CLAIM = {"claimName": "shards", "subPath": "{index}"}
OUTSIDE = {"network": {"external": {"hostname": "fl.example.org"}}}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"workers": {"replicas": 3, "data": CLAIM}},
            "spec.workers.data: on the cluster workers read the claim ",
        ),
        (
            {"sites": [{"name": "clinic", "data": CLAIM}]},
            "spec.sites[0]: clinic, which is worker-3, read the claim ",
        ),
        (
            {"sites": [{"name": "clinic", "external": {}}], **OUTSIDE},
            "spec.sites[0]: clinic, which is worker-3, has data of its own; give a copy of the same shards here",
        ),
    ],
)
def test_data_on_a_cluster_are_asked_for(
    fetched: Callable[..., Path], program: Path, spec: dict[str, Any], told: str
) -> None:
    """Where workers of the record had any a copy must be named, and with one it is followed."""
    sites = {"sites": (Site(name="clinic", index=3, external=False),)} if "sites" in spec else {}
    folder = fetched(spec, round_2={"reporters": ["worker-0", "worker-3"]}, **sites)
    with pytest.raises(SpecError, match=re.escape(told)):
        source(folder, program=program, data=None)
    assert source(folder, program=program, data="shards/{index}").data == "shards/{index}"


def test_data_of_workers_that_are_in_no_model_are_not(fetched: Callable[..., Path], program: Path) -> None:
    """A site that never reported has left nothing that would be made again."""
    sites = (Site(name="clinic", index=3, external=False),)
    folder = fetched({"sites": [{"name": "clinic", "data": CLAIM}]}, sites=sites)
    assert source(folder, program=program, data=None).data is None


def test_a_program_that_was_never_named_is_tried(fetched: Callable[..., Path], program: Path) -> None:
    """A job whose author gave no digest cannot be told from another; a note says so, and the run has a digest."""
    of = source(fetched(named=False), program=program, data=None)
    assert "names no digest of its program" in of.notes[0]
    assert following(of).program.sha256 == program_digest(program, "toy")


def test_other_versions_are_noted(fetched: Callable[..., Path], program: Path) -> None:
    """Both are named; what is the same, and what nobody has here, is not."""
    assert source(fetched(), program=program, data=None).notes == ()
    told = other_software({"numpy": "1.0", "fljob": version("fljob"), "nothing": "1", "image": "a:1"})
    assert told == [
        f"it was recorded with numpy 1.0 (here {version('numpy')}): models may differ in their last bits"
    ]


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
