from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.secagg.job import terms_of
from fl_core.secagg.parameters import part_of
from job_generator.compiler import compile_job
from job_generator.problems import InvalidJobError
from job_generator.rules import RULES, broken
from job_generator.schema import node
from job_generator.source import Document
from job_generator.spec import FLJob, Selection

Build = Callable[..., dict[str, Any]]


def complaints(document: dict[str, Any]) -> list[str]:
    """The rules that a job breaks, one line each."""
    return [str(problem) for problem in broken(document)]


@pytest.mark.parametrize(
    ("changes", "blamed", "complaint"),
    [
        ({"perRound": 5}, "perRound", "5 is more than spec.workers.replicas, 4; expected 1 to 4"),
        ({"extra": 1}, "extra", "1 more than the cohort of 4 makes 5, but REPLICAS is 4; expected 0 to 0"),
        (
            {"perRound": 2, "extra": 3},
            "extra",
            "3 more than the cohort of 2 makes 5, but REPLICAS is 4; expected 0 to 2",
        ),
        ({"minimum": 5}, "minimum", "5 is more than the cohort, all of REPLICAS, 4; expected 1 to 4"),
        (
            {"perRound": 2, "minimum": 3},
            "minimum",
            "3 is more than spec.selection.perRound, 2; expected 1 to 2",
        ),
        (
            {"stallSeconds": 9.5, "deadlineSeconds": 9},
            "stallSeconds",
            "9.5 is longer than spec.selection.deadlineSeconds, 9; expected at most that",
        ),
        (
            {"stallSeconds": 120, "deadlineSeconds": 60},
            "stallSeconds",
            "120 is longer than spec.selection.deadlineSeconds, 60; expected at most that",
        ),
    ],
)
def test_selection(job_map: Build, changes: dict[str, Any], blamed: str, complaint: str) -> None:
    """Each rule of the selection names the field to blame, both values, and what would be accepted."""
    sentence = complaint.replace("REPLICAS", "spec.workers.replicas")
    assert complaints(job_map(selection=changes)) == [f"spec.selection.{blamed}: {sentence}"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"perRound": 4},
        {"perRound": 1, "minimum": 1, "extra": 3},
        {"perRound": 2, "extra": 2, "minimum": 2},
        {"minimum": 4},
        {"extra": 0},
        {"stallSeconds": 60, "deadlineSeconds": 60},
        {"perRound": None, "minimum": None},
    ],
)
def test_the_edges(job_map: Build, changes: dict[str, Any]) -> None:
    """Values that just fit each other are accepted."""
    assert complaints(job_map(selection=changes)) == []


@pytest.mark.parametrize(
    ("sides", "word"),
    [({}, "neither"), ({"atLeast": 1, "atMost": 1}, "both"), ({"atLeast": None}, "neither")],
)
def test_target(job_map: Build, sides: dict[str, Any], word: str) -> None:
    """A target has exactly one side; one that is null is none."""
    found = complaints(job_map(target={"metric": "accuracy", **sides}))
    assert found == [f"spec.target: names {word} of atLeast and atMost; expected one of them"]


@pytest.mark.parametrize("sides", [{"atLeast": 0}, {"atMost": 0}, {"atLeast": 0, "atMost": None}])
def test_one_side(job_map: Build, sides: dict[str, Any]) -> None:
    """A target with one side is good, also when that is zero."""
    assert complaints(job_map(target={"metric": "loss", **sides})) == []


def test_one_mistake_is_told_once(job_map: Build) -> None:
    """A cohort larger than the job is blamed itself, not the spare workers that come on top of it."""
    assert len(complaints(job_map(selection={"perRound": 9, "extra": 1}))) == 1


