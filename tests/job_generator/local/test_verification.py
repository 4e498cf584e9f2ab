"""Whatever is done to a record after the fact is found: in its lines, its signature, and the models beside it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fl_core.attestation import Ending
from fl_core.errors import MismatchError
from fl_core.identity import Authority, Identity
from fl_core.plan import InitialModel, Plan
from fl_core.seals import Seal, read_authorities
from fl_core.weights import digest
from fl_server.checkpoints import Saved, write
from fl_server.storage import Storage
from job_generator.local.folder import RunFolder
from job_generator.local.verification import Verdict, envelope_in, unsigned, verify

Finished = Callable[..., RunFolder]


def looked(run: RunFolder, **changes: Any) -> Verdict:
    """Verify the run as one that has ended, by its own authorities."""
    usual = {"authorities": read_authorities(run.authorities), "over": True}
    return verify(run.storage, Plan.read(run.plan), **{**usual, **changes})


def findings(run: RunFolder, **changes: Any) -> list[str]:
    return [str(finding) for finding in looked(run, **changes).findings]


def lines(run: RunFolder, change: Callable[[list[str]], list[str]]) -> None:
    """Write the record's lines anew."""
    run.record.write_text("".join(change(run.record.read_text().splitlines(keepends=True))))


@pytest.fixture
def ended(finished: Finished) -> RunFolder:
    """A run that is over, whole."""
    return finished()


def test_what_the_server_left_is_whole(finished: Finished) -> None:
    """Chain, signature, plan and all models agree, and nothing needs to be noted."""
    verdict = looked(finished())
    assert (verdict.findings, verdict.notes, len(verdict.rounds)) == ((), (), 10)
    assert verdict.signed is not None


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda rows: [*rows[:4], rows[4].replace("worker-1", "worker-3"), *rows[5:]],
            "line 5 (round 5): it was changed: the next line does not fit it",
        ),
        (lambda rows: rows[:4] + rows[5:], "line 5 (round 6): before it 1 line is missing (round 5)"),
        (
            lambda rows: [*rows[:4], rows[5], rows[4], *rows[6:]],
            "line 5 (round 6): it is not in its place: it was written after line 6",
        ),
        (lambda rows: rows[:8], "line 9: 2 lines are missing at the end: 10 were signed"),
        (
            lambda rows: [*rows[:9], rows[9].replace("0.1", "0.2")],
            "line 10 (round 10): it was changed: it is not the last line that was signed",
        ),
        (lambda _: [], "line 1: 10 lines are missing at the end: 10 were signed"),
    ],
)
def test_what_was_done_to_the_lines_is_named(
    finished: Finished, change: Callable[[list[str]], list[str]], finding: str
) -> None:
    """A changed byte, a hole, a wrong order, a cut end: with line and round."""
    run = finished()
    lines(run, change)
    assert findings(run)[0] == finding


def test_a_foreign_signature_is_found(finished: Finished) -> None:
    """Whoever makes record and signature anew has no certificate of an authority that the run knew."""
    run = finished()
    plan = Plan.read(run.plan)
    stranger = Authority(plan.job.uid).issue(Identity(plan.job.uid, "server"))
    Storage(run.storage, plan).sign(Ending("RoundsDone", dt.datetime.now(dt.UTC), "", 10), stranger)
    assert findings(run) == [
        "record.sig.json: it is signed under a certificate that no trusted authority has issued"
    ]
    assert looked(run, authorities=[]).notes == (
        "record.sig.json: nobody vouches for its authority; give --ca FILE",
    )


def test_a_signature_that_is_missing(finished: Finished) -> None:
    """It is wrong for a job that has ended, and worth a note for one that goes on."""
    run = finished(signed=False)
    sentence = "there is no record.sig.json: nobody has signed where the record ends"
    assert findings(run) == [sentence]
    assert looked(run, over=False).notes == (sentence,)
    assert not findings(run, over=False)


