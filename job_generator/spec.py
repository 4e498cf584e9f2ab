"""An FLJob as its author writes it: `apiVersion: fljob.dev/v1alpha1`, `kind: FLJob`.

These types are the API: the custom resource definition, the JSON schema for editors, the texts of
`kubectl explain` and the reference page are generated from them. A field is here when it works.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, JsonValue

from job_generator import robustness, secrecy
from job_generator.choices import ATTRIBUTE, DOTTED, Choice, OneOf, default
from job_generator.deployment import MOST_SITES, Data, Network, Site, Source, Storage, Template
from job_generator.lifecycle import EarlyStopping, InitialModel, Target
from job_generator.part import NAME, Part, whole

API_VERSION: Final = "fljob.dev/v1alpha1"
KIND: Final = "FLJob"
LONGEST_NAME = 40
"""Kubernetes allows 63 characters, of which the names of children need the rest."""

MANAGER = "fljob.dev/operator"
YEAR = 31_536_000
"""In seconds."""


# -- the job


class Metadata(Part):
    """The job's name and what Kubernetes keeps beside it."""

    name: Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME, examples=["digits", "fraud-2"])]
    """Lower-case letters, digits and dashes; starts with a letter."""

    namespace: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, examples=["default"])
    ] = "default"
    """The namespace on a cluster; means nothing to a local run."""

    uid: Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9-]+$", examples=["4f0d-9e2a"])] | None = (
        None
    )
    """Given by the API server, or by `fl-submit run`; leave it out."""

    labels: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """Labels on a cluster."""

    annotations: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """Annotations on a cluster."""


class Program(Part):
    """The user's training code, loaded in the workers and nowhere else."""

    entrypoint: Annotated[
        str, Field(pattern=f"^{DOTTED}:{ATTRIBUTE}$", max_length=253, examples=["program:task"])
    ]
    """`module:function`; each worker calls it as `task(config, site)`."""

    framework: Literal["paddle", "sklearn", "numpy"] = "paddle"
    """What drives the program: Paddle, scikit-learn, or a plain object with three methods."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The digest of the program's files; every worker checks it before the first import."""

    source: Source | None = None
    """Where a cluster's workers find the program's files; without it the module is installed in their image."""

    config: Annotated[dict[str, JsonValue], Field(max_length=256)] = Field(default_factory=dict)
    """Passed to the program as it stands here."""


class Shortfall(Part):
    """What happens to a round that fewer than `minimum` workers finished."""

    action: Literal["Retry", "Skip", "Fail"] = "Retry"
    """Try the round again, go on without it, or fail the job."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often a round is tried in all before `Retry` fails the job."""


class Selection(Part):
    """Who takes part in each round, and how long a round waits for them."""

    policy: Annotated[Choice, OneOf("fl_core.selection")] = default("uniform", within="fl_core.selection")
    """How the scheduler chooses among the live workers."""

    per_round: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The cohort: how many updates close a round. All workers without it; needed beside `maxReplicas`."""

    extra: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Over-selection: so many more are asked, and the round closes with the first `perRound`."""

    minimum: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The quorum: the fewest updates a round may close with. Two thirds of `perRound` without it."""

    join_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How long the first round, once its quorum is there, waits for the other workers."""

    stall_seconds: Annotated[float, Field(gt=0, le=604_800)] | None = None
    """A worker that moves nothing for so long is given up; a transfer that moves is alive. 120 without it,
or `deadlineSeconds` where that is shorter."""

    deadline_seconds: Annotated[float, Field(gt=0, le=604_800)] = 1800
    """The end of a round's attempt, whatever still moves."""

    on_shortfall: Shortfall = whole(Shortfall)
    """What happens to a round that fewer than `minimum` workers finished."""


class SecureAggregation(Part):
    """Summing updates so that nobody, the server included, sees a single one."""

    enabled: bool = True
    """False: workers hand in their updates in the clear, to the server alone."""

    profile: Literal["cross-silo", "cross-device"] | None = None
    """`cross-silo`: everybody shares with everybody. `cross-device`: with some. By the cohort without it, from 101 on
`cross-device`."""

    tolerate: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """How many of a round's workers (of each bucket's) may be lost once their secrets are shared. Fewer than a third
without it."""

    bits: Literal[32, 16] = 32
    """Of one element on its way; 16 halve the upload and need `maxExamples` to be close to what workers have."""

    max_examples: Annotated[int, Field(ge=1, le=2**30)] = 65_536
    """An update counts as at most so many examples; the resolution of smaller ones falls with it."""

    buckets: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Fixed groups of workers that are summed apart, for a rule of `aggregation` to compare; who is hidden is hidden
