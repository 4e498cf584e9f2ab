"""`fl-submit` against a real API server: what it applies, what it says, and what a user may not do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from fl_core.invitation import Invitation
from job_generator import names
from job_generator.cluster.changes import Changes
from job_generator.cluster.connection import AbsentError, Connection, Request
from job_generator.cluster.jobs import identity
from job_generator.cluster.progress import plan_of

if TYPE_CHECKING:
    from harness.cluster import Cluster

pytestmark = pytest.mark.cluster

Submit = Callable[..., subprocess.CompletedProcess[str]]
MANIFESTS = Path(__file__).parents[2] / "manifests"
PROGRAM = "def task(config, site):\n    return None\n"
JOB = """\
apiVersion: fljob.dev/v1alpha1
kind: FLJob
metadata: {name: digits}
spec:
  program: {entrypoint: "program:task", framework: numpy}
  rounds: 20
  workers: {replicas: 4}
"""


@pytest.fixture(autouse=True)
def _definition(cluster: Cluster) -> None:
    crd = str(MANIFESTS / "crd.yaml")
    cluster.kubectl("apply", "--server-side", "-f", crd)
    cluster.kubectl("wait", "--for=condition=Established", "crd/fljobs.fljob.dev", "--timeout=30s")


@pytest.fixture
def submit(cluster: Cluster, namespace: str) -> Submit:
    """`fl-submit` with these words, in the test's namespace; `kubeconfig` is that of another user."""

    def start(*words: str, kubeconfig: object = None, **options: Any) -> subprocess.CompletedProcess[str]:
        where = ["--kubeconfig", str(kubeconfig or cluster.kubeconfig), "-n", namespace]
        line = [sys.executable, "-m", "job_generator.cli", *words[0].split(), *where, *words[1:]]
        return subprocess.run(
            line,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            **options,
        )

    return start


@pytest.fixture
def job(tmp_path: Path) -> str:
    """A job file with its program beside it."""
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    return str(tmp_path / "job.yaml")


@pytest.fixture
def stored(cluster: Cluster, namespace: str) -> Callable[..., Any]:
    """An object as the API server keeps it."""

    def look(*words: str) -> Any:
        return json.loads(cluster.kubectl("get", *words, "-n", namespace, "-o", "json").stdout)

    return look


def status(cluster: Cluster, namespace: str, **fields: Any) -> None:
    """Write a status as the operator does."""
    body = json.dumps({"status": fields})
    words = ("patch", "fljob", "digits", "-n", namespace, "--subresource=status", "--type=merge", "-p", body)
    cluster.kubectl(*words)


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def test_submit(submit: Submit, job: str, stored: Callable[..., Any]) -> None:
    """The program lies in an immutable ConfigMap of the job's own, and the job names it and its digest."""
    done = submit("submit", job)
    assert done.returncode == 0, done.stderr
    fljob = stored("fljob", "digits")
    program = fljob["spec"]["program"]
    packed = stored("configmap", program["source"]["configMap"]["name"])
    assert packed["metadata"]["name"] == f"digits-program-{program['sha256'][:10]}"
    assert packed["data"] == {"program.py": PROGRAM}
    assert packed["immutable"] is True
    assert [one["uid"] for one in packed["metadata"]["ownerReferences"]] == [fljob["metadata"]["uid"]]
    assert "fl-submit watch digits" in done.stdout
    again = submit("submit", job)
    assert again.returncode == 0, again.stderr
    assert stored("fljob", "digits")["metadata"]["generation"] == 1


