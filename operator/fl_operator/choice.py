"""Which attempt a job has: the one that is kept, a new one, or none where the spec is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from fl_operator.actions import Create, Note, Place, Seen, place_of
from fl_operator.attempt import Attempt, spec_digest
from fl_operator.cluster.resources import Object
from fl_operator.drift import differs
from fl_operator.trial import Trial, trials, unclassed, verdict
from job_generator import names
from job_generator.problems import InvalidJobError
from job_generator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The attempt to work with; without one nothing but `create` is done."""

    attempt: Attempt | None = None
    is_changed: bool = False
    """Whether the spec says something that this attempt cannot follow."""
    create: Create | None = None
    """What keeps an attempt."""
    refused: tuple[str, str] | None = None
    """Why there is none, for the conditions: a word and a sentence."""
    trials: tuple[Trial, ...] = ()
    unclassed: Object | None = None


def chosen(seen: Seen, settings: Settings) -> Choice:
    """The attempt that is kept goes on, whatever the spec says, unless it may change now."""
    kept = seen.attempt
    if kept is None and "attempt" in seen.job.get("status", {}):
        return _again(seen, settings)
    if kept is not None and kept.spec_digest == spec_digest(seen.job):
        return Choice(attempt=kept)
    if kept is not None and not _is_still(seen):
        # What is changed before the pods of a job that is suspended are gone is looked at when they are.
        return Choice(attempt=kept, is_changed=not seen.job["spec"].get("suspend", False))
    number, rounds = (kept.number + 1, kept.plan.rounds) if kept is not None else (1, None)
    try:
        made = Attempt.render(seen.job, settings, number=number, rounds=rounds)
    except InvalidJobError as error:
        return Choice(refused=("InvalidSpec", str(error)))
    if kept is not None and made.plan.digest != kept.plan.digest:
        return Choice(attempt=kept, is_changed=True)
    return _new(made, seen)


def _new(made: Attempt, seen: Seen) -> Choice:
    """It is made if its name is free, and the API server takes its templates."""
    if (place := _place(made)) in seen.taken:
        return Choice(refused=("NameTaken", taken(place)))
    if seen.unfit:
        return Choice(refused=verdict(seen.unfit))
    create = Create(made.object(seen.job))
    if said := seen.refused.get(place):
        return Choice(create=create, refused=("ChildRefused", said))
    tried = trials(made, seen.job["spec"])
    return Choice(attempt=made, create=create, trials=tried, unclassed=unclassed(made))


def _again(seen: Seen, settings: Settings) -> Choice:
    """What kept the attempt is gone: it is rendered once more, and the children are looked at when it is kept."""
    status = seen.job["status"]
    rounds = status.get("training", {}).get("rounds")
    try:
        made = Attempt.render(seen.job, settings, number=status["attempt"], rounds=rounds)
    except InvalidJobError as error:
        return Choice(refused=("InvalidSpec", str(error)))
    if (place := _place(made)) in seen.taken:
        return Choice(refused=("NameTaken", taken(place)))
    if made.plan.digest != status.get("planDigest") or not _made_the_pods(made, seen):
        return Choice(refused=("AttemptLost", _lost(place)))
    said = seen.refused.get(place)
    again = Create(made.object(seen.job), gone(place))
    return Choice(create=again, refused=("ChildRefused", said) if said else None)


def _made_the_pods(made: Attempt, seen: Seen) -> bool:
    """Whether the Jobs that are there have its templates, which no Job can change."""
    wanted = {place_of(child): child["spec"]["template"] for child in made.children if child["kind"] == "Job"}
    live = {place: child["spec"]["template"] for place, child in seen.children.items() if place in wanted}
    return not any(differs(wanted[place], template) for place, template in live.items())


def _is_still(seen: Seen) -> bool:
    """Whether no child has pods, also of a job that is to go on: what they are made from may change then."""
    jobs = [child for (kind, _), child in seen.children.items() if kind == "Job"]
    return all(child["spec"].get("suspend") for child in jobs)


def _place(made: Attempt) -> Place:
    return "ConfigMap", names.attempt(made.plan.job, made.number)


def gone(place: Place) -> Note:
    """An event about what somebody removed, and is there again."""
    return Note("Repaired", f"{' '.join(place)} was gone, and is made again", "Warning")


def taken(place: Place) -> str:
    """What to do about a name that somebody else's object has."""
    return f"{place[0]} {place[1]} exists and is not this job's; remove it, or give the job another name"


def _lost(place: Place) -> str:
    return (
        f"{place[0]} {place[1]}, which kept what the job is made of, is gone, and this operator makes something else "
        "of the spec; change back what was changed, restore the object, or make another job"
    )
