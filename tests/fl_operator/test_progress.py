"""Servers of jobs are heard as soon as they speak, and cost next to nothing while they do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from fl_core.errors import UnavailableError
from fl_core.identity import Authority, Identity
from fl_core.plan import Job
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.channels import MOST_CLOSED, open_port
from fl_core.wire.fl_pb2_grpc import ServerServicer, add_ServerServicer_to_server
from fl_operator import progress
from fl_operator.cluster.resources import Key
from fl_operator.findings import Listener
from fl_operator.progress import Progress

KEY = Key("lab", "toy")
UID = "job-1"
SOON = 2.0
"""Seconds within which a server that has become ready is heard."""
NEVER = 1e6
SILENT_KIB = 16
"""The most that a silent stream may hold."""


class Server(ServerServicer):
    """Says one standing, and nothing more until its stream is broken."""

    def __init__(self, round: int) -> None:
        self.round = round
        self.closed: list[str] = []
        self.broken = asyncio.Event()
        self.left = asyncio.Event()

    async def Observe(self, request: Any, context: Any) -> AsyncIterator[pb.Observation]:  # noqa: ARG002, N802
        self.broken.clear()
        yield pb.Observation(standing=pb.Standing(round=self.round, rounds=9), closed=self.closed)
        try:
            await self.broken.wait()
        finally:
            self.left.set()

    async def Steer(self, request: Any, context: Any) -> pb.Ack:  # noqa: ARG002, N802
        await self.broken.wait()
        return pb.Ack()


class OneMore(Server):
    """Tells of a round that closes while it is heard; what it begins with, it says in pieces."""

    def __init__(self, round: int) -> None:
        super().__init__(round)
        self.closes = asyncio.Event()

    async def Observe(self, request: Any, context: Any) -> AsyncIterator[pb.Observation]:  # noqa: N802
        async for observation in super().Observe(request, context):
            lines = list(observation.closed)
            for start in range(0, max(len(lines), 1), MOST_CLOSED):
                closed, more = lines[start : start + MOST_CLOSED], start + MOST_CLOSED < len(lines)
                yield pb.Observation(standing=observation.standing, closed=closed, more=more)
            await self.closes.wait()
            now = pb.Standing(round=self.round + 1, rounds=9)
            yield pb.Observation(standing=now, closed=[json.dumps({"round": self.round, "line": self.round})])


@dataclass
class Stage:
    """A job's server, which comes and goes, and the operator's view of it."""

    folder: Path
    plan: Any
    port: int = 0
    authority: Authority = field(default_factory=lambda: Authority("tests"))

    def __post_init__(self) -> None:
        self.progress = Progress(self.authority, lambda _: None)
        self.authority.issue(Identity(UID, "server")).write(self.folder)

    @asynccontextmanager
    async def serving(self, *, round: int = 0, service: Server | None = None) -> AsyncIterator[Server]:
        """A server at the same port each time."""
        server, service = grpc.aio.server(), service or Server(round)
        add_ServerServicer_to_server(service, server)
        address = await open_port(server, f"127.0.0.1:{self.port}", self.folder)
        self.port = int(address.rpartition(":")[2])
        await server.start()
        try:
            yield service
        finally:
            await server.stop(None)

    def follow(self, *, since: str, told: int = 0) -> None:
        """As the reconciler does when a pod is ready."""
        self.progress.follow(KEY, self.plan, Listener("127.0.0.1", self.port, since), told=told)

    async def hears(self, round: int) -> None:
        """Wait until the server has told this round."""
        async with asyncio.timeout(SOON):
            while (report := self.progress.report(UID)) is None or report.standing.round != round:
                await asyncio.sleep(0.01)


def play(scene: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scene

    asyncio.run(limited())


@pytest.fixture
def stage(tmp_path: Path, plan_of: Callable[..., Any]) -> Stage:
    return Stage(tmp_path, plan_of())


def test_a_server_that_began_again_is_heard_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the pause had grown: its pod says that another process listens there."""
    monkeypatch.setattr(progress, "FIRST_PAUSE", NEVER)
    monkeypatch.setattr(progress, "LONGEST_PAUSE", NEVER)

    async def scene() -> None:
        async with stage.serving(round=1):
            stage.follow(since="12:00:00")
            await stage.hears(1)
        await asyncio.sleep(0.1)
        async with stage.serving(round=2):
            stage.follow(since="12:00:00")
            with pytest.raises(TimeoutError):
                await stage.hears(2)
            stage.follow(since="12:00:07")
            await stage.hears(2)
            await stage.progress.forget(UID)

    play(scene())