@pytest.mark.parametrize(
    ("strategy", "framework", "complaint"),
    [
        (
            {"name": "fedprox", "mu": 0.1},
            "numpy",
            "fedprox adds a term to the loss, which a program of numpy",
        ),
        (
            {"name": "fedprox", "mu": 0.1},
            "sklearn",
            "fedprox adds a term to the loss, which a program of sklearn",
        ),
        ({"name": "fedsgd", "learningRate": 1}, "sklearn", "fedsgd needs the gradient of the loss"),
    ],
)
def test_strategies_that_need_the_loss(
    job_map: Build, strategy: dict[str, Any], framework: str, complaint: str
) -> None:
    """A strategy that no program of this framework can follow is refused, with what could be had instead."""
    (found,) = complaints(job_map(strategy=strategy, program__framework=framework))
    assert found.startswith(f"spec.strategy: {complaint}")
    assert found.endswith("; expected fedavg, or spec.program.framework: paddle")
    assert complaints(job_map(strategy=strategy, program__framework="paddle")) == []


@pytest.mark.parametrize(
    ("strategy", "framework"),
    [({"name": "fedprox", "mu": 0}, "sklearn"), ({"name": "fedsgd", "learningRate": 1}, "numpy")],
)
def test_strategies_that_do_without(job_map: Build, strategy: dict[str, Any], framework: str) -> None:
    """FedProx without its term is FedAvg, and an object may have a gradient."""
    assert complaints(job_map(strategy=strategy, program__framework=framework)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.fields[0])
def test_fields_exist(rule: Any) -> None:
    """Each rule asks about fields of the API, or it would be silent for ever."""
    assert [path for path in rule.paths if node(path, {}) is None] == []


def private(name: str, **more: Any) -> dict[str, Any]:
    """Differential privacy by this mechanism."""
    mechanism = {"name": name, "clip": 1.0, "noiseMultiplier": 2.0, **more}
    return {"mechanism": mechanism, "budget": {"epsilon": 8, "delta": 1e-5}}


def median(hostile: int) -> dict[str, Any]:
    """The median, for so many hostile workers."""
    return {"name": "median", "hostile": hostile}


BY_EXAMPLE = {**private("dp_sgd", rate=0.1, steps=10, learningRate=0.5), "unit": "example"}
BROKEN: dict[str, dict[str, Any]] = {
    "_anybody": {"workers": {"replicas": 0}},
    "_cohort": {"selection": {"perRound": 9}},
    "_spare": {"selection": {"extra": 1}},
    "_quorum": {"selection": {"minimum": 9}},
    "_secure": {"secureAggregation": {"tolerate": 2}},
    "_buckets": {"secureAggregation": {"buckets": 2}, "aggregation": median(0)},
    "secrecy.spare_complaint": {
        "workers": {"replicas": 8},
        "selection": {"perRound": 6, "extra": 1},
        "secureAggregation": {"buckets": 2},
        "aggregation": median(0),
    },
    "robustness.rule_complaint": {"aggregation": median(1)},
    "robustness.quorum_complaint": {
        "aggregation": median(1),
        "secureAggregation": {"enabled": False},
        "selection": {"minimum": 2},
    },
    "_secure_quorum": {"selection": {"minimum": 2}},
    "secrecy.compression_complaint": {"compression": [{"name": "float16"}]},
    "privacy.mechanism_complaint": {"privacy": private("house.noise:Own")},
    "privacy.unit_complaint": {"privacy": {**private("gaussian"), "unit": "example"}},
    "privacy.program_complaint": {"privacy": BY_EXAMPLE, "program__framework": "paddle"},
    "privacy.strategy_complaint": {
        "privacy": BY_EXAMPLE,
        "program__framework": "numpy",
        "strategy": {"name": "fedsgd", "learningRate": 0.1},
    },
    "privacy.trust_complaint": {"privacy": private("skellam"), "secureAggregation": {"enabled": False}},
    "privacy.tolerate_complaint": {
        "workers": {"replicas": 5},
        "privacy": private("skellam"),
        "secureAggregation": {"tolerate": 2},
    },
    "privacy.adaptive_complaint": {"privacy": {**private("local"), "adaptiveClip": {}}},
    "privacy.compression_complaint": {
        "privacy": private("gaussian"),
        "compression": [{"name": "float16"}],
        "secureAggregation": {"enabled": False},
    },
    "privacy.target_complaint": {
        "privacy": {**private("gaussian"), "metrics": "Suppressed"},
        "target": {"metric": "a", "atLeast": 1},
    },
    "privacy.stopping_complaint": {
        "privacy": {**private("gaussian"), "metrics": "Suppressed"},
        "earlyStopping": {},
    },
    "_times": {"selection": {"stallSeconds": 9, "deadlineSeconds": 1}},
    "_one_side": {"target": {"metric": "a"}},
    "_one_source": {"program__source": {}},
    "_one_model": {"initialModel": {}},
    "_further": {"rounds": 12, "initialModel": {"uri": "a", "round": 12}},
    "_room": {"workers": {"replicas": 4, "maxReplicas": 2}, "selection": {"perRound": 1}},
    "_fixed_cohort": {"workers": {"replicas": 4, "maxReplicas": 5}},
    "_claim": {"server": {"storage": {"existingClaim": "a", "size": "1Gi"}}},
    "_store": {"server": {"storage": {"uri": "s3://a/b", "size": "1Gi"}}},
    "_secret": {"server": {"storage": {"secretName": "a"}}},
    "_listener": {"network": {"external": {"hostname": "a.b"}}},
    "_lossless": {"strategy": {"name": "fedprox", "mu": 0.1}, "program__framework": "numpy"},
    "_open_egress": {"network": {"policy": "Open", "egress": [{"cidr": "10.0.0.0/8"}]}},
}
"""For each rule the change that breaks it, and nothing else."""


