"""`fl-submit record` on a run's folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_generator.local.folder import RunFolder
from tests.job_generator.conftest import fetched_from

Finished = Callable[..., RunFolder]
Submit = Callable[..., Any]


def test_the_table_has_a_row_for_each_round(submit: Submit, finished: Finished) -> None:
    """Who took part, what was measured, and which model was made; as data it is the lines themselves."""
    run = finished()
    told = submit("record", "show", run.path).stdout.splitlines()
    rows = [line.split() for line in told if line.strip() and line.split()[0].isdigit()]
    assert rows[0][:5] == ["1", "1", "Committed", "2/3", "1"]
    assert len(rows) == 10
    told = json.loads(submit("record", "show", run.path, "--output", "json").stdout)
    assert [row["line"] for row in told] == list(range(1, 11))


def test_a_whole_record_is_verified(submit: Submit, finished: Finished) -> None:
    """One sentence says how many lines are one chain, and who signed."""
    done = submit("record", "verify", finished().path)
    assert done.exit_code == 0
    assert done.stdout.startswith(
        "10 lines of 10 rounds are one chain, signed by the server of job job-1 at "
    )


def test_a_changed_record_ends_with_its_line_and_74(submit: Submit, finished: Finished) -> None:
    """The message names file, line and round; as data too."""
    run = finished()
    run.record.write_text(run.record.read_text().replace('"loss":0.5', '"loss":0.4'))
    done = submit("record", "verify", run.path)
    assert done.exit_code == 74
    assert "line 2 (round 2): it was changed: the next line does not fit it" in done.stderr
    told = json.loads(submit("record", "verify", run.path, "--output", "json").stdout)
    assert (told["whole"], [(one["line"], one["round"]) for one in told["findings"]]) == (False, [(2, 2)])
    assert submit("record", "export", run.path).exit_code == 74


def test_another_authority_is_not_believed(submit: Submit, finished: Finished, tmp_path: Path) -> None:
    """With --ca the run's own authorities do not count."""
    from fl_core.identity import Authority  # noqa: PLC0415 - for this one

    other = tmp_path / "ca.pem"
    other.write_bytes(Authority("job-1").dump()[1])
    done = submit("record", "verify", finished().path, "--ca", other)
    assert (done.exit_code, "no trusted authority has issued" in done.stderr) == (74, True)


