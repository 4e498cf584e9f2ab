"""What the operator reports of an FLJob: the types from which the CRD's status is made."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from job_generator.part import Part

Word = Annotated[str, Field(max_length=63)]
Count = Annotated[int, Field(ge=0)]


class Condition(Part):
    """One observation, as in every API of Kubernetes."""

    type: Annotated[str, Field(max_length=316)]
    """Compiled, Suspended, ServerReady, Ready, Degraded, Stalled, Complete or Failed."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the FLJob that was looked at."""

    last_transition_time: dt.datetime
    """When the status last changed."""

    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            examples=["Quorum"],
        ),
    ]
    """Why, in one word."""

    message: Annotated[str, Field(max_length=32_768)]
    """What happened, to whom, and what to do."""


class WorkerCounts(Part):
    """The workers, sites included."""

    replicas: Count = 0
    """How many there should be in the pool."""

    ready: Count = 0
    """How many have enrolled and are live."""

    lost: Count = 0
    """How many are lost for good."""

    selector: Annotated[str, Field(max_length=1024)] | None = None
    """The label selector of the pool's pods."""


MOST_ADVERSARY = 1024
"""Characters that say against whom an epsilon holds; that of a fork names its parents', too."""


class Training(Part):
    """How far the training is, as the server last said."""

    round: Count = 0
    """The last round that was committed."""

    rounds: Count = 0
    """How many there will be."""

    selected: Count | None = None
    """How many workers the last round asked."""

    reported: Count | None = None
    """How many of them handed in an update."""

    dropped: Count | None = None
    """How many of them did not."""

    metrics: Annotated[dict[str, float], Field(max_length=16)] = Field(default_factory=dict)
    """The newest global values of the program's metrics."""

    epsilon: Annotated[float, Field(ge=0)] | None = None
    """The privacy that was spent, when the job has differential privacy."""

    epsilon_covers: Literal["everything", "modelOnly"] | None = None
    """`modelOnly` where measurements of the model are released without noise, which epsilon does not cover."""

    epsilon_neighbours: Word | None = None
    """Which two sets of data epsilon compares: those that differ by one worker, or one example, in this way."""

    epsilon_adversary: Annotated[str, Field(max_length=MOST_ADVERSARY)] | None = None
    """Against whom epsilon holds."""

    last_round_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long the last round took."""


class Display(Part):
    """The texts that `kubectl get` shows, because its columns cannot put two values together."""

    state: Word | None = None
    """Pending, Starting, Running, Suspended, Complete or Failed."""

    reason: Annotated[str, Field(max_length=1024)] | None = None
    """Why the job is in this state, in one word."""

    round: Word | None = None
    """The last round and how many there are: 7/20."""

    cohort: Word | None = None
    """How many workers reported of those that were asked: 8/10."""

    metric: Annotated[str, Field(max_length=253)] | None = None
    """The target's metric, or the program's first: accuracy=0.97."""

    epsilon: Word | None = None
    """The privacy that was spent."""


class Status(Part):
    """What the operator reports."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the FLJob that this tells of."""

    attempt: Count | None = None
    """Which set of child objects runs; counted from 1."""

    plan_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The digest of the Plan that every pod was given."""

    images: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """The image of each role, as the attempt was frozen with it."""

    start_time: dt.datetime | None = None
    """When the job first had pods."""

    completion_time: dt.datetime | None = None
    """When the job ended."""

    workers: WorkerCounts | None = None
    """The workers, sites included."""

    training: Training | None = None
    """How far the training is, as the server last said."""

    display: Display | None = None
    """The texts that `kubectl get` shows."""

    conditions: Annotated[
        list[Condition],
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(default_factory=list)
    """What holds and what does not."""