def test_it_is_known_since_when_a_server_is_silent(stage: Stage) -> None:
    """From the first try until it speaks, and again when it goes or another comes; of its words somebody is told."""
    told: list[Key] = []
    stage.progress.changed = told.append

    async def until(silent: bool) -> None:  # noqa: FBT001
        while (stage.progress.silent_since(UID) is not None) != silent:
            await asyncio.sleep(0.01)

    async def scene() -> None:
        assert stage.progress.silent_since(UID) is None
        async with stage.serving(round=1):
            stage.follow(since="12:00:00")
            began = stage.progress.silent_since(UID)
            assert began is not None
            await until(silent=False)
            assert len(told) == 1
        await until(silent=True)
        assert len(told) == 2
        again = stage.progress.silent_since(UID)
        assert again is not None
        assert again > began
        stage.follow(since="12:00:00")
        assert stage.progress.silent_since(UID) == again
        stage.follow(since="12:00:07")
        another = stage.progress.silent_since(UID)
        assert another is not None
        assert another > again
        await stage.progress.forget(UID)

    play(scene())


def test_a_stream_that_broke_is_taken_up_again(stage: Stage) -> None:
    """The same process is asked again after a moment, without any word of its pod."""

    async def scene() -> None:
        async with stage.serving(round=1) as server:
            stage.follow(since="12:00:00")
            await stage.hears(1)
            server.round = 2
            server.broken.set()
            await stage.hears(2)
            await stage.progress.forget(UID)

    play(scene())