def test_what_is_exported_is_what_was_signed(submit: Submit, finished: Finished, tmp_path: Path) -> None:
    """The envelope holds an in-toto statement about the model's and the record's files."""
    run, target = finished(), tmp_path / "toy.intoto.json"
    assert submit("record", "export", run.path, "-o", target).exit_code == 0
    assert json.loads(target.read_text()) == json.loads(run.signature.read_text())
    statement = json.loads(base64.b64decode(json.loads(target.read_text())["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [one["name"] for one in statement["subject"]] == ["metrics.jsonl", "models/last.safetensors"]


PINNED = f"registry.example/worker:1@sha256:{'ab' * 32}"


def test_images_are_shown_and_exported(submit: Submit, finished: Finished) -> None:
    """Each with its role, its rounds, and whether a digest or a tag names it; where nobody said any, there is none."""
    before = {"images": {PINNED: 2}}
    run = finished(round_1=before, round_2=before, round_3={"images": {"worker:1": 2}})
    shown = [line.split() for line in submit("record", "show", run.path).stdout.splitlines()]
    assert ["worker", "2", "digest", PINNED] in shown
    assert ["worker", "1", "tag", "worker:1"] in shown
    envelope = json.loads(submit("record", "export", run.path).stdout)
    found = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["resolvedDependencies"]
    assert found == [
        {
            "uri": f"docker://{PINNED}",
            "digest": {"sha256": "ab" * 32},
            "annotations": {"role": "worker", "rounds": 2},
        },
        {"uri": "docker://worker:1", "annotations": {"role": "worker", "rounds": 1}},
    ]


def test_a_run_on_this_machine_names_no_images(submit: Submit, finished: Finished) -> None:
    """Neither in the table nor in the statement."""
    run = finished()
    assert "IMAGE" not in submit("record", "show", run.path).stdout
    envelope = json.loads(submit("record", "export", run.path).stdout)
    assert json.loads(base64.b64decode(envelope["payload"]))["predicate"]["resolvedDependencies"] == []


def test_a_record_of_an_earlier_version_is_told(submit: Submit, finished: Finished) -> None:
    """Lines without a chain end with a sentence and the code of what does not fit."""
    run = finished()
    run.record.write_text('{"round":1,"result":"Committed"}\n')
    done = submit("record", "verify", run.path)
    assert (done.exit_code, "whose record was no chain" in done.stderr) == (67, True)


def test_a_round_is_explained(submit: Submit, finished: Finished) -> None:
    """`explain --round` tells of each worker of a run's folder; a round that is not there ends with a sentence."""
    run = finished()
    done = submit("explain", run.path, "--round", 7)
    assert done.stdout.splitlines()[1:] == [
        "worker-0, worker-1: chosen; their updates are in the model.",
        "worker-2: chosen, and lost: it was not heard for 15 s, or did not come back.",
        "worker-3: not chosen; the round asked 3 of the 4 that were there.",
    ]
    told = json.loads(submit("explain", run.path, "--round", 7, "--output", "json").stdout)
    assert told["explanation"] == done.stdout.splitlines()
    assert submit("explain", run.path, "--round", 11).exit_code == 67
    run.record.write_text(run.record.read_text().replace('"loss":0.5', '"loss":0.4'))
    assert submit("explain", run.path, "--round", 7).exit_code == 74


def test_who_brings_an_authority_wants_a_signature(submit: Submit, finished: Finished) -> None:
    """However run.json says that the job stands, it can be checked by whoever does not believe the folder."""
    run = finished(signed=False)
    run.write(run.state().model_copy(update={"state": "Failed", "exit_code": 75}))
    assert submit("record", "verify", run.path).exit_code == 0
    assert submit("record", "verify", run.path, "--ca", run.authorities).exit_code == 74


@pytest.fixture
def fetched(finished: Finished, tmp_path: Path) -> Path:
    """The folder of a record that was fetched from a cluster."""
    return fetched_from(finished(), tmp_path / "toy-record")


def test_a_record_that_was_fetched_is_read_as_a_runs(
    submit: Submit, fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its path or by its name in the folder where one stands; a changed line is found."""
    monkeypatch.chdir(fetched.parent)
    for word in (fetched, fetched.name):
        assert submit("record", "verify", word).stdout.startswith(
            "10 lines of 10 rounds are one chain, signed by"
        )
    assert len(json.loads(submit("record", "show", fetched.name, "--output", "json").stdout)) == 10
    assert "Round 7 was committed" in submit("explain", fetched.name, "--round", 7).stdout
    record = fetched / "storage" / "metrics.jsonl"
    record.write_text(record.read_text().replace('"loss":0.5', '"loss":0.4'))
    assert submit("record", "verify", fetched.name).exit_code == 74


def test_a_record_that_was_fetched_is_signed_where_its_job_had_ended(submit: Submit, fetched: Path) -> None:
    """The state is that of the time when it was fetched."""
    (fetched / "storage" / "record.sig.json").unlink()
    assert submit("record", "verify", fetched).exit_code == 74


def test_a_run_is_not_fetched(submit: Submit, finished: Finished) -> None:
    """Its record is here; the sentence says how it is looked at."""
    run = finished()
    done = submit("record", "fetch", run.path)
    assert (done.exit_code, f"fl-submit record verify {run.path}" in done.stderr) == (2, True)


def test_a_folder_that_holds_something_is_refused_before_a_cluster_is_asked(
    submit: Submit, fetched: Path
) -> None:
    """Nothing is fetched over what is there."""
    done = submit("record", "fetch", "toy", "-o", fetched)
    assert (done.exit_code, "is not empty; choose another with -o" in done.stderr) == (2, True)
