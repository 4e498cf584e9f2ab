from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import ProgramError, ShortfallError, SpecError
from job_generator.local.child import DiedError, Outcome
from job_generator.local.disturbance import Peace
from job_generator.local.supervisor import LONGEST_DELAY, Graces, process_environment, restart_delay

WHEN_FED = "announce(); open({fifo!r}).read()"
WHEN_ALL_ARE_THERE = "announce(); signal.sigtimedwait([10], 0.5)"


def outcome_of(stage: Any, **arguments: Any) -> Outcome:
    async def run() -> Outcome:
        try:
            async with stage.supervisor(**arguments) as supervisor:
                await supervisor.start()
                return await supervisor.ended()
        except DiedError as error:
            return error.outcome

    return asyncio.run(run())


def a_fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return str(folder / "fifo")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_order(stage: Any, tmp_path: Path) -> None:
    """The scheduler starts first, then the server, then the workers, each with the addresses it needs."""
    fifo = a_fifo(tmp_path)
    worker = f"announce(); open({fifo!r}, 'w').write('{{server}}{{scheduler}}')"
    server = f"announce('s:2'); sys.exit(open({fifo!r}).read() != 's:2s:1' or '{{scheduler}}' != 's:1')"
    outcome = outcome_of(
        stage,
        scheduler_body="announce('s:1'); forever()",
        server_body=server,
        worker_body=worker,
    )
    assert outcome.exit_code == 0
    assert stage.started == ["scheduler", "server", "worker-0"]


def killed_at_first(fifo: str, mark: str) -> str:
    """A worker that is killed when it starts, and does its work when it starts again."""
    return f"""
announce()
if not os.path.exists({mark!r}):
    open({mark!r}, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
open({fifo!r}, "w").write("done")
"""


def test_crashed_worker(stage: Any, tmp_path: Path) -> None:
    """A worker that crashes is started again, and the job ends well."""
    fifo = a_fifo(tmp_path)
    worker = killed_at_first(fifo, str(tmp_path / "mark"))
    outcome = outcome_of(stage, server_body=WHEN_FED.format(fifo=fifo), worker_body=worker)
    assert outcome.exit_code == 0
    assert stage.started.count("worker-0") == 2
    assert "worker-0 crashed" in stage.said[0]


class Killer(Peace):
    """Every death is its own."""

    def killed(self, name: str) -> bool:
        return bool(name)


def test_a_worker_that_was_killed_on_purpose_has_not_crashed(stage: Any, tmp_path: Path) -> None:
    """The user is told what happened, and not how a machine runs out of memory."""
    fifo = a_fifo(tmp_path)
    worker = killed_at_first(fifo, str(tmp_path / "mark"))
    server = WHEN_FED.format(fifo=fifo)
    outcome_of(stage, server_body=server, worker_body=worker, restarts=0, disturbance=Killer())
    assert stage.said == ["worker-0 was killed on purpose; it starts again in 0.5 s"]


def test_permanent_worker(stage: Any) -> None:
    """A worker that can never work stays away; when the quorum is lost, its sentence is the reason."""
    code = ProgramError.exit_code
    body = f"announce(); say('the program has no task', exception='Traceback ...'); sys.exit({code})"
    outcome = outcome_of(stage, worker_body=body)
    assert outcome == Outcome(code, "worker-0", "the program has no task", "Traceback ...")
    assert stage.started.count("worker-0") == 1


def test_lost_worker_above_quorum(stage: Any, tmp_path: Path) -> None:
    """While the quorum stands, a lost worker is told of and the job goes on."""
    fifo = a_fifo(tmp_path)
    worker = f"""
announce()
if {{index}} == 0:
    say("its data is empty"); sys.exit({ProgramError.exit_code})
open({fifo!r}, "w").write("done")
"""
    outcome = outcome_of(
        stage,
        workers=2,
        server_body=WHEN_FED.format(fifo=fifo),
        worker_body=worker,
    )
    assert outcome.exit_code == 0


