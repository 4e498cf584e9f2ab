"""What of a watched job anybody but a worker can see, and whether a secret or a number of one worker is in it."""

from __future__ import annotations

import base64
import re
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import Any

import grpc

from fl_core.secagg import keys
from fl_core.secagg.summands import FRACTION_BITS
from fl_core.wire import fl_pb2 as pb
from tests.rounds.conftest import UID
from tests.rounds.secure import Clear, SecureRun, numbers
from tests.rounds.test_hostile import channel

EVERYBODY = tuple(range(4))
PROCESSES = ("server", "scheduler", *(f"worker-{index}" for index in EVERYBODY))

SECRETS_IN_A_SESSION = 3
"""Two private keys and a seed; the coefficients of the polynomials come beside them."""

DERIVED_IN_A_SESSION = 4 * 3 + 1
"""Two secrets with each of three others, the keys of a mask and of a seal from them, and one's own mask's: at least."""

Hay = dict[str, bytes]


def record(run: SecureRun) -> None:
    """Have every process of a job that is about to begin write down what passes it."""
    for name in PROCESSES:
        run.at(name, "record", "")


@contextmanager
def observed(run: SecureRun) -> Iterator[None]:
    """Watch the job, as `fl-submit watch` does, until its server goes."""
    asked = pb.ObserveRequest(context=pb.Context(job=UID, plan=run.plan.digest)).SerializeToString()
    with channel(run.announced["server"]["address"], run.identity("observer"), peer="server") as opened:
        told = opened.unary_stream("/fljob.v1.Server/Observe")(asked)
        next(told)
        thread = threading.Thread(target=_to_the_end, args=(told,))
        thread.start()
        yield
        thread.join()


def _to_the_end(told: Iterable[bytes]) -> None:
    with suppress(grpc.RpcError):
        for _ in told:
            pass


def traffic(run: SecureRun) -> Hay:
    """All messages that came to the server and to the scheduler, and all that they sent."""
    return {
        f"message {number} of {name}": base64.b64decode(row["message"])
        for name in PROCESSES[:2]
        for number, row in enumerate(run.recorded(name))
    }


def files(run: SecureRun) -> Hay:
    """What any process has left in the run's folder: storage, logs, the workers' own notes."""
    return {str(path): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def everything(run: SecureRun, pages: Mapping[str, str]) -> Hay:
    """What is in the run's folder, in the messages and on the metric pages, whoever wrote it."""
    return files(run) | {f"page of {name}": page.encode() for name, page in pages.items()} | traffic(run)


def secrets(run: SecureRun, index: int) -> list[bytes]:
    """What a worker has drawn from the operating system's generator, over all its lives."""
    rows = run.recorded(f"worker-{index}")
    return [base64.b64decode(row["secret"]) for row in rows if "secret" in row]


def derived(run: SecureRun, index: int) -> list[bytes]:
    """What a worker has agreed on with others, and the keys of masks and seals that it has derived."""
    rows = run.recorded(f"worker-{index}")
    return [base64.b64decode(row["derived"]) for row in rows if "derived" in row]


def private(drawn: Iterable[bytes], seen: Hay) -> list[bytes]:
    """Those that are a private key or a seed of a session: whose public halves were seen."""
    short = [one for one in drawn if len(one) == keys.KEY_BYTES]
    return [one for one in short if found([keys.commit(one), keys.KeyPair.of(one).public], seen)]


def durations(run: SecureRun, index: int) -> list[float]:
    """How long a worker's trainings took by its own clock, and their sums from the first one on."""
    rows = run.recorded(f"worker-{index}")
    each = [float(row["number"]) for row in rows if row.get("alone") == "seconds"]
    return [*each, *list(accumulate(each))[1:]]


def kept(run: SecureRun) -> list[dict[str, Any]]:
    """The rounds that the record holds in the end: of one that was made again, the last."""
    return list({row["round"]: row for row in run.rounds() if "cohort" in row}.values())


def singles(run: SecureRun) -> list[float]:
    """Examples, losses, their sums and durations of each worker alone, in all rounds that the record holds."""
    clear, single = Clear(run), [second for index in EVERYBODY for second in durations(run, index)]
    for row in kept(run):
        for index, finished in clear.trained(EVERYBODY, clear.round + 1).items():
            measured = clear.learners[index].evaluate(clear.weights, moved=lambda: None)
            single += [finished.examples, finished.metrics["fit"].value, *finished.metrics["fit"].vector]
            if clear.round:
                single += [measured.metrics["loss"].value, measured.metrics["loss"].vector[0]]
        clear.step(numbers(row["reporters"]))
    return single


def advertised(run: SecureRun) -> list[pb.Advertisement]:
    """All advertisements that came to the server, with a worker's first message or later."""
    said = [pb.MemberMessage.FromString(one) for one in run.messages("server", "Protect")]
    return [way.advertisement for one in said for way in (one, one.ready) if way.HasField("advertisement")]


def found(needles: Iterable[bytes], hay: Hay) -> list[str]:
    """Where any of these bytes are, as they are, in hexadecimal or in base64."""
    forms = [
        form for one in needles for form in (one, one.hex().encode(), base64.b64encode(one).rstrip(b"="))
    ]
    return [place for place, content in hay.items() if any(form in content for form in forms)]


def found_number(number: float, hay: Hay) -> list[str]:
    """Where a number is: as text, as protobuf writes it, as 32 and 64 bits, as a float, as a multiple of 2^-20."""
    fixed = round(number * 2**FRACTION_BITS) % 2**64
    forms = [
        repr(number)[:10].encode(),
        struct.pack("<d", number),
        struct.pack("<Q", fixed),
    ]
    if number == int(number):
        forms += [struct.pack("<Q", int(number)), struct.pack("<I", int(number)), varint(int(number))]
    written = re.compile(
        rb"(?<![0-9.])%d(?![0-9])" % fixed
    )  # as microseconds of a time it would be found by chance
    return [
        place
        for place, content in hay.items()
        if any(form in content for form in forms) or written.search(content)
    ]


def varint(number: int) -> bytes:
    """As protobuf writes a whole number."""
    return pb.Transfer(examples=number).SerializeToString()[1:]
