"""The border to user code: whatever it raises becomes one sentence and the user's own lines."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_core.errors import FLJobError, ProgramError

HEADING = "Traceback (the program's own lines):"


@contextmanager
def user_code(doing: str, folder: Path) -> Iterator[None]:
    """Turn what the program raises while `doing` into a ProgramError that shows only the program's frames."""
    try:
        yield
    except ProgramError as error:
        if not (frames := own_frames(error, folder)):
            raise
        raise ProgramError(f"{error}\n{HEADING}\n{''.join(frames).rstrip()}") from error
    except FLJobError:
        raise
    except (Exception, SystemExit) as error:
        raise ProgramError(_told(error, doing, folder)) from error


def _told(error: BaseException, doing: str, folder: Path) -> str:
    """One sentence, and below it where in the program it happened."""
    sentence = f"the program raised {type(error).__name__} while {doing}; mend it and start the job again"
    what = "".join(traceback.format_exception_only(error)).rstrip()
    frames = own_frames(error, folder)
    if isinstance(error, SyntaxError) and _inside(error.filename or "", folder.resolve()):
        return f"{sentence}\n{what}"
    if not frames:
        return f"{sentence}\n{what}\n(raised outside of the program's files: `fl-submit try` shows all of it)"
    return f"{sentence}\n{HEADING}\n{''.join(frames)}{what}"


def own_frames(error: BaseException, folder: Path) -> list[str]:
    """Format those frames of a traceback that lie in the program's folder."""
    home = folder.resolve()
    stack = traceback.extract_tb(error.__traceback__)
    return traceback.format_list([frame for frame in stack if _inside(frame.filename, home)])


def _inside(filename: str, home: Path) -> bool:
    path = Path(filename)
    return path.is_absolute() and path.resolve().is_relative_to(home) and "site-packages" not in path.parts