def test_dry_run(submit: Submit, job: str, cluster: Cluster, namespace: str) -> None:
    """A dry run is checked by the API server and leaves nothing."""
    done = submit("submit", job, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would be applied" in done.stdout
    found = cluster.kubectl("get", "fljobs,configmaps", "-n", namespace, "-o", "name").stdout.split()
    assert [one for one in found if "digits" in one] == []


def test_a_field_that_cannot_change(
    submit: Submit, job: str, stored: Callable[..., Any], cluster: Cluster, namespace: str
) -> None:
    """What the API server refuses is one sentence with its path, and the exit code of a wrong job; its programs stay
    as they were: the one that is there the job's, a new one nowhere.
    """
    assert submit("submit", job).returncode == 0
    name = stored("fljob", "digits")["spec"]["program"]["source"]["configMap"]["name"]
    packed = stored("configmap", name)
    changed = yaml.safe_load(JOB)
    changed["spec"]["seed"] = 3
    Path(job).write_text(yaml.safe_dump(changed), encoding="utf-8")
    done = submit("submit", job)
    assert done.returncode == 65
    assert done.stderr.startswith("Error: ")
    assert "seed" in done.stderr
    assert "Traceback" not in done.stderr
    Path(job).with_name("program.py").write_text(f"{PROGRAM}# another\n", encoding="utf-8")
    assert submit("submit", job).returncode == 65
    found = cluster.kubectl("get", "configmaps", "-n", namespace, "-o", "name").stdout.split()
    assert [one for one in found if "digits-program" in one] == [f"configmap/{name}"]
    assert stored("configmap", name) == packed


def test_steering(
    submit: Submit, job: str, stored: Callable[..., Any], cluster: Cluster, namespace: str
) -> None:
    """A job is suspended, resumed, and stopped with the round that is open."""
    submit("submit", job)
    assert submit("suspend", "digits").returncode == 0
    assert stored("fljob", "digits")["spec"]["suspend"] is True
    assert submit("resume", "digits").returncode == 0
    assert stored("fljob", "digits")["spec"]["suspend"] is False
    status(cluster, namespace, training={"round": 7, "rounds": 20})
    stopped = json.loads(submit("stop", "digits", "--output", "json").stdout)
    assert stopped == {
        "job": "digits",
        "message": "digits ends with round 8, or a later one if that is open already, and writes its model",
    }
    assert stored("fljob", "digits")["spec"]["rounds"] == 8


def test_looking(submit: Submit, job: str, cluster: Cluster, namespace: str) -> None:
    """`list`, `status` and `explain` tell what the operator wrote, and who must act."""
    submit("submit", job)
    assert "no operator" in submit("explain", "digits").stdout.replace("any operator", "no operator")
    message = "worker 3: OOMKilled (limit 512Mi); raise the memory limit in its template"
    status(
        cluster,
        namespace,
        display={"state": "Running", "round": "7/20", "cohort": "3/4", "metric": "accuracy=0.9"},
        training={"round": 7, "rounds": 20},
        conditions=[condition("Degraded", "True", "OOMKilled", message)],
    )
    assert "7/20" in submit("list").stdout
    assert json.loads(submit("list", "--output", "json").stdout)[0]["metadata"]["name"] == "digits"
    assert "Running  digits: round 7/20, cohort 3/4" in submit("status", "digits").stdout
    told = submit("explain", "digits").stdout
    assert message in told
    assert "To do by you" in told


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [("Complete", "RoundsDone", 0), ("Failed", "ProgramError", 66), ("Failed", "QuorumLost", 68)],
)
def test_watch_ends_as_the_job(
    submit: Submit, job: str, cluster: Cluster, namespace: str, kind: str, reason: str, code: int
) -> None:
    """Watching prints the rounds and ends with the exit code that the job's end means."""
    submit("submit", job)
    training = {"round": 20, "rounds": 20, "selected": 4, "reported": 3, "metrics": {"loss": 0.25}}
    status(
        cluster,
        namespace,
        display={"state": kind},
        training=training,
        conditions=[condition(kind, "True", reason, "so it is")],
    )
    done = submit("watch", "digits")
    assert done.returncode == code, done.stderr
    assert "round 20/20  3/4 workers  loss 0.2500" in done.stdout
    assert "so it is" in done.stdout
    assert submit("submit", job).returncode == 64  # it is over


