"""Why a process ended, by the last that it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from job_generator.cause import TAIL_BYTES, cause_in, cause_told

INFO = json.dumps({"event": "round 3 begins", "level": "info", "timestamp": "T1"})
TRACEBACK = "Traceback (most recent call last):\n  File 'x.py', line 1\nKeyError: 'x'"
ERROR = json.dumps({"event": "the round failed", "level": "error", "exception": TRACEBACK})


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        ("", ""),
        (INFO, ""),
        (f"{INFO}\n{ERROR}\n{INFO}", "the round failed: KeyError: 'x'"),
        (f"{ERROR}\nterminate called without an active exception", "the round failed: KeyError: 'x'"),
        (f"{ERROR}\n{TRACEBACK.replace('KeyError', 'ValueError')}\n{INFO}", "ValueError: 'x'"),
        (f"{TRACEBACK}\nOSError: late\n", "KeyError: 'x'"),
        (f"{INFO}\nno licence\n{INFO}", "no licence"),
        (f"{INFO}\nFatalError: out of range\n  [SignalInfo: SIGSEGV]", "FatalError: out of range"),
    ],
)
def test_the_cause_is_the_last_error_or_the_last_plain_line(tail: str, cause: str) -> None:
    """Lines of a log are read, not quoted; a traceback gives type and text of what was raised."""
    assert cause_in(tail) == cause


def test_a_cut_line_gives_what_was_raised() -> None:
    """Of an error longer than what Kubernetes keeps, the end is what was raised; half a line is not quoted."""
    traceback = '  at "a"\n' * 999 + 'OSError: no "x"'
    long = json.dumps({"event": "x", "level": "error", "exception": traceback})
    assert cause_in(long[-TAIL_BYTES:]) == 'OSError: no "x"'
    assert cause_in(f"{long}\n{INFO}"[-TAIL_BYTES:]) == 'OSError: no "x"'
    half = json.dumps({"event": "y" * TAIL_BYTES, "level": "info", "round": 3})
    assert cause_in(f"{half}\nno licence"[-TAIL_BYTES:]) == "no licence"


def test_a_line_that_nests_too_deeply_is_plain() -> None:
    """Nobody's log ends the look at their job."""
    assert cause_in("[" * TAIL_BYTES) == "[" * TAIL_BYTES
    assert cause_told("[" * 100_000) == "[" * 100_000


@pytest.mark.parametrize("line", ["y" * 200_000, "y" * 200_000 + '"}', "\\n" * 100_000])
def test_a_long_line_is_read_in_no_time(line: str) -> None:
    """It is read in the operator's loop, once for each pod and look: in time linear in its length."""
    began = time.process_time()
    cause_in(line)
    assert time.process_time() - began < 5


PROGRAMS = {
    "raises": ("raise ValueError('bad')", "ValueError: bad"),
    "chained": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise OSError('it') from e",
        "OSError: it",
    ),
    "group": ("raise ExceptionGroup('many', [KeyError('a'), ValueError('bad')])", "ValueError: bad"),
    "lines": ("raise ValueError('bad\\nworse')", "ValueError: bad"),
    "syntax": ("exec('x ==')", "SyntaxError: invalid syntax"),
    "module": ("import absent", "ModuleNotFoundError: No module named 'absent'"),
    "exit": ("raise SystemExit('no licence')", "no licence"),
}


@pytest.mark.parametrize(("program", "cause"), PROGRAMS.values(), ids=PROGRAMS)
def test_what_python_prints_is_one_line(program: str, cause: str) -> None:
    """Errors that nobody caught, as a real interpreter prints them below log lines."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert cause_in(f"{INFO}\n{done.stderr}") == cause


def test_what_our_own_logs_write_is_read() -> None:
    """An exception in a task that nobody waited for, as asyncio hands it to the log."""
    program = """
import asyncio
from fl_core import logs
logs.configure(style="json", level="info")
async def main():
    loop = asyncio.get_running_loop()
    loop.call_exception_handler({"message": "Task failed", "exception": OSError("no space")})
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert cause_in(done.stderr) == "Task failed: OSError: no space"


def test_a_sentence_of_its_own_is_kept_with_what_was_raised() -> None:
    """Where the process could leave none, it is the end of its log."""
    assert cause_told("the data is gone") == "the data is gone"
    assert cause_told(f"it raised KeyError\n{TRACEBACK}") == "it raised KeyError: KeyError: 'x'"
    own = TRACEBACK.replace("most recent call last", "the program's own lines")
    assert cause_told(f"it raised KeyError\n{own}\nin two lines") == "it raised KeyError: KeyError: 'x'"
    below = "KeyError: 'x'\n(raised outside of the program's files)"
    assert cause_told(f"it raised KeyError\n{below}") == "it raised KeyError: KeyError: 'x'"
    assert cause_told(f"{INFO}\n{ERROR}") == "the round failed: KeyError: 'x'"
    assert cause_told("") == ""
