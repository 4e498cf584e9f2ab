"""What a site insists on is checked by its own worker: each demand, its value and its path are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import MismatchError, ProtocolError
from fl_core.extensions import Extension
from fl_core.plan import AdaptiveClip, Plan, Privacy, Program, SecureAggregation
from fl_core.privacy.accountant import epsilon
from fl_core.privacy.job import NEIGHBOURS, cost_of
from fl_core.secagg.endorsement import NONE
from fl_core.secagg.job import terms_of
from fl_core.secagg.parameters import part_of
from fl_core.secagg.session import Context, Session
from fl_worker.policy import OPEN_POLICY, SitePolicy
from tests.fl_core.secagg.hospitals import hospital

PlanOf = Callable[..., Plan]

SECURE = SecureAggregation(profile="cross-silo", tolerate=None, bits=32, max_examples=100)
DEMANDS = {
    "mechanisms": ["skellam", "local"],
    "noiseMultiplier": 2,
    "clip": 1.5,
    "epsilon": 8,
    "delta": 1e-5,
    "metrics": "Suppressed",
}


def private(name: str = "skellam", *, noise: float = 4.0, clip: float = 1.0, **changes: Any) -> Privacy:
    mechanism = Extension(name=name, options={"clip": clip, "noise_multiplier": noise})
    told = {"unit": "worker", "epsilon": 8.0, "delta": 1e-5, "corrupt": 1, "measured": False, **changes}
    return Privacy(mechanism=mechanism, **told)


def policy(**demands: Any) -> SitePolicy:
    return SitePolicy.model_validate({"secureAggregation": {"required": False}, "privacy": demands})


def job(plan_of: PlanOf, privacy: Privacy | None, *, rounds: int = 10) -> Plan:
    return plan_of(
        privacy=privacy,
        rounds=rounds,
        per_round=10,
        minimum=7,
        workers=10,
        secure_aggregation=SECURE,
    )


def test_what_a_site_demands_is_read_from_its_file(tmp_path: Path) -> None:
    """The words of the page are those of the file, and numbers may be written as YAML likes them."""
    file = tmp_path / "site.yaml"
    file.write_text("privacy: {noiseMultiplier: 2, epsilon: 8, delta: 1e-5, mechanisms: [skellam]}\n")
    read = SitePolicy.read(file).privacy
    assert read is not None
    assert (read.noise_multiplier, read.epsilon, read.delta, read.clip) == (2.0, 8.0, 1e-5, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("privacy: {epsilom: 8}", "privacy.epsilom"),
        ("secureAggregation: {bits: 24}", "secureAggregation.bits"),
        ("secureAggregation: {corrupt: 1}", "secureAggregation.corrupt"),
        ("privacy: {epsilon: 0}", "privacy.epsilon"),
        ("privacy: {noiseMultiplier: much}", "privacy.noiseMultiplier"),
        ("privacy: {delta: 1}", "privacy.delta"),
        ("privacy: [8]", "privacy"),
        ("privacy: {epsilon: .inf}", "privacy.epsilon"),
        (
            "images: ['sha256:0123']",
            "images.0: Value error, 'sha256:0123' is neither an image's reference nor",
        ),
        ("images: ['a worker']", "images.0"),
        ("a: b: c", "is no YAML"),
    ],
)
def test_a_file_that_is_wrong_is_not_taken_for_an_empty_one(tmp_path: Path, text: str, told: str) -> None:
    """A demand that cannot be read ends the worker, with its place in the file."""
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(MismatchError, match=re.escape(told)):
        SitePolicy.read(file)
    with pytest.raises(MismatchError, match="cannot be read"):
        SitePolicy.read(tmp_path / "absent.yaml")


@pytest.mark.parametrize("bounds", [{"atLeast": 0}, {"atMost": 1}, {"oneOf": [0.5], "atMost": 1}])
def test_what_is_not_finite_lies_in_no_range(plan_of: PlanOf, bounds: dict[str, float]) -> None:
    """NaN is neither below nor above any limit, and refused by each, as infinity is."""
    site = SitePolicy.model_validate({"secureAggregation": {"required": False}, "config": {"rate": bounds}})
    for number in (float("nan"), float("inf"), float("-inf")):
        program = Program(entrypoint="toy:task", framework="numpy")
        made = plan_of(program=program.model_copy(update={"config": {"rate": number}}))
        with pytest.raises(MismatchError, match=f"config.rate is {number!r}, which is n"):
            site.check(made)


def test_a_job_that_meets_every_demand_is_taken(plan_of: PlanOf) -> None:
    """At the limits themselves nothing is refused, before the model is known and after."""
    plan = job(plan_of, private(noise=4.0, clip=1.5))
    policy(**DEMANDS).check(plan)
    policy(**DEMANDS).check_cost(plan, dimension=100_000)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "gaussian"}, "mechanism.name is gaussian; this site demands one of skellam, local"),
        ({"noise": 1.9}, "mechanism.noiseMultiplier is 1.9; this site demands at least 2"),
        ({"clip": 1.6}, "mechanism.clip is 1.6; this site demands at most 1.5"),
        ({"epsilon": 8.5}, "budget.epsilon is 8.5; this site demands at most 8"),
        ({"delta": 1e-4}, "budget.delta is 0.0001; this site demands at most 1e-05"),
        ({"measured": True}, "metrics is Released; this site demands Suppressed"),
    ],
)
def test_each_demand_is_held(plan_of: PlanOf, changes: dict[str, Any], told: str) -> None:
    """One step beyond a limit is refused, with path, value and demand; nobody else's limit is blamed."""
    plan = job(plan_of, private(**changes), rounds=1)
    with pytest.raises(MismatchError, match=re.escape(f"spec.privacy.{told}")) as error:
        policy(**DEMANDS).check(plan)
    assert str(error.value).count("this site demands") == 1
    OPEN_POLICY.check(plan)


