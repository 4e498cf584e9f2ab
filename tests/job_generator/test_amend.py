from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_core.errors import SpecError
from job_generator.amend import amended, fork_of

Build = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("rounds=30", "rounds", 30),
        ("spec.rounds=30", "rounds", 30),
        ("selection.minimum=2", "selection.minimum", 2),
        ("strategy={name: fedprox, mu: 0.5}", "strategy", {"name": "fedprox", "mu": 0.5}),
        ("program.config.layers=[1, 2]", "program.config.layers", [1, 2]),
        ("program.config.note=a=b", "program.config.note", "a=b"),
        ("compression[1].bits=4", "compression", [{"name": "a"}, {"name": "b", "bits": 4}]),
    ],
)
def test_a_field_is_changed(job_map: Build, change: str, path: str, value: Any) -> None:
    """The value is YAML; the rest stays as it was, and so does the map that was given."""
    before = job_map(compression=[{"name": "a"}, {"name": "b"}])
    after = found = amended(before, [change]).value
    for step in ("spec", *path.split(".")):
        found = found[step]
    assert found == value
    assert after["metadata"] == before["metadata"]
    assert before == job_map(compression=[{"name": "a"}, {"name": "b"}])


@pytest.mark.parametrize("changes", [[], ["rounds=3"]])
def test_a_fork_without_a_round_to_train_says_what_to_add(job_map: Build, changes: list[str]) -> None:
    """The number that it names works."""
    done = 20 if not changes else 12
    origin = {"uri": "round.safetensors", "round": done}
    with pytest.raises(SpecError, match=f"none is left to train; add --set rounds={done + 1}, or more"):
        fork_of(job_map(), changes, name=None, origin=origin)
    job = fork_of(job_map(), [*changes, f"rounds={done + 1}"], name=None, origin=origin)
    assert job.spec.rounds == done + 1


def test_a_field_is_removed(job_map: Build) -> None:
    """Null takes a field away; later changes see what earlier ones did."""
    after = amended(job_map(), ["target={metric: loss, atMost: 1}", "target=null"]).value
    assert after == job_map()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("rounds", "expected path=value, such as rounds=30"),
        ("=3", "expected path=value"),
        ("a..b=3", "expected path=value"),
        ("rounds=[1", "this is not YAML"),
        ("rounds={a: 1, a: 2}", "stands twice"),
        ("metadata.uid=x", "metadata.uid is not for a fork to change"),
        ("initialModel.round=3", "spec.initialModel.round is not for a fork to change"),
        ("spec={}", "spec is not for a fork to change"),
        ("compression[3].name=x", "there is no spec.compression[3]"),
        ("rounds.first=1", "spec.rounds is 20, not a map"),
    ],
)
def test_a_change_that_says_nothing(job_map: Build, change: str, complaint: str) -> None:
    """What is wrong is said with the change itself."""
    with pytest.raises(SpecError) as error:
        amended(job_map(), [change])
    assert complaint in str(error.value)


def test_a_field_that_is_none(job_map: Build) -> None:
    """The schema judges what was made: the nearest name is suggested, and the change is named as the place."""
    with pytest.raises(
        SpecError,
        match=r"^--set stratgy.name=fedavg: spec.stratgy: there is no such field .did you mean strategy",
    ):
        amended(job_map(), ["stratgy.name=fedavg"]).job()


def test_a_fork_has_a_store_of_its_own(job_map: Build) -> None:
    """What the parent keeps its storage in is not taken over; the sentence says how to name another."""
    before = job_map(server={"storage": {"uri": "s3://models/digits"}})
    origin = {"uri": "round-0000001.safetensors", "round": 1}
    with pytest.raises(SpecError, match=r"spec.server.storage.uri: s3://models/digits is the parent's"):
        fork_of(before, [], name="fork", origin=origin)
    job = fork_of(before, ["server.storage.uri=s3://models/fork"], name="fork", origin=origin)
    assert job.spec.server.storage.uri == "s3://models/fork"
