from __future__ import annotations

import pytest
from pydantic import ValidationError

from job_generator.schema import status_schema
from job_generator.status import Status

WHOLE = {
    "observedGeneration": 3,
    "attempt": 1,
    "planDigest": "0123456789abcdef" * 4,
    "images": {"server": "fljob:1", "worker": "fljob-worker-paddle:1"},
    "startTime": "2026-01-01T00:00:00Z",
    "completionTime": None,
    "workers": {"replicas": 10, "ready": 9, "lost": 1, "selector": "fljob.dev/job=digits"},
    "training": {
        "round": 7, "rounds": 20, "selected": 10, "reported": 8, "dropped": 2, "metrics": {"accuracy": 0.97},
        "epsilon": 1.5, "epsilonCovers": "modelOnly", "epsilonNeighbours": "add or remove one",
        "epsilonAdversary": "everyone", "lastRoundSeconds": 2.5,
    },
    "display": {
        "state": "Running", "reason": "Training", "round": "7/20", "cohort": "8/10", "metric": "accuracy=0.97",
        "epsilon": "1.5",
    },
    "conditions": [
        {
            "type": "Ready", "status": "True", "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "Quorum", "message": "9 of 10 workers are live",
        }
    ],
}  # fmt: skip


def test_every_field() -> None:
    """A status that sets every field is one, and there is no other field."""
    status = Status.model_validate(WHOLE)
    assert status.training is not None
    assert status.training.metrics == {"accuracy": 0.97}
    properties = status_schema()["properties"]
    assert set(properties) == set(WHOLE)
    for name in ("workers", "training", "display"):
        assert set(properties[name]["properties"]) == set(WHOLE[name])  # type: ignore[call-overload]


def test_nothing_is_known_yet() -> None:
    """On the first visit nothing has to be said."""
    assert Status.model_validate({}).conditions == []


@pytest.mark.parametrize(
    "wrong",
    [{"state": "Running"}, {"attempt": -1}, {"planDigest": "abc"}, {"conditions": [{"type": "Ready"}]}],
)
def test_refused(wrong: dict[str, object]) -> None:
    """Unknown fields and values out of bounds are refused, as the API server will."""
    with pytest.raises(ValidationError):
        Status.model_validate(wrong)


def test_described() -> None:
    """Each field says what it is for, in a sentence: `kubectl explain fljob.status` shows it."""
    schema = status_schema()
    inner = [schema["properties"][name] for name in ("workers", "training", "display")]
    inner.append(schema["properties"]["conditions"]["items"])
    for one in (schema, *inner):
        assert all(
            field["description"].endswith(".") or ":" in field["description"]
            for field in one["properties"].values()
        )
