"""What a job protects, against whom, and what it does not: the sentences of `fl-submit explain --security`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fl_core.plan import Plan, SecureAggregation
from fl_core.secagg.terms import Terms

Verdict = Literal["protected", "conditional", "open"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Against whom, how far, and why."""

    against: str
    verdict: Verdict
    sentence: str


def assurance(plan: Plan) -> tuple[Claim, ...]:
    """All claims about one job, from the outside inwards."""
    secure = plan.secure_aggregation
    return (
        Claim(
            "anybody on the network",
            "protected",
            "All connections are TLS in both directions; who speaks is taken from a certificate of this job. Data "
            "never leaves its worker: only models, updates and measurements travel.",
        ),
        *(_secure(plan, secure) if secure else _plain(plan)),
        Claim(
            "whoever uses the model",
            "open",
            "The model is released as it is, without differential privacy: who has it can test whether it has seen a "
            "record, and it may repeat some of what it has seen.",
        ),
        Claim(
            "an author of the program",
            "open",
            "The program runs beside the data and may do with it what it likes within the worker; read it before you "
            "allow its digest"
            + (
                f" ({plan.program.sha256[:12]}…)."
                if plan.program.sha256
                else ", which this job does not give."
            ),
        ),
        Claim(
            "an administrator of the cluster",
            "open",
            "Who controls the machines, the images or the certificate authority can read whatever is on them. Workers "
            "that must not trust the cluster run outside of it (spec.sites[].external).",
        ),
    )


def _plain(plan: Plan) -> tuple[Claim, ...]:
    why = "" if plan.selection.per_round >= Terms().floor else ", which needs three workers in a round"
    return (
        Claim(
            "the server",
            "open",
            "It sees each worker's update, number of examples and measurements. From a single update training data can "
            f"be reconstructed. Secure aggregation{why}, would hide it: spec.secureAggregation: {{enabled: true}}.",
        ),
    )


def _secure(plan: Plan, secure: SecureAggregation) -> tuple[Claim, ...]:
    cohort, quorum = plan.selection.per_round, plan.selection.minimum
    terms = Terms(profile=secure.profile, minimum=quorum, tolerate=secure.tolerate)
    parameters = terms.parameters(cohort)
    least = terms.survivors(cohort)
    claims = [
        Claim(
            "a server that follows the protocol and keeps what it sees",
            "protected",
            f"Of each round it learns the sum over at least {least} workers: updates, examples and measurements "
            "together. Nothing of a single one, whoever drops out, and even if "
            f"{_curious(min(parameters.threshold - 1, least - 2), secure.profile)} told it all they know.",
        )
    ]
    if secure.profile == "cross-silo":
        corrupt = 2 * parameters.threshold - cohort - 1
        helped = f"with up to {corrupt} workers who help it" if corrupt else "if no worker helps it"
        claims.append(
            Claim(
                "a server that cheats",
                "conditional",
                f"Two different sums of one round never open ({parameters.threshold} of {cohort} must sign the same "
                f"workers), {helped}; but it could choose whom it asks, and what they train. So it holds only for "
                "sites that run their own workers, under a policy file of their own (fl-worker --policy).",
            )
        )
    else:
        claims.append(
            Claim(
                "a server that cheats",
                "open",
                "The cross-device profile is for a server that follows the protocol; cross-silo is for others, too.",
            )
        )
    claims.append(
        Claim(
            "the other workers",
            "conditional",
            f"Each sees the models of the rounds it takes part in, so with {least} in a sum the other {least - 1} "
            "together could subtract their own and know the last one's. More workers, or differential privacy, help.",
        )
    )
    return tuple(claims)


def _curious(most: int, profile: str) -> str:
    if profile == "cross-device":
        return f"{Terms().corrupt_share:.0%} of the workers"
    return f"{most} of the workers" if most > 1 else "one of the workers"