in a group only."""


class Budget(Part):
    """How much may be learned of one worker from all that is released: the job ends before it would be more."""

    epsilon: Annotated[float, Field(gt=0, le=1000)]
    """The most that is spent; what it means is told by `fl-submit explain --security`."""

    delta: Annotated[float, Field(gt=0, le=0.1)]
    """The probability with which epsilon may fail; far below one in the number of those protected, such as 1e-5."""


class AdaptiveClip(Part):
    """The clip norm follows a quantile of the updates' norms, by votes of the workers that are summed with noise."""

    quantile: Annotated[float, Field(ge=0, le=1)] = 0.5
    """So large a share of the updates is to be no longer than the clip norm; 0.5 is the median."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Of the step of the norm's logarithm in a round."""

    count_noise: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Standard deviation of the noise on the number of those not longer; more than half of `noiseMultiplier`, which
takes a part of the update's budget. A twentieth of `perRound` without it, or `noiseMultiplier` where that is more."""


class Privacy(Part):
    """Differential privacy: what the models tell of one worker is bounded, counted, and never more than a budget."""

    unit: Literal["worker", "example"] = "worker"
    """Whose presence is hidden: a worker with all of its data, or one example of it. Every update counts the same."""

    mechanism: Annotated[Choice, OneOf("fl_core.privacy.mechanisms")]
    """How updates are bounded, and who adds the noise."""

    adaptive_clip: AdaptiveClip | None = None
    """The clip norm moves with the updates' lengths; the mechanism's `clip` is the first. It stays without this."""

    budget: Budget
    """How much may be learned of one worker from all that is released."""

    metrics: Literal["Released", "Suppressed"] = "Released"
    """The measurements of the global model: released without noise, so that epsilon covers the models only, or not
made at all."""


class Evaluation(Part):
    """When the workers measure the global model on their own test data."""

    every_rounds: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Every so many rounds, and always after the last one."""


class Checkpoint(Part):
    """When the server saves what it needs to go on after a restart."""

    every_rounds: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Every so many rounds, and always after the last one; a server that dies makes the rounds since then again. With
secure sums every round is saved, and of those between only the newest two stay."""

    keep: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many checkpoints of those that everyRounds asks for stay; an older one is used when the newest is damaged."""


class Server(Part):
    """The process that opens rounds and adds up updates."""

    checkpoint: Checkpoint = whole(Checkpoint)
    """When the server saves what it needs to go on after a restart."""

    storage: Storage = whole(Storage)
    """The volume, or the store of objects, for checkpoints, models and the record of rounds."""

    template: Template | None = None
    """The server's pod template."""


class Scheduler(Part):
    """The process that knows the workers and chooses each round's cohort."""

    template: Template | None = None
    """The scheduler's pod template."""


class Workers(Part):
    """The processes that train, each beside its own data."""

    replicas: Annotated[int, Field(ge=0, le=100_000)]
    """How many there are, sites not counted; `kubectl scale` changes it, up to `maxReplicas`."""

    max_replicas: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many there may ever be; the data is divided among so many. `replicas`, for good, without it."""

    restarts_per_worker: Annotated[int, Field(ge=0, le=10_000)] = 10
    """How often one that died is started again."""

    data: Data | None = None
    """The claim that holds their data; a local run has `--data`."""

    template: Template | None = None
    """The workers' pod template."""


