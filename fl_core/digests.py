"""The digest by which a file is known."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(path: Path, *, missing_ok: bool = False) -> str:
    """SHA-256 of a file's content, as hex, never held in memory as a whole; raises OSError.

    With `missing_ok` a file that is not there has the digest of an empty one.
    """
    if missing_ok and not path.exists():
        return hashlib.sha256().hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
