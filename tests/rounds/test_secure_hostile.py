"""A session in which somebody breaks the protocol, over real sockets: found out, named, and left out of the sum."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import grpc
import pytest

from fl_core.secagg import keys
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_core.wire.guard import context_of
from fl_server.protection import STEP_SECONDS
from tests.rounds.conftest import until
from tests.rounds.imposter import Imposter
from tests.rounds.secure import Clear, SecureRun, in_the_clear, models, numbers, runs
from tests.rounds.test_hostile import METHODS, channel, mutated, status

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(280)]

HOSTILE = 3
OTHERS = ["worker-0", "worker-1", "worker-2"]
EVERYBODY = [*OTHERS, "worker-3"]
QUIET = {"evaluation": {"everyRounds": 1000}}
UNKNOWN = b"\xfa\x3f\x01x"
"""Field 1023, which no message has."""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs of four workers, of whom three open a sum."""
    with runs(tmp_path) as build:
        yield build


Act = Callable[[Imposter], str]
"""What somebody does in a session, and the words that he is told."""


def garbage(one: Imposter) -> str:
    """Bytes that are no message."""
    one.advertise()
    one.shout(b"\xff\xff\xff")
    return one.ending()


def nothing(one: Imposter) -> str:
    """A message that says nothing."""
    one.advertise()
    one.say()
    return one.ending()


def unknown_field(one: Imposter) -> str:
    """An honest advertisement with a field beside it that nobody knows."""
    one.say(UNKNOWN, advertisement=one.advertise())
    return one.ending()


def for_another(one: Imposter) -> str:
    """An advertisement for worker 0."""
    said = one.advertise()
    said.worker = 0
    one.say(advertisement=said)
    return one.ending()


def unsigned(one: Imposter) -> str:
    """An advertisement whose keys were changed after it was signed."""
    said = one.advertise()
    said.mask_key = keys.KeyPair.of(random.randbytes(32)).public
    one.say(advertisement=said)
    return one.ending()


def low_order(one: Imposter) -> str:
    """A public key with which everybody agrees on zero."""
    said = one.advertise()
    said.seal_key = bytes(32)
    one.say(advertisement=said)
    return one.ending()


def twice(one: Imposter) -> str:
    """Two advertisements."""
    said = one.advertise()
    one.say(advertisement=said)
    one.say(advertisement=said)
    return one.ending()


def out_of_order(one: Imposter) -> str:
    """A signature, where keys are wanted."""
    one.advertise()
    one.say(signature=pb.Signature(signature=b"mine"))
    return one.ending()


def another_round(one: Imposter) -> str:
    """An honest advertisement in a message of another round."""
    said = one.advertise()
    one.say(advertisement=said, context=context_of(one.run.plan, round=one.round + 1, attempt=1))
    return one.ending()


def strangers_share(one: Imposter) -> str:
    """Shares for a worker that is none."""
    one.say(shares=pb.SealedShares(shares={**one.share(), 7: b"x"}))
    return one.ending()


def short_share(one: Imposter) -> str:
    """A share that is too short."""
    one.say(shares=pb.SealedShares(shares={**one.share(), 0: b"x"}))
    return one.ending()


def second_call(one: Imposter) -> str:
    """A call beside the one that is in the session."""
    one.share()
    other = one.again()
    other.come()
    told = other.ending()
    one.hang_up()
    return told


def another_length(one: Imposter) -> str:
    """A vector that is eight bytes longer than it must be, then one that is shorter than it says."""
    data = one.masked()
    told = [one.push(data + bytes(8)), one.push(data[:-8], announced=len(data))]
    one.hang_up()
    return "; ".join(told)


def another_attempts_vector(one: Imposter) -> str:
    """A vector that is said to be another attempt's."""
    data = one.masked()
    told = one.push(data, place=context_of(one.run.plan, round=one.round, attempt=2))
    one.hang_up()
    return told


def too_early(one: Imposter) -> str:
    """A vector before the roster is known."""
    one.advertise()
    told = one.push(bytes(80))
    one.hang_up()
    return told


def damaged(one: Imposter) -> str:
    """A vector in a message, whose checksum is another's."""
    one.say(masked=pb.Masked(crc32c=1, data=one.masked()))
    return one.ending()


def longer(one: Imposter) -> str:
    """A vector in a message that is eight bytes longer than it must be."""
    one.say(masked=wire.masked_out(memoryview(one.masked() + bytes(8))))
    return one.ending()


def too_early_a_message(one: Imposter) -> str:
    """A vector in a message before the roster is known."""
    one.advertise()
    one.say(masked=wire.masked_out(memoryview(bytes(80))))
    return one.ending()


