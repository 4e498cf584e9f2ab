"""A running job that is spoken to by those who should not, or wrongly by those who may."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import numpy as np
import pytest

from fl_core.identity import Authority, Identity
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.channels import OPTIONS
from fl_core.wire.guard import context_of

pytestmark = pytest.mark.rounds

METHODS = {
    "server": ("Pull", "Push", "Held", "Recall", "Measure", "Observe", "Steer"),
    "scheduler": ("Attend", "Convene", "Dismiss"),
}
UPDATE = np.full(5, 1e6, "f4")
MANIFEST = Manifest.of({"w": UPDATE})
ZEROS = "0" * 64


@contextmanager
def channel(address: str, folder: Path | None, *, peer: str) -> Iterator[grpc.Channel]:
    """A channel with the certificate in `folder`; without one, in plain text."""
    if folder is None:
        opened = grpc.insecure_channel(address)
    else:
        read = [(folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem")]
        options = (*OPTIONS, ("grpc.ssl_target_name_override", Identity("job-1", peer).host))
        opened = grpc.secure_channel(address, grpc.ssl_channel_credentials(*read), options=options)
    with opened:
        yield opened


def status(opened: grpc.Channel, service: str, method: str, *messages: bytes) -> grpc.StatusCode:
    """Send these bytes to a method, whatever its kind, and give the status that the call ends with."""
    path = f"/fljob.v1.{service.title()}/{method}"

    call = opened.stream_stream(path)(iter(messages), timeout=5)
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def update(run: Any, *, model: str, **changes: Any) -> pb.Transfer:
    """The head of a worker's update for the open round."""
    place = {"round": changes.pop("round", 1), "attempt": changes.pop("attempt", 1)}
    context = context_of(run.plan, **place)
    for name in ("job", "plan"):
        if name in changes:
            setattr(context, name, changes.pop(name))
    head = {
        "kind": pb.KIND_UPDATE,
        "manifest": MANIFEST.to_json(),
        "nbytes": 20,
        "examples": 1,
        "metrics": "{}",
    }
    return pb.Transfer(context=context, model=model, **{**head, **changes})


def chunk(data: bytes = UPDATE.tobytes(), **changes: Any) -> pb.Chunk:
    return pb.Chunk(**{"offset": 0, "crc32c": google_crc32c.value(data), "data": data, **changes})


def wrong_pushes(run: Any, model: str) -> dict[str, list[bytes]]:
    """Updates that are wrong in one way each, as frames on the wire."""
    head = update(run, model=model)
    other = Manifest.of({"w": np.zeros(6, "f4")})
    wide = Manifest.of({"w": np.zeros(5, "f8")})
    nan = np.array([1, 2, np.nan, 4, 5], "f4").tobytes()
    frames = {
        "another round": (update(run, model=model, round=2), chunk()),
        "another attempt": (update(run, model=model, attempt=2), chunk()),
        "another job": (update(run, model=model, job="job-2"), chunk()),
        "another plan": (update(run, model=model, plan=ZEROS), chunk()),
        "another model": (update(run, model=ZEROS), chunk()),
        "initial weights": (update(run, model=model, kind=pb.KIND_INITIAL), chunk()),
        "another shape": (update(run, model=model, manifest=other.to_json(), nbytes=24), chunk(bytes(24))),
        "another dtype": (update(run, model=model, manifest=wide.to_json(), nbytes=40), chunk(bytes(40))),
        "no manifest": (update(run, model=model, manifest="{"), chunk()),
        "more bytes announced": (update(run, model=model, nbytes=1 << 40), chunk()),
        "no examples": (update(run, model=model, examples=0), chunk()),
        "metrics that are none": (update(run, model=model, metrics="[1]"), chunk()),
        "another checksum": (head, chunk(crc32c=1)),
        "a gap": (head, chunk(offset=4)),
        "a short chunk": (head, chunk(bytes(8))),
        "a long chunk": (head, chunk(bytes(28))),
        "NaN": (head, chunk(nan)),
        "no chunk": (head,),
        "two heads": (head, head),
        "chunk first": (chunk(), head),
        "too large a message": (head, chunk(bytes(5 << 20))),
    }
    wire = {name: [frame(part) for part in parts] for name, parts in frames.items()}
    wire["truncated"] = [wire["NaN"][0], frame(chunk())[:-3]]
    wire["unknown field"] = [frame(head, unknown=b"\xfa\x3f\x01x"), frame(chunk())]
    return wire


