from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fl_core.plan import Plan
from job_generator.local.child import Outcome
from job_generator.local.folder import RunFolder
from job_generator.local.keys import identities
from job_generator.local.live import PlainDisplay
from job_generator.local.picture import Picture
from job_generator.local.session import Run, Session, final_state
from job_generator.local.supervisor import Graces

SERVER = """
import asyncio, grpc
from pathlib import Path
from fl_core.identity import Credentials
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.fl_pb2_grpc import ServerServicer, add_ServerServicer_to_server

ONE = ["worker-0"]
LINE = json.dumps({"round": 1, "cohort": ONE, "reporters": ONE, "metrics": {"accuracy": 0.5}})

class Service(ServerServicer):
    def __init__(self):
        self.finish = asyncio.Event()
    async def Observe(self, request, context):
        yield pb.Observation(standing=pb.Standing(round=2, rounds=4, phase="Training"), closed=[LINE])
        if {waits}:
            {hint}
            await self.finish.wait()
        yield pb.Observation(ending=pb.Ending(complete=True, reason="Stopped" if {waits} else "RoundsDone"))
        self.done.set()
    async def Steer(self, request, context):
        print(f"wish={request.finish.round}", file=sys.stderr, flush=True)
        if not {deaf}:
            self.finish.set()
        return pb.Ack()

async def main():
    service, server = Service(), grpc.aio.server()
    service.done = asyncio.Event()
    keys = Credentials.read(Path({keys!r}))
    add_ServerServicer_to_server(service, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(
        [(keys.key, keys.certificate)], keys.authority, require_client_auth=True))
    await server.start()
    announce(f"127.0.0.1:{port}")
    await service.done.wait()
    await server.stop(1)

asyncio.run(main())
"""


@pytest.fixture
def conducted(
    a_plan: Callable[..., Plan], tmp_path: Path, fake_commands: Any
) -> Callable[..., tuple[Outcome, RunFolder, str]]:
    def conduct(
        *,
        waits: bool = False,
        deaf: bool | str = False,
        hint: str = "pass",
        graces: Graces = Graces(0.1, 1),  # noqa: B008 - frozen
        **bodies: str,
    ) -> Any:
        plan = a_plan(workers=1)
        folder = RunFolder(tmp_path / "run")
        folder.prepare(job="name: digits", plan=plan)
        said = StringIO()

        def commands(_: Run, keys: Path) -> Any:
            text = SERVER.replace("{waits}", str(waits)).replace("{deaf}", str(deaf)).replace("{hint}", hint)
            server = text.replace("{keys!r}", repr(str(keys / "server")))
            return fake_commands(**{"server_body": server, "site": True, **bodies})

        run = Run(folder, plan, program=tmp_path, data=None, restarts=0)
        display = PlainDisplay(Picture(plan), Console(file=said, width=200))
        outcome = asyncio.run(Session(run, display, commands, graces=graces).conduct())
        return outcome, folder, said.getvalue()

    return conduct


def test_whole_run(conducted: Any) -> None:
    """A run shows the rounds that its server closed and ends as the server does."""
    outcome, folder, said = conducted()
    assert outcome.exit_code == 0
    assert "round 1/4  1/1 workers  accuracy 0.5000" in said
    assert (folder.state().state, folder.state().reason) == ("Complete", "RoundsDone")


def test_interrupt_once(conducted: Any) -> None:
    """Ctrl-C once asks the server to finish; the run ends well, and can be resumed."""
    outcome, folder, said = conducted(
        waits=True, hint="[await asyncio.sleep(0.3), os.kill(os.getppid(), signal.SIGINT)]"
    )
    assert outcome.exit_code == 0
    assert "again to stop now" in said
    assert wishes(folder) == [2]  # the round that is open
    assert folder.state().state == "Stopped"


def test_a_server_that_was_not_there_when_it_was_asked_to_finish_is_asked_again(conducted: Any) -> None:
    """The wish to finish outlives the server that did not hear it."""
    once = 'not self.__dict__.setdefault("seen", []) and not self.seen.append(1)'
    interrupt = "await asyncio.sleep(0.3), os.kill(os.getppid(), signal.SIGINT), await asyncio.sleep(0.5)"
    cut = 'await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")'
    heard_late = 'self.__dict__.setdefault("asked", []).append(1) or len(self.asked) < 2'
    outcome, folder, _ = conducted(
        waits=True, deaf=heard_late, hint=f"[{interrupt}, {cut}] if {once} else None"
    )
    assert outcome.exit_code == 0
    assert folder.state().state == "Stopped"