def test_noise_in_parts_is_hidden_and_enough_by_the_sites_own_count(plan_of: PlanOf) -> None:
    """Under skellam a site that demands privacy takes no part in the clear, nor for fewer workers in league than it
    counts with; one that takes jobs without noise takes those with little.
    """
    plan = job(plan_of, private())
    few = {"required": True, "corrupt": 0.3}
    strict = SitePolicy.model_validate({"secureAggregation": few, "privacy": {"epsilon": 80}})
    with pytest.raises(
        MismatchError, match="bears 1 of 10 workers in league with the server; this site counts with 3"
    ):
        strict.check(plan)
    SitePolicy.model_validate({"secureAggregation": {"corrupt": 0.2}}).check(plan)
    with pytest.raises(MismatchError, match="bears 0 of 10 workers"):
        policy(epsilon=80).check(job(plan_of, private(corrupt=0)))
    with pytest.raises(MismatchError, match="each worker makes a part of the noise only"):
        policy(epsilon=80).check(plan.model_copy(update={"secure_aggregation": None}))


def test_a_clip_norm_that_moves_keeps_within_no_limit(plan_of: PlanOf) -> None:
    """Where a longest update is demanded the norm must stay; where none is, it may move."""
    moving = private(adaptive_clip=AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=3.0))
    plan = job(plan_of, moving)
    with pytest.raises(MismatchError, match=r"spec\.privacy\.adaptiveClip lets the clip norm grow"):
        policy(clip=1.5).check(plan)
    policy(epsilon=8, noiseMultiplier=4).check(plan)


def test_a_job_without_differential_privacy_is_refused(plan_of: PlanOf) -> None:
    """A site that demands any of it takes part in no job without, and one that demands nothing does."""
    plan = job(plan_of, None)
    for one in (policy(), policy(**DEMANDS)):
        with pytest.raises(MismatchError, match=r"spec\.privacy is not given"):
            one.check(plan)
    OPEN_POLICY.check(plan)


def test_epsilon_is_reckoned_from_the_plan_and_not_believed(plan_of: PlanOf) -> None:
    """Where rounds cost more than the site allows, a budget that promises to stop in time does not help."""
    plan = job(plan_of, private(noise=2.0, epsilon=8.0), rounds=50)
    with pytest.raises(MismatchError) as error:
        policy(epsilon=8).check(plan)
    assert "spec.rounds is 50, whose releases come to epsilon 22.6 at delta 1e-05" in str(error.value)
    assert "at most 8, in which 9 rounds fit" in str(error.value)
    policy(epsilon=8).check(job(plan_of, private(noise=2.0), rounds=9))


