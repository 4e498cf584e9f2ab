"""Workers that were told their image: the record has it, and a site's policy holds it against its list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_generator.local.verification import envelope_in, verify
from tests.rounds.conftest import Run

pytestmark = pytest.mark.rounds

PINNED = f"registry.example/worker:1@sha256:{'ab' * 32}"
TAGGED = "registry.example/worker:1"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Start a process where this image is told, or none."""

    def start(image: str, process: Callable[..., Any], *args: Any, **options: Any) -> None:
        monkeypatch.setenv("FLJOB_IMAGE", image)
        process(*args, **options)
        monkeypatch.delenv("FLJOB_IMAGE")

    return start


@pytest.mark.parametrize("enabled", [False, True], ids=["plain", "secure"])
def test_each_round_names_the_images_of_its_workers(
    job: Callable[..., Run], told: Callable[..., None], *, enabled: bool
) -> None:
    """How many said which, and of the server its own; the record and its signature hold, and the plan's digest is that
    of a job that knows of none.
    """
    run = job(spec={"secureAggregation": {"enabled": enabled}}, selection={"minimum": 3})
    run.scheduler()
    told(TAGGED, run.server)
    told(PINNED, run.worker, 0, 1)
    run.worker(2)
    assert run.code("server") == 0, run.said("server")
    rows = run.rounds()
    assert [row["images"] for row in rows] == [{PINNED: 2}] * 4
    assert {row["software"]["image"] for row in rows} == {TAGGED}
    assert {row["plan"] for row in rows} == {run.plan.digest}
    verdict = verify(run.storage, run.plan, authorities=[run.authority.dump()[1]], over=True)
    assert (verdict.findings, envelope_in(run.storage) is not None) == ((), True)
    assert verdict.signed is not None
    found = verdict.signed["predicate"]["resolvedDependencies"]
    assert [(one["annotations"]["role"], one["uri"], "digest" in one) for one in found] == [
        ("server", f"docker://{TAGGED}", False),
        ("worker", f"docker://{PINNED}", True),
    ]


def test_a_worker_in_another_image_does_not_join(
    job: Callable[..., Run], told: Callable[..., None], tmp_path: Path
) -> None:
    """It ends with the code of what does not fit, and the sentence names file, key and image; the others train."""
    policy = tmp_path / "site.yaml"
    policy.write_text(f"secureAggregation: {{required: false}}\nimages: ['sha256:{'ab' * 32}']\n")
    run = job(selection={"joinSeconds": 1})
    run.scheduler()
    run.server()
    for index, image in enumerate((PINNED, PINNED, TAGGED)):
        told(image, run.worker, index, policy=str(policy))
    assert run.code("worker-2") == 67
    (said,) = [line for line in run.log("worker-2") if line["level"] == "error"]
    assert said["event"] == (
        f"this site's policy {policy} refuses the job: this worker's image is {TAGGED} (FLJOB_IMAGE); "
        f"images allows sha256:{'ab' * 32}"
    )
    assert run.code("server") == 0, run.said("server")
    assert [(row["reporters"], row["images"]) for row in run.rounds()] == [
        (["worker-0", "worker-1"], {PINNED: 2})
    ] * 4
