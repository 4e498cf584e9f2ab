"""No-op workers: `fl-worker train` as it is, one process each.

They are forked after the imports and before any connection, as the peer's clients are: that spares minutes of
imports and lets them share the pages of the libraries, so that fifty fit on a small machine.
"""

import os
import sys
from pathlib import Path

from fl_worker import train


def main(folder: str, program: str, scheduler: str, server: str, count: str) -> None:
    """Fork the workers and wait until the last has left."""
    addresses = ["--scheduler", scheduler, "--server", server, "--program", program]
    children = [_fork(Path(folder), index, addresses) for index in range(int(count))]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(abs(code) for code in codes))


def _fork(folder: Path, index: int, addresses: list[str]) -> int:
    child = os.fork()
    if child == 0:
        own = ["--identity", str(folder / f"worker-{index}"), "--index", str(index)]
        train.main(args=["--plan", str(folder / "plan.json"), *own, *addresses], prog_name="fl-worker train")
        os._exit(0)
    return child


if __name__ == "__main__":
    main(*sys.argv[1:])
