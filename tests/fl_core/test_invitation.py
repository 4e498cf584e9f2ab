"""An invitation comes back as it was written, and one that is spoilt is refused without showing its token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import MismatchError, StorageError
from fl_core.identity import Identity
from fl_core.invitation import Invitation
from fl_core.plan import Plan, Site

SECRET = "a secret"  # noqa: S105 - of nobody


@pytest.fixture
def invitation(plan: Callable[..., Plan]) -> Invitation:
    """For the third worker, which is an external site."""
    return Invitation(
        site="hospital",
        address="fl.example.org:8443",
        enrolment="https://operator.system.svc:8443",
        authority="PEM",
        plan=plan(sites=(Site(name="hospital", index=2, external=True),)),
        token=SECRET,
    )


def test_it_comes_back(invitation: Invitation, tmp_path: Path) -> None:
    """The Plan keeps its digest, and a file that was open to others is closed to them."""
    file = tmp_path / "file"
    file.touch(mode=0o644)
    invitation.write(file)
    assert Invitation.read(file) == invitation
    assert Invitation.read(file).plan.digest == invitation.plan.digest
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in repr(invitation)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "version"),
        ({"address": None}, "address"),
        ({"plan": {"version": 1}}, "plan.job"),
        ({"more": 1}, "more"),
    ],
)
def test_a_spoilt_one_is_refused(
    invitation: Invitation, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    """The sentence names file and field, and never the token."""
    file = tmp_path / "file"
    file.write_text(json.dumps(json.loads(invitation.model_dump_json()) | change), encoding="utf-8")
    with pytest.raises(MismatchError, match=complaint) as refused:
        Invitation.read(file)
    assert str(file) in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", None])
def test_what_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, empty, cut off or no text is one sentence."""
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(MismatchError, match="--join .*file"):
        Invitation.read(tmp_path / "file")


def test_a_file_that_cannot_be_written(invitation: Invitation, tmp_path: Path) -> None:
    """A folder that is not there is told with the file."""
    with pytest.raises(StorageError, match=r"none.file cannot be written"):
        invitation.write(tmp_path / "none" / "file")


@pytest.mark.parametrize(
    "identity", [Identity("job-1", "worker", 1), Identity("job-2", "worker", 2), Identity("job-1", "server")]
)
def test_it_is_for_one_certificate(invitation: Invitation, identity: Identity) -> None:
    """The certificate of another worker, job or role does not go with it."""
    invitation.check(Identity("job-1", "worker", 2))
    with pytest.raises(MismatchError, match=r"is that of .*, and the invitation is for .*worker/2"):
        invitation.check(identity)