def test_a_worker_that_was_lost_before_scaling_is_not_missed(stage: Any, tmp_path: Path) -> None:
    """The quorum is counted among those that there should be now."""
    fifo, end = a_fifo(tmp_path), str(tmp_path / "end")
    os.mkfifo(end)
    code = ProgramError.exit_code
    worker = f"""
announce()
if {{index}} == 2:
    open({fifo!r}).read()
sys.exit({code}) if {{index}} > 1 else forever()
"""

    async def run() -> Outcome:
        bodies = {"server_body": WHEN_FED.format(fifo=end), "worker_body": worker}
        async with stage.supervisor(workers=4, quorum=2, **bodies) as supervisor:
            await supervisor.start()
            ended = asyncio.create_task(supervisor.ended())
            await until(lambda: any("goes on with 3 of 4" in said for said in stage.said))
            await supervisor.scale(3)
            await asyncio.to_thread(Path(fifo).write_text, "now")
            await until(lambda: any("goes on with 2 of 3" in said for said in stage.said))
            await asyncio.to_thread(Path(end).write_text, "done")
            return await ended

    assert asyncio.run(run()).exit_code == 0


def test_who_is_too_many_is_told_at_once_and_has_its_time(stage: Any, tmp_path: Path) -> None:
    """It hears SIGTERM when the run is scaled down, knows how long it has, and is not started again."""
    stage.graces = Graces(end=0.1, stop=0.5, leave=20)
    ready, told, way, end = (str(tmp_path / name) for name in ("ready", "told", "way", "end"))
    for fifo in (ready, told, way, end):
        os.mkfifo(fifo)
    worker = f"""
def go(*_):
    open({told!r}, "w").write(os.environ["FLJOB_GRACE_SECONDS"])
    open({way!r}).read()
    sys.exit(143)
announce()
if {{index}}:
    signal.signal(signal.SIGTERM, go)
    open({ready!r}, "w").write("ready")
forever()
"""

    async def run() -> Outcome:
        bodies = {"server_body": WHEN_FED.format(fifo=end), "worker_body": worker}
        async with stage.supervisor(workers=2, **bodies) as supervisor:
            await supervisor.start()
            ended = asyncio.create_task(supervisor.ended())
            await asyncio.to_thread(Path(ready).read_text)
            await supervisor.scale(1)
            assert await asyncio.to_thread(Path(told).read_text) == "20"
            await asyncio.to_thread(Path(way).write_text, "go")
            await until(lambda: gone(stage.pids["worker-1"]))
            await asyncio.to_thread(Path(end).write_text, "done")
            return await ended

    assert asyncio.run(run()).exit_code == 0
    assert stage.started.count("worker-1") == 1


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another process makes true."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def test_indispensable_worker(stage: Any) -> None:
    """Nobody waits for ever for a worker whose updates a replay needs, whatever the quorum."""
    code = ProgramError.exit_code
    worker = f"announce(); sys.exit({code}) if {{index}} == 1 else forever()"
    outcome = outcome_of(
        stage, workers=3, quorum=1, worker_body=worker, indispensable=frozenset({"worker-0", "worker-1"})
    )
    assert (outcome.exit_code, outcome.culprit) == (code, "worker-1")
    assert outcome.sentence.endswith("; the record that is replayed has its updates, so the run ends")


def test_restarts_end(stage: Any) -> None:
    """A worker that crashes more often than it may is lost."""
    outcome = outcome_of(stage, restarts=1, worker_body="announce(); sys.exit(3)")
    assert (outcome.exit_code, outcome.culprit) == (3, "worker-0")
    assert stage.started.count("worker-0") == 2


@pytest.mark.parametrize("role", ["server", "scheduler"])
def test_server_or_scheduler_dies(stage: Any, role: str) -> None:
    """A server or scheduler that crashes more often than it may ends the run with its last words and its code."""
    body = f"{WHEN_ALL_ARE_THERE}; say('the disk is full'); say('bye', level='info'); sys.exit(74)"
    outcome = outcome_of(stage, core_restarts=1, **{f"{role}_body": body})
    assert (outcome.exit_code, outcome.culprit, outcome.sentence) == (74, role, "the disk is full")
    assert stage.started.count(role) == 2
    assert "it starts again in 0.5 s" in stage.said[0]


@pytest.mark.parametrize("role", ["server", "scheduler"])
def test_permanent_server_or_scheduler(stage: Any, role: str) -> None:
    """A server or scheduler that can never work is not started again."""
    body = f"{WHEN_ALL_ARE_THERE}; say('no such class'); sys.exit({SpecError.exit_code})"
    outcome = outcome_of(stage, core_restarts=3, **{f"{role}_body": body})
    assert (outcome.exit_code, outcome.culprit) == (SpecError.exit_code, role)
    assert stage.started.count(role) == 1


