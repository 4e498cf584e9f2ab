"""A whole job with secure aggregation: what it comes to, and what of it anybody but a worker can see."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from fl_core.secagg import job as secagg
from fl_core.secagg import keys
from fl_core.secagg.summands import FRACTION_BITS
from fl_core.weights import Weights
from fl_core.wire import fl_pb2 as pb
from fl_server.checkpoints import read
from tests.rounds import leaks
from tests.rounds.leaks import EVERYBODY, PROCESSES
from tests.rounds.secure import Clear, SecureRun, in_the_clear, models, runs

pytestmark = pytest.mark.rounds

ROUNDS = 3


@dataclass(frozen=True)
class Done:
    """The same job three times: watched, left alone, and without secure aggregation."""

    run: SecureRun
    again: SecureRun
    plain: SecureRun
    pages: dict[str, str]

    @property
    def everything(self) -> leaks.Hay:
        """What is in the run's folder, in the messages and on the metric pages, whoever wrote it."""
        return leaks.everything(self.run, self.pages)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Run the job three times, and scrape every process before the last round of the watched one."""
    with runs(tmp_path_factory.mktemp("secure")) as build:
        narrow = {"bits": 16, "maxExamples": 2**30}
        run, again = build(secure=narrow), build(tied=False, secure=narrow)
        plain = build(secure={"enabled": False})
        for one in (run, plain):
            leaks.record(one)
        run.hold(f"train.{ROUNDS}", *EVERYBODY)
        run.begin()
        for index in EVERYBODY:
            run.wait_at(f"worker-{index}", f"train.{ROUNDS}")
        pages = {name: run.scrape(name) for name in PROCESSES}
        with leaks.observed(run):
            run.let_go(f"train.{ROUNDS}", *EVERYBODY)
            for other in (again, plain):
                other.begin()
            for one in (run, again, plain):
                assert one.ends() == 0, one.said("server")
        yield Done(run, again, plain, pages)


def final(run: SecureRun) -> Weights:
    """The last model."""
    return read(run.storage / "models" / "last.safetensors").weights


def test_two_runs_and_the_plain_sums_give_the_same_models(done: Done) -> None:
    """Each round's model is, to the bit, that of another run and that of the same whole numbers added in the clear."""
    assert [row["reporters"] for row in done.run.rounds()] == [
        [f"worker-{one}" for one in EVERYBODY]
    ] * ROUNDS
    assert models(done.run) == models(done.again) == in_the_clear(done.again)
    kept = [one.storage / "models" / "last.safetensors" for one in (done.run, done.again)]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert {name: done.run.code(name) for name in PROCESSES} == dict.fromkeys(PROCESSES, 0)


def test_the_model_is_the_plain_jobs_within_the_rings_resolution(done: Done) -> None:
    """Each round puts an element off by less than one step of the ring per worker; with 16 bits that can be seen."""
    ring, weight = secagg.ring_of(done.run.plan), done.run.rounds()[0]["examples"]
    clear, bound, rounding = Clear(done.run), 0.0, 2.0**-22
    for _ in range(ROUNDS):
        clear.step(EVERYBODY)
        step = 2.0 ** max(clear.used) / ring.levels * ring.most_weight / weight
        bound += len(EVERYBODY) * step + rounding
    secure, plain = final(done.run), final(done.plain)
    off = max(float(np.abs(secure[name] - plain[name]).max()) for name in plain)
    assert rounding < off < bound < 0.01


def test_the_measurements_are_those_of_the_workers_together(done: Done) -> None:
    """For the model of each round accuracy is exact, and a mean is off by less than the resolution of sums."""
    clear = Clear(done.run)
    for row, plain in zip(done.run.rounds(), done.plain.rounds(), strict=True):
        assert clear.step(EVERYBODY) == row["model"]
        measured = clear.measured(EVERYBODY)
        assert row["metrics"]["accuracy"] == measured["accuracy"].value == plain["metrics"]["accuracy"]
        resolution = len(EVERYBODY) * 2.0**-FRACTION_BITS
        assert row["metrics"]["loss"] == pytest.approx(measured["loss"].value, abs=resolution)
        assert (
            row["examples"]
            == plain["examples"]
            == sum(clear.trained([one], 1)[one].examples for one in EVERYBODY)
        )
        assert row["train"]["fit"] == pytest.approx(plain["train"]["fit"], abs=1e-3)