class Spec(Part):
    """What is trained, how, and by whom."""

    suspend: bool = False
    """True: the job has no pods; a round that is open is ended first, or begun again later."""

    suspend_grace_seconds: Annotated[int, Field(ge=0, le=86_400)] = 30
    """How long an open round may take to end when the job is suspended."""

    managed_by: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9._~-]+$", max_length=63, examples=[MANAGER]
        ),
    ] = MANAGER
    """The controller that runs this job; others leave it alone."""

    active_deadline_seconds: Annotated[int, Field(ge=1, le=YEAR)] | None = None
    """The job fails when it is not complete within this time; time in which it is suspended does not count."""

    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=YEAR)] | None = None
    """The FLJob is deleted so long after its end; never without it."""

    pod_cleanup_policy: Literal["Running", "All", "None"] = "Running"
    """Which pods are deleted at the end of the job: those that still run, all, or none."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Initial weights, data order and selection follow from it; the same seed gives the same model."""

    program: Program
    """The user's training code, loaded in the workers and nowhere else."""

    rounds: Annotated[int, Field(ge=1, le=1_000_000)]
    """How many rounds are trained."""

    initial_model: InitialModel | None = None
    """A model's file from which the first round begins; a worker's initial weights without it."""

    target: Target | None = None
    """The value of a metric that ends the job before its last round."""

    early_stopping: EarlyStopping | None = None
    """Ends the job when the model gets no better; without it, no round is too many."""

    strategy: Annotated[Choice, OneOf("fl_core.strategies")] = default("fedavg", within="fl_core.strategies")
    """What workers do with the model, and how the server makes the next one."""

    aggregation: Annotated[Choice, OneOf("fl_core.aggregation")] = default(
        "mean", within="fl_core.aggregation"
    )
    """How updates are combined."""

    selection: Selection = whole(Selection)
    """Who takes part in each round, and how long a round waits for them."""

    compression: Annotated[list[Annotated[Choice, OneOf("fl_core.compression")]], Field(max_length=8)] = (
        Field(default_factory=list)
    )
    """Stages that make updates smaller, in their order."""

    secure_aggregation: SecureAggregation | None = None
    """How updates are summed so that nobody sees a single one. On without it, if three or more are in a round."""

    privacy: Privacy | None = None
    """Differential privacy: what the models tell of one worker is bounded, counted, and never more than a budget."""

    evaluation: Evaluation = whole(Evaluation)
    """When the workers measure the global model on their own test data."""

    pre_running_deadline_seconds: Annotated[float, Field(gt=0, le=604_800)] = 900
    """The job fails when `minimum` workers are not ready within this time."""

    server: Server = whole(Server)
    """The process that opens rounds and adds up updates."""

    scheduler: Scheduler = whole(Scheduler)
    """The process that knows the workers and chooses each round's cohort."""

    workers: Workers
    """The processes that train, each beside its own data."""

    sites: Annotated[
        list[Site],
        Field(
            max_length=MOST_SITES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list, json_schema_extra={"default": []})
    """Further workers, each with a place of its own."""

    network: Network = whole(Network)
    """Who may speak with the job's pods, and whom they may dial."""


class FLJob(Part):
    """One federated-learning job."""

    api_version: Literal["fljob.dev/v1alpha1"] = API_VERSION
    """The version of this API."""

    kind: Literal["FLJob"] = KIND
    """The kind of this object."""

    metadata: Metadata
    """The job's name and what Kubernetes keeps beside it."""

    spec: Spec
    """What is trained, how, and by whom."""

    @property
    def members(self) -> int:
        """How many workers there are, sites included."""
        return self.spec.workers.replicas + len(self.spec.sites)

    @property
    def capacity(self) -> int:
        """How many workers there may ever be, sites not included."""
        return self.spec.workers.max_replicas or self.spec.workers.replicas

    @property
    def per_round(self) -> int:
        """The cohort, with its default filled in."""
        return self.spec.selection.per_round or self.members

    @property
    def minimum(self) -> int:
        """The quorum, with its default filled in: two thirds of the cohort, rounded up; no sum opens with fewer.

        A rule that withstands hostile workers needs enough updates, or buckets whose sums open.
        """
        least = parts = robustness.parts_of(self.spec.aggregation.model_dump())
        if self.secure:
            least = secrecy.least_quorum(self.secure.model_dump(), self.per_round, parts=parts)
        return self.spec.selection.minimum or max(-(-2 * self.per_round // 3), least)

    @property
    def secure(self) -> SecureAggregation | None:
        """Secure aggregation, with its default filled in; None where it is off."""
        given = self.spec.secure_aggregation
        on = secrecy.is_on(given.model_dump() if given else None, self.per_round)
        return (given or SecureAggregation()) if on else None

    def identified(self, *, uid: str | None, program: str | None) -> Self:
        """The same job under this uid, bound to a program of this digest."""
        metadata = self.metadata.model_copy(update={"uid": uid})
        sealed = self.spec.program.model_copy(update={"sha256": program})
        spec = self.spec.model_copy(update={"program": sealed})
        return self.model_copy(update={"metadata": metadata, "spec": spec})

    def document(self) -> dict[str, Any]:
        """The job as YAML or JSON would hold it, with all defaults written out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
