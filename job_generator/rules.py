"""What a schema cannot say: the fields of a job that must fit each other.

Each rule looks at a few fields, the first of which is the one to blame, and is asked only when none
of them is wrong by itself. It takes their values, and says what is wrong with them, or None. What CEL can
say of them is in `admission.py` too, so that the API server refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from ipaddress import ip_network
from typing import Any

from fl_core.secagg.buckets import smallest
from job_generator import privacy, robustness, secrecy
from job_generator.problems import Problem
from job_generator.schema import Path, alternatives, node

Map = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A sentence about the values of some fields."""

    fields: tuple[str, ...]
    complaint: Callable[..., str | None]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The fields as paths."""
        return tuple(tuple(field.split(".")) for field in self.fields)


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers a job has, and the words for it."""

    replicas: int
    sites: int

    @property
    def count(self) -> int:
        """The pool and the sites."""
        return self.replicas + self.sites

    def __str__(self) -> str:
        return "spec.workers.replicas" + (" and spec.sites together" if self.sites else "")


def broken(document: Any, *, wrong: Collection[Path] = ()) -> Iterator[Problem]:  # noqa: ANN401 - any JSON value
    """The rules that a document breaks, but for those about fields that are `wrong` already."""
    for rule in RULES:
        if _spoilt(rule.paths, wrong):
            continue
        complaint = rule.complaint(*(_value(document, path) for path in rule.paths))
        if complaint:
            yield Problem(rule.paths[0], complaint)
    for path, broken_items in ((SITES, _broken_sites), (EGRESS, _broken_blocks)):
        if not _spoilt((path,), wrong):
            yield from broken_items(_value(document, path) or ())


def _spoilt(paths: Collection[Path], wrong: Collection[Path]) -> bool:
    """Tell whether a field cannot be judged: it is wrong, stands in what is wrong, or holds what is wrong."""
    return any(
        path[: len(other)] == other or (path in WHOLE and other[: len(path)] == path)
        for path in paths
        for other in wrong
    )


