"""The models that a job's record should hold, made anew here from its plan and its program."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_core.plan import Plan
from fl_core.weights import digest
from tests.cluster import line
from tests.cluster.tenant import Map, Tenant
from tests.rounds.faults import added_up
from tests.rounds.secure import in_the_clear


@dataclass(frozen=True)
class Recorded:
    """A job that is over, as far as its models are made anew: its plan, its program's folder, its record."""

    plan: Plan
    program: Path
    rows: list[Map]

    def rounds(self) -> list[Map]:
        """The lines of its record that are about rounds."""
        return self.rows

    def models(self) -> list[str]:
        """The models that its record holds."""
        return [row["model"] for row in self.rows if row["result"] == "Committed"]

    def should_be(self) -> list[str]:
        """Those that it should hold, by whom it says is in each round."""
        made: Any = self
        return in_the_clear(made) if self.plan.secure_aggregation else list(added_up(made))


def rounds_of(record: list[Map]) -> list[Map]:
    """The lines about rounds."""
    return [row for row in record if "cohort" in row]


def check_line(tenant: Tenant, name: str, folder: Path) -> list[Map]:
    """A job of `line` whose program is in this folder committed each of its rounds once; each model, and the one that
    is fetched, is that of the round's recorded workers. Returns the lines of its rounds.
    """
    plan, rows = tenant.plan(name), rounds_of(tenant.record(name))
    assert [(row["round"], row["result"]) for row in rows] == [
        (number, "Committed") for number in range(1, plan.rounds + 1)
    ]
    at_once = plan.program.model_copy(update={"config": line.AT_ONCE})
    forget(plan.program.module)
    recorded = Recorded(plan.model_copy(update={"program": at_once}), folder, rows)
    assert recorded.models() == recorded.should_be()
    assert digest(tenant.model(name, folder)) == rows[-1]["model"]
    return rows


def forget(module: str) -> None:
    """Import a program of this name anew: another job's was in another folder."""
    for name in [one for one in sys.modules if one.partition(".")[0] == module]:
        del sys.modules[name]