def name_of(rule: Any) -> str:
    """`_cohort`, or `secrecy.spare_complaint` for one of another module."""
    module = rule.complaint.__module__.removeprefix("job_generator.")
    return f"{module}.{rule.complaint.__name__}".removeprefix("rules.")


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_silence(job_map: Build, rule: Any) -> None:
    """A rule says nothing when one of its fields, or what holds it, is wrong already."""
    bad = job_map(**BROKEN[name_of(rule)])
    assert [problem.path for problem in broken(bad)] == [rule.paths[0]]
    for path in rule.paths:
        for wrong in (path, path[:-1], ()):
            assert list(broken(bad, wrong=[wrong])) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"rounds": 7, "initialModel": {"uri": "a", "round": 9}},
            "spec.rounds: 7 counts all rounds, and spec.initialModel.round says that 9 are done; expected at least 10",
        ),
        (
            {"initialModel": {"uri": "a", "configMap": {"name": "a", "key": "b"}}},
            "spec.initialModel: names uri and configMap; expected one of them",
        ),
        (
            {"workers": {"replicas": 0}},
            "spec.workers.replicas: 0, and there is no site in spec.sites; expected at least one worker",
        ),
        (
            {"workers": {"replicas": 1}, "sites": [{"name": "a"}], "selection": {"perRound": 3}},
            (
                "spec.selection.perRound: 3 is more than spec.workers.replicas and spec.sites together, 2; "
                "expected 1 to 2"
            ),
        ),
        (
            {"workers": {"replicas": 1}, "sites": [{"name": "a"}], "selection": {"perRound": 1, "extra": 2}},
            (
                "spec.selection.extra: 2 more than the cohort of 1 makes 3, but spec.workers.replicas and spec.sites "
                "together are 2; expected 0 to 1"
            ),
        ),
        (
            {"workers": {"replicas": 4, "maxReplicas": 2}, "selection": {"perRound": 1}},
            "spec.workers.maxReplicas: 2 is less than spec.workers.replicas, 4; expected at least that",
        ),
        (
            {"workers": {"replicas": 4, "maxReplicas": 9}},
            (
                "spec.selection.perRound: is missing; with spec.workers.maxReplicas the workers change, so expected a "
                "cohort that does not"
            ),
        ),
        (
            {"program__source": {}},
            "spec.program.source: names none of configMap, image and persistentVolumeClaim; expected one of them",
        ),
        (
            {"program__source": {"configMap": {"name": "a"}, "image": {"reference": "b"}}},
            "spec.program.source: names configMap and image; expected one of them",
        ),
        (
            {"server": {"storage": {"existingClaim": "a", "size": "1Gi", "onDelete": "Delete"}}},
            (
                "spec.server.storage.existingClaim: a is a claim that is there already, so size and onDelete: Delete "
                "mean nothing to it; expected one or the other"
            ),
        ),
        (
            {"server": {"storage": {"uri": "s3://a/b", "storageClassName": "c", "onDelete": "Delete"}}},
            (
                "spec.server.storage.uri: s3://a/b is a store of objects, so storageClassName and onDelete: Delete "
                "mean nothing to it; expected one or the other"
            ),
        ),
        (
            {"server": {"storage": {"secretName": "keys"}}},
            (
                "spec.server.storage.secretName: keys is for a store of objects, and there is no "
                "spec.server.storage.uri; expected both or neither"
            ),
        ),
        (
            {"sites": [{"name": "a", "external": {}}]},
            "spec.network.external: is missing, but the site a is external; expected a map with its hostname",
        ),
        (
            {"network": {"external": {"hostname": "a.b"}}},
            (
                "spec.network.external: is given, but no site in spec.sites is external; expected such a site, or "
                "leave it out"
            ),
        ),
        (
            {"network": {"policy": "Open", "egress": [{"cidr": "10.0.0.0/8"}]}},
            (
                "spec.network.egress: is given, but under spec.network.policy Open every address may be dialled; "
                "expected Isolated, or no list"
            ),
        ),
        (
            {"network": {"egress": [{"cidr": "10.0.0.0/8"}, {"cidr": "10.0.0.1/8"}]}},
            "spec.network.egress[1].cidr: 10.0.0.1/8 is no block of addresses; expected one such as 10.0.0.0/8",
        ),
        (
            {"sites": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
            "spec.sites[2].name: a is the name of another site; expected one of its own",
        ),
        (
            {
                "sites": [{"name": "a", "external": {}, "template": {}}],
                "network": {"external": {"hostname": "a.b"}},
            },
            (
                "spec.sites[0].template: is given, but a is external and has its own; expected one of external and "
                "template"
            ),
        ),
    ],
)
def test_clusters(job_map: Build, changes: dict[str, Any], line: str) -> None:
    """Each rule of the cluster half names the field to blame, what it does not fit, and what would be accepted."""
    assert complaints(job_map(**changes)) == [line]


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": {"replicas": 0}, "sites": [{"name": "a"}], "selection": {"perRound": 1}},
        {"workers": {"replicas": 2, "maxReplicas": 2}, "selection": {"perRound": 2}},
        {"program__source": {"image": {"reference": "a"}}},
        {"server": {"storage": {"existingClaim": "a", "onDelete": "Retain"}}},
        {"server": {"storage": {"uri": "s3://a/b", "secretName": "keys", "onDelete": "Retain"}}},
        {"sites": [{"name": "a", "external": {}}], "network": {"external": {"hostname": "a.b"}}},
        {"network": {"egress": [{"cidr": "10.0.0.0/8"}]}},
        {"network": {"policy": "Open"}},
        {"sites": [{"name": "a", "template": {}, "data": {"claimName": "b"}}]},
    ],
)
def test_clusters_edges(job_map: Build, changes: dict[str, Any]) -> None:
    """Fields of the cluster half that just fit each other are accepted, by the types too."""
    assert complaints(job_map(**changes)) == []
    Document(job_map(**changes)).job()


