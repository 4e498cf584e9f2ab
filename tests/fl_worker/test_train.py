"""Two threads of one worker: the user's code in the main one, the conversation beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from textwrap import dedent

import pytest

from fl_core.errors import ProgramError, UpdateError
from fl_worker.remembered import Remembered
from fl_worker.session import Product, Work
from fl_worker.telemetry import Telemetry
from fl_worker.train import Conversation, Hand, converse, work_off
from tests.fl_worker.conftest import Written

TOY = """
    import numpy as np

    class Toy:
        def weights(self): return {"w": np.zeros((), "f4")}
        def train(self, weights): return weights, 1
        def evaluate(self, weights): return {}

    def task(config, site): return Toy()
"""


def order(inbox: SimpleQueue[Work | None], number: int) -> Future[Product]:
    """Put an order into the inbox."""
    work = Work("train", number, None, Future())
    inbox.put(work)
    return work.result


def test_work_is_carried_out_in_order_until_none_comes() -> None:
    """Each order's product is its future's result; a spoilt round is handed back and the next one goes on."""
    inbox: SimpleQueue[Work | None] = SimpleQueue()
    results = [order(inbox, number) for number in (1, 2, 3)]
    inbox.put(None)

    def do(work: Work) -> Product:
        if work.round == 2:
            raise UpdateError("spoilt")
        return Product(work.round, {})

    work_off(inbox, do)
    assert [results[0].result().examples, results[2].result().examples] == [1, 3]
    assert isinstance(results[1].exception(), UpdateError)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_only_an_order_for_initial_weights_gets_them(
    write: Callable[..., Written], tmp_path: Path, kind: str
) -> None:
    """What is to be trained or measured without a model makes nothing: initial weights would be no update."""
    learner = write(TOY).learner()
    hand = Hand(learner, Remembered(tmp_path, ()), Telemetry())
    assert hand.do(Work("initialise", 1, None, Future())).update == {"w": 0}
    with pytest.raises(UpdateError, match=f"round 1: an order to {kind} came without a model"):
        hand.do(Work(kind, 1, None, Future()))


def test_a_failed_program_ends_the_main_thread_and_is_told() -> None:
    """A ProgramError is raised where the process ends, and the conversation hears of it."""
    inbox: SimpleQueue[Work | None] = SimpleQueue()
    result = order(inbox, 1)

    def do(_: Work) -> Product:
        raise ProgramError("broken")

    with pytest.raises(ProgramError):
        work_off(inbox, do)
    assert isinstance(result.exception(), ProgramError)


def test_a_conversation_that_breaks_ends_the_worker_badly() -> None:
    """Whatever ends the conversation other than Stop is raised in the main thread: no worker ends with 0 by it."""

    async def attend() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        converse(Conversation(SimpleQueue(), attend), lambda _: Product(0, {}))


@pytest.mark.parametrize(("ending", "code"), [("pass", 0), ("raise MismatchError('another job')", 67)])
def test_a_program_that_never_returns_is_left_behind(ending: str, code: int) -> None:
    """When the job is over the process ends with its code although user code hangs, and the log says where."""
    program = f"""
    import time
    from concurrent.futures import Future
    from queue import SimpleQueue
    from fl_core.errors import MismatchError
    from fl_worker import train
    from fl_worker.session import Work

    train.STUCK_SECONDS = 0.2
    inbox = SimpleQueue()

    def endless_training(work):
        time.sleep(600)

    async def attend():
        inbox.put(Work("train", 1, None, Future()))
        {ending}

    train.converse(train.Conversation(inbox, attend), endless_training)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code
    assert "endless_training" in done.stdout + done.stderr
