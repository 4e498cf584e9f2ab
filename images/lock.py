"""Writes beside the wheels of an image what to install from them: `python images/lock.py dist/wheels/control`.

Each line of `requirements.txt` names one wheel and its digest, so that an image holds these files and nothing else,
and the bill of materials says which.
"""  # noqa: INP001 - a script

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

FILE = "requirements.txt"


def locked(folder: Path) -> str:
    """A requirement with its digest for every wheel in a folder. Raises ValueError where there are two of one name."""
    lines: dict[str, str] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        if name in lines:
            raise ValueError(f"{folder} holds two wheels of {name}; remove the folder and collect them anew")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines[name] = f"{name.replace('_', '-')}=={version} --hash=sha256:{digest}\n"
    return "".join(lines.values())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    (target / FILE).write_text(locked(target), encoding="utf-8")
