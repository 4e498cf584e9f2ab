"""The compiler: an FLJob becomes the Plan that every process reads.

It is pure: the same job gives the same bytes, here and in the operator. The Plan does not grow with the
number of workers, and what may change while a job runs (suspend, replicas, deadlines) is not in it; `rounds`
may only be lowered, and the server is told of that.
"""

from __future__ import annotations

import uuid
from typing import cast

from fl_core import plan
from job_generator import privacy, secrecy
from job_generator.lifecycle import EarlyStopping, InitialModel, Target
from job_generator.outlay import check_budget
from job_generator.problems import InvalidJobError
from job_generator.rules import broken
from job_generator.spec import FLJob, Privacy, Selection

STALL_SECONDS = 120.0
"""The default of `stallSeconds`."""

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "fljob.dev")


def compile_job(job: FLJob) -> plan.Plan:
    """Compile a job; raises InvalidJobError when its fields do not fit each other.

    Without `metadata.uid` the uid follows from namespace and name, so that the same file gives the same Plan.
    """
    if problems := list(broken(job.document())):
        raise InvalidJobError(problems)
    spec = job.spec
    compiled = plan.Plan(
        job=_identity(job),
        seed=spec.seed,
        rounds=spec.rounds,
        initial_model=_initial(spec.initial_model),
        target=_target(spec.target),
        early_stopping=_early(spec.early_stopping),
        program=plan.Program(**spec.program.model_dump(exclude={"source"})),
        strategy=spec.strategy.extension(),
        aggregation=spec.aggregation.extension(),
        compression=tuple(stage.extension() for stage in spec.compression),
        secure_aggregation=_secure(job),
        privacy=_privacy(job),
        selection=_selection(job, spec.selection),
        evaluation_every=spec.evaluation.every_rounds if _measured(job) else 0,
        checkpoint=plan.Checkpoint(**spec.server.checkpoint.model_dump()),
        workers=job.capacity + len(spec.sites),
        sites=_sites(job),
        ready_seconds=spec.pre_running_deadline_seconds,
    )
    check_budget(compiled)
    return compiled


def _identity(job: FLJob) -> plan.Job:
    name, namespace = job.metadata.name, job.metadata.namespace
    uid = job.metadata.uid or str(uuid.uuid5(NAMESPACE, f"{namespace}/{name}"))
    return plan.Job(name=name, namespace=namespace, uid=uid)


def _sites(job: FLJob) -> tuple[plan.Site, ...]:
    """The sites by name, so that their numbers do not depend on the order in which they stand."""
    ordered = sorted(job.spec.sites, key=lambda site: site.name)
    return tuple(
        plan.Site(name=site.name, index=job.capacity + number, external=site.external is not None)
        for number, site in enumerate(ordered)
    )


def _secure(job: FLJob) -> plan.SecureAggregation | None:
    if job.secure is None:
        return None
    given = job.secure.model_dump(exclude={"enabled"})
    return plan.SecureAggregation(**{**given, "profile": secrecy.profile_of(given, job.per_round)})


def _privacy(job: FLJob) -> plan.Privacy | None:
    given = job.spec.privacy
    if given is None:
        return None
    return plan.Privacy(
        unit=given.unit,
        mechanism=given.mechanism.extension(),
        adaptive_clip=_adaptive(given, job.per_round),
        epsilon=given.budget.epsilon,
        delta=given.budget.delta,
        corrupt=privacy.corrupt_of(job.per_round),
        measured=_measured(job),
    )


def _adaptive(given: Privacy, cohort: int) -> plan.AdaptiveClip | None:
    """The paper's noise on the count, a twentieth of the cohort, but enough to leave most of the budget for updates."""
    if given.adaptive_clip is None:
        return None
    noise = cast("float", given.mechanism.extension().options["noise_multiplier"])
    own = given.adaptive_clip.model_dump(exclude_none=True)
    return plan.AdaptiveClip(**{"count_noise": max(cohort / 20, noise), **own})


def _measured(job: FLJob) -> bool:
    return job.spec.privacy is None or job.spec.privacy.metrics == "Released"


def _initial(given: InitialModel | None) -> plan.InitialModel | None:
    """What the file is; where it lies is the server's alone to know."""
    return plan.InitialModel(sha256=given.sha256, round=given.round) if given else None


def _target(target: Target | None) -> plan.Target | None:
    return plan.Target(**target.model_dump()) if target else None


def _early(given: EarlyStopping | None) -> plan.EarlyStopping | None:
    return plan.EarlyStopping(**given.model_dump()) if given else None


def _selection(job: FLJob, selection: Selection) -> plan.Selection:
    return plan.Selection(
        policy=selection.policy.extension(),
        per_round=job.per_round,
        extra=selection.extra,
        minimum=job.minimum,
        join_seconds=selection.join_seconds,
        stall_seconds=selection.stall_seconds or min(STALL_SECONDS, selection.deadline_seconds),
        deadline_seconds=selection.deadline_seconds,
        on_shortfall=plan.Shortfall(**selection.on_shortfall.model_dump()),
    )
