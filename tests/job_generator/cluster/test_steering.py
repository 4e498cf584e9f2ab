"""What a user may change in a job of a cluster that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fl_core.errors import JobError, RetryError, UnavailableError
from job_generator.cluster.connection import ForbiddenError, Request
from job_generator.cluster.steering import KEEPER, delete, scale, stop, suspend

Map = dict[str, Any]

FLJOB: Map = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"name": "digits"},
    "spec": {"program": {"entrypoint": "digits:task"}, "rounds": 30, "workers": {"replicas": 3}},
}


@dataclass
class Cluster:
    """An API server with one job, that keeps what is asked of it."""

    job: Map
    namespace: str = "lab"
    asked: list[Map | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def send(self, request: Request) -> Map:
        """The job, whatever is asked."""
        self.asked += [request.body] if request.method == "PATCH" else []
        self.paths += [request.path] if request.method == "PATCH" else []
        return self.job

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        """Nothing is watched."""
        raise NotImplementedError


@pytest.mark.parametrize(
    ("status", "origin", "last"),
    [
        ({}, {}, 1),
        ({"training": {"round": 4}}, {}, 5),
        ({}, {"initialModel": {"round": 12}}, 13),
        ({"training": {"round": 0}}, {"initialModel": {"round": 12}}, 13),
        ({"training": {"round": 14}}, {"initialModel": {"round": 12}}, 15),
        ({"training": {"round": 4}}, {"initialModel": {"sha256": "a" * 64}}, 5),
    ],
)
def test_a_job_ends_with_the_round_that_is_open(status: Map, origin: Map, last: int) -> None:
    """A fork's first is the one after its parent's, also where nobody has reported of it yet."""
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"rounds": 30, **origin}, "status": status})
    told = f"digits ends with round {last}, or a later one if that is open already, and writes its model"
    assert stop(cluster, "digits") == told
    assert cluster.asked == [{"spec": {"rounds": last}}]


@pytest.mark.parametrize(("is_held", "told"), [("True", ""), ("Unknown", "; it was not Suspended yet")])
def test_who_resumes_too_soon_learns_it(is_held: str, told: str) -> None:
    """Templates are taken over once the job has no pods."""
    status = {"conditions": [{"type": "Suspended", "status": is_held}]}
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"suspend": True}, "status": status})
    assert suspend(cluster, "digits", hold=False).removeprefix("digits goes on").startswith(told)
    assert ("templates" in suspend(cluster, "digits", hold=False)) == bool(told)
    assert cluster.asked[0] == {"spec": {"suspend": False}}


def test_a_job_is_scaled_as_kubectl_does() -> None:
    """By the scale of the FLJob, and not at all where it has so many already."""
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"workers": {"replicas": 4}}})
    assert scale(cluster, "digits", 8).startswith("digits will have 8 workers: ")
    assert scale(cluster, "digits", 4) == "digits has 4 workers already"
    assert (cluster.asked, cluster.paths) == (
        [{"spec": {"replicas": 8}}],
        ["/apis/fljob.dev/v1alpha1/namespaces/lab/fljobs/digits/scale"],
    )


def failed(done: int) -> Map:
    """The status of a job whose storage ended it after so many rounds."""
    condition = {"type": "Failed", "status": "True", "reason": "StorageUnusable"}
    return {"conditions": [condition], "display": {"state": "Failed"}, "training": {"round": done}}


@pytest.mark.parametrize(
    ("spec", "done", "told"),
    [
        ({}, 7, "of round 7 unless that was skipped: fl-submit fork digits --from-round 7 --name digits-2"),
        (
            {"server": {"checkpoint": {"everyRounds": 5}}, "workers": {"replicas": 2}},
            9,
            "fl-submit fork digits --from-round 5 --name digits-2",
        ),
        (
            {"server": {"checkpoint": {"everyRounds": 5}}},
            9,
            "fl-submit fork digits --from-round 9 --name digits-2",
        ),
        (
            {"server": {"storage": {"uri": "s3://kept/digits"}}},
            7,
            "--from-round 7 --name digits-2 --set server.storage.uri=s3://kept/digits-2",
        ),
        ({}, 0, "it has kept no round: once what ended it is mended, submit it again under another name"),
        ({"initialModel": {"round": 12}}, 12, "submit it again under another name"),
    ],
)
def test_a_job_that_failed_is_gone_on_from_by_another(spec: Map, done: int, told: str) -> None:
    """It is not resumed, and the sentence has the command that goes on from what it kept: with secure sums all."""
    cluster = Cluster({**FLJOB, "spec": {**FLJOB["spec"], **spec}, "status": failed(done)})
    with pytest.raises(JobError, match="^digits is Failed; a job that is over does not change; ") as raised:
        suspend(cluster, "digits", hold=False)
    assert str(raised.value).endswith(told)
    with pytest.raises(JobError, match="does not change$"):
        suspend(cluster, "digits", hold=True)
    assert cluster.asked == []


def test_a_job_in_its_last_round() -> None:
    """Nothing is changed of what ends by itself."""
    cluster = Cluster({"metadata": {"name": "digits"}, "spec": {"rounds": 13, "initialModel": {"round": 12}}})
    assert stop(cluster, "digits") == "digits ends with round 13 already"
    assert cluster.asked == []


def test_a_job_of_a_newer_operator_is_not_understood() -> None:
    """Its new field is named, and what to do; no traceback."""
    newer = {**FLJOB, "spec": {**FLJOB["spec"], "warp": 9}, "status": failed(7)}
    with pytest.raises(
        JobError, match=r"digits has what this fl-submit does not know: spec\.warp: .*version"
    ):
        suspend(Cluster(newer), "digits", hold=False)


class Keeping:
    """A job that says Delete, its claim, and an API server on which one request fails: if refused, as soon as tried."""

    namespace = "lab"

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        spec = {**FLJOB["spec"], "server": {"storage": {"onDelete": "Delete"}}}
        about = {"name": "digits", "namespace": "lab", "uid": "u-1", "finalizers": ["their/own"]}
        self.job: Map = {"metadata": about, "spec": spec}
        self.claim: Map = {"metadata": {"ownerReferences": ["the job"]}}
        self.failing, self.error = failing, error

    def send(self, request: Request) -> Map:
        """Do what is asked, unless it is only tried."""
        tried, kind = "dryRun" in (request.query or {}), request.path.split("/")[-2]
        refused = isinstance(self.error, ForbiddenError) or not tried
        if self.error is not None and f"{request.method} {kind}" == self.failing and refused:
            raise self.error
        thing = self.claim if kind == "persistentvolumeclaims" else self.job
        if not tried and request.method == "DELETE":
            thing["metadata"]["deletionTimestamp"] = "now"
        if not tried and request.body is not None:
            thing["metadata"] |= request.body["metadata"]
        return thing

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        """Nothing is watched."""
        raise NotImplementedError

    @property
    def stands(self) -> tuple[bool, list[str], bool]:
        """Whether the job is deleted, what holds it, and whether its claim would go with it."""
        about = self.job["metadata"]
        return (
            "deletionTimestamp" in about,
            about["finalizers"],
            bool(self.claim["metadata"]["ownerReferences"]),
        )


def test_a_storage_that_is_to_be_kept() -> None:
    """The claim is nobody's when the job is let go, and what others hold the job by stays."""
    cluster = Keeping()
    assert "its storage is kept" in delete(cluster, "digits", keep_storage=True)
    assert cluster.stands == (True, ["their/own"], False)