def test_another_plan_is_found(finished: Finished, plan_of: Callable[..., Plan]) -> None:
    """A record beside a plan that is not its own is not this job's."""
    run = finished()
    other = verify(run.storage, plan_of(rounds=11), authorities=[], over=True)
    assert [str(one) for one in other.findings] == [
        "line 1 (round 1): it was changed, or the record is of another plan",
        "record.sig.json is of another plan",
    ]


def test_models_that_no_round_made_are_found(finished: Finished) -> None:
    """A checkpoint and a final model with other numbers are whole files, and not the record's."""
    run = finished()
    other = {"w": np.full(3, 99, "f4")}
    facts = {"round": 10, "digest": digest(other), "metrics": {}}
    for name in ("checkpoints/round-0000010", "models/last"):
        write(run.storage / f"{name}.safetensors", Saved(other, facts))
    made = digest({"w": np.full(3, 10, "f4")})[:12]
    said = f"is the model {digest(other)[:12]}, while round 10 made {made}"
    assert findings(run) == [
        "models/last.safetensors is not the file that was signed",
        f"checkpoints/round-0000010.safetensors {said}",
        f"models/last.safetensors {said}",
    ]


def test_a_checkpoint_without_a_line(finished: Finished) -> None:
    """A job that goes on may have committed a round that is not recorded yet; one that has ended may not."""
    run = finished(signed=False)
    lines(run, lambda rows: rows[:9])
    (run.storage / "models" / "last.safetensors").unlink()
    assert not findings(run, over=False)
    assert (
        findings(run)[1]
        == "checkpoints/round-0000010.safetensors is of round 10, of which the record has no line"
    )


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_of_the_last_line_that_was_changed_is_found(
    ended: RunFolder, part: float, byte: int
) -> None:
    """No later line has its digest; the signature and what was signed at the end have."""
    content = ended.record.read_bytes()
    start = content[:-1].rindex(b"\n") + 1
    place = start + int(part * (len(content) - start))
    ended.record.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    try:
        assert bool(findings(ended)) == (content[place] != byte)
    finally:
        ended.record.write_bytes(content)


def seal(plan: Plan, authority: Authority | None = None, *earlier: bytes) -> Seal:
    """What a server of this job signs its lines with."""
    by = authority or Authority(plan.job.uid)
    return Seal(by.issue(Identity(plan.job.uid, "server")), earlier=earlier)


def model_of(number: int, value: float) -> Saved:
    """The model of this round that holds this value."""
    weights = {"w": np.full(3, value, "f4")}
    facts = {"round": number, "digest": digest(weights), "metrics": {}}
    return Saved(weights, facts, digest=digest(weights))


def kept(storage: Storage, number: int, model: float, *, checkpoint: bool = True, best: bool = False) -> str:
    """Keep a model as that of this round; gives its digest."""
    saved = model_of(number, model)
    if checkpoint:
        storage.checkpoints.save(saved)
    if best:
        storage.keep_model("best", saved)
    return saved.digest


def committed(storage: Storage, number: int, base: str, model: float, *, best: bool = False) -> str:
    """Keep and record a round that made this model; gives its digest."""
    made = kept(storage, number, model, checkpoint=False, best=best)
    row = {"round": number, "result": "Committed", "base": base, "model": made, "metrics": {}}
    storage.record(row | {"checkpoint": storage.checkpoints.save(model_of(number, model))})
    return made


@pytest.fixture
def fork(tmp_path: Path, plan_of: Callable[..., Plan]) -> tuple[Storage, Plan, str]:
    """What a fork from round 5 keeps before its first round: that checkpoint, and its parent's best, of round 3."""
    plan = plan_of(rounds=9, initial_model=InitialModel(round=5))
    storage = Storage(tmp_path / "fork", plan, seal=seal(plan))
    kept(storage, 3, 3, checkpoint=False, best=True)
    return storage, plan, kept(storage, 5, 5)


