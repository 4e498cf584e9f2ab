"""Follows our server's record from outside and notes when each round's line appeared."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

POLL_SECONDS = 0.001


def main(record: str, events: str) -> None:
    """Write one event for each closed round, until killed."""
    for line, seen in _lines(Path(record)):
        row = json.loads(line)
        facts = {"number": row["round"], "replies": len(row["reporters"]), "bytes": row["bytes"]}
        event = {"event": "round", "monotonic": seen, "seconds": row["seconds"], **facts}
        with Path(events).open("a") as file:
            file.write(json.dumps(event) + "\n")


def _lines(record: Path) -> Iterator[tuple[str, float]]:
    """Yield whole lines as they come, each with the moment it was seen."""
    while not record.exists():
        time.sleep(POLL_SECONDS)
    with record.open() as file:
        begun = ""
        while True:
            if not (piece := file.readline()):
                time.sleep(POLL_SECONDS)
            elif (begun := begun + piece).endswith("\n"):
                yield begun, time.monotonic()
                begun = ""


if __name__ == "__main__":
    main(*sys.argv[1:])
