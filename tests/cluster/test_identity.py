"""Who is who on a cluster: certificates for real tokens of real pods, and real processes that look at them."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fl_core.identity import Credentials, Identity
from fl_core.plan import Plan
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.channels import OPTIONS
from fl_core.wire.guard import context_of
from tests.cluster.lab import SYSTEM, Lab, Map
from tests.rounds.conftest import Run
from tests.rounds.test_hostile import status

pytestmark = [pytest.mark.cluster, pytest.mark.level(3)]

ADDRESS = ("127.0.0.1", 28443)
INDEX = "batch.kubernetes.io/job-completion-index"
ROLE = "fljob.dev/role"


@dataclass
class Desk:
    """The enrolment endpoint of an operator, as pods reach it."""

    lab: Lab

    def asks(self, pod: str, *, audience: str = "fljob", bound: bool = True) -> tuple[int, str, bytes]:
        """What it answers to a token of a pod, or only of its account: code, text, and the key that was to be signed.

        Whoever asks claims to be the server of the job `digits`.
        """
        return self.shows(self.token(pod, audience=audience, bound=bound))

    def shows(self, token: str) -> tuple[int, str, bytes]:
        """What it answers to a token."""
        key = ec.generate_private_key(ec.SECP256R1())
        asked = {"token": token, "request": self._request(key), "role": "server", "index": 0}
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with self._connected() as connection:
            connection.request("POST", "/", json.dumps(asked), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), private

    def token(self, pod: str, *, audience: str = "fljob", bound: bool = True) -> str:
        """What the kubelet would mount in a pod."""
        to = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if bound else []
        return self.lab.kubectl("create", "token", "default", f"--audience={audience}", *to).strip()

    def certificate(self, pod: str) -> Credentials:
        """The certificate that a pod of an FLJob gets."""
        code, text, private = self.asks(pod)
        assert code == 200, text
        given = json.loads(text)
        return Credentials(given["authority"].encode(), given["certificate"].encode(), private)

    def _request(self, key: ec.EllipticCurvePrivateKey) -> str:
        wish = x509.UniformResourceIdentifier(Identity(self.uid("digits"), "server").uri)
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        asked = builder.add_extension(x509.SubjectAlternativeName([wish]), critical=False)
        return asked.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        """By the name that the pods use, trusting what they are told to trust."""
        trust = self.lab.get("configmap", "digits-authority")["data"]["ca.pem"]
        context = ssl.create_default_context(cadata=trust)
        name = f"fljob-operator.{SYSTEM}.svc"
        with (
            socket.create_connection(ADDRESS, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            connection = HTTPConnection(name)
            connection.sock = secured
            yield connection

    def uid(self, job: str) -> str:
        """The uid of an FLJob."""
        return str(self.lab.get("fljob", job)["metadata"]["uid"])

    def pod(self, role: str, job: str = "digits", index: int = 0) -> str:
        """The name of a process's pod."""
        found = (one["metadata"] for one in self.lab.pods(role, job))
        return next(str(one["name"]) for one in found if one["labels"][INDEX] == str(index))


@pytest.fixture
def desk(lab: Lab) -> Desk:
    """Two jobs with all their pods, and an operator that signs."""
    operator = lab.operator(f"--enrolment={ADDRESS[0]}:{ADDRESS[1]}", *lab.on_fake_nodes())
    lab.apply(workers={"replicas": 2})
    lab.apply("other", workers={"replicas": 2})
    lab.eventually(lambda: len(lab.pods()) == len(lab.pods(name="other")) == 4)
    lab.eventually(lambda: operator.said("started"))
    return Desk(lab)


