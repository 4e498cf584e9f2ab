"""Every error says who must act, by its branch and by the exit code of its process."""

from __future__ import annotations

import re

import pytest

from fl_core import errors
from fl_core.errors import FLJobError, JobError, RetryError, RoundError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FLJobError)]
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every error is drawn once, as deep as it stands in the hierarchy."""
    drawn = re.findall(r"^([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert {name: len(indent) // 4 for indent, name in drawn} == {
        kind.__name__: len(kind.__mro__) - len(FLJobError.__mro__) for kind in KINDS
    }


@each
def test_an_errors_branch_says_whether_to_try_again(kind: type[FLJobError]) -> None:
    """Exactly the author's mistakes end a process for good."""
    assert (kind.exit_code in errors.PERMANENT_EXIT_CODES) == issubclass(kind, JobError)
    assert sum(issubclass(kind, branch) for branch in (JobError, RoundError, RetryError)) <= 1


@each
def test_exit_codes_are_the_systems_own(kind: type[FLJobError]) -> None:
    """Codes lie among those of sysexits.h, none says success, and none is that of a signal."""
    assert 64 <= kind.exit_code <= 78
    assert errors.TERMINATED_EXIT_CODE == 128 + 15


def test_the_authors_mistakes_have_codes_of_their_own() -> None:
    """An exit code alone tells which of them it was."""
    codes = [kind.exit_code for kind in KINDS if issubclass(kind, JobError)]
    assert len(set(codes)) == len(codes) == len(errors.PERMANENT_EXIT_CODES)