def test_a_server_whose_peer_is_away_at_its_start(stage: Any, tmp_path: Path) -> None:
    """It is started again until its peer answers; one that says that its disk is full is not."""
    there = tmp_path / "there"
    waits = f"from pathlib import Path; there = Path({str(there)!r}); was = there.exists(); there.touch()"
    body = f"{waits}; was or say('it does not answer'); was or sys.exit({{code}}); announce(); sys.exit(0)"
    assert outcome_of(stage, core_restarts=1, server_body=body.format(code=75)).exit_code == 0
    assert stage.started.count("server") == 2
    there.unlink()
    assert outcome_of(stage, core_restarts=1, server_body=body.format(code=74)).exit_code == 74
    assert stage.started.count("server") == 3


def test_crashed_server(stage: Any, tmp_path: Path) -> None:
    """A server that is killed is started again at the address that it had, and workers are left alone."""
    server = """
if "{listen}" == "127.0.0.1:0":
    announce("s:2")
    os.kill(os.getpid(), signal.SIGKILL)
announce()
say("{listen} {scheduler}")
"""
    outcome = outcome_of(
        stage, core_restarts=1, scheduler_body="announce('s:1'); forever()", server_body=server
    )
    assert outcome.exit_code == 0
    assert stage.started == ["scheduler", "server", "worker-0", "server"]
    assert "s:2 s:1" in (tmp_path / "server.log").read_text()


def test_shortfall_names_the_worker(stage: Any) -> None:
    """A server that fails for want of workers keeps the word, and names the worker that was lost first."""
    code = ShortfallError.exit_code
    outcome = outcome_of(
        stage,
        workers=2,
        quorum=1,
        server_body=f"announce(); signal.sigtimedwait([10], 1.5); say('too few'); sys.exit({code})",
        worker_body="announce()\nif {index} == 0:\n    say('no data'); sys.exit(66)\nforever()",
    )
    assert (outcome.culprit, outcome.exit_code) == ("server", code)
    assert outcome.sentence == "too few (first lost: worker-0, no data)"


def test_a_program_that_raises_wins_over_the_shortfall_that_it_makes(stage: Any) -> None:
    """The server misses the workers before they have ended: it is their own error that ends the run all the same."""
    stage.graces = Graces(end=5, stop=0.5)
    outcome = outcome_of(
        stage,
        workers=2,
        quorum=2,
        server_body=f"announce(); signal.sigtimedwait([10], 0.5); say('too few'); sys.exit({ShortfallError.exit_code})",
        worker_body="announce(); signal.sigtimedwait([10], 2)\nif {index} == 0:\n"
        "    say('it raised', exception='Traceback ...'); sys.exit(66)",
    )
    assert outcome == Outcome(66, "worker-0", "it raised", "Traceback ...")


def test_no_announcement(stage: Any) -> None:
    """A process that ends without announcing itself is an error with its last words, JSON or not."""
    outcome = outcome_of(stage, server_body="raise SystemExit('the port is taken')")
    assert (outcome.culprit, outcome.sentence) == ("server", "the port is taken")


def test_mute_process(stage: Any) -> None:
    """A process that closes its descriptor without a line is stopped and named."""
    outcome = outcome_of(stage, scheduler_body="os.close(int(sys.argv[1])); forever()")
    assert (outcome.culprit, outcome.sentence) == ("scheduler", "it never said where it listens")
    assert gone(stage.pids["scheduler"])


def test_leaving_ends_all(stage: Any) -> None:
    """Leaving the context, for whatever reason, leaves no process behind, even one that ignores SIGTERM."""
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); announce(); forever()"

    async def run() -> None:
        async with stage.supervisor(scheduler_body=stubborn) as supervisor:
            await supervisor.start()
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(run())
    assert all(gone(pid) for pid in stage.pids.values())


def test_stop_now(stage: Any) -> None:
    """Asked to stop, the run ends at once with the exit code that it was given."""

    async def run() -> Outcome:
        async with stage.supervisor() as supervisor:
            await supervisor.start()
            supervisor.stop_now(130)
            return await supervisor.ended()

    assert asyncio.run(run()).exit_code == 130
    assert all(gone(pid) for pid in stage.pids.values())