def test_wrong_sites(job_map: Build) -> None:
    """A list of sites with a wrong one is told as that, and the rules about sites wait until it is mended."""
    with pytest.raises(InvalidJobError) as caught:
        Document(job_map(sites=[{"name": "A"}, 3, {}], selection={"perRound": 9})).job()
    assert {problem.path[1] for problem in caught.value.problems} == {"sites"}


@pytest.mark.parametrize("wrong", [{"perRound": 9, "minimum": "x"}, {"perRound": "x", "minimum": 9}])
def test_wrong_values(job_map: Build, wrong: dict[str, Any]) -> None:
    """A field of the wrong type is told as that, beside the rules about the others."""
    with pytest.raises(InvalidJobError) as caught:
        Document(job_map(selection=wrong)).job()
    blamed = [problem.path[-1] for problem in caught.value.problems]
    assert sorted(blamed) == (["minimum", "perRound"] if wrong["perRound"] == 9 else ["perRound"])


@pytest.mark.parametrize("document", [{}, {"spec": 3}, {"spec": {"selection": [], "workers": None}}])
def test_missing(document: dict[str, Any]) -> None:
    """Fields that are missing or no maps are the schema's to tell."""
    with pytest.raises(InvalidJobError) as caught:
        Document(document).job()
    assert {problem.message.partition("; ")[2][:8] for problem in caught.value.problems} == {"expected"}


