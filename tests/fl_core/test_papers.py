"""A process is started with a plan or with an invitation, and knows from either who it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from fl_core import papers as module
from fl_core.errors import MismatchError, StorageError
from fl_core.identity import Identity
from fl_core.invitation import Invitation
from fl_core.papers import Papers
from fl_core.plan import Plan, Site

FILE = Path("file")
PEERS = {"index": 1, "scheduler": "s:1", "server": "s:2"}
NO_PEERS: dict[str, Any] = dict.fromkeys(PEERS)
OFFICE = {"enrol": "https://o", "token_file": FILE, "ca_file": FILE}


def papers(**given: Any) -> Papers:
    return Papers(**{"plan": None, "join": None, "enrol": None, "token_file": None, "ca_file": None} | given)


@pytest.fixture
def invitation(plan: Callable[..., Plan]) -> Invitation:
    """For the third worker, which is an external site."""
    return Invitation(
        site="hospital",
        address="127.0.0.1:1",
        enrolment="https://operator.system.svc:8443",
        authority="PEM",
        plan=plan(sites=(Site(name="hospital", index=2, external=True),)),
        token="secret",  # noqa: S106 - of nobody
    )


@pytest.mark.parametrize(
    ("given", "others"),
    [
        ({"plan": FILE}, {}),
        ({"plan": FILE}, PEERS),
        ({"plan": FILE, **OFFICE}, PEERS),
        ({"join": FILE}, NO_PEERS),
    ],
)
def test_right_usage(given: dict[str, Any], others: dict[str, Any]) -> None:
    """A run's process, a pod's, and a site's."""
    papers(**given).check(others)


@pytest.mark.parametrize(
    ("given", "others", "complaint"),
    [
        ({}, PEERS, "Missing --plan; only --join FILE"),
        ({"plan": FILE}, PEERS | {"server": None}, "Missing --server"),
        ({"plan": FILE}, NO_PEERS, "Missing --index, --scheduler, --server"),
        ({"plan": FILE, "enrol": "https://o"}, PEERS, "--enrol needs --token-file and --ca-file"),
        ({"join": FILE, "plan": FILE}, NO_PEERS, "--join stands for --plan; leave out"),
        ({"join": FILE}, NO_PEERS | {"index": 0}, "--join stands for --index"),
        ({"join": FILE}, NO_PEERS | {"server": "s:2"}, "--join stands for --server"),
        ({"join": FILE, **OFFICE}, NO_PEERS, "stands for --enrol, --token-file, --ca-file"),
    ],
)
def test_wrong_usage(given: dict[str, Any], others: dict[str, Any], complaint: str) -> None:
    """What is missing, or given twice, is named before anything else happens."""
    with pytest.raises(click.UsageError, match=complaint):
        papers(**given).check(others)


def test_a_plan_alone(plan: Callable[..., Plan], keys: Callable[..., Path], tmp_path: Path) -> None:
    """A process of a run reads its plan, and its certificate where somebody has laid it."""
    (tmp_path / "plan.json").write_text(plan().to_json(), encoding="utf-8")
    found, invitation = papers(plan=tmp_path / "plan.json").read()
    assert (found, invitation) == (plan(), None)
    assert papers().enrolled(None, keys("worker", 1)) == Identity("job-1", "worker", 1)


def test_an_invitation_holds_the_plan(invitation: Invitation, tmp_path: Path) -> None:
    """The Plan is the invitation's."""
    invitation.write(tmp_path / "file")
    assert papers(join=tmp_path / "file").read() == (invitation.plan, invitation)


def test_a_site_that_has_its_certificate_asks_nobody(
    invitation: Invitation, keys: Callable[..., Path]
) -> None:
    """A start after the first needs neither the endpoint nor the token; another site's certificate is refused."""
    assert papers().enrolled(invitation, keys("worker", 2)) == Identity("job-1", "worker", 2)
    with pytest.raises(MismatchError, match="expected another folder for --identity"):
        papers().enrolled(invitation, keys("worker", 1))


def test_a_token_that_is_refused(
    invitation: Invitation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence says with which command somebody at the cluster prints another one."""

    def refuse(*_: Any) -> None:
        raise MismatchError("the token is not good")

    monkeypatch.setattr(module.Office, "enrol", refuse)
    with pytest.raises(MismatchError, match="fl-submit site token test hospital -n default"):
        papers().enrolled(invitation, tmp_path / "own")


def test_a_folder_that_cannot_be_written(invitation: Invitation, tmp_path: Path) -> None:
    """The key has to be kept before it is shown."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="--identity .*own cannot be written"):
        papers().enrolled(invitation, tmp_path / "file" / "own")