class Counted:
    """A connection that remembers what was asked of it."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._real = Connection.open(kubeconfig=kubeconfig, context=None, namespace=namespace)
        self.namespace, self.asked = namespace, list[str]()

    def send(self, request: Request) -> Any:
        self.asked.append(request.method)
        return self._real.send(request)

    def lines(self, request: Request, *, silence: float | None = None) -> Iterator[str]:
        self.asked.append("WATCH")
        return self._real.lines(request, silence=silence)


def test_watching_is_one_request(
    submit: Submit, job: str, stored: Callable[..., Any], cluster: Cluster, namespace: str
) -> None:
    """However much happens, who watches asks once; a version of long ago costs one reading more."""
    submit("submit", job)
    first = stored("fljob", "digits")
    watcher = Counted(Path(cluster.kubeconfig), namespace)
    seen = iter(Changes(watcher, first, pytest.fail))
    assert next(seen) is first
    for number in range(1, 6):
        status(cluster, namespace, training={"round": number, "rounds": 20})
        assert next(seen)["status"]["training"]["round"] == number
    assert watcher.asked == ["WATCH"]

    first["metadata"]["resourceVersion"] = "1"
    late = Counted(Path(cluster.kubeconfig), namespace)
    again = iter(Changes(late, first, pytest.fail))
    assert next(again) is first
    assert next(again)["status"]["training"]["round"] == 5
    cluster.kubectl("delete", "fljob", "digits", "-n", namespace)
    for one in (seen, again):
        with pytest.raises(AbsentError, match="was deleted"):
            next(one)
    assert late.asked == ["WATCH", "GET", "WATCH"]


def test_watch_tells_each_round_as_it_comes(job: str, cluster: Cluster, namespace: str) -> None:
    """The rounds are printed while the watching goes on, and `submit --watch` ends as the job does."""
    status_of = {"selected": 4, "reported": 4, "rounds": 20}
    words = ["submit", "--kubeconfig", str(cluster.kubeconfig), "-n", namespace, job, "--watch"]
    line = [sys.executable, "-m", "job_generator.cli", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        until(watching.stdout, "digits: fedavg")
        for number in (1, 2):
            status(cluster, namespace, training={**status_of, "round": number})
            until(watching.stdout, f"round  {number}/20")
        over = condition("Complete", "True", "RoundsDone", "all rounds are done")
        status(cluster, namespace, display={"state": "Complete"}, conditions=[over])
        until(watching.stdout, "✓ digits: all rounds are done")
        assert watching.wait(30) == 0


def until(lines: Iterable[str], wanted: str) -> None:
    assert any(wanted in line for line in lines), f"{wanted!r} was not printed"


def test_a_package(submit: Submit, tmp_path: Path, stored: Callable[..., Any]) -> None:
    """A program with folders is taken by the API server, each file under the path that Python looks for."""
    for name in ("__init__.py", "model/__init__.py", "model/layers.py"):
        (tmp_path / "program" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "program" / name).write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    done = submit("submit", str(tmp_path / "job.yaml"))
    assert done.returncode == 0, done.stderr
    source = stored("fljob", "digits")["spec"]["program"]["source"]["configMap"]
    assert {one["path"] for one in source["items"]} == {
        "program/__init__.py",
        "program/model/__init__.py",
        "program/model/layers.py",
    }
    assert stored("configmap", source["name"])["data"].keys() == {one["key"] for one in source["items"]}


def test_delete_keeps_the_storage_it_is_told_to_keep(
    submit: Submit, job: str, stored: Callable[..., Any], cluster: Cluster, namespace: str
) -> None:
    """With --keep-storage the claim of a job that says Delete stands, and is nobody's any more; who may not change
    claims changes nothing of the job.
    """
    document = yaml.safe_load(JOB)
    document["spec"]["server"] = {"storage": {"onDelete": "Delete"}}
    Path(job).write_text(yaml.safe_dump(document), encoding="utf-8")
    submit("submit", job)
    uid = stored("fljob", "digits")["metadata"]["uid"]
    owner = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "name": "digits", "uid": uid}
    name = f"digits-storage-{uid}"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [owner]},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    cluster.apply(claim)
    before = stored("fljob", "digits")
    jobs = {"apiGroups": ["fljob.dev"], "resources": ["fljobs"], "verbs": ["*"]}
    without_claims = user(cluster, namespace, "jobs-only", jobs)
    refused = submit("delete", "digits", "--keep-storage", kubeconfig=without_claims)
    assert (refused.returncode, "cannot patch" in refused.stderr) == (64, True), refused.stderr
    assert stored("fljob", "digits") == before
    done = submit("delete", "digits", "--keep-storage")
    assert done.returncode == 0, done.stderr
    assert "ownerReferences" not in stored("pvc", name)["metadata"]
    assert submit("status", "digits").returncode == 64


def test_a_token_for_a_site_is_told_as_data(
    submit: Submit, job: str, stored: Callable[..., Any], cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """`site token --output json` prints where the invitation lies and until when it is good, and not the token."""
    document = yaml.safe_load(JOB)
    document["spec"]["sites"] = [{"name": "hospital", "external": {}}]
    external = {"type": "LoadBalancer", "hostname": "fl.example.org", "port": 8443}
    document["spec"]["network"] = {"external": external}
    Path(job).write_text(yaml.safe_dump(document), encoding="utf-8")
    assert submit("submit", job).returncode == 0
    fljob = stored("fljob", "digits")
    plan, of = plan_of(fljob), identity(fljob)
    for name, data in (
        (names.configuration(of, plan.digest), {"plan.json": plan.to_json()}),
        (names.authority(of), {"ca.pem": "PEM", "enrolment": "https://operator.example.org:8443"}),
    ):
        about = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data})
    status(cluster, namespace, planDigest=plan.digest)
    cluster.kubectl("create", "serviceaccount", "default", "-n", namespace, check=False)
    done = submit("site token", "digits", "hospital", "--output", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    invitation = Invitation.read(tmp_path / told["file"])
    assert (told["job"], told["site"], told["address"]) == ("digits", "hospital", "fl.example.org:8443")
    assert (told["file"], told.keys()) == (
        "digits-hospital.json",
        {"job", "site", "file", "address", "until"},
    )
    assert invitation.token not in done.stdout


def user(cluster: Cluster, namespace: str, name: str, *rules: dict[str, list[str]]) -> Path:
    """The kubeconfig of a user who has these rights here, and no others."""
    rbac, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace}
    role = {"apiGroup": group, "kind": "Role", "name": name}
    who = {"kind": "User", "apiGroup": group, "name": name}
    cluster.apply(
        {"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": list(rules)},
        {"apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [who]},
    )
    return Path(cluster.user(name))


def test_a_user_without_rights(submit: Submit, job: str, cluster: Cluster) -> None:
    """Who may do nothing is told so in one sentence, and the doctor names each right that is missing."""
    stranger = cluster.user("stranger")
    done = submit("submit", job, kubeconfig=stranger)
    assert done.returncode == 64
    assert "stranger" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    told = submit("doctor", kubeconfig=stranger)
    assert told.returncode == 64
    assert "you may not submit jobs" in told.stdout


def test_doctor(submit: Submit) -> None:
    """The doctor sees the definition and the user's rights, and that no operator is there."""
    done = submit("doctor", "--output", "json")
    assert done.returncode == 64
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert found["Kubernetes"]["ok"]
    assert found["definition"]["ok"]
    assert found["rights"]["ok"]
    assert found["operator"]["ok"] is False
    assert "helm install" in found["operator"]["advice"]