def frame(part: pb.Transfer | pb.Chunk, *, unknown: bytes = b"") -> bytes:
    if isinstance(part, pb.Chunk):
        return pb.Frame(chunk=part).SerializeToString()
    whole = pb.Transfer.FromString(part.SerializeToString() + unknown)
    return pb.Frame(transfer=whole).SerializeToString()


def mutated(message: bytes, dice: random.Random) -> bytes:
    """The message with some bytes changed, cut off or put in."""
    body = bytearray(message)
    for _ in range(dice.randint(1, 8)):
        place = dice.randrange(len(body) + 1)
        body[place : place + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
    return bytes(body[: dice.randint(0, len(body))]) if dice.random() < 0.3 else bytes(body)


@pytest.fixture
def held(job: Callable[..., Any]) -> tuple[Any, str]:
    """A job whose three workers train round 1, and the digest of the model that they got."""
    run = job(gate=1)
    run.begin()
    run.wait_held()
    return run, run.initial_model()


def test_what_is_refused_changes_nothing(job: Callable[..., Any], held: tuple[Any, str]) -> None:
    """Wrong updates, strangers, wrong roles and a seeded fuzz end with a status each; the model stays the same."""
    run, model = held
    address = {name: run.announced[name]["address"] for name in METHODS}
    with channel(address["server"], run.folder / "worker-1", peer="server") as member:
        for name, frames in wrong_pushes(run, model).items():
            assert status(member, "server", "Push", *frames) != grpc.StatusCode.OK, name
    strangers(run, address)
    fuzz(run, address, model)
    run.release()
    assert run.code("server") == 0
    assert [row["model"] for row in run.rounds()] == [row["model"] for row in job().finish()]
    assert all(row["dropouts"] == {} for row in run.rounds())


def strangers(run: Any, address: dict[str, str]) -> None:
    """Nobody without a certificate of this job and role gets an answer."""
    another = run.folder / "another-job"
    Authority("job-2").issue(Identity("job-2", "worker", 1)).write(another)
    observe = pb.ObserveRequest(context=context_of(run.plan)).SerializeToString()
    for peer, methods in METHODS.items():
        for folder in (None, another):
            with channel(address[peer], folder, peer=peer) as opened:
                for method in methods:
                    assert status(opened, peer, method, observe) == grpc.StatusCode.UNAVAILABLE, (
                        peer,
                        method,
                    )
    with channel(address["server"], run.folder / "worker-1", peer="server") as worker:
        assert status(worker, "server", "Observe", observe) == grpc.StatusCode.PERMISSION_DENIED
        assert status(worker, "server", "Steer", observe) == grpc.StatusCode.PERMISSION_DENIED
    with channel(address["scheduler"], run.folder / "worker-1", peer="scheduler") as worker:
        assert status(worker, "scheduler", "Convene", observe) == grpc.StatusCode.PERMISSION_DENIED
        assert status(worker, "scheduler", "Dismiss", observe) == grpc.StatusCode.PERMISSION_DENIED
    with channel(address["server"], run.identity("observer"), peer="server") as observer:
        assert status(observer, "server", "Push", frame(update(run, model=ZEROS))) != grpc.StatusCode.OK


def fuzz(run: Any, address: dict[str, str], model: str) -> None:
    """A worker of the cohort sends mutations of good messages to every method; none is taken."""
    dice = random.Random(7)
    head = update(run, model=model)
    pull = pb.PullRequest(context=head.context, model=ZEROS)
    measure = pb.MeasureRequest(context=head.context, model=model, metrics="{}")
    good = [frame(head), frame(chunk()), *(part.SerializeToString() for part in (pull, measure))]
    folder = run.folder / "worker-1"
    for peer, methods in METHODS.items():
        with channel(address[peer], folder, peer=peer) as opened:
            for _ in range(150):
                method = dice.choice([name for name in methods if name != "Attend"])
                messages = [mutated(dice.choice(good), dice) for _ in range(dice.randint(1, 3))]
                assert status(opened, peer, method, *messages) != grpc.StatusCode.OK, (method, messages)