def silent(one: Imposter) -> str:
    """Nothing more, once it is in the roster, until the attempt is over."""
    one.share()
    return one.ending()


REFUSED = "refused: the protocol does not allow what it sent"
CHECKSUM = "refused: a checksum does not fit what came"
NO_MESSAGE = "refused: it is no message that this server knows"
LENGTH = "refused: it has not as many bytes as it must have"

OUT: dict[Act, tuple[str, str]] = {
    garbage: ("worker-3 sent bytes that are no message", NO_MESSAGE),
    nothing: ("worker-3 sends nothing, which no session expects", REFUSED),
    unknown_field: ("worker-3 sent fields that MemberMessage does not have", NO_MESSAGE),
    for_another: ("worker-3 advertises for worker-0", REFUSED),
    unsigned: ("worker-3: the signature does not fit what it is said to sign", REFUSED),
    low_order: ("low order", REFUSED),
    # Which of both depends on whether the others have advertised when the second one comes.
    twice: (
        r"an advertisement, but the open step is shares|nothing \(more\) is expected of worker-3",
        REFUSED,
    ),
    out_of_order: ("worker-3 sends a signature, but the open step is advertisements", REFUSED),
    another_round: ("worker-3 speaks of round", REFUSED),
    strangers_share: ("worker-3 sends shares to worker-0, worker-1, worker-2, worker-7; expected", REFUSED),
    short_share: ("worker-3: the share for worker-0 is not", REFUSED),
    second_call: ("the server is Aggregating in round", "gone"),
    another_length: ("bytes announced; 132 are expected; 124 bytes came for byte 0; expected 132", LENGTH),
    another_attempts_vector: ("worker-3 speaks of round", "gone"),
    too_early: ("worker-3 sends a vector, but the open step is advertisements", REFUSED),
    damaged: ("the vector has CRC-32C", CHECKSUM),
    longer: ("140 bytes came as a vector; 132 are expected", LENGTH),
    too_early_a_message: ("worker-3 sends a vector, but the open step is advertisements", REFUSED),
    silent: ("OK", "stalled"),
}
"""What somebody may do that costs him his place in the sum: what he is told (a pattern), and why he is out."""


def test_who_breaks_the_protocol_is_out_and_the_others_go_on(job: Callable[..., SecureRun]) -> None:
    """Whatever one member says or leaves out, it is told why, and the round's sum is that of the others."""
    run = job(rounds=len(OUT) + 1, selection={"stallSeconds": 6}, **QUIET)
    with acting(run) as actor:
        for number, (act, (words, reason)) in enumerate(OUT.items()):
            told = act(actor(number + 2))
            run.wait_recorded(number + 2)
            assert re.search(words, told), act.__doc__
            row = run.rounds()[number + 1]
            assert row["reporters"] == OTHERS, act.__doc__
            assert row["dropouts"] == {"worker-3": reason}, act.__doc__
            assert row["seconds"]["secure"] < STEP_SECONDS / 2, act.__doc__
    assert run.ends() == 0
    assert models(run) == in_the_clear(run)


def test_wrong_shares_are_named_and_a_wrong_vector_costs_the_round(job: Callable[..., SecureRun]) -> None:
    """Who gives wrong shares is found out and the sum is right; a vector masked otherwise opens no sum, loudly."""
    run = job(rounds=4, **QUIET)
    with acting(run, 0) as actor:
        one = actor(2)
        agreement = one.signed(one.masked())
        answer = wire.unmasking_out(one.member.unmask(agreement))
        for shares in (answer.seeds, answer.mask_keys):
            for other in list(shares):
                shares[other] = bytes(len(shares[other]))
        one.say(unmasking=answer)
        assert one.ending() == "OK"
        one = actor(3)
        agreement = one.signed(bytes(len(one.masked())))
        one.say(unmasking=wire.unmasking_out(one.member.unmask(agreement)))
        assert one.ending() == "OK"
        nothing(actor(4))
    assert run.ends() == 0
    rows = run.rounds()
    assert [row["result"] for row in rows] == ["Committed", "Committed", "Skipped", "Committed"]
    assert rows[1]["reporters"] == EVERYBODY
    assert [row["workers"] for row in run.log("server") if row["event"] == "wrong shares"] == [["worker-0"]]
    assert "round 3, attempt 1, update: the masks do not come off" in rows[2]["reason"]
    assert models(run) == in_the_clear(run)


