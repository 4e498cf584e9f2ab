"""Trouble on the way to the API server, and with the operator itself: nothing is lost, doubled or touched in vain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab import MANIFESTS, Lab, account, fljob, lab_of
from tests.cluster.proxy.faults import Fault, Faults, Upset

pytestmark = pytest.mark.cluster

JOBS = 3
UPGRADED = 20
"""Jobs that run while the operator is upgraded."""
LOST = frozenset({Fault.TOO_MANY, Fault.FAILURE, Fault.CUT_AFTER})
WEATHER = {
    "slow": Faults(1, requests=1.0, only=frozenset({Fault.DELAY, Fault.SLOW}), events={Upset.DELAY: 1.0}),
    "conflicts": Faults(2, requests=0.3, only=frozenset({Fault.CONFLICT})),
    "overloaded": Faults(3, requests=0.3, only=LOST),
    "watches": Faults(4, events={Upset.CUT: 0.1, Upset.GONE: 0.1, Upset.END: 0.1}),
}
TOLD: dict[str, tuple[str, dict[str, str], float]] = {
    "slow": ("rest_client_request_duration_seconds_sum", {}, 5.0),
    "conflicts": ("fljob_reconcile_total", {"result": "conflict"}, 1.0),
    "overloaded": ("rest_client_request_retries_total", {"code": "429"}, 1.0),
    "watches": ("fljob_watch_restarts_total", {"reason": "Gone"}, 1.0),
}
"""The metric that tells of each, its labels, and what it is at least."""


@pytest.fixture
def faults(request: Any) -> Faults | None:
    """No faults, but for tests that choose their own."""
    found: Faults | None = getattr(request, "param", Faults())
    return found


@pytest.fixture
def lab(
    installed: None,  # noqa: ARG001
    cluster: Any,
    namespace: str,
    tmp_path: Path,
    faults: Faults,
) -> Iterator[Lab]:
    """A namespace whose operators have a proxy on their way, which may do nothing."""
    with lab_of(cluster, namespace, tmp_path, kubeconfig=account(cluster), faults=faults) as made:
        yield made


@pytest.mark.parametrize("faults", WEATHER.values(), ids=WEATHER, indirect=True)
def test_every_weather_is_survived_and_told(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Slow, conflicting, overloaded, or cutting watches: each child is there once, and a metric tells."""
    metric, labels, least = TOLD[request.node.callspec.id]
    operator = lab.operator()
    names = [f"job-{number}" for number in range(JOBS)]
    for name in names:
        lab.apply(name)
    lab.eventually(lambda: len(lab.jobs()) == 3 * JOBS)
    lab.eventually(lambda: all(lab.condition("Compiled", name)[0] == "True" for name in names))
    before = lab.children()
    lab.calm()
    for name in names:
        lab.apply(name, suspend=True, suspendGraceSeconds=0)
    lab.eventually(lambda: all(lab.condition("Suspended", name)[0] == "True" for name in names))
    assert lab.children() == before
    assert operator.metric(metric, **labels) >= least
    assert operator.process.poll() is None


def test_an_operator_that_is_cut_off_is_followed(lab: Lab) -> None:
    """It stops by itself, a second one leads within 20 seconds, and no child is made twice or anew."""
    cut_off = lab.operator(elect=True)
    lab.apply("one")
    lab.eventually(lambda: len(lab.jobs()) == 3)
    second = lab.operator(elect=True, kubeconfig=account(lab.cluster))
    lab.eventually(lambda: second.said("started"))
    before = lab.children()
    assert lab.proxy
    lab.proxy.partition()
    began = time.monotonic()
    lab.apply("two")
    lab.eventually(lambda: second.said("leading"), within=20)
    assert time.monotonic() - began < 20
    assert cut_off.process.wait(60) == 75  # a busy machine is slow to end a process
    lab.proxy.reconnect()
    lab.eventually(lambda: len(lab.jobs()) == 6)
    assert before.items() <= lab.children().items()


