"""A session in which somebody breaks the protocol, over real sockets: found out, named, and left out of the sum."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import google_crc32c
import grpc
import pytest

from fl_core.identity import Credentials
from fl_core.secagg import flat, keys
from fl_core.secagg import job as secagg
from fl_core.secagg.messages import Agreement
from fl_core.secagg.ring import public_dither
from fl_core.secagg.session import Context
from fl_core.secagg.signing import AuthorityTrust, CertifiedSigner
from fl_core.secagg.summands import Schema, UpdateSum
from fl_core.secagg.worker import Me, Member
from fl_core.weights import Manifest, digest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_core.wire.guard import context_of
from fl_server.protection import STEP_SECONDS
from tests.rounds.conftest import until
from tests.rounds.secure import Clear, SecureRun, in_the_clear, models, numbers, runs
from tests.rounds.test_hostile import channel

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


class Forgetful:
    """A memory that remembers nothing."""

    def bind(self, context: Context, candidacy: bytes) -> None: ...

    def sign(self, context: Context, statement: bytes) -> None: ...


class Imposter:
    """Somebody with a worker's key, who speaks for himself in one round's session."""

    def __init__(self, run: SecureRun, opened: grpc.Channel, *, index: int, clear: Clear, round: int) -> None:
        self.run, self.index, self.round = run, index, round
        self.place = context_of(run.plan, round=round, attempt=1)
        self._opened = opened
        self._model = digest(clear.weights)
        self._manifest = Manifest.of(clear.weights)
        self._update = clear.trained([index], round)[index]
        self._schema = Schema.of(self._update.metrics)
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._heard = self._method("stream_stream", "Protect")(iter(self._outbox.get, None), timeout=60)

    def say(self, unknown: bytes = b"", **what: Any) -> None:
        """Send a message of the session."""
        place = what.pop("context", self.place)
        self.shout(pb.MemberMessage(context=place, **what).SerializeToString() + unknown)

    def shout(self, message: bytes) -> None:
        """Send any bytes."""
        self._outbox.put(message)

    def come(self, schema: str | None = None) -> None:
        """Say that a result is there."""
        self.say(ready=pb.Ready(model=self._model, schema=self._schema.text if schema is None else schema))

    def hear(self) -> pb.HostMessage:
        """The server's next message."""
        return pb.HostMessage.FromString(next(self._heard))

    def advertise(self) -> pb.Advertisement:
        """Come, hear the opening, and give an honest advertisement to be sent."""
        self.come()
        opening = self.hear().opening
        plan, own = self.run.plan, Credentials.read(self.run.folder / f"worker-{self.index}")
        me = Me(
            CertifiedSigner(own),
            AuthorityTrust.of(plan.job.uid, own.authority),
            Forgetful(),
            random=random.randbytes,
        )
        self.summand = UpdateSum(secagg.ring_of(plan), self._manifest, tuple(opening.exponents), self._schema)
        place = {"round": self.round, "attempt": 1, "purpose": "update", "model": self._model}
        self.member = Member(me, secagg.context_of(plan, self.summand, **place))  # type: ignore[arg-type]
        return wire.entry_out(self.member.advertise())

    def share(self) -> dict[int, bytes]:
        """Advertise, and give honest shares to be sent."""
        self.say(advertisement=self.advertise())
        return dict(self.member.share(wire.roster_in(self.hear().roster)))

    def dealt(self) -> dict[int, bytes]:
        """Advertise, share, and give what the others have shared."""
        self.say(shares=pb.SealedShares(shares=self.share()))
        return dict(self.hear().dealt.shares)

    def masked(self) -> bytes:
        """Do all that comes before a vector, and give an honest one to be handed in."""
        dealt = self.dealt()
        vector = self.summand.encode(
            self._update.update,
            weight=self._update.examples,
            examples=self._update.examples,
            metrics=self._update.metrics,
            dither=public_dither(self.run.plan.seed, round=self.round, worker=self.index),
        )
        self.member.mask(vector, self.summand.layout, dealt)
        return bytes(flat.pack(vector))

    def signed(self, data: bytes) -> Agreement:
        """Hand these bytes in, sign whose vectors are in the sum, and give the proof that others did."""
        assert self.push(data) == ""
        survivors = list(self.hear().survivors.workers)
        self.say(signature=pb.Signature(signature=self.member.sign(survivors)))
        return wire.agreement_in(self.hear().agreement)

    def push(self, data: bytes, *, announced: int | None = None, place: pb.Context | None = None) -> str:
        """Hand bytes in as a vector; the words that the call ends with."""
        head = pb.Transfer(context=place or self.place, kind=pb.KIND_MASKED)
        head.nbytes = len(data) if announced is None else announced
        chunk = pb.Chunk(offset=0, crc32c=google_crc32c.value(data), data=data)
        frames = [pb.Frame(transfer=head), pb.Frame(chunk=chunk)]
        try:
            self._method("stream_unary", "Push")(
                iter([one.SerializeToString() for one in frames]), timeout=30
            )
        except grpc.RpcError as error:
            return str(error.details())
        return ""

    def ending(self) -> str:
        """The words that the call ends with."""
        try:
            for _ in self._heard:
                pass
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"

    def hang_up(self) -> None:
        """Say nothing more."""
        self._outbox.put(None)

    def again(self) -> Imposter:
        """Another call of the same worker."""
        other = copy(self)
        other._outbox = SimpleQueue()
        other._heard = other._method("stream_stream", "Protect")(iter(other._outbox.get, None), timeout=60)
        return other

    def _method(self, kind: str, name: str) -> Any:
        return getattr(self._opened, kind)(f"/fljob.v1.Server/{name}")


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


