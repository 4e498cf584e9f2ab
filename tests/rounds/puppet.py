"""A process of a job with strings on it: `python -m tests.rounds.puppet FOLDER fl_server OPTION...`.

The process is the product's own; only what it calls at known points is wrapped. At each point it looks for a file of
that point's name in FOLDER, which says what to do there, once: `kill` and `stop` send it that signal, `wait` holds it
until the file `<point>.go` is there, `lie` makes a server show what no honest one would. A file `<point>.was` says that
the point was passed.

    worker   train.3                              before it trains in round 3
             update.share.3                       before a step of its session: advertise, share, mask, sign, unmask
             update.upload-1.3                    before frame 1 of its vector leaves, frame 0 being the head
             evaluate.3                           before it measures the model of round 3
    server   update.close.3, update.closed.3      before and after it ends a step: freeze, deal, close, agree, open
             update.dealing.3, update.signing.3   when its journal has noted that
             save.3, saved.3, record.3            before and after a checkpoint; before a round's line is written

Where there is a file `record`, a worker writes down every secret number that it draws, and what it keeps to itself of
its work; a server or scheduler every message that comes and all that it answers, refusals included. A file `patience`
holds the seconds after which a silent member is out; a worker with a file `absent` obeys its orders and is silent then.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

Wrapped = Callable[..., Any]
LEAST_SECRET = 16
FASTER = 1e6


class Strings:
    """What this process is to do at which point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def visit(self, point: str) -> str:
        """Do what is written for this point; gives that word."""
        order = self.folder / point
        if not order.exists():
            return ""
        word = order.read_text()
        order.unlink()
        (self.folder / f"{point}.was").touch()
        match word:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "wait":
                while not (self.folder / f"{point}.go").exists():
                    time.sleep(0.01)
        return word

    def keep(self, row: dict[str, str]) -> None:
        """Write something down."""
        with (self.folder / "recorded.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def before(owner: Any, method: str, visit: Callable[..., object]) -> None:
    """Call `visit` with the method's arguments before each call."""
    plain = getattr(owner, method)

    @functools.wraps(plain)
    def wrapped(*args: Any, **options: Any) -> Any:
        visit(*args, **options)
        return plain(*args, **options)

    setattr(owner, method, wrapped)


def after(owner: Any, method: str, visit: Callable[..., Any]) -> None:
    """Call `visit` with the result and the first argument after each call; what it gives is the result."""
    plain = getattr(owner, method)

    @functools.wraps(plain)
    def wrapped(*args: Any, **options: Any) -> Any:
        return visit(plain(*args, **options), *args[:1])

    setattr(owner, method, wrapped)


def noting(journal: Any, method: str, visit: Callable[[dict[str, Any]], object]) -> None:
    """Call `visit` with what a journal has noted."""
    plain = getattr(journal, method)

    @functools.wraps(plain)
    def note(self: Any, round: int, attempt: int, purpose: str, **more: Any) -> None:
        plain(self, round, attempt, purpose, **more)
        visit({"round": round, "purpose": purpose})

    setattr(journal, method, note)


def unless_absent(strings: Strings, hand_in: Wrapped) -> Wrapped:
    """What a worker hands in, unless it is to be absent."""

    async def wrapped(*args: Any, **options: Any) -> None:
        if (strings.folder / "absent").exists():
            await asyncio.Event().wait()
        await hand_in(*args, **options)

    return wrapped


def noted(strings: Strings, urandom: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The operating system's generator, with all that it gives written down but what is too short for a secret."""

    def drawn(size: int) -> bytes:
        secret = urandom(size)
        if size >= LEAST_SECRET:
            strings.keep({"secret": base64.b64encode(secret).decode()})
        return secret

    return drawn


def on_worker(strings: Strings) -> None:
    """The points of a worker."""
    from fl_core.secagg.worker import Member  # noqa: PLC0415 - not in the others
    from fl_worker import exchange  # noqa: PLC0415 - not in the others
    from fl_worker.protection import Protection  # noqa: PLC0415 - not in the others
    from fl_worker.train import Hand  # noqa: PLC0415 - not in the others

    purposes = ["update"]

    def stepping(step: str) -> Callable[..., None]:
        def visit(member: Any, *_: Any, **__: Any) -> None:
            purposes[0] = member.context.purpose
            strings.visit(f"{member.context.purpose}.{step}.{member.context.round}")

        return visit

    for step in ("advertise", "share", "mask", "sign", "unmask"):
        before(Member, step, stepping(step))
    before(Hand, "do", lambda _, work: strings.visit(f"{work.kind}.{work.round}"))
    Protection.hand_in = unless_absent(strings, Protection.hand_in)  # type: ignore[method-assign]
    plain = exchange.frames

    def frames(head: Any, buffer: Any, *, start: int) -> Iterator[bytes]:
        for number, frame in enumerate(plain(head, buffer, start=start)):
            strings.visit(f"{purposes[0]}.upload-{number}.{head.context.round}")
            yield frame

    exchange.frames = frames
    if (strings.folder / "record").exists():
        os.urandom = noted(strings, os.urandom)
        note_derived(strings)
        note_alone(strings)


def note_derived(strings: Strings) -> None:
    """Write down what a worker agrees on with another one, and every key that it derives."""
    from fl_core.secagg import keys  # noqa: PLC0415 - not in the others

    def noted_key(key: bytes, *_: Any) -> bytes:
        strings.keep({"derived": base64.b64encode(key).decode()})
        return key

    after(keys.KeyPair, "agree", noted_key)
    after(keys, "derive", noted_key)


def note_alone(strings: Strings) -> None:
    """Write down what a worker must keep to itself of its work, by a clock so fast that durations have many digits."""
    from fl_worker import train  # noqa: PLC0415 - not in the others

    def noted_alone(_: Any, **numbers: float) -> None:
        for name, number in numbers.items():
            strings.keep({"alone": name, "number": repr(number)})

    before(train.Hand, "_open", noted_alone)
    fast = SimpleNamespace(monotonic=lambda: time.monotonic() * FASTER)
    train.time = fast  # type: ignore[attr-defined]


def on_server(strings: Strings) -> None:
    """The points of a server."""
    from fl_core.secagg.server import Host  # noqa: PLC0415 - not in the others
    from fl_server.checkpoints import Checkpoints  # noqa: PLC0415 - not in the others
    from fl_server.journal import Journal  # noqa: PLC0415 - not in the others
    from fl_server.protection import Protection  # noqa: PLC0415 - not in the others
    from fl_server.storage import Storage  # noqa: PLC0415 - not in the others

    def stepping(step: str) -> Callable[..., str]:
        return lambda host, *_: strings.visit(f"{host.context.purpose}.{step}.{host.context.round}")

    def stepped(step: str) -> Callable[..., Any]:
        def visit(result: Any, host: Any) -> Any:
            word = strings.visit(f"{host.context.purpose}.{step}.{host.context.round}")
            return LIES[step](result) if word == "lie" else result

        return visit

    for step, past in STEPS.items():
        before(Host, step, stepping(step))
        after(Host, step, stepped(past))
    for point in ("dealing", "signing"):
        noting(
            Journal, point, lambda row, point=point: strings.visit(f"{row['purpose']}.{point}.{row['round']}")
        )
    before(Checkpoints, "save", lambda _, saved: strings.visit(f"save.{saved.facts['round']}"))
    plain_save = Checkpoints.save

    def save(checkpoints: Any, saved: Any) -> str:
        seal = plain_save(checkpoints, saved)
        strings.visit(f"saved.{saved.facts['round']}")
        return seal

    Checkpoints.save = save  # type: ignore[method-assign]
    before(Storage, "record", lambda _, row, **__: strings.visit(f"record.{row['round']}"))
    if (strings.folder / "patience").exists():
        seconds = float((strings.folder / "patience").read_text())
        Protection._ask.__kwdefaults__["stall"] = seconds  # type: ignore[index]


def on_scheduler(strings: Strings) -> None:
    """How long a scheduler waits for one whose connection is gone."""
    from fl_core import roster  # noqa: PLC0415 - not in the others

    if (strings.folder / "return").exists():
        roster.RETURN_SECONDS = float((strings.folder / "return").read_text())  # type: ignore[misc]


STEPS = {"freeze": "frozen", "deal": "dealt", "close": "closed", "agree": "agreed", "open": "opened"}


def forged(rosters: dict[int, Any]) -> dict[int, Any]:
    """Worker 1 is shown a roster in which worker 0 has another key for its shares: the server's own."""
    from fl_core.secagg.keys import KeyPair  # noqa: PLC0415 - not in the others

    own = KeyPair.of(bytes(range(1, 33))).public
    shown = rosters[1]
    entries = tuple(replace(one, seal_key=own) if one.worker == 0 else one for one in shown.entries)
    return {**rosters, 1: replace(shown, entries=entries)}


def halved(dealt: dict[int, Any]) -> dict[int, Any]:
    """Worker 1 is dealt no share of worker 0: it would mask its vector among others than the rest do."""
    return {**dealt, 1: {other: share for other, share in dealt[1].items() if other != 0}}


LIES: dict[str, Callable[[Any], Any]] = {"frozen": forged, "dealt": halved}


def listen(strings: Strings) -> None:
    """Write down every message that comes to this process, before anything reads it, and all that it answers."""
    from fl_core.wire import guard  # noqa: PLC0415 - not in the workers

    def refusing(_: Any, error: Exception) -> None:
        strings.keep(
            {"refused": type(error).__name__, "message": base64.b64encode(str(error).encode()).decode()}
        )

    before(guard, "refuse", refusing)
    for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        name = f"{kind}_rpc_method_handler"
        setattr(grpc, name, _listening(getattr(grpc, name), strings))


def _listening(make: Wrapped, strings: Strings) -> Wrapped:
    def made(behaviour: Any, request_deserializer: Any = None, response_serializer: Any = None) -> Any:
        if hasattr(behaviour, "__wrapped__"):  # an interceptor's: what it reads with writes down already
            return make(behaviour, request_deserializer, response_serializer)

        def read(message: bytes) -> Any:
            strings.keep({"method": behaviour.__name__, "message": base64.b64encode(message).decode()})
            return request_deserializer(message)

        def write(message: Any) -> bytes:
            sent = bytes(response_serializer(message))
            strings.keep({"answered": behaviour.__name__, "message": base64.b64encode(sent).decode()})
            return sent

        return make(behaviour, read, write)

    return made


def main() -> None:
    """Hang the strings on, then be the process."""
    strings, module = Strings(Path(sys.argv[1])), sys.argv[2]
    if module == "fl_worker":
        on_worker(strings)
    elif (strings.folder / "record").exists():
        listen(strings)
    if module == "fl_server":
        on_server(strings)
    if module == "fl_scheduler":
        on_scheduler(strings)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