@pytest.mark.level(3)
def test_an_upgrade_touches_no_child(lab: Lab) -> None:
    """Another version that renders otherwise, with other images, user and template, leaves twenty jobs that run, all
    their pods and one that is suspended as they are.
    """
    first = lab.operator(*lab.on_fake_nodes())
    names = [f"job-{number}" for number in range(UPGRADED)]
    server = lab.storage()
    lab.apply_all(*(fljob(name, server=server, workers={"replicas": 1}) for name in names))
    lab.apply("later", suspend=True)
    lab.eventually(lambda: lab.condition("Compiled", "later")[0] == "True")
    lab.eventually(lambda: all_run(lab), within=150)
    first.process.terminate()
    assert first.process.wait(30) == 0
    lab.eventually(lambda: rests(lab))
    before = lab.versions("pods", "fljobs")
    assert sum(name.startswith("Pod/") for name in before) == 3 * UPGRADED
    template = lab.folder / "newer.yaml"
    template.write_text("spec: {priorityClassName: system-node-critical}\n", encoding="utf-8")
    newer = (
        "import job_generator.pods as pods, fl_operator.__main__ as operator\n"
        "pods.LOST_NODE_SECONDS, pods.TOKEN_SECONDS = 60, 7200\n"
        "operator.main()"
    )
    images = ("--control-image=fljob:9", "--worker-image=numpy=numpy:9", "--pull-policy=Always")
    second = lab.operator(
        *images, "--user=1000", f"--template={template}", "--resync-seconds=1", python=("-c", newer)
    )
    lab.eventually(lambda: second.said("started"))
    lab.eventually(lambda: second.metric("fljob_reconcile_total") > 4 * UPGRADED, within=120)
    assert lab.versions("pods", "fljobs") == before
    assert all_run(lab)
    lab.apply("next")
    lab.eventually(lambda: lab.get("job", "next-server"))
    spec = lab.get("job", "next-server")["spec"]["template"]["spec"]
    assert (spec["containers"][0]["image"], spec["tolerations"][0]["tolerationSeconds"]) == ("fljob:9", 60)


def all_run(lab: Lab) -> bool:
    """Whether all jobs but the suspended one have their quorum."""
    told = [
        {one["type"]: (one["status"], one["reason"]) for one in job.get("status", {}).get("conditions", ())}
        for job in lab.get("fljobs")
        if not job["spec"].get("suspend")
    ]
    return len(told) == UPGRADED and {one.get("Ready") for one in told} == {("True", "Quorum")}


def rests(lab: Lab) -> bool:
    """Whether the pods' own news have been written to their Jobs."""
    before = lab.versions("pods")
    time.sleep(2)
    return lab.versions("pods") == before


@pytest.mark.level(3)
def test_a_definition_that_is_removed_and_comes_back(lab: Lab) -> None:
    """Without the definition jobs and children go, and metrics tell; with it, jobs that are applied again run."""
    operator = lab.operator()
    lab.apply()
    lab.eventually(lambda: len(lab.jobs()) == 3)
    lab.cluster.kubectl("delete", "-f", str(MANIFESTS / "crd.yaml"), "--timeout=30s")
    lab.eventually(
        lambda: operator.metric("fljob_watch_restarts_total", resource="fljobs.fljob.dev", reason="NotFound")
    )
    lab.eventually(lambda: not lab.jobs())
    lab.eventually(lambda: operator.metric("fljob_jobs") == 0)
    lab.cluster.kubectl("apply", "-f", str(MANIFESTS / "crd.yaml"))
    lab.cluster.kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")
    lab.eventually(lambda: "created" in lab.kubectl("create", "-f", "-", stdin=fljob(), check=False))
    lab.eventually(lambda: len(lab.jobs()) == 3)
    assert operator.process.poll() is None
