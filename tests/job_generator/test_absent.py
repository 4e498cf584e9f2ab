"""Words known from elsewhere are answered with what they are, why not, and the nearest thing that works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from job_generator.source import parse
from tests.job_generator.test_problems import OWN, complaints


@pytest.mark.parametrize(
    ("line", "place", "why", "nearest"),
    [
        ("strategy: {name: fedbuff}", "strategy.name", "asynchronous training", "spec.selection.extra"),
        ("strategy: {name: FedBuff, size: 3}", "strategy.name", "asynchronous training", "spec.selection.extra"),
        ("mode: asynchronous", "mode", "asynchronous training", "spec.selection.extra"),
        ("strategy: {name: fedavg, mode: async}", "strategy.mode", "asynchronous", "spec.selection.extra"),
        ("selection: {policy: {name: loss}}", "selection.policy.name", "by their losses", "the nearest is uniform"),
        ("selection: {policy: {name: power-of-choice}}", "selection.policy.name", "by their losses", "uniform"),
        ("combiners: 3", "combiners", "between the workers and the job's own", "{profile: cross-device}"),
        ("server: {combiner: {replicas: 2}}", "server.combiner", "the sum of a few", "cross-device"),
        ("compression: [{name: topk}]", "compression[0].name", "masks cancel only where all", "{bits: 16}, or float16"),
    ],
)  # fmt: skip
def test_known_words(job_text: Callable[..., str], line: str, place: str, why: str, nearest: str) -> None:
    """Each is refused in one sentence at its own place, with the field or the name to take instead."""
    (found,) = complaints(job_text(f"  {line}"))
    assert found.startswith(f"job.yaml:8: spec.{place}: ")
    assert why in found
    assert nearest in found
    assert found.endswith(f" {OWN}") or "leave it out" in found


@pytest.mark.parametrize("instead", ["selection: {extra: 1, perRound: 2}", "secureAggregation: {bits: 16}"])
def test_what_is_named_instead_works(job_text: Callable[..., str], instead: str) -> None:
    """The nearest things are fields that a job can have."""
    parse(job_text(f"  {instead}"), name="job.yaml").job()


def test_other_words_are_no_more_than_unknown(job_text: Callable[..., str]) -> None:
    """A mode that is not asynchronous, and names that only look alike, are told as any other."""
    for line in ("mode: fast", "strategy: {name: fedbuf}", "compression: [{name: top}]"):
        (found,) = complaints(job_text(f"  {line}"))
        assert "the nearest" not in found