def _value(document: Any, path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """What stands at the path, or its default."""
    for step in path:
        if not isinstance(document, dict) or step not in document:
            return _default(path)
        document = document[step]
    return document


@cache
def _default(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    return (node(path, {}) or {}).get("default")


# -- the selection


def _cohort(per_round: int | None, replicas: int, sites: Sequence[Map]) -> str | None:
    workers = Workers(replicas, len(sites))
    if per_round is None or per_round <= workers.count:
        return None
    return f"{per_round} is more than {workers}, {workers.count}; expected 1 to {workers.count}"


def _spare(extra: int, per_round: int | None, replicas: int, sites: Sequence[Map]) -> str | None:
    workers = Workers(replicas, len(sites))
    cohort = per_round or workers.count
    if not extra or cohort + extra <= workers.count or cohort > workers.count:
        return None
    verb = "are" if workers.sites else "is"
    return (
        f"{extra} more than the cohort of {cohort} makes {cohort + extra}, but {workers} "
        f"{verb} {workers.count}; expected 0 to {workers.count - cohort}"
    )


def _quorum(minimum: int | None, per_round: int | None, replicas: int, sites: Sequence[Map]) -> str | None:
    workers = Workers(replicas, len(sites))
    cohort = per_round or workers.count
    if minimum is None or minimum <= cohort:
        return None
    name = "spec.selection.perRound" if per_round else f"the cohort, all of {workers}"
    return f"{minimum} is more than {name}, {cohort}; expected 1 to {cohort}"


def _of_cohort(complaint: Callable[..., str | None]) -> Callable[..., str | None]:
    """A rule whose last three fields, `COHORT`, are one number: how many workers a round asks, spare ones apart."""

    @wraps(complaint)
    def complain(*values: Any) -> str | None:  # noqa: ANN401 - any JSON value
        *others, per_round, replicas, sites = values
        return complaint(*others, per_round or Workers(replicas, len(sites)).count)

    return complain


def _secure(given: Map | None, extra: int, cohort: int) -> str | None:
    return secrecy.cohort_complaint(given, cohort, cohort + extra)


def _secure_quorum(minimum: int | None, given: Map | None, rule: Map, cohort: int) -> str | None:
    parts = robustness.parts_of(rule) if secrecy.buckets_of(given) > 1 else 1
    return secrecy.quorum_complaint(minimum, given, cohort, parts=parts)


def _lossless(strategy: Map, framework: str) -> str | None:
    """Strategies ask a program for more than it gives, where its loss is its own."""
    name, paddle = strategy.get("name"), "expected fedavg, or spec.program.framework: paddle"
    if name == "fedprox" and strategy.get("mu", 0) > 0 and framework in {"numpy", "sklearn"}:
        return f"fedprox adds a term to the loss, which a program of {framework} keeps to itself; {paddle}"
    if name == "fedsgd" and framework == "sklearn":
        return f"fedsgd needs the gradient of the loss, which scikit-learn's estimators do not give; {paddle}"
    return None


def _buckets(
    buckets: int,
    given: Map | None,
    private: Map | None,
    most: int | None,
    per_round: int | None,
    replicas: int,
    sites: Sequence[Map],
) -> str | None:
    room, cohort = most or replicas, per_round or Workers(replicas, len(sites)).count
    apart = [range(replicas), range(room, room + len(sites))]  # numbers of the pool, and then of the sites
    numbers = apart if room > replicas else [range(replicas + len(sites))]
    return secrecy.bucket_complaint(buckets, given, private, cohort, smallest(numbers, buckets))


def _times(stall: float | None, deadline: float) -> str | None:
    if stall is None or stall <= deadline:
        return None
    return f"{stall:g} is longer than spec.selection.deadlineSeconds, {deadline:g}; expected at most that"


# -- one of several


def _one_side(target: Map | None) -> str | None:
    return None if target is None else _one_of(target, "atLeast", "atMost")


def _one_source(source: Map | None) -> str | None:
    return None if source is None else _one_of(source, "configMap", "image", "persistentVolumeClaim")


def _one_model(given: Map | None) -> str | None:
    return None if given is None else _one_of(given, "uri", "persistentVolumeClaim", "configMap", "store")


def _further(rounds: int, given: Map | None) -> str | None:
    done = (given or {}).get("round")
    if done is None or rounds > done:
        return None
    return (
        f"{rounds} counts all rounds, and spec.initialModel.round says that {done} are done; "
        f"expected at least {done + 1}"
    )


def _one_of(value: Map, *names: str) -> str | None:
    given = [name for name in names if value.get(name) is not None]
    if len(given) == 1:
        return None
    if not given:
        neither = "neither" if len(names) == 2 else "none"  # noqa: PLR2004 - grammar
        return f"names {neither} of {alternatives(names, last='and')}; expected one of them"
    both = "both of " if len(names) == len(given) == 2 else ""  # noqa: PLR2004 - grammar
    return f"names {both}{alternatives(given, last='and')}; expected one of them"


# -- workers and sites


def _anybody(replicas: int, sites: Sequence[Map]) -> str | None:
    if replicas or sites:
        return None
    return "0, and there is no site in spec.sites; expected at least one worker"


def _room(most: int | None, replicas: int) -> str | None:
    if most is None or replicas <= most:
        return None
    return f"{most} is less than spec.workers.replicas, {replicas}; expected at least that"


def _fixed_cohort(per_round: int | None, most: int | None) -> str | None:
    if most is None or per_round is not None:
        return None
    return "is missing; with spec.workers.maxReplicas the workers change, so expected a cohort that does not"


def _listener(external: Map | None, sites: Sequence[Map]) -> str | None:
    outside = [site["name"] for site in sites if site.get("external") is not None]
    if outside and external is None:
        return f"is missing, but the site {outside[0]} is external; expected a map with its hostname"
    if external is not None and not outside:
        return "is given, but no site in spec.sites is external; expected such a site, or leave it out"
    return None


def _open_egress(egress: Sequence[Map], policy: str) -> str | None:
    if not egress or policy == "Isolated":
        return None
    return "is given, but under spec.network.policy Open every address may be dialled; expected Isolated, or no list"


def _claim(claim: str | None, storage: Map | None) -> str | None:
    words = _of_a_volume(storage, "size", "storageClassName")
    if claim is None or not words:
        return None
    return (
        f"{claim} is a claim that is there already, so {words} mean nothing to it; expected one or the other"
    )


def _store(uri: str | None, storage: Map | None) -> str | None:
    words = _of_a_volume(storage, "size", "storageClassName", "existingClaim")
    if uri is None or not words:
        return None
    return f"{uri} is a store of objects, so {words} mean nothing to it; expected one or the other"


def _of_a_volume(storage: Map | None, *fields: str) -> str:
    """Which of these fields are given, in words, and whether the volume is deleted at the end."""
    given = storage or {}
    named = [name for name in fields if given.get(name) is not None]
    named += ["onDelete: Delete"] if given.get("onDelete") == "Delete" else []
    return alternatives(named, last="and") if named else ""


def _secret(secret: str | None, uri: str | None) -> str | None:
    if secret is None or uri is not None:
        return None
    return f"{secret} is for a store of objects, and there is no spec.server.storage.uri; expected both or neither"


def _broken_sites(sites: Sequence[Map]) -> Iterator[Problem]:
    """The sites that share a name, or are outside and described as if they were inside."""
    seen: set[str] = set()
    for number, site in enumerate(sites):
        name = site["name"]
        if name in seen:
            yield Problem(
                (*SITES, number, "name"), f"{name} is the name of another site; expected one of its own"
            )
        seen.add(name)
        held = [field for field in ("data", "template") if site.get(field) is not None]
        if held and site.get("external") is not None:
            yield Problem(
                (*SITES, number, held[0]),
                f"is given, but {name} is external and has its own; expected one of external and {held[0]}",
            )


def _broken_blocks(egress: Sequence[Map]) -> Iterator[Problem]:
    """The blocks of addresses that are none, or name an address within one."""
    for number, one in enumerate(egress):
        cidr = one["cidr"]
        try:
            ip_network(cidr)
        except ValueError:
            yield Problem(
                (*EGRESS, number, "cidr"), f"{cidr} is no block of addresses; expected one such as 10.0.0.0/8"
            )


REPLICAS = "spec.workers.replicas"
MOST = "spec.workers.maxReplicas"
SITES: Path = ("spec", "sites")
EGRESS: Path = ("spec", "network", "egress")
INITIAL = "spec.initialModel"
MECHANISM = "spec.privacy.mechanism"
PRIVACY: Path = ("spec", "privacy")
STAGES: Path = ("spec", "compression")
SECRECY: Path = ("spec", "secureAggregation")
RULE: Path = ("spec", "aggregation")
MODEL: Path = ("spec", "initialModel")
WHOLE = {SITES, EGRESS, STAGES, SECRECY, PRIVACY, RULE, MODEL}
"""What rules look at with all that is in it."""
PER_ROUND = "spec.selection.perRound"
SECURE = "spec.secureAggregation"
AGGREGATION = "spec.aggregation"
COHORT = (PER_ROUND, REPLICAS, "spec.sites")

RULES = (
    Rule((REPLICAS, "spec.sites"), _anybody),
    Rule(COHORT, _cohort),
    Rule(("spec.selection.extra", *COHORT), _spare),
    Rule(("spec.selection.minimum", *COHORT), _quorum),
    Rule((SECURE, "spec.selection.extra", *COHORT), _of_cohort(_secure)),
    Rule(("spec.secureAggregation.buckets", SECURE, "spec.privacy", MOST, *COHORT), _buckets),
    Rule(("spec.selection.extra", SECURE), secrecy.spare_complaint),
    Rule((AGGREGATION, SECURE, "spec.privacy", *COHORT), _of_cohort(robustness.rule_complaint)),
    Rule(("spec.selection.minimum", SECURE, AGGREGATION, *COHORT), _of_cohort(_secure_quorum)),
    Rule(("spec.selection.minimum", AGGREGATION, SECURE, *COHORT), _of_cohort(robustness.quorum_complaint)),
    Rule(("spec.compression", SECURE, *COHORT), _of_cohort(secrecy.compression_complaint)),
    Rule((MECHANISM,), privacy.mechanism_complaint),
    Rule(("spec.privacy.unit", MECHANISM), privacy.unit_complaint),
    Rule(("spec.program.framework", MECHANISM), privacy.program_complaint),
    Rule(("spec.strategy", "spec.program.framework"), _lossless),
    Rule(("spec.strategy", MECHANISM), privacy.strategy_complaint),
    Rule((MECHANISM, SECURE, *COHORT), _of_cohort(privacy.trust_complaint)),
    Rule(
        ("spec.secureAggregation.tolerate", MECHANISM, SECURE, *COHORT),
        _of_cohort(privacy.tolerate_complaint),
    ),
    Rule(("spec.privacy.adaptiveClip", MECHANISM, SECURE, *COHORT), _of_cohort(privacy.adaptive_complaint)),
    Rule(("spec.compression", "spec.privacy"), privacy.compression_complaint),
    Rule(("spec.target", "spec.privacy"), privacy.target_complaint),
    Rule(("spec.earlyStopping", "spec.privacy"), privacy.stopping_complaint),
    Rule(("spec.selection.stallSeconds", "spec.selection.deadlineSeconds"), _times),
    Rule(("spec.target",), _one_side),
    Rule((INITIAL,), _one_model),
    Rule(("spec.rounds", INITIAL), _further),
    Rule(("spec.program.source",), _one_source),
    Rule((MOST, REPLICAS), _room),
    Rule((PER_ROUND, MOST), _fixed_cohort),
    Rule(("spec.server.storage.existingClaim", "spec.server.storage"), _claim),
    Rule(("spec.server.storage.uri", "spec.server.storage"), _store),
    Rule(("spec.server.storage.secretName", "spec.server.storage.uri"), _secret),
    Rule(("spec.network.external", "spec.sites"), _listener),
    Rule(("spec.network.egress", "spec.network.policy"), _open_egress),
)