def test_what_whole_numbers_cost_is_told_once_the_model_is_known(plan_of: PlanOf) -> None:
    """A limit between the noise's cost and that of coarse units refuses after loading, and not before."""
    private_ = private(noise=2.0)
    plan = job(plan_of, private_, rounds=9).model_copy(
        update={"secure_aggregation": SECURE.model_copy(update={"bits": 16})}
    )
    costs = [
        epsilon([*cost_of(plan, dimension=size)] * 9, delta=1e-5, neighbours=NEIGHBOURS)
        for size in (None, 1_000_000)
    ]
    assert costs[0] < costs[1]
    demanded = policy(epsilon=sum(costs) / 2, delta=1e-5)
    plan = plan.model_copy(update={"privacy": private_.model_copy(update={"epsilon": 1.0})})
    demanded.check(plan)
    with pytest.raises(MismatchError, match=r"spec\.rounds is 9"):
        demanded.check_cost(plan, dimension=1_000_000)


@given(
    noise=st.floats(0.5, 20),
    rounds=st.integers(1, 200),
    most=st.floats(0.1, 50),
    delta=st.sampled_from([1e-7, 1e-5, 1e-3]),
)
def test_a_job_that_is_taken_costs_no_more_than_is_demanded(
    plan_of: PlanOf, noise: float, rounds: int, most: float, delta: float
) -> None:
    """Whatever the plan says, epsilon over all of its rounds is within the site's limit, or the job is refused."""
    plan = job(plan_of, private("gaussian", noise=noise, epsilon=0.01, delta=delta), rounds=rounds)
    spent = epsilon([*cost_of(plan, dimension=1000)] * rounds, delta=delta, neighbours=NEIGHBOURS)
    demanded = policy(epsilon=most)
    if spent <= most * (1 - 1e-9):
        demanded.check_cost(plan, dimension=1000)
    elif spent > most * (1 + 1e-9):
        with pytest.raises(MismatchError, match=r"spec\.rounds"):
            demanded.check_cost(plan, dimension=1000)


def secure(plan_of: PlanOf, cohort: int, *, minimum: int, **settings: Any) -> Plan:
    """A plan whose rounds sum securely over so many."""
    own = SECURE.model_copy(update=settings)
    return plan_of(workers=cohort, per_round=cohort, minimum=minimum, secure_aggregation=own)


HEX = "0123456789abcdef" * 4
PINNED = f"registry.example:5000/fl/worker:1.2@sha256:{HEX}"


def with_images(folder: Path, *allowed: str) -> SitePolicy:
    """A site's file that allows these images alone."""
    file = folder / "site.yaml"
    file.write_text(yaml.safe_dump({"secureAggregation": {"required": False}, "images": list(allowed)}))
    return SitePolicy.read(file)


@pytest.mark.parametrize("allowed", [PINNED, f"sha256:{HEX}"])
def test_an_image_on_the_list_is_taken(plan_of: PlanOf, tmp_path: Path, allowed: str) -> None:
    """By the whole reference, or by its digest wherever it was pulled from; a site without a list asks for none."""
    with_images(tmp_path, "other:1", allowed).check(job(plan_of, None), image=PINNED)
    policy_open = SitePolicy.model_validate({"secureAggregation": {"required": False}})
    policy_open.check(job(plan_of, None), image="")


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("worker:1.2", "this worker's image is worker:1.2 (FLJOB_IMAGE)"),
        (PINNED.replace("0", "1"), f"this worker's image is {PINNED.replace('0', '1')} (FLJOB_IMAGE)"),
        ("", "nobody says which image this worker runs in (FLJOB_IMAGE is not set)"),
    ],
)
def test_another_image_is_refused(plan_of: PlanOf, tmp_path: Path, image: str, told: str) -> None:
    """The sentence names the file, its key, what this worker was told, and all that is allowed."""
    site = with_images(tmp_path, f"sha256:{HEX}", "other:1")
    with pytest.raises(MismatchError) as error:
        site.check(job(plan_of, None), image=image)
    assert str(error.value) == (
        f"this site's policy {tmp_path / 'site.yaml'} refuses the job: {told}; "
        f"images allows sha256:{HEX}, other:1"
    )


def test_an_empty_list_allows_no_image(plan_of: PlanOf, tmp_path: Path) -> None:
    """It is not taken for one that is left out."""
    with pytest.raises(MismatchError, match="images allows none"):
        with_images(tmp_path).check(job(plan_of, None), image=PINNED)


