"""Every death at every step of a secure sum, in real pods: `make test-cluster ARGS='tests/cluster/matrix_sums.py -s'`.

It is `tests/rounds/matrix_secure.py` with containers, whose kubelet starts them again. Each second round has a death,
and the others train in the round after it when whoever died has enrolled again. `tests/cluster/test_sums.py` takes a
few deaths, drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fl_server.protection import GRACE_SECONDS, STEP_SECONDS
from tests.cluster.disturbed import SELECTION, WORKERS, Tried, disturbed
from tests.cluster.steps import POINTS, Fault
from tests.cluster.tenant import Map, Tenant
from tests.rounds.test_secure_loss import EVERYBODY, LEFT, NOT_READY, QUIET, SIZE, SLACK_SECONDS
from tests.rounds.test_secure_server import AGAIN, MADE, SIGNED

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(900)]

THRESHOLD = 3
"""So many of the four open a sum."""
MOST_SECONDS = 60.0
"""From a death until the server is at its next step."""


@dataclass(frozen=True)
class Death:
    """Who is killed at which point of a round; `tests/rounds/puppet.py` says what points there are."""

    who: tuple[str, ...]
    point: str

    @property
    def is_early(self) -> bool:
        """Whether a vector is missing: the sum is of the others."""
        return "worker-1" in self.who and LEFT[self.step] != EVERYBODY

    def leaves_enough(self, minimum: int) -> bool:
        """Whether the sum is opened without whoever died: one that has signed is not needed for it any more."""
        alone, signed = len(self.who) == 1, self.step == "unmask"
        return alone and (minimum < WORKERS or signed)

    @property
    def step(self) -> str:
        """Of the session."""
        return self.point.partition(".")[2]

    def faults(self, number: int) -> Iterator[Fault]:
        """Its part in this round."""
        for who in self.who:
            yield Fault("kill", who, number, self.point, awaited=who != "server")


WORKER = [Death(("worker-1",), f"update.{step}") for step in LEFT]
SERVER = [Death(("server",), point) for point in (*AGAIN, *SIGNED, *MADE)]
TWO = [Death(("worker-1", "worker-2"), f"update.{step}") for step in ("share", "mask", "sign")]
"""Too few are left for the sum."""


def run(tenant: Tenant, home: Path, deaths: Sequence[Death], *, minimum: int = THRESHOLD) -> Tried:
    """A job with one of these deaths in every other round, which ends as it should."""
    faults = [fault for number, death in enumerate(deaths) for fault in death.faults(round_of(number))]
    quiet = {} if any(death.who == ("server",) for death in deaths) else QUIET
    long = any("upload" in death.point for death in deaths)
    tried = disturbed(
        tenant,
        home,
        faults,
        files=POINTS,
        secure=True,
        size=SIZE if long else 8,
        rounds=2 * len(deaths) + 2,
        selection=selection(minimum=minimum),
        **quiet,
    )
    tried.check()
    assert tried.rows[-1]["reporters"] == EVERYBODY
    for number, death in enumerate(deaths):
        check(tried.rows[round_of(number) - 1], death, minimum=minimum)
    assert all((deed.back_after or 0) < MOST_SECONDS for deed in tried.steps.deeds)
    return tried


def round_of(number: int) -> int:
    """The round of a death."""
    return 2 * number + 2


def selection(*, minimum: int, action: str = "Retry") -> Map:
    """A round waits for everybody for a minute, and goes on without those that are gone."""
    return {
        **SELECTION,
        "minimum": minimum,
        "deadlineSeconds": 60,
        "stallSeconds": 60,
        "onShortfall": {"action": action, **({"attempts": 5} if action == "Retry" else {})},
    }


def check(row: Map, death: Death, *, minimum: int) -> None:
    """The round of a death came to what the protocol says: whose updates are in it, after how many attempts."""
    attempt, reporters = row["attempt"], row["reporters"]
    if death.who == ("server",):
        again = 1 if death.point in MADE else 2
        assert (attempt, reporters) == (again, EVERYBODY), (death, row)
    elif not death.leaves_enough(minimum):
        assert (attempt > 1, len(reporters) >= minimum) == (True, True), (death, row)
    elif death.step == NOT_READY and reporters == EVERYBODY:
        assert (attempt, row["dropouts"]) == (1, {}), (death, row)  # its next pod was there in time
    else:
        assert (attempt, reporters) == (1, LEFT[death.step]), (death, row)
        assert list(row["dropouts"]) == ["worker-1"], (
            death,
            row,
        )  # gone, or refused as its next pod comes back to it
        assert row["seconds"]["secure"] < GRACE_SECONDS + SLACK_SECONDS < STEP_SECONDS, (death, row)


def lines(name: str, deaths: Sequence[Death], tried: Tried) -> Iterator[str]:
    """The rows of the table: whose updates were in the sum, in which attempt, seconds until the server's next step."""
    deeds = {deed.fault.round: deed for deed in tried.steps.deeds}
    for number, death in enumerate(deaths):
        row, took = tried.rows[round_of(number) - 1], deeds[round_of(number)].back_after or 0.0
        yield f"| {name} | {death.point} | {len(row['reporters'])} of 4 | {row['attempt']} | {took:.1f} |"


@pytest.mark.parametrize(
    ("name", "deaths", "minimum"),
    [
        ("a worker, 3 needed", WORKER, THRESHOLD),
        ("a worker, 4 needed", WORKER, WORKERS),
        ("two workers, 3 needed", TWO, THRESHOLD),
        ("the server", SERVER, THRESHOLD),
    ],
    ids=["worker", "needed worker", "two workers", "server"],
)
def test_a_death_at_any_step_of_a_sum(
    tenant: Tenant, tmp_path: Path, name: str, deaths: list[Death], minimum: int
) -> None:
    """The sum is that of the vectors that were whole, as long as enough are left; else the round is tried again."""
    tried = run(tenant, tmp_path, deaths, minimum=minimum)
    for line in lines(name, deaths, tried):
        print(line)  # noqa: T201 - the table


def test_too_few_left_ends_the_job_if_it_says_so(tenant: Tenant, tmp_path: Path) -> None:
    """With `onShortfall: Fail` the job fails within moments and says how many were left; nothing is committed."""
    faults = Death(("worker-1", "worker-2"), "range.mask").faults(1)
    chosen = selection(minimum=THRESHOLD, action="Fail")
    tried = disturbed(
        tenant, tmp_path, list(faults), ends="Failed", files=POINTS, secure=True, rounds=2, selection=chosen
    )
    name = tried.plan.job.name
    told = {one["type"]: one for one in tenant.get("fljob", name)["status"]["conditions"]}["Failed"]
    assert told["reason"] == "TooFewWorkers"
    assert "2 vectors, fewer than the 3" in told["message"]
    assert tried.rows == []


def test_too_few_left_is_a_round_less_if_the_job_says_so(tenant: Tenant, tmp_path: Path) -> None:
    """With `onShortfall: Skip` a round is recorded with its reason, and the job goes on when they are back."""
    faults = Death(("worker-1", "worker-2"), "update.share").faults(2)
    chosen = selection(minimum=THRESHOLD, action="Skip")
    tried = disturbed(
        tenant, tmp_path, list(faults), files=POINTS, secure=True, rounds=4, selection=chosen, **QUIET
    )
    assert [tried.rows[number]["result"] for number in (0, 1, -1)] == ["Committed", "Skipped", "Committed"]
    assert "2 members that shared, fewer than the 3 that are needed" in tried.rows[1]["reason"]
    assert tried.models() == tried.should_be()
