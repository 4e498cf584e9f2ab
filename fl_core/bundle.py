"""The files of a user's program, and the digest by which everybody knows them.

A program is the entrypoint's module (`program.py`) with the other modules beside it, or the
entrypoint's package. Nothing is imported here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fl_core.digests import file_digest
from fl_core.errors import ProgramError


def bundle(folder: Path, module: str) -> dict[str, Path]:
    """The program's files by their name relative to `folder`, sorted."""
    top = module.partition(".")[0]
    package, module_file = folder / top, folder / f"{top}.py"
    if module_file.is_file() and not (package / "__init__.py").is_file():  # as Python finds it
        files = list(folder.glob("*.py"))
    elif package.is_dir():
        files = [path for path in package.rglob("*.py") if "__pycache__" not in path.parts]
    else:
        raise ProgramError(
            f"spec.program.entrypoint: there is no {top}.py and no folder {top}/ in {folder}; "
            "put the program beside the job file, or name an installed module's image"
        )
    return {path.relative_to(folder).as_posix(): path for path in sorted(files)}


def bundle_digest(files: dict[str, Path]) -> str:
    """SHA-256 over the sorted names and contents, as hex."""
    state = hashlib.sha256()
    for name in sorted(files):
        state.update(f"{file_digest(files[name])}  {name}\n".encode())
    return state.hexdigest()