@pytest.mark.parametrize("refused", ["PATCH fljobs", "DELETE fljobs", "PATCH persistentvolumeclaims"])
def test_who_may_not_keep_a_storage_changes_nothing(refused: str) -> None:
    """Whichever right is missing, the job goes on as it was, and nothing holds it."""
    cluster = Keeping(refused, ForbiddenError(f"you may not {refused}"))
    with pytest.raises(ForbiddenError, match=refused):
        delete(cluster, "digits", keep_storage=True)
    assert cluster.stands == (False, ["their/own"], True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UnavailableError("no answer")])
@pytest.mark.parametrize("at", ["DELETE fljobs", "PATCH persistentvolumeclaims"])
def test_a_deletion_that_broke_off_goes_on(at: str, error: BaseException) -> None:
    """The storage is safe meanwhile, the sentence says what holds the job, and the same command ends it."""
    cluster = Keeping(at, error)
    told = (
        f"not deleted yet .{str(error) or 'interrupted'}.: the finalizer {KEEPER} may hold it.*same command"
    )
    with pytest.raises(RetryError, match=told):
        delete(cluster, "digits", keep_storage=True)
    assert cluster.stands == (at != "DELETE fljobs", ["their/own", KEEPER], True)
    cluster.error = None
    delete(cluster, "digits", keep_storage=True)
    assert cluster.stands == (True, ["their/own"], False)