def session_of(plan: Plan, there: int | None = None) -> Session:
    """The session of a round in which so many are there, or all."""
    workers = tuple(range(plan.workers if there is None else there))
    context = Context(plan.job.uid, plan.digest, 1, 1, "update", "", "", terms_of(plan))
    return Session(context, workers, workers, b"")


@pytest.mark.parametrize("cohort", [6, 101, 200])
def test_a_site_without_a_policy_takes_part_in_cross_device(plan_of: PlanOf, cohort: int) -> None:
    """The demands that stand where a file says nothing are met, at the start and in each session."""
    plan = secure(plan_of, cohort, minimum=cohort - part_of(cohort, 0.3), profile="cross-device")
    SitePolicy().check(plan)
    SitePolicy().sums().check_session(session_of(plan))


@pytest.mark.parametrize(
    ("profile", "corrupt", "told"),
    [
        ("cross-silo", 0.2, ""),
        (
            "cross-silo",
            0.3,
            "with 6 corrupt it must be at least 12; with spec.selection.minimum: 17 there is no such sum",
        ),
        ("cross-silo", 0.4, "a sum of 20: the threshold is 14 of 20; with 8 corrupt it must be at least 15"),
        ("cross-device", 0.05, ""),
        ("cross-device", 0.5, "a sum of 20: 20 members, 8 neighbours, threshold 2: with 10 corrupt"),
    ],
)
def test_a_site_counts_the_corrupt_itself(plan_of: PlanOf, profile: str, corrupt: float, told: str) -> None:
    """A job whose parameters do not bear so many is refused at its start, by both counts."""
    plan = secure(plan_of, 20, minimum=14, profile=profile)
    site = SitePolicy.model_validate({"secureAggregation": {"corrupt": corrupt}})
    if not told:
        site.check(plan)
        return
    with pytest.raises(MismatchError, match=re.escape(told)):
        site.check(plan)


@pytest.mark.parametrize(
    ("asked", "bits", "good"), [(None, 16, True), (16, 16, True), (32, 16, False), (16, 32, False)]
)
def test_the_width_of_the_numbers_is_pinned(plan_of: PlanOf, asked: Any, bits: int, *, good: bool) -> None:
    """A site that names one takes part in no job with another, and one that names none in both."""
    plan = secure(plan_of, 5, minimum=4, bits=bits)
    site = SitePolicy.model_validate({"secureAggregation": {"bits": asked} if asked else {}})
    if good:
        site.check(plan)
        return
    told = f"spec.secureAggregation.bits is {bits}; this site demands {asked}"
    with pytest.raises(MismatchError, match=re.escape(told)):
        site.check(plan)


@pytest.mark.parametrize("profile", ["cross-silo", "cross-device"])
@given(data=st.data(), cohort=st.integers(6, 30), more=st.integers(0, 9), share=st.floats(0.5, 1))
def test_a_job_that_is_taken_has_sums_that_are_taken(
    plan_of: PlanOf, profile: str, data: st.DataObject, cohort: int, more: int, share: float
) -> None:
    """Whoever is late: a job is refused if a session that can begin would be declined for the share of its workers who
    agree, and only then.
    """
    most = (cohort - 1) // 2 if profile == "cross-silo" else -1
    tolerate = data.draw(st.none() | st.integers(0, most)) if most >= 0 else None
    given = {"profile": profile, **({} if tolerate is None else {"tolerate": tolerate})}
    least = terms_of(secure(plan_of, cohort, minimum=3, **given)).survivors(cohort)
    plan = secure(plan_of, cohort, minimum=min(least + more, cohort), **given)
    site = SitePolicy.model_validate({"secureAggregation": {"threshold": share}})
    declined = declined_of(site, plan, cohort)
    if not declined:
        site.check(plan)
        return
    with pytest.raises(MismatchError, match=f"a sum of {max(declined)} opens when"):
        site.check(plan)


def declined_of(site: SitePolicy, plan: Plan, cohort: int) -> list[int]:
    """Of how many workers the sessions are that can begin, and that the site declines."""
    declined = []
    for made in terms_of(plan).sessions(cohort):
        try:
            site.sums().check_session(session_of(plan, made.n))
        except ProtocolError:
            declined.append(made.n)
    return declined