def test_counts_that_cannot_be_end_nobody(job: Callable[..., SecureRun]) -> None:
    """A member that says it clipped fewer than no values, of fewer than no examples, costs the round these figures."""
    run = job(rounds=3, **QUIET)
    with acting(run) as actor:
        one = actor(2)
        agreement = one.signed(one.masked({1: -(2**62), 2: -7}))
        one.say(unmasking=wire.unmasking_out(one.member.unmask(agreement)))
        assert one.ending() == "OK"
        nothing(actor(3))
    assert run.ends() == 0
    row = run.rounds()[1]
    assert (row["result"], row["reporters"], row["clipped"]) == ("Committed", EVERYBODY, 0)
    assert "examples" not in row


def test_a_server_that_shows_one_worker_something_else_learns_nothing(job: Callable[..., SecureRun]) -> None:
    """Worker 1 refuses a forged roster, and to sign for who is said to have shared with others but not with it."""
    run = job(rounds=4, **QUIET)
    run.at("server", "update.frozen.2", "lie")
    run.at("server", "update.dealt.3", "lie")
    run.begin()
    assert run.ends() == 0
    forged, halved = (
        "the signature does not fit what it is said to sign",
        "worker-0 survive whose shares never came",
    )
    said = [row["reason"] for row in run.log("worker-1") if row["event"] == "nothing to hand in"]
    assert [words in reason for words, reason in zip((forged, halved), said, strict=True)] == [True, True]
    rows = run.rounds()
    assert [row["reporters"] for row in rows] == [
        EVERYBODY,
        ["worker-0", "worker-2", "worker-3"],
        [],
        EVERYBODY,
    ]
    # It hangs up and tells the scheduler why; either may be heard first.
    assert list(rows[1]["dropouts"]) == ["worker-1"]
    assert rows[1]["dropouts"]["worker-1"] in ("gone", said[0])
    assert [row["reason"] for row in run.log("scheduler") if row["event"] == "declined"] == said
    assert "the masks do not come off" in rows[2]["reason"]
    assert models(run) == in_the_clear(run)


def test_damaged_messages_of_earlier_rounds_change_nothing(job: Callable[..., SecureRun]) -> None:
    """What workers said to server and scheduler, changed and said by another, is refused and leaves all as it was."""
    run, dice = job(workers={"replicas": 5}, selection={"perRound": 4, "minimum": 3}, **QUIET), Random(5)
    for name in METHODS:
        run.at(name, "record", "")
    run.hold("train.3", *range(4))
    run.scheduler()
    run.server()
    run.worker(*range(4))
    for index in range(4):
        run.wait_at(f"worker-{index}", "train.3")
    stored = {path: path.read_bytes() for path in run.storage.rglob("*") if path.is_file()}
    stranger, ends = run.identity("worker", 4), set()
    for name, method in (("server", "Protect"), ("scheduler", "Attend")):
        corpus = run.messages(name, method)
        with channel(run.announced[name]["address"], stranger, peer=name) as opened:
            for _ in range(40):
                said = [mutated(dice.choice(corpus), dice) for _ in range(dice.randint(1, 3))]
                ends.add(status(opened, name, method, *said))
    assert ends == {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
    assert {path: path.read_bytes() for path in run.storage.rglob("*") if path.is_file()} == stored
    run.let_go("train.3", *range(4))
    assert run.ends() == 0
    assert [(row["reporters"], row["dropouts"]) for row in run.rounds()] == [(EVERYBODY, {})] * 3
    assert models(run) == in_the_clear(run)


@contextmanager
def acting(run: SecureRun, index: int = HOSTILE) -> Iterator[Callable[[int], Imposter]]:
    """From round 2 on a worker attends, and its part in the sums is played from here."""
    run.at("server", "patience", "4")
    run.hold("train.2", index)
    run.begin()
    run.wait_at(f"worker-{index}", "train.2")
    run.at(f"worker-{index}", "absent", "")
    run.let_go("train.2", index)
    clear = Clear(run)
    with channel(run.announced["server"]["address"], run.folder / f"worker-{index}", peer="server") as opened:

        def actor(number: int) -> Imposter:
            until(lambda: opened_round(run, number), what=f"round {number}")
            for row in run.rounds()[clear.round :]:
                clear.skip() if row["result"] == "Skipped" else clear.step(numbers(row["reporters"]))
            return Imposter(run, opened, index=index, clear=clear, round=number)

        yield actor


def opened_round(run: SecureRun, number: int) -> bool:
    """Whether a round has its cohort."""
    return any(row["event"] == "cohort" and row["round"] == number for row in run.log("server"))