def test_the_record_says_nothing_of_a_single_worker(done: Done) -> None:
    """A round's line names who took part; all its numbers are the round's, and are those of the plain job's line."""
    numbers = {"bytes", "examples", "metrics", "seconds", "train", "attempt", "round", "clipped", "line"}
    digests = {"base", "checkpoint", "model", "plan", "previous", "program"}
    names = {"cohort", "dropouts", "reporters", "result", "selection", "software"}
    signed = {"signer", "signature"}
    for row, plain in zip(done.run.rounds(), done.plain.rounds(), strict=True):
        first = {"certificate"} if row["line"] == 1 else set()
        voted = {"ranges"} if row["round"] == 1 else set()  # the smallest that hold everybody's updates
        assert (
            set(row) == {*plain, "clipped", *voted} == {*numbers, *digests, *names, *signed, *first, *voted}
        )
        assert row["selection"] == {"live": len(EVERYBODY)}
        assert row["dropouts"] == {}
        assert not [name for name in numbers if "worker" in json.dumps(row[name])]


def test_no_secret_is_anywhere_but_in_its_worker(done: Done) -> None:
    """No private or derived key, seed or coefficient is in a file, log, page or message; the public halves are."""
    seen, sent = done.everything, leaks.traffic(done.run)
    for index in EVERYBODY:
        drawn = leaks.secrets(done.run, index)
        assert leaks.found([one[: keys.KEY_BYTES] for one in drawn], seen) == []
        sessions, made = 1 + 2 * ROUNDS, leaks.derived(done.run, index)
        assert len(made) >= leaks.DERIVED_IN_A_SESSION * sessions
        assert leaks.found(set(made), seen) == []
        assert len(leaks.private(drawn, sent)) == leaks.SECRETS_IN_A_SESSION * sessions


def test_no_number_of_a_single_worker_is_anywhere(done: Done) -> None:
    """Examples, losses, sums and durations of one worker are in no message, file, log or metric page."""
    seen, single = done.everything, leaks.singles(done.run)
    assert [one for one in single if leaks.found_number(one, seen)] == []
    together = [row["metrics"]["loss"] for row in done.run.rounds()] + [done.run.rounds()[0]["examples"]]
    assert all(leaks.found_number(one, seen) for one in together)  # what is there is found
    told = leaks.files(done.plain)
    for index in EVERYBODY:
        first = leaks.durations(done.plain, index)[0]
        assert leaks.found_number(first, told) == [str(done.plain.folder / f"worker-{index}.log")]
        page = done.pages[f"worker-{index}"]
        assert "fl_training_duration_seconds_count 0.0" in page
        assert "fl_training_examples_total 0.0" in page


ADVERTISED = ("worker", "mask_key", "seal_key", "commitment", "certificate", "signature")

SAID = {
    "Attend": {"beat.moved", "enrolment.manifest", "enrolment.weights", "enrolment.program"},
    "Convene": {"model", "manifest", "evaluate.workers", "epoch", "draw"},
    "Dismiss": {"reason", "epoch"},
    "Observe": set(),
    "Pull": {"model"},
    "Push": {
        *("transfer.kind", "transfer.nbytes", "transfer.manifest", "transfer.metrics"),
        *("chunk.crc32c", "chunk.data"),
    },
    "Protect": {
        *("ready.model", "ready.schema", "ready.context"),
        *(f"{way}advertisement.{name}" for way in ("", "ready.") for name in ADVERTISED),
        *("shares.shares", "signature.signature", "unmasking.seeds", "masked.crc32c", "masked.data"),
    },
}
"""The fields that workers and server fill in, of each method; contexts apart, which all fill in alike."""

KINDS: dict[str, type[Message]] = {
    "Attend": pb.Presence,
    "Convene": pb.Convening,
    "Dismiss": pb.Dismissal,
    "Observe": pb.ObserveRequest,
    "Pull": pb.PullRequest,
    "Push": pb.Frame,
    "Protect": pb.MemberMessage,
}


SOMETIMES = {"moved.worker", "waiting.live", "waiting.wanted", "waiting.absent"}
"""Said where a round is still open at a beat, or where the server is there before the workers."""