def unmade(storage: Storage, plan: Plan, *, over: bool = False) -> list[str]:
    """What is found, a missing signature apart."""
    found = verify(storage.folder, plan, authorities=[], over=over).findings
    return [str(one) for one in found if "nobody has signed" not in str(one)]


@pytest.mark.parametrize("over", [False, True])
def test_a_fork_begins_with_its_parents_models(fork: tuple[Storage, Plan, str], *, over: bool) -> None:
    """The checkpoint it goes on from and the parent's best are whole before its first line and after it."""
    storage, plan, base = fork
    assert unmade(storage, plan, over=over) == []
    for number in (6, 7):
        base = committed(storage, number, base, number)
        assert unmade(storage, plan, over=over) == []


def test_a_fork_with_other_models(fork: tuple[Storage, Plan, str]) -> None:
    """Neither a checkpoint from before the fork is the record's, nor another one of the round that it goes on from."""
    storage, plan, base = fork
    committed(storage, 6, base, 6)
    other = {"w": np.full(3, 99, "f4")}
    for number in (4, 5):
        path = storage.folder / f"checkpoints/round-{number:07d}.safetensors"
        write(path, Saved(other, {"round": number, "digest": digest(other)}))
    found = unmade(storage, plan)
    assert [one.split()[0] for one in found] == [f"checkpoints/round-000000{n}.safetensors" for n in (4, 5)]
    assert found[1].endswith(f"is the model {digest(other)[:12]}, while round 5 made {base[:12]}")