def test_made_in_python(a_job: Callable[..., FLJob]) -> None:
    """A job that was made in Python, past the reader, meets the same rules in the compiler."""
    job = a_job()
    selection = Selection(perRound=3, minimum=4)
    bad = job.model_copy(update={"spec": job.spec.model_copy(update={"selection": selection})})
    with pytest.raises(InvalidJobError, match="4 is more than spec.selection.perRound, 3"):
        compile_job(bad)


def test_losses_are_tolerated_by_number_in_cross_silo_only(job_map: Build) -> None:
    """In cross-device the number would be ignored, so it is refused."""
    for changes in (
        {"secureAggregation": {"profile": "cross-device", "tolerate": 1}},
        {"workers": {"replicas": 101}},
    ):
        (told,) = complaints(job_map(**{"secureAggregation": {"tolerate": 1}, **changes}))
        assert told.startswith("spec.secureAggregation: tolerate: 1 is for cross-silo")
    assert complaints(job_map(secureAggregation={"profile": "cross-silo", "tolerate": 1})) == []


@given(
    workers=st.integers(3, 100), tolerate=st.integers(0, 50), name=st.sampled_from(["skellam", "gaussian"])
)
def test_losses_leave_no_second_sum_to_corrupt_workers(
    job_map: Build, workers: int, tolerate: int, name: str
) -> None:
    """What the compiler takes has 2t > n + c with the workers against whom epsilon is stated, and a sum opens."""
    own = {
        "workers": {"replicas": workers},
        "privacy": private(name),
        "secureAggregation": {"tolerate": tolerate},
    }
    corrupt = part_of(workers, 0.05) if name == "skellam" else 0
    told = complaints(job_map(**own))
    assert bool(told) == (2 * (workers - tolerate) <= workers + corrupt), told
    assert len(told) <= 1
    if not told:
        plan = compile_job(Document(job_map(**own)).job())
        assert terms_of(plan).parameters(workers).corrupt == corrupt


def test_losses_beside_corrupt_workers_are_refused_with_what_would_do(job_map: Build) -> None:
    """The sentence has the path, the value, both counts and the most that may be lost."""
    five = {"workers": {"replicas": 5}, "secureAggregation": {"tolerate": 2}}
    (told,) = complaints(job_map(**five, privacy=private("skellam")))
    assert told.startswith(
        "spec.secureAggregation.tolerate: is 2, so that 3 of 5 workers can open a sum; under"
    )
    assert "expected at most 1 (2t > n + c, with the threshold t, n = 5 workers and c = 1)" in told
    assert complaints(job_map(**five, privacy=private("gaussian"))) == []