def test_an_open_port_without_an_answer_is_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes connections and says nothing is given up, and tried again."""
    monkeypatch.setattr(progress, "ANSWER_SECONDS", 0.1)
    met: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(1))
        await reader.read()
        writer.close()

    async def scene() -> None:
        mute = await asyncio.start_server(listen, "127.0.0.1", 0)
        stage.port = mute.sockets[0].getsockname()[1]
        stage.follow(since="12:00:00")
        while met.count(b"\x16") < 2:  # a TLS handshake begins so
            await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError, match="does not answer"):
            await stage.progress.finish(UID, last=1)
        await stage.progress.forget(UID)
        mute.close()

    play(scene())


def test_the_losses_of_each_round_are_told_once(stage: Stage) -> None:
    """Not again when the server begins again with all its rounds, nor those that an earlier operator told."""

    def lost(*rounds: int) -> list[str]:
        return [json.dumps({"round": n, "dropouts": {f"worker-{n}": "gone"}}) for n in rounds]

    async def scene() -> None:
        async with stage.serving(round=3) as server:
            server.closed = lost(1, 2)
            stage.follow(since="12:00:00", told=1)
            await stage.hears(3)
            assert [note.note.partition(":")[0] for note in stage.progress.notes(UID)] == ["worker-2"]
            server.round, server.closed = 4, lost(1, 2, 3)
            server.broken.set()
            await stage.hears(4)
            assert [note.note.partition(":")[0] for note in stage.progress.notes(UID)] == ["worker-3"]
            assert not stage.progress.notes(UID)
            await stage.progress.forget(UID)

    play(scene())


@pytest.mark.parametrize("before", [2, MOST_CLOSED, MOST_CLOSED + 30])
def test_only_a_round_that_closes_while_it_is_heard_has_a_time(stage: Stage, before: int) -> None:
    """What a server begins with may have closed long ago, in however many pieces it is said; for a suspension in its
    grace the open round counts.
    """

    def closed() -> tuple[int, bool]:
        report = stage.progress.report(UID)
        assert report is not None
        assert report.closed is not None
        return report.closed.round, report.closed_at is not None

    async def scene() -> None:
        server = OneMore(before + 1)
        async with stage.serving(service=server):
            server.closed = [json.dumps({"round": n, "line": n}) for n in range(1, before + 1)]
            stage.follow(since="12:00:00")
            await stage.hears(before + 1)
            while closed()[0] < before:
                await asyncio.sleep(0.01)
            assert closed() == (before, False)
            server.closes.set()
            await stage.hears(before + 2)
            assert closed() == (before + 1, True)
            await stage.progress.forget(UID)

    play(scene())


def test_rounds_that_are_made_again_are_told_again(stage: Stage) -> None:
    """After a server went back, which is told, the later losses are new; each is told once all the same."""

    def lines(*rounds: tuple[int, int]) -> list[str]:
        rows = [{"round": n, "line": line, "dropouts": {f"worker-{n}": "gone"}} for n, line in rounds]
        return list(map(json.dumps, rows))

    back = json.dumps({"round": 1, "line": 4, "result": "Restored"})

    async def scene() -> None:
        async with stage.serving(round=4) as server:
            server.closed = lines((1, 1), (2, 2), (3, 3))
            stage.follow(since="12:00:00")
            await stage.hears(4)
            assert len(stage.progress.notes(UID)) == 3
            went: list[list[str]] = []
            for position, again in ((3, [(2, 5)]), (5, [(2, 5), (3, 6)])):
                server.round, server.closed = position, [back, *lines(*again)]
                server.broken.set()
                await stage.hears(position)
                told = [note.note.partition(":")[0] for note in stage.progress.notes(UID)]
                assert told.pop() == f"worker-{again[-1][0]}"
                went.append([one.partition(";")[0] for one in told])
                report = stage.progress.report(UID)
                assert report is not None
                assert report.closed is not None
                assert report.closed.round == again[-1][0]
            assert went == [["The server lost a newer model and went back to that of round 1"], []]
            await stage.progress.forget(UID)

    play(scene())


def test_a_long_record_in_which_a_server_went_back_says_nothing_new(stage: Stage) -> None:
    """An operator that comes later is told the older rounds in pieces, of which the last may hold the going back."""
    server = OneMore(32)
    server.closed = [json.dumps({"round": n, "line": n}) for n in range(1, MOST_CLOSED + 31)]
    server.closed.append(json.dumps({"round": 30, "line": MOST_CLOSED + 31, "result": "Restored"}))
    server.closed.append(json.dumps({"round": 31, "line": MOST_CLOSED + 32}))

    async def scene() -> None:
        async with stage.serving(service=server):
            stage.follow(since="12:00:00")
            async with asyncio.timeout(SOON):
                while (
                    (report := stage.progress.report(UID)) is None
                    or not report.closed
                    or report.closed.round != 31
                ):
                    await asyncio.sleep(0.01)
            assert stage.progress.notes(UID) == []
            await stage.progress.forget(UID)

    play(scene())


def test_a_server_that_went_back_stands_where_it_went(stage: Stage) -> None:
    """The last round is the one whose model it has, and nothing is told of what happened before it was heard."""
    first = [json.dumps({"round": n, "line": n, "metrics": {"loss": 1 / n}}) for n in (1, 2, 3)]
    back = [json.dumps({"round": n, "line": 4 + (n == 0), "result": "Restored"}) for n in (1, 0)]

    async def scene() -> None:
        async with stage.serving(round=2) as server:
            server.closed = [*first, back[0]]
            stage.follow(since="12:00:00")
            await stage.hears(2)
            report = stage.progress.report(UID)
            assert report is not None
            assert stage.progress.notes(UID) == []
            assert report.training(9).items() >= {"round": 1, "metrics": {"loss": 1.0}}.items()
            server.round, server.closed = 1, [*first, *back]
            server.broken.set()
            await stage.hears(1)
            report = stage.progress.report(UID)
            assert report is not None
            assert report.training(9) == {"round": 0, "rounds": 9}
            await stage.progress.forget(UID)

    play(scene())


def test_who_is_forgotten_is_left(stage: Stage) -> None:
    """Its server hears at once that nobody listens any more."""

    async def scene() -> None:
        async with stage.serving(round=1) as server:
            stage.follow(since="12:00:00")
            await stage.hears(1)
            await stage.progress.forget(UID)
            async with asyncio.timeout(SOON):
                await server.left.wait()

    play(scene())


def test_who_was_asked_to_finish_may_still_agree(stage: Stage) -> None:
    """Its answer is heard, though another server is listened to by then."""

    async def scene() -> None:
        async with stage.serving(round=1) as server:
            stage.follow(since="12:00:00")
            await stage.hears(1)
            asking = asyncio.create_task(stage.progress.finish(UID, last=1))
            await asyncio.sleep(0.1)
            stage.follow(since="12:00:07")
            await server.left.wait()
            server.broken.set()
            await asking
            await stage.progress.forget(UID)

    play(scene())


def test_silent_servers_are_nearly_free(
    stage: Stage, plan_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a thousand of them, tried again and again, take few KiB each, and the end of them no time."""
    monkeypatch.setattr(progress, "LONGEST_PAUSE", 1.0)
    plans = [plan_of(job=Job(name="toy", namespace="lab", uid=f"job-{number}")) for number in range(500)]

    async def scene() -> None:
        following = asyncio.create_task(stage.progress.run())
        await asyncio.sleep(0)
        before = resident_kib()
        for plan in plans:
            stage.progress.follow(KEY, plan, Listener("127.0.0.1", 1, ""))
        await asyncio.sleep(3)
        assert (resident_kib() - before) / len(plans) < SILENT_KIB
        following.cancel()
        async with asyncio.timeout(SOON):
            await asyncio.wait({following})
        assert len(asyncio.all_tasks()) == 1

    play(scene())


def resident_kib() -> int:
    """Memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