TOLD = {
    "Attend": {"welcome.beat_seconds", "train.model", "evaluate.model", "stop.reason"},
    "Convene": {
        *(f"cohort.{name}" for name in ("workers", "weights", "manifest", "live", "silent")),
        *SOMETIMES,
    },
    "Observe": {
        *(f"standing.{name}" for name in ("round", "rounds", "attempt", "phase", "live", "expected")),
        *("standing.selected", "standing.reported", "closed"),
        *("ending.complete", "ending.reason", "ending.model"),
    },
    "Protect": {
        *("opening.purpose", "opening.exponents", "opening.schema", "opening.uncounted"),
        *("roster.candidates", "roster.members", "roster.root"),
        *(f"roster.entries.{name}" for name in ADVERTISED),
        *("dealt.shares", "survivors.workers", "agreement.signatures"),
    },
    "Pull": {
        *("transfer.kind", "transfer.manifest", "transfer.nbytes", "transfer.model", "transfer.exponents"),
        *("chunk.crc32c", "chunk.data"),
    },
}
"""The same of what server and scheduler say."""

ANSWERS: dict[str, type[Message]] = {
    "Attend": pb.Order,
    "Convene": pb.CohortEvent,
    "Observe": pb.Observation,
    "Protect": pb.HostMessage,
    "Pull": pb.Frame,
}


def test_messages_hold_nothing_but_what_the_protocol_needs(done: Done) -> None:
    """Of all fields that messages have, those are used that carry keys, shares, masked bytes, sizes and life signs."""
    used = fields_used(done, "method", KINDS)
    used["Attend"].add("beat.moved")  # zero, where a job ends before its second beat
    assert used == SAID
    heads = [pb.Frame.FromString(one).transfer for one in done.run.messages("server", "Push")]
    assert {(one.kind, one.metrics) for one in heads if one.nbytes} == {(pb.KIND_INITIAL, "{}")}
    said = [pb.MemberMessage.FromString(one) for one in done.run.messages("server", "Protect")]
    assert sum(one.HasField("masked") for one in said) == len(EVERYBODY) * (1 + 2 * ROUNDS)
    early = [one.ready.HasField("advertisement") for one in said if one.HasField("ready")]
    assert sum(early) == len(early) - len(EVERYBODY)  # all but the first, of which no ranges were known
    assert (
        sum(one.HasField("advertisement") for one in said) == len(EVERYBODY) * 2
    )  # of ranges, and within them
    assert (
        len({one.ready.schema for one in said if one.HasField("ready")}) == 2
    )  # of training and of evaluation


def test_answers_hold_nothing_but_what_the_protocol_needs(done: Done) -> None:
    """What workers, server and whoever watches are told is the round's, keys, shares and names; no worker's number."""
    used = fields_used(done, "answered", ANSWERS)
    used["Convene"] |= SOMETIMES
    assert used == TOLD


def fields_used(done: Done, way: str, kinds: dict[str, type[Message]]) -> dict[str, set[str]]:
    """The fields that are filled in by each method's messages that came (`method`) or were sent (`answered`)."""
    used: dict[str, set[str]] = {}
    for row in [row for name in PROCESSES[:2] for row in done.run.recorded(name) if way in row]:
        message = base64.b64decode(row["message"])
        if kind := kinds.get(row[way]):
            names = {name for name in fields(kind.FromString(message)) if "context." not in name}
            used[row[way]] = used.get(row[way], set()) | names
        else:
            assert message == b""  # an Ack
    return used


def fields(message: Any, before: str = "") -> Iterator[str]:
    """The names of the fields that are filled in."""
    for field, value in message.ListFields():
        name = f"{before}{field.name}"
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for one in value if field.is_repeated else (value,):
                yield from fields(one, f"{name}.")
        else:
            yield name


def test_a_worker_keeps_what_it_must_not_do_twice(done: Done) -> None:
    """Beside its key lies, for each kind of sum, the last round, among whom it was and whose sum was signed."""
    for index in EVERYBODY:
        text = (done.run.folder / f"worker-{index}" / "sums.jsonl").read_text()
        rows = {purpose: row for line in text.splitlines() for purpose, row in json.loads(line).items()}
        assert {purpose: row["round"] for purpose, row in rows.items()} == {
            "range": 1,
            "update": 3,
            "measure": 3,
        }
        kept = {"round", "candidacy", "content", "signed"}
        assert {purpose: set(row) - kept for purpose, row in rows.items()} == {
            "range": {"tells_ranges"},
            "update": {"tells_ranges"},
            "measure": set(),
        }