def test_stop_now_cuts_the_last_grace_short(stage: Any) -> None:
    """A job is over, and a worker does not end by itself: asked to stop, nobody waits for it any longer."""
    stage.graces = Graces(end=600, stop=0.5)

    async def run() -> int:
        async with asyncio.timeout(60):
            async with stage.supervisor(server_body=WHEN_ALL_ARE_THERE) as supervisor:
                await supervisor.start()
                outcome = await supervisor.ended()
                asyncio.get_running_loop().call_later(0.1, supervisor.stop_now, 130)
            return int(outcome.exit_code)

    assert asyncio.run(run()) == 0
    assert all(gone(pid) for pid in stage.pids.values())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_killed_supervisor(tmp_path: Path) -> None:
    """When the supervisor is killed with SIGKILL, its children die with it."""
    parent = textwrap.dedent(f"""
        import asyncio, os, pathlib, sys
        from job_generator.local.child import Child
        body = "import os, signal, sys; os.write(int(sys.argv[1]), b'{{}}\\\\n'); signal.pause()"
        async def main():
            child = await Child.spawn("c", lambda fd: [sys.executable, "-S", "-c", body, str(fd)],
                log=pathlib.Path({str(tmp_path / "c.log")!r}), environment=os.environ)
            await child.announced()
            print(child.pid, flush=True)
            os.kill(os.getpid(), 9)
        asyncio.run(main())
    """)
    done = subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE, check=False)
    pid = int(done.stdout)
    assert done.returncode == -signal.SIGKILL
    descriptor = None if gone(pid) else os.pidfd_open(pid)
    if descriptor is not None:
        signal.sigtimedwait([signal.SIGCHLD], 0.5)
        os.close(descriptor)
    assert gone(pid)


def test_restart_delay() -> None:
    """Restarts come ever later, up to a bound."""
    delays = [restart_delay(number) for number in range(20)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.5, LONGEST_DELAY)


def test_environment() -> None:
    """The cores are shared out among the processes, and gRPC is silent, unless the user said otherwise."""
    assert process_environment({}, processes=1)["GRPC_VERBOSITY"] == "NONE"
    assert process_environment({"GRPC_VERBOSITY": "INFO"}, processes=1)["GRPC_VERBOSITY"] == "INFO"
    assert process_environment({}, processes=1000)["OMP_NUM_THREADS"] == "1"
    assert process_environment({}, processes=1, threads=3)["MKL_NUM_THREADS"] == "3"
    assert process_environment({"OMP_NUM_THREADS": "7"}, processes=1000)["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("role", ["server", "scheduler"])
def test_one_that_is_killed_before_it_listens_is_started_again(stage: Any, tmp_path: Path, role: str) -> None:
    """Killed before anybody could dial it, it comes up at the next try, and the job ends well."""
    fifo, mark = a_fifo(tmp_path), str(tmp_path / "mark")
    crash = f"""
if not os.path.exists({mark!r}):
    open({mark!r}, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    bodies = {
        "scheduler_body": "announce(); forever()",
        "server_body": WHEN_FED.format(fifo=fifo),
        "worker_body": f"announce(); open({fifo!r}, 'w').write('done')",
    }
    outcome = outcome_of(stage, core_restarts=1, **{**bodies, f"{role}_body": crash + bodies[f"{role}_body"]})
    assert outcome.exit_code == 0
    assert stage.started.count(role) == 2


def test_a_round_forgives_the_crashes_before_it(stage: Any) -> None:
    """A server may crash as often as it may between two rounds, not over the whole job."""

    async def run() -> int:
        crashing = "announce(); signal.sigtimedwait([10], 0.3); sys.exit(74)"
        async with stage.supervisor(core_restarts=1, server_body=crashing) as supervisor:
            await supervisor.start()
            ended = asyncio.create_task(supervisor.ended())
            while not ended.done() and stage.started.count("server") < 4:
                supervisor.progressed()
                await asyncio.sleep(0.05)
            return int((await ended).exit_code)

    assert asyncio.run(run()) == 74
    assert stage.started.count("server") >= 4