def test_doctor_of_one_namespace(submit: Submit, cluster: Cluster, namespace: str) -> None:
    """Who may look at one namespace alone is told of the operator that is installed in it, and of its images."""
    labels = {"app.kubernetes.io/name": "fljob", "app.kubernetes.io/component": "operator"}
    words = [f"--watch-namespace={namespace}", "--control-image=hub/fljob:1"]
    containers = [{"name": "operator", "image": "hub/operator:1", "args": words}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    about = {"name": "fljob-operator", "namespace": namespace, "labels": labels}
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec})
    look = {
        "verbs": ["get", "list", "watch"],
        "resources": ["deployments", "pods"],
        "apiGroups": ["", "apps"],
    }
    done = submit("doctor", "--output", "json", kubeconfig=user(cluster, namespace, "looker", look))
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert found["operator"]["message"] == f"{namespace}/fljob-operator has no ready replica of 2"
    assert found["images"]["message"] == "hub/operator:1, hub/fljob:1"


def test_no_such_job(submit: Submit, namespace: str) -> None:
    """A name that nobody has is told with its namespace, by every command that takes one."""
    for command in ("status", "logs", "watch", "suspend", "resume", "stop", "delete", "explain"):
        done = submit(command, "nobody")
        assert done.returncode == 64, command
        assert f"there is no FLJob nobody in namespace {namespace}" in done.stderr


def test_nobody_answers(submit: Submit, tmp_path: Path) -> None:
    """An API server that is not there is one sentence, and the exit code for trying again."""
    file = tmp_path / "config"
    clusters = [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}]
    contexts = [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}]
    users = [{"name": "me", "user": {"token": "t"}}]
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "gone"}
    config |= {"clusters": clusters, "contexts": contexts, "users": users}  # type: ignore[dict-item]
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = submit("status", "digits", kubeconfig=file)
    assert done.returncode == 75
    assert "does not answer" in done.stderr


def test_an_interrupted_reader_is_removed(
    submit: Submit, job: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """Ctrl-C while a model is fetched leaves no pod behind."""
    submit("submit", job)
    status(cluster, namespace, images={"server": "nowhere/fljob:1"})
    cluster.kubectl("create", "serviceaccount", "default", "-n", namespace, check=False)
    words = ["model", "digits", "--kubeconfig", str(cluster.kubeconfig), "-n", namespace]
    line = [sys.executable, "-m", "job_generator.cli", *words, "-o", str(tmp_path / "m.npz")]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as reading:
        assert reading.stderr is not None
        assert "reads the storage" in reading.stderr.readline()
        pods = ("get", "pods", "-n", namespace, "-o", "name")
        assert "reader" in cluster.kubectl(*pods).stdout
        reading.send_signal(signal.SIGINT)
        assert reading.wait(30) != 0
    assert cluster.kubectl(*pods).stdout == ""


def test_fork(submit: Submit, job: str, stored: Callable[..., Any]) -> None:
    """What cannot be is refused before a pod looks for the checkpoint; and a job that never ran has none."""
    assert submit("submit", job).returncode == 0
    before = stored("fljob", "digits")
    for words, code, told in (
        (["--from-round", "3"], 2, "--name digits-2"),
        (["--from-round", "20", "--name", "digits-3"], 65, "spec.rounds: 20 counts all rounds"),
        (["--from-round", "3", "--name", "digits-3", "--set", "rond=3"], 65, "did you mean rounds?"),
        (["--from-round", "3", "--name", "digits-3"], 64, "digits never had a server"),
    ):
        refused = submit("fork", "digits", *words)
        assert (refused.returncode, told in refused.stderr) == (code, True), refused.stderr
    assert stored("fljob", "digits") == before
