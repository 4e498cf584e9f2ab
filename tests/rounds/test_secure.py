"""A whole job with secure aggregation: what it comes to, and what of it anybody but a worker can see."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Iterator
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
from tests.rounds.secure import Clear, SecureRun, in_the_clear, models, runs

pytestmark = pytest.mark.rounds

EVERYBODY = tuple(range(4))
PROCESSES = ("server", "scheduler", *(f"worker-{index}" for index in EVERYBODY))
ROUNDS = 3

SECRETS_IN_A_SESSION = 3
"""Two private keys and a seed; the coefficients of the polynomials come beside them."""


@dataclass(frozen=True)
class Done:
    """The same job three times: watched, left alone, and without secure aggregation."""

    run: SecureRun
    again: SecureRun
    plain: SecureRun
    pages: dict[str, str]

    @property
    def traffic(self) -> dict[str, bytes]:
        """All messages that came to the server and to the scheduler."""
        rows = {name: self.run.recorded(name) for name in PROCESSES[:2]}
        return {
            f"message {number} to {name}, {row['method']}": base64.b64decode(row["message"])
            for name, listed in rows.items()
            for number, row in enumerate(listed)
        }

    @property
    def everything(self) -> dict[str, bytes]:
        """What is in the run's folder, in the messages and on the metric pages, whoever wrote it."""
        files = [path for path in self.run.folder.rglob("*") if path.is_file()]
        pages = {f"page of {name}": page.encode() for name, page in self.pages.items()}
        return {str(path): path.read_bytes() for path in files} | pages | self.traffic


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Run the job three times, and scrape every process before the last round of the watched one."""
    with runs(tmp_path_factory.mktemp("secure")) as build:
        narrow = {"bits": 16, "maxExamples": 2**30}
        run, again = build(secure=narrow), build(tied=False, secure=narrow)
        plain = build(tied=False, secure={"enabled": False})
        for name in PROCESSES:
            run.at(name, "record", "")
        run.hold(f"train.{ROUNDS}", *EVERYBODY)
        run.begin()
        for index in EVERYBODY:
            run.wait_at(f"worker-{index}", f"train.{ROUNDS}")
        pages = {name: run.scrape(name) for name in PROCESSES}
        run.let_go(f"train.{ROUNDS}", *EVERYBODY)
        for other in (again, plain):
            other.begin()
        for one in (run, again, plain):
            assert one.ends() == 0, one.said("server")
        yield Done(run, again, plain, pages)


def found(needles: Iterable[bytes], hay: dict[str, bytes]) -> list[str]:
    """Where any of these bytes are, as they are, in hexadecimal or in base64."""
    forms = [
        form for one in needles for form in (one, one.hex().encode(), base64.b64encode(one).rstrip(b"="))
    ]
    return [place for place, content in hay.items() if any(form in content for form in forms)]


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
    digests = {"base", "model", "plan", "previous", "program"}
    names = {"cohort", "dropouts", "reporters", "result", "selection", "software"}
    for row, plain in zip(done.run.rounds(), done.plain.rounds(), strict=True):
        voted = {"ranges"} if row["round"] == 1 else set()  # the smallest that hold everybody's updates
        assert set(row) == {*plain, "clipped", *voted} == {*numbers, *digests, *names, *voted}
        assert row["selection"] == {"live": len(EVERYBODY)}
        assert row["dropouts"] == {}
        assert not [name for name in numbers if "worker" in json.dumps(row[name])]


def test_no_secret_is_anywhere_but_in_its_worker(done: Done) -> None:
    """No private key, seed or coefficient is in a file, log, metric page or message; the public halves are."""
    for index in EVERYBODY:
        drawn = [base64.b64decode(row["secret"]) for row in done.run.recorded(f"worker-{index}")]
        short = [one for one in drawn if len(one) == keys.KEY_BYTES]
        sessions = 1 + 2 * ROUNDS
        assert len(short) >= SECRETS_IN_A_SESSION * sessions
        assert found([one[: keys.KEY_BYTES] for one in drawn], done.everything) == []
        known = [one for one in short if found([keys.commit(one), keys.KeyPair.of(one).public], done.traffic)]
        assert len(known) == SECRETS_IN_A_SESSION * sessions


def test_no_number_of_a_single_worker_is_anywhere(done: Done) -> None:
    """Examples, losses and sums of one worker are in no spelling in any message, file, log or metric page."""
    clear, single = Clear(done.run), []
    for _ in range(ROUNDS):
        for index, finished in clear.trained(EVERYBODY, clear.round + 1).items():
            measured = clear.learners[index].evaluate(clear.weights, moved=lambda: None)
            single += [finished.examples, finished.metrics["fit"].value, *finished.metrics["fit"].vector]
            if clear.round:
                single += [measured.metrics["loss"].value, measured.metrics["loss"].vector[0]]
        clear.step(EVERYBODY)
    seen = done.everything
    assert [one for one in single if found_number(one, seen)] == []
    together = [row["metrics"]["loss"] for row in done.run.rounds()] + [done.run.rounds()[0]["examples"]]
    assert all(found_number(one, seen) for one in together)  # what is there is found


def found_number(number: float, hay: dict[str, bytes]) -> list[str]:
    """Where a number is: as text, as protobuf writes it, as 32 and 64 bits, as a float, as a multiple of 2^-20."""
    fixed = round(number * 2**FRACTION_BITS) % 2**64
    forms = [
        repr(number)[:10].encode(),
        struct.pack("<d", number),
        struct.pack("<Q", fixed),
        str(fixed).encode(),
    ]
    if number == int(number):
        forms += [struct.pack("<Q", int(number)), struct.pack("<I", int(number)), varint(int(number))]
    return [place for place, content in hay.items() if any(form in content for form in forms)]


def varint(number: int) -> bytes:
    """As protobuf writes a whole number."""
    return pb.Transfer(examples=number).SerializeToString()[1:]


SAID = {
    "Attend": {"beat.moved", "enrolment.manifest", "enrolment.weights", "enrolment.program"},
    "Convene": {"model", "manifest", "evaluate.workers"},
    "Dismiss": {"reason"},
    "Pull": {"model"},
    "Push": {
        *("transfer.kind", "transfer.nbytes", "transfer.manifest", "transfer.metrics"),
        *("chunk.crc32c", "chunk.data"),
    },
    "Protect": {
        *("ready.model", "ready.schema", "shares.shares", "signature.signature", "unmasking.seeds"),
        *(f"advertisement.{name}" for name in ("worker", "mask_key", "seal_key", "commitment")),
        *("advertisement.certificate", "advertisement.signature", "masked.crc32c", "masked.data"),
    },
}
"""The fields that workers and server fill in, of each method; contexts apart, which all fill in alike."""

KINDS: dict[str, type[Message]] = {
    "Attend": pb.Presence,
    "Convene": pb.Convening,
    "Dismiss": pb.Dismissal,
    "Pull": pb.PullRequest,
    "Push": pb.Frame,
    "Protect": pb.MemberMessage,
}


def test_messages_hold_nothing_but_what_the_protocol_needs(done: Done) -> None:
    """Of all fields that messages have, those are used that carry keys, shares, masked bytes, sizes and life signs."""
    rows = [row for name in PROCESSES[:2] for row in done.run.recorded(name)]
    assert {row["method"] for row in rows} == set(SAID)
    used: dict[str, set[str]] = {method: set() for method in SAID}
    for row in rows:
        message = KINDS[row["method"]].FromString(base64.b64decode(row["message"]))
        used[row["method"]] |= {name for name in fields(message) if "context." not in name}
    used["Attend"].add("beat.moved")  # zero, where a job ends before its second beat
    assert used == SAID
    heads = [pb.Frame.FromString(one).transfer for one in done.run.messages("server", "Push")]
    assert {(one.kind, one.metrics) for one in heads if one.nbytes} == {(pb.KIND_INITIAL, "{}")}
    said = [pb.MemberMessage.FromString(one) for one in done.run.messages("server", "Protect")]
    assert sum(one.HasField("masked") for one in said) == len(EVERYBODY) * (1 + 2 * ROUNDS)
    assert (
        len({one.ready.schema for one in said if one.HasField("ready")}) == 2
    )  # of training and of evaluation


def fields(message: Any, before: str = "") -> Iterator[str]:
    """The names of the fields that are filled in."""
    for field, value in message.ListFields():
        name = f"{before}{field.name}"
        if field.message_type and not field.message_type.GetOptions().map_entry:
            yield from fields(value, f"{name}.")
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
        assert all(set(row) == {"round", "candidacy", "content", "signed"} for row in rows.values())