def test_a_job_that_goes_on_is_not_accused(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    """Whatever its server commits, records, lets go of and signs while one looks."""
    plan = plan_of(rounds=200)
    by = Authority(plan.job.uid)
    credentials = by.issue(Identity(plan.job.uid, "server"))
    storage = Storage(tmp_path / "job", plan, seal=Seal(credentials))
    base = kept(storage, 0, 0)

    def goes_on() -> None:
        made = base
        for number in range(1, 121):
            made = committed(storage, number, made, number)
            if number % 10 == 0:
                storage.keep_model("last", model_of(number, number))
                storage.sign(Ending("Stopped", dt.datetime.now(dt.UTC), made, number), credentials)

    looks = 0
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(goes_on)
        while not server.done():
            looks += 1
            found = verify(storage.folder, plan, authorities=[by.dump()[1]], over=False).findings
            assert list(map(str, found)) == []
        server.result()
    assert looks > 10


def test_a_checkpoint_whose_memory_was_changed(fork: tuple[Storage, Plan, str]) -> None:
    """It has its round's model and a seal of its own: the line names another; without a fitting seal it is damaged."""
    storage, plan, base = fork
    committed(storage, 6, base, 6)
    path = storage.folder / "checkpoints/round-0000006.safetensors"
    write(path, replace(model_of(6, 6), states={"strategy": {"momentum": np.ones(2)}}))
    (found,) = unmade(storage, plan)
    assert found.startswith("checkpoints/round-0000006.safetensors is not the checkpoint ")
    path.write_bytes(path.read_bytes().replace(np.ones(2).tobytes(), np.zeros(2).tobytes()))
    (found,) = unmade(storage, plan)
    assert found.endswith("is damaged: its contents do not have the digest it was written with")


@pytest.mark.parametrize("told", ['"x"', "null", "1e400", '1, "row": "abc"'])
def test_a_checkpoint_that_claims_what_none_is(fork: tuple[Storage, Plan, str], told: str) -> None:
    """Whatever its metadata holds, it is named; so is one whose seal somebody took off."""
    storage, plan, base = fork
    committed(storage, 6, base, 6)
    path = storage.folder / "checkpoints/round-0000006.safetensors"
    arrays = {"w": np.full(3, 6, "f4")}
    save_file(arrays, path, {"fljob": f'{{"arrays": ["w"], "facts": {{"round": {told}}}}}'})
    (found,) = unmade(storage, plan)
    assert "is no safetensors file that can be read" in found
    save_file(arrays, path, {"fljob": '{"arrays": ["w"], "facts": {"round": 6}}'})
    (found,) = unmade(storage, plan)
    assert found.startswith("checkpoints/round-0000006.safetensors has no seal")


def test_the_best_model_of_a_round_that_was_given_up(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    """It stays where a server goes back, and is the record's: at once, while others are made, and at the end."""
    plan = plan_of(rounds=9)
    storage = Storage(tmp_path / "job", plan, seal=seal(plan))
    models = [kept(Storage(tmp_path / "none", plan), 0, 0)]
    for number in (1, 2, 3, 4):
        models.append(committed(storage, number, models[-1], number, best=number == 4))
    for number in (3, 4):
        (storage.folder / f"checkpoints/round-{number:07d}.safetensors").unlink()
    kept(storage, 2, 2)
    storage.resumed(2, model=models[2], made=True)
    assert unmade(storage, plan) == unmade(storage, plan, over=True) == []
    base = models[2]
    for number in (3, 4, 5):
        base = committed(storage, number, base, number + 10)
        assert unmade(storage, plan) == unmade(storage, plan, over=True) == []
    kept(storage, 4, 99, checkpoint=False, best=True)
    assert len(unmade(storage, plan)) == 1


def test_a_signed_model_that_is_gone_is_noted(finished: Finished) -> None:
    """A run may be given away without its models, so that is no fault, but nobody can say that it is the signed one."""
    run = finished()
    run.last_model.unlink()
    assert looked(run).notes == (
        "models/last.safetensors was signed and is not here, so nothing is said of it",
    )
    assert not findings(run)


def test_a_torn_line_and_lines_since_are_notes(finished: Finished) -> None:
    """What a crash leaves, and what a resumed job adds, is told and is not wrong."""
    run = finished()
    plan = Plan.read(run.plan)
    authority = Authority(plan.job.uid)
    later = Storage(run.storage, plan, seal=seal(plan, authority, *read_authorities(run.authorities)))
    run.trust(authority.dump()[1])
    later.record({"round": 11, "result": "Skipped", "metrics": {}})
    with run.record.open("a") as stream:
        stream.write('{"rou')
    assert looked(run).notes == (
        "an unfinished line follows, as a crash leaves it; it is no part of the record",
        "line 10 is the last that is signed; 1 came since",
    )
    assert not findings(run)


@pytest.mark.parametrize("text", ["{", "[]", '{"payload": 3}'])
def test_a_damaged_signature_is_a_finding(finished: Finished, text: str) -> None:
    """What is no envelope ends with a sentence, and the lines are checked nevertheless."""
    run = finished()
    run.signature.write_text(text)
    lines(run, lambda rows: rows[1:])
    assert ["line 1" in one or "record.sig.json" in one for one in findings(run)] == [True, True]


def test_authorities_of_several_beginnings(tmp_path: Path) -> None:
    """Each time that a run is begun adds one; what is no PEM is refused by its path."""
    run = RunFolder(tmp_path)
    for _ in range(2):
        run.trust(Authority("job-1").dump()[1])
    assert len(read_authorities(run.authorities)) == 2
    run.authorities.write_text("no PEM")
    with pytest.raises(MismatchError, match=r"authorities.pem holds no certificate"):
        read_authorities(run.authorities)
    assert read_authorities(tmp_path / "none") == []


def test_a_statement_without_a_signature_says_how_the_job_stands(finished: Finished) -> None:
    """It is the one that the server would sign, with the newest model."""
    run = finished(signed=False)
    plan = Plan.read(run.plan)
    made = unsigned(looked(run, over=False), plan, run.storage, state="Running")
    assert (made["predicate"]["ending"], made["predicate"]["round"]) == ("Running", 10)
    assert [one["name"] for one in made["subject"]] == ["metrics.jsonl", "models/last.safetensors"]
    assert envelope_in(run.storage) is None
    assert json.dumps(made)