def silent(one: Imposter) -> str:
    """Nothing more, once it is in the roster, until the attempt is over."""
    one.share()
    return one.ending()


OUT: dict[Act, tuple[str, str]] = {
    garbage: ("worker-3 sent bytes that are no message", "refused"),
    nothing: ("worker-3 sends nothing, which no session expects", "refused"),
    unknown_field: ("worker-3 sent fields that MemberMessage does not have", "refused"),
    for_another: ("worker-3 advertises for worker-0", "refused"),
    unsigned: ("worker-3: the signature does not fit what it is said to sign", "refused"),
    low_order: ("low order", "refused"),
    twice: ("worker-3 sends an advertisement, but the open step is shares", "refused"),
    out_of_order: ("worker-3 sends a signature, but the open step is advertisements", "refused"),
    another_round: ("worker-3 speaks of round", "refused"),
    strangers_share: ("worker-3 sends shares to worker-0, worker-1, worker-2, worker-7; expected", "refused"),
    short_share: ("worker-3: the share for worker-0 is not", "refused"),
    second_call: ("the server is Aggregating in round", "gone"),
    another_length: ("bytes announced; 132 are expected; 124 bytes came for byte 0; expected 132", "gone"),
    another_attempts_vector: ("worker-3 speaks of round", "gone"),
    too_early: ("worker-3 sends a vector, but the open step is advertisements", "gone"),
    silent: ("OK", "stalled"),
}
"""What somebody may do that costs him his place in the sum: what he is told, and why he is out."""


def test_who_breaks_the_protocol_is_out_and_the_others_go_on(job: Callable[..., SecureRun]) -> None:
    """Whatever one member says or leaves out, it is told why, and the round's sum is that of the others."""
    run = job(rounds=len(OUT) + 1, selection={"stallSeconds": 6}, **QUIET)
    with acting(run) as actor:
        for number, (act, (words, reason)) in enumerate(OUT.items()):
            told = act(actor(number + 2))
            run.wait_recorded(number + 2)
            assert words in told, act.__doc__
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
    assert rows[1]["dropouts"] == {"worker-1": "gone"}
    assert [row["reason"] for row in run.log("scheduler") if row["event"] == "declined"] == said
    assert "the masks do not come off" in rows[2]["reason"]
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