def bucketed(replicas: int, buckets: int, rule: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A job with buckets and a rule that compares their sums."""
    workers = {"workers": {"replicas": replicas}, "secureAggregation": {"buckets": buckets}}
    return {**workers, "aggregation": rule, **changes}


KRUM = {"name": "krum", "hostile": 1}
TRIMMED = {"name": "trimmed_mean", "hostile": 1, "trim": 0.2}
OFF = {"enabled": False}
HALF = {"perRound": 12}

MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "single updates, which nobody sees": (
        {"workers": {"replicas": 12}, "aggregation": median(1)},
        (
            "spec.aggregation: median compares updates, and with secure aggregation nobody sees a single one; expected "
            "at least spec.secureAggregation: {buckets: 3}, so that it compares sums of buckets, or {enabled: false}"
        ),
    ),
    "buckets for nothing": (
        bucketed(12, 3, {"name": "mean"}),
        (
            "spec.aggregation: mean adds all buckets up, so they would show the server more than it needs; expected "
            "median, trimmed_mean or krum, or no spec.secureAggregation.buckets"
        ),
    ),
    "too few buckets for a median": (
        bucketed(12, 4, median(2)),
        (
            "spec.aggregation: median needs 5 parts to withstand so many hostile workers, and there are 4 "
            "spec.secureAggregation.buckets; expected more of them, or fewer hostile"
        ),
    ),
    "too few buckets for krum": (
        bucketed(12, 4, KRUM),
        (
            "spec.aggregation: krum needs 5 parts to withstand so many hostile workers, and there are 4 "
            "spec.secureAggregation.buckets; expected more of them, or fewer hostile"
        ),
    ),
    "too small a share": (
        bucketed(12, 4, TRIMMED),
        (
            "spec.aggregation: trimmed_mean needs 5 parts to withstand so many hostile workers, and there are 4 "
            "spec.secureAggregation.buckets; expected more of them, or fewer hostile"
        ),
    ),
    "too few updates": (
        {"aggregation": KRUM, "secureAggregation": OFF},
        (
            "spec.aggregation: krum needs 5 parts to withstand so many hostile workers, and there are 4 workers in a "
            "round (spec.selection.minimum); expected more of them, or fewer hostile"
        ),
    ),
    "buckets of two": (
        bucketed(8, 3, median(1)),
        (
            "spec.secureAggregation.buckets: 3 leave 2 of the round's 8 workers for one, and with fewer than 3 a sum "
            "hides nobody; expected at most 2, or more workers"
        ),
    ),
    "buckets of two in a round": (
        bucketed(99, 5, median(2), selection=HALF),
        (
            "spec.secureAggregation.buckets: 5 leave 2 of the round's 12 workers for one, and with fewer than 3 a sum "
            "hides nobody; expected at most 4, or more workers"
        ),
    ),
    "buckets with privacy": (
        bucketed(12, 3, {"name": "mean"}, privacy=private("gaussian")),
        (
            "spec.secureAggregation.buckets: 3 go with no differential privacy: spec.privacy.mechanism makes its noise "
            "for the sum of the whole round; expected no buckets, or no spec.privacy"
        ),
    ),
    "a rule with privacy": (
        {"aggregation": median(1), "privacy": private("gaussian"), "secureAggregation": OFF},
        (
            "spec.aggregation: median compares parts of a round, but the noise is made for its sum; expected mean, or "
            "no spec.privacy"
        ),
    ),
    "buckets of nothing": (
        {"secureAggregation": {**OFF, "buckets": 3}},
        (
            "spec.secureAggregation.buckets: 3 are groups of secure sums, which are off; expected enabled: true, or no "
            "buckets"
        ),
    ),
    "a quorum with whom too few buckets open": (
        bucketed(12, 3, median(1), selection={"minimum": 8}),
        (
            "spec.selection.minimum: 8 is fewer than the 9 of 12 with whom the sums of 3 buckets open; expected at "
            "least 9, or turn it off with spec.secureAggregation: {enabled: false}"
        ),
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_rules_that_compare_need_parts(job_map: Build, name: str) -> None:
    """What does not go with buckets or with a robust rule is refused by name, with what would help."""
    changes, sentence = MISFITS[name]
    assert sentence in complaints(job_map(**changes))


@pytest.mark.parametrize(
    ("changes", "quorum"),
    [
        (bucketed(9, 3, median(1)), 9),
        (bucketed(12, 3, median(1)), 9),
        (bucketed(15, 5, median(1)), 10),
        (bucketed(15, 5, KRUM), 15),
        (bucketed(20, 5, TRIMMED), 15),
        (bucketed(12, 2, median(0)), 8),
        ({"aggregation": median(1), "secureAggregation": OFF}, 3),
        ({"workers": {"replicas": 5}, "aggregation": KRUM, "secureAggregation": OFF}, 5),
    ],
)
def test_what_fits_has_a_quorum_for_its_rule(job_map: Build, changes: dict[str, Any], quorum: int) -> None:
    """Without a word the quorum is two thirds, and never fewer than those with whom enough parts come together."""
    document = job_map(**changes)
    assert complaints(document) == []
    plan = compile_job(FLJob.model_validate(document))
    assert plan.selection.minimum == quorum
    assert (
        not plan.secure_aggregation
        or plan.secure_aggregation.buckets == changes["secureAggregation"]["buckets"]
    )