def bare_pod(name: str, **metadata: Any) -> Map:
    """A pod that somebody made by hand."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "fl", "image": "none"}]},
    }


def test_a_pod_gets_its_own_name_whatever_it_says(desk: Desk) -> None:
    """Each pod asks to be the server of a job, in words and in its request; its token alone counts."""
    for job in ("digits", "other"):
        for pod in desk.lab.pods(name=job):
            labels = pod["metadata"]["labels"]
            index = int(labels[INDEX]) if labels[ROLE] == "worker" else None
            given = desk.certificate(pod["metadata"]["name"])
            assert given.identity == Identity(desk.uid(job), labels[ROLE], index)


def test_other_tokens_get_nothing(desk: Desk) -> None:
    """For another audience, of no pod, of a pod that is gone, or forged: no certificate; an honest pod gets its own."""
    worker, gone = desk.pod("worker"), desk.pod("worker", index=1)
    assert desk.asks(worker, audience="https://kubernetes.default.svc")[0] == 403
    assert desk.asks(worker, bound=False)[:2] == (403, "the token is bound to no pod")
    head, body, signature = desk.token(worker).split(".")
    assert desk.shows(f"{head}.{body}.{signature[::-1]}")[0] == 403
    kept = desk.token(gone)
    desk.lab.kubectl("delete", "pod", gone, "--wait=true")
    assert desk.shows(kept)[0] in {403, 503}
    assert desk.certificate(worker).identity.index == 0


def test_pods_that_look_like_a_jobs_get_nothing(desk: Desk) -> None:
    """The labels of a job's server, and a Job of somebody's own that has them, too, make no process of an FLJob."""
    lab = desk.lab
    labels = {**lab.get("job", "digits-server")["metadata"]["labels"], INDEX: "0"}
    pod = bare_pod("labelled", labels=labels)
    template = {"metadata": {"labels": labels}, "spec": {**pod["spec"], "restartPolicy": "Never"}}
    mine = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "mine", "labels": labels}}
    lab.apply_all(pod, {**mine, "spec": {"template": template}})
    made = lab.eventually(lambda: lab.get("pods", "", "-l", "job-name=mine"))
    for name in ("labelled", made[0]["metadata"]["name"]):
        token = desk.token(name)
        code, text, _ = lab.eventually(lambda token=token: known(desk.shows(token)))
        assert (code, text.endswith("belongs to no FLJob")) == (403, True), text


def known(answer: tuple[int, str, bytes]) -> tuple[int, str, bytes] | None:
    """An answer, once the operator has heard of the pod."""
    code, text, _ = answer
    return None if code == 503 and text.startswith("pod ") else answer


def test_another_jobs_certificate_opens_no_server(desk: Desk, tmp_path: Path) -> None:
    """A good certificate of one job gets nothing from the server of another, whose own worker is listened to."""
    plan = Plan.model_validate_json(
        next(
            one["data"]["plan.json"]
            for one in desk.lab.get("configmaps")
            if one["metadata"]["name"].startswith("other-plan-")
        )
    )
    run = Run(tmp_path, plan)
    (tmp_path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    try:
        address = started(desk, run)
        asked = pb.PullRequest(context=context_of(plan, round=1, attempt=1), model="0" * 64)
        for job, codes in (
            ("digits", {grpc.StatusCode.PERMISSION_DENIED}),
            ("other", {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}),
        ):
            own = desk.certificate(desk.pod("worker", job))
            with opened(address, own, Identity(plan.job.uid, "server").host) as channel:
                assert status(channel, "server", "Pull", asked.SerializeToString()) in codes
    finally:
        for process in run.processes.values():
            process.kill()
            process.wait()


def started(desk: Desk, run: Run) -> str:
    """Scheduler and server of the job `other`, with the certificates of its pods; the server's address."""
    for role in ("scheduler", "server"):
        desk.certificate(desk.pod(role, "other")).write(run.folder / role)
    scheduler = run.start(
        "scheduler", ["fl_scheduler"], identity=str(run.folder / "scheduler"), listen="127.0.0.1:0"
    )
    return run.start(
        "server",
        ["fl_server"],
        identity=str(run.folder / "server"),
        scheduler=scheduler,
        storage=str(run.storage),
        listen="127.0.0.1:0",
    )


def opened(address: str, own: Credentials, host: str) -> grpc.Channel:
    """A channel by whatever name the server has, so that it is the server that must refuse."""
    credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
    return grpc.secure_channel(
        address, credentials, options=(*OPTIONS, ("grpc.ssl_target_name_override", host))
    )