def test_interrupt_twice(conducted: Any) -> None:
    """Ctrl-C twice stops at once, although the server goes on."""
    hint = "[(await asyncio.sleep(0.3), os.kill(os.getppid(), signal.SIGINT)) for _ in range(2)]"
    outcome, folder, _ = conducted(waits=True, deaf=True, hint=hint)
    assert outcome.exit_code == 128 + signal.SIGINT
    assert folder.state().state == "Stopped"


def test_an_interrupt_while_processes_end_stops_at_once(conducted: Any) -> None:
    """The job has finished as asked, and a worker does not end: the second Ctrl-C has its code all the same."""
    waits = "while kill -0 {os.getpid()} 2>/dev/null; do sleep 0.1; done; kill -INT {os.getppid()}"
    later = f"__import__('subprocess').Popen(['sh', '-c', f'{waits}'])"
    first = "await asyncio.sleep(0.3), os.kill(os.getppid(), signal.SIGINT)"
    outcome, folder, _ = conducted(waits=True, hint=f"[{first}, {later}]", graces=Graces(600, 1))
    assert outcome.exit_code == 128 + signal.SIGINT
    assert folder.state().state == "Stopped"


def test_a_run_that_is_suspended_has_not_ended(conducted: Any) -> None:
    """Its folder gives no reason for an end, whatever its server was asked to."""
    hint = "[await asyncio.sleep(0.3), os.kill(os.getppid(), signal.SIGUSR2)]"
    outcome, folder, _ = conducted(waits=True, hint=hint)
    state = folder.state()
    assert (outcome.exit_code, state.state, state.reason, state.message) == (0, "Suspended", "", "")
    assert wishes(folder) == [0]  # no workers are waited for


def wishes(folder: RunFolder) -> list[int]:
    """The rounds with which the server was asked to end."""
    logs = "".join(path.read_text() for path in folder.logs.iterdir() if "server" in path.name)
    return [int(number) for number in re.findall(r"wish=(\d+)", logs)]


def test_failed_start(conducted: Any) -> None:
    """A process that cannot start fails the run, and run.json says why."""
    outcome, folder, _ = conducted(scheduler_body="say('no certificate'); sys.exit(67)")
    assert outcome.exit_code == 67
    assert (folder.state().state, folder.state().message) == ("Failed", "scheduler: no certificate")


def test_keys_are_private_and_short_lived(a_plan: Callable[..., Plan]) -> None:
    """Each run has certificates of its own, readable by this user only, and none is left behind."""
    with identities(a_plan()) as first, identities(a_plan()) as second:
        assert {path.name for path in first.iterdir()} == {
            "server",
            "scheduler",
            "observer",
            "worker-0",
            "worker-1",
        }
        assert (first / "server" / "ca.pem").read_bytes() != (second / "server" / "ca.pem").read_bytes()
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
        assert stat.S_IMODE((first / "server" / "key.pem").stat().st_mode) == 0o600
    assert not first.exists()


def test_final_state() -> None:
    """Only a run that ended by itself is complete; one that nobody failed was stopped."""
    assert final_state(Outcome(0), "RoundsDone") == "Complete"
    assert final_state(Outcome(0), "Stopped") == "Stopped"
    assert final_state(Outcome(130), "") == "Stopped"
    assert final_state(Outcome(74, "server", "disk full"), "") == "Failed"


def test_final_state_of_one_that_was_suspended() -> None:
    """It is suspended whether its round has ended or not; one that was over, or failed, is that."""
    assert final_state(Outcome(0), "Stopped", suspended=True) == "Suspended"
    assert final_state(Outcome(143), "", suspended=True) == "Suspended"
    assert final_state(Outcome(0), "RoundsDone", suspended=True) == "Complete"
    assert final_state(Outcome(74, "server", "disk full"), "", suspended=True) == "Failed"


def test_state_is_json(conducted: Any) -> None:
    """`run.json` can be read by any program."""
    _, folder, _ = conducted()
    assert json.loads((folder.path / "run.json").read_text())["exit_code"] == 0