def test_a_sum_without_one_who_is_late_is_held_to_the_share_too(plan_of: PlanOf) -> None:
    """Six of ten are enough, but five of nine are not; the sentence says what keeps nine from being a sum."""
    plan = secure(plan_of, 10, minimum=6, tolerate=4)
    cure = "with spec.selection.minimum: 10 there is no such sum"
    told = f"a sum of 9 opens when 5 agree, less than a share of 0.6; {cure}"
    site = SitePolicy.model_validate({"secureAggregation": {"threshold": 0.6}})
    with pytest.raises(MismatchError, match=told):
        site.check(plan)
    site.check(secure(plan_of, 10, minimum=10, tolerate=4))


@pytest.mark.parametrize("profile", ["cross-silo", "cross-device"])
@given(cohort=st.integers(6, 40), more=st.integers(0, 9), corrupt=st.floats(0, 0.4))
def test_a_job_that_is_taken_goes_on_with_fewer(
    plan_of: PlanOf, profile: str, cohort: int, more: int, corrupt: float
) -> None:
    """Whoever is late: a job is refused if a session that can begin would be declined for the site's share of corrupt
    workers, and only then.
    """
    least = terms_of(secure(plan_of, cohort, minimum=3, profile=profile)).survivors(cohort)
    plan = secure(plan_of, cohort, minimum=min(least + more, cohort), profile=profile)
    site = SitePolicy.model_validate({"secureAggregation": {"corrupt": corrupt}})
    declined = declined_of(site, plan, cohort)
    if not declined:
        site.check(plan)
        return
    with pytest.raises(MismatchError, match=f"a sum of {max(declined)}: "):
        site.check(plan)


def partners(folder: Path, **changes: Any) -> SitePolicy:
    """A site of the hospital North, which knows South, too; all their files lie beside the policy."""
    for name in ("North", "South"):
        hospital(name).write(folder)
    own = {
        "certificate": "North-site.pem",
        "key": "North-site.key",
        "authorities": ["North.pem", "South.pem"],
    }
    (folder / "site.yaml").write_text(yaml.safe_dump({"organisations": {**own, **changes}}))
    return SitePolicy.read(folder / "site.yaml")


def test_a_site_endorses_its_worker_as_its_partners_take_it(tmp_path: Path) -> None:
    """Paths are meant from where the policy lies; without organisations there is no endorsement."""
    site = partners(tmp_path)
    given = site.endorsement(job="job-1", worker=0, own=b"a certificate")
    known = site.sums().partners
    assert known is not None
    assert known.of(given, job="job-1", worker=0, own=b"a certificate")
    assert OPEN_POLICY.endorsement(job="job-1", worker=0, own=b"a certificate") == NONE


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key": "South-site.key"}, "South-site.key is not the key of the certificate .*North-site.pem"),
        ({"certificate": "absent.pem"}, "absent.pem, which the policy names, cannot be read: No such file"),
        ({"key": "absent.key"}, "absent.key, which the policy names, cannot be read: No such file"),
        ({"certificate": "North-site.key"}, "North-site.key is no certificate in PEM"),
        ({"key": "North-site.pem"}, "North-site.pem is no private key in PEM"),
        ({"key": "rsa.key"}, "rsa.key holds no elliptic-curve key"),
        ({"authorities": ["North.pem", "North.pem"]}, "an authority is named twice"),
        (
            {"authorities": ["South.pem", "again.pem"]},
            "an authority is named twice: .*South.pem, .*again.pem",
        ),
        (
            {"authorities": ["South.pem"], "atLeast": 1},
            "North-site.pem does not do: worker-0 is endorsed by O=North",
        ),
    ],
)
def test_files_that_do_not_fit_are_named(changes: Any, told: str, tmp_path: Path) -> None:
    """Each with its path, before the worker takes part in anything."""
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "rsa.key").write_bytes(rsa_key)
    site = partners(tmp_path, **changes)
    (tmp_path / "again.pem").write_bytes((tmp_path / "South.pem").read_bytes())
    with pytest.raises(MismatchError, match=told):
        site.endorsement(job="job-1", worker=0, own=b"a certificate")


def test_more_organisations_than_authorities_are_a_mistake(tmp_path: Path) -> None:
    """Said when the file is read."""
    with pytest.raises(MismatchError, match="atLeast is 3, but there are 2 authorities"):
        partners(tmp_path, atLeast=3)
