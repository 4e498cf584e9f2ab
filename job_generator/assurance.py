"""What a job protects, against whom, and what it does not: the sentences of `fl-submit explain --security`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fl_core.aggregation import Robust, rule_of
from fl_core.plan import Plan, Privacy, SecureAggregation
from fl_core.privacy.job import mechanism_of, opening_of
from fl_core.secagg.job import cohort_of, most_of, terms_of
from fl_core.secagg.terms import Terms

Verdict = Literal["protected", "conditional", "open"]


FALSE_ALARMS = 0.01
"""Of somebody who guesses, as in docs/explanation/privacy.md."""


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
        *_poison(plan),
        _users(plan),
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
            "that must not trust the cluster run outside of it (spec.sites[].external). Which image a worker runs in "
            "is what whoever started it told it: a policy's list of images finds a wrong one, and no lie.",
        ),
    )


def _poison(plan: Plan) -> tuple[Claim, ...]:
    """How many workers may hand in anything; the server says it of a class of the user's own."""
    rule = None if ":" in plan.aggregation.name else rule_of(plan.aggregation)
    if not isinstance(rule, Robust):
        return ()
    hostile, buckets = plan.aggregation.options["hostile"], plan.secure_aggregation
    among = f"sums of {buckets.buckets} buckets" if buckets else "updates of single workers"
    return (
        Claim(
            "workers that hand in false updates",
            "conditional",
            f"{plan.aggregation.name} compares the {among} and withstands {hostile} such workers, not more; where the "
            "honest workers' data differ much, it also takes what they have of their own for false. What they say they "
            "measured is added up as it is.",
        ),
    )


def _users(plan: Plan) -> Claim:
    """What the model itself tells."""
    own, whom = plan.privacy, "whoever uses the model"
    if own is None:
        return Claim(
            whom,
            "open",
            "The model is released as it is, without differential privacy: who has it can test whether it has seen a "
            "record, and it may repeat some of what it has seen. spec.privacy would bound that.",
        )
    told = opening_of(plan)
    uncovered = (
        "Measurements of the model are released without noise and are not covered (spec.privacy.metrics)."
        if own.measured
        else "Nothing else is released: nobody measures the model."
    )
    begun = plan.initial_model is not None and plan.initial_model.round is None
    apart = (
        " What the model that it begins with tells of the same data is not counted (spec.initialModel)."
        if begun
        else ""
    )
    whose = "one worker, with all of its data" if own.unit == "worker" else "one example of a worker"
    return Claim(
        whom,
        "conditional" if own.measured or begun else "protected",
        f"By {own.mechanism.name} noise, what all models of the job together tell of {whose}, "
        f"is bounded: epsilon {own.epsilon:g} at most, at delta {own.delta:g}, for data sets that differ by "
        f"{told.neighbours} {own.unit}. {_within(own)} That holds against {told.adversary}{_once(plan)}. "
        f"{uncovered}{apart} What all workers' data have in common is learned, and is meant to be.",
    )


def _once(plan: Plan) -> str:
    """What a server must keep to that gets each worker's update with all of its noise."""
    alone = mechanism_of(plan).noise == "worker" and plan.secure_aggregation is None
    return ", as long as the server asks for each round once" if alone else ""


def _within(own: Privacy) -> str:
    """What the budget means to somebody who guesses whether one worker took part."""
    right = math.exp(own.epsilon) * FALSE_ALARMS + own.delta
    if right >= 1:
        return (
            "So large an epsilon promises nothing by itself; that attacks do worse is experience, not proof."
        )
    return f"Who guesses whether one took part, with {FALSE_ALARMS:.0%} false alarms, is right in at most {right:.1%}."


def _plain(plan: Plan) -> tuple[Claim, ...]:
    if plan.privacy is not None and mechanism_of(plan).noise == "worker":
        return (
            Claim(
                "the server",
                "protected" if not plan.privacy.measured else "conditional",
                f"It sees each worker's update with all of the noise that hides the {plan.privacy.unit} already"
                + (", and its measurements of the model, without noise." if plan.privacy.measured else "."),
            ),
        )
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
    cohort, terms = cohort_of(plan), terms_of(plan)
    parameters = terms.parameters(cohort)
    least = terms.survivors(cohort)
    what = f"the sum over at least {least} workers"
    if secure.buckets > 1:
        what = (
            f"{secure.buckets} sums, one of each bucket of about {cohort} workers, over at least {least} of them, and "
            f"not only one over all {plan.selection.per_round} (spec.secureAggregation.buckets)"
        )
    claims = [
        Claim(
            "a server that follows the protocol and keeps what it sees",
            "protected",
            f"Of each round it learns {what}: updates, examples and measurements "
            "together. Nothing else of a single one, whoever drops out, and even if "
            f"{_curious(terms, cohort)} told it all they know. "
            f"{_counts(plan)}",
        )
    ]
    if secure.profile == "cross-silo":
        claims.append(
            Claim(
                "a server that cheats",
                "conditional",
                f"No update is in two different sums of one round ({parameters.threshold} of {cohort} must sign the "
                f"same workers), {_helped(terms.helping(most_of(plan)))}, however few it lists; but it could choose "
                f"whom it asks, and what they train. {_two_rounds(plan)}So it holds only for "
                "sites that run their own workers, under a policy file of their own (fl-worker --policy), which can "
                "name the programs and the images that are allowed there.",
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
    noisy = ", but for the noise" if plan.privacy else ". More workers, or differential privacy, help"
    claims.append(
        Claim(
            "the other workers",
            "conditional",
            f"Each sees the models of the rounds it takes part in, so with {least} in a sum the other {least - 1} "
            f"together could subtract their own and know the last one's{noisy}.",
        )
    )
    return tuple(claims)


def _counts(plan: Plan) -> str:
    """What two rounds tell of who is in one of them only, with nobody cheating."""
    if plan.privacy is None:
        return (
            "How many examples a worker has is no secret: each round's number of them is told, and of two rounds that "
            "differ by one worker the difference is its own."
        )
    if plan.privacy.measured:
        return (
            "With how many examples a worker measures is no secret: of two rounds that differ by one worker the "
            "difference is its own."
        )
    return ""


def _two_rounds(plan: Plan) -> str:
    """What a server gets that asks for the same twice, of workers that differ by one."""
    if plan.privacy is not None and not plan.privacy.measured:
        return ""
    gradient = plan.privacy is None and plan.strategy.name == "fedsgd"
    more = ", and with fedsgd its update but for what public rounding adds" if gradient else ""
    return (
        "Two rounds suffice: no policy hinders it from showing the same model in both, to workers that differ by one; "
        f"the difference is that worker's exact loss and number of examples{more}. "
    )


def _curious(terms: Terms, cohort: int) -> str:
    most = terms.curious(cohort)
    if terms.profile == "cross-device":
        return f"{most} of the workers ({terms.corrupt_share:.0%} of {terms.cohort})"
    return f"{most} of the workers" if most > 1 else "one of the workers"


def _helped(most: int) -> str:
    if most > 1:
        return f"with up to {most} workers who help it"
    return "with one worker who helps it" if most else "if no worker helps it"
