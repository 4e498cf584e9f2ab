"""What is sent to a cluster, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fl_core.errors import JobError, SpecError
from job_generator.cli.files import write
from job_generator.cluster.connection import AbsentError, Object, Request
from job_generator.cluster.submission import MOST_PROGRAM, namespace_of, prepare, submit
from job_generator.program import program_digest
from job_generator.source import parse
from job_generator.spec import FLJob

PROGRAM = "def task(config, site):\n    return None\n"


@dataclass
class Memory:
    """An API server that keeps what is applied, and what was asked in which order."""

    namespace: str = "research"
    kept: dict[str, Object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuses: str = "nothing"

    def send(self, request: Request) -> Object:
        tried = " (tried)" if "dryRun" in (request.query or {}) else ""
        self.asked.append(f"{request.method} {request.path.rpartition('/')[2]}{tried}")
        if request.method == "PATCH" and request.body is not None:
            if request.path.endswith(self.refuses):
                raise SpecError("spec.seed: Invalid value: the field cannot change")
            made = {**request.body, "metadata": {**request.body["metadata"], "uid": "u-1"}}
            if tried:
                return made
            self.kept[request.path] = made
        if request.path not in self.kept:
            raise AbsentError("not found")
        return self.kept[request.path]


def job(**metadata: str) -> FLJob:
    named = ", ".join(f"{key}: {value}" for key, value in {"name": "digits", **metadata}.items())
    text = f"""
    apiVersion: fljob.dev/v1alpha1
    kind: FLJob
    metadata: {{{named}}}
    spec: {{program: {{entrypoint: "program:task", framework: numpy}}, rounds: 20, workers: {{replicas: 4}}}}
    """
    return parse(text, name="job.yaml").job()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def test_order(folder: Path) -> None:
    """The program is there before the job that needs it, and is the job's afterwards; nothing is there untried."""
    cluster = Memory()
    what = prepare(job(), folder, namespace="research")
    submit(cluster, what)  # type: ignore[arg-type]
    packed = what.created[0].partition("/")[2]
    made = [f"PATCH {packed}", "PATCH digits", f"PATCH {packed}"]
    assert cluster.asked == ["GET digits", "PATCH digits (tried)", *made]
    stored = cluster.kept[f"/api/v1/namespaces/research/configmaps/{packed}"]
    assert stored["metadata"]["ownerReferences"][0]["uid"] == "u-1"


def test_a_job_that_is_refused_leaves_no_program(folder: Path) -> None:
    """What the API server does not take of a job is known before its program is there."""
    cluster = Memory(refuses="/fljobs/digits")
    with pytest.raises(SpecError, match=r"spec\.seed"):
        submit(cluster, prepare(job(), folder, namespace="research"))  # type: ignore[arg-type]
    assert cluster.kept == {}


def test_a_program_stays_its_job_s(folder: Path) -> None:
    """The program of a job that is there is at no moment nobody's: one write with its owner."""
    cluster = Memory()
    what = prepare(job(), folder, namespace="research")
    submit(cluster, what)  # type: ignore[arg-type]
    packed = f"/api/v1/namespaces/research/configmaps/{what.created[0].partition('/')[2]}"
    before = cluster.kept.pop(packed)
    submit(cluster, what)  # type: ignore[arg-type]
    assert cluster.asked[-3:] == [
        "PATCH digits (tried)",
        f"PATCH {packed.rpartition('/')[2]}",
        "PATCH digits",
    ]
    assert cluster.kept[packed] == before
    assert before["metadata"]["ownerReferences"][0]["uid"] == "u-1"


def test_a_dry_run_keeps_nothing(folder: Path) -> None:
    """Program and job are both tried."""
    cluster = Memory()
    what = prepare(job(), folder, namespace="research")
    submit(cluster, what, dry_run=True)  # type: ignore[arg-type]
    packed = what.created[0].partition("/")[2]
    assert cluster.asked == ["GET digits", "PATCH digits (tried)", f"PATCH {packed} (tried)"]
    assert cluster.kept == {}


def test_only_what_was_written(folder: Path) -> None:
    """No default is sent, so that the API server's own defaults stay its own."""
    sent = prepare(job(), folder, namespace="research").job
    assert set(sent["spec"]) == {"program", "rounds", "workers"}
    assert sent["spec"]["workers"] == {"replicas": 4}
    assert sent["metadata"] == {"name": "digits", "namespace": "research"}


def test_another_program_is_another_config_map(folder: Path) -> None:
    """The ConfigMap's name follows from the program's content."""
    first = prepare(job(), folder, namespace="research").created
    (folder / "program.py").write_text(PROGRAM + "\n", encoding="utf-8")
    assert prepare(job(), folder, namespace="research").created[0] != first[0]


def test_too_large(folder: Path) -> None:
    """A program that no ConfigMap holds is refused with its size, its largest files and the ways out."""
    (folder / "table.py").write_text("#" * MOST_PROGRAM, encoding="utf-8")
    told = f"the largest: table.py with {MOST_PROGRAM:,}, program.py with {len(PROGRAM)}.*source.image.*Claim"
    with pytest.raises(SpecError, match=told):
        prepare(job(), folder, namespace="research")


def test_a_package(tmp_path: Path) -> None:
    """Mounted as the job says, the keys of a package are its files again, and their digest the job's."""
    for name in ("__init__.py", "model/__init__.py", "model/layers.py"):
        write(tmp_path / "program" / name, f"{PROGRAM}# {name}")
    what = prepare(job(), tmp_path, namespace="research")
    assert what.program is not None
    program = what.job["spec"]["program"]
    mounted = tmp_path / "mounted"
    for item in program["source"]["configMap"]["items"]:
        write(mounted / item["path"], what.program["data"][item["key"]])
    assert len(what.program["data"]) == 3
    assert program_digest(mounted, "program") == program_digest(tmp_path, "program") == program["sha256"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a/b.py", "a.b.py"), "same key in a ConfigMap, program.a.b.py"),
        (("größe.py",), "no file called 'program/größe.py'"),
    ],
)
def test_files_that_cannot_be_keys(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    """Files that have no key, or the same one, are named before anything is sent."""
    for name in ("__init__.py", *names):
        write(tmp_path / "program" / name, PROGRAM)
    with pytest.raises(SpecError, match=told):
        prepare(job(), tmp_path, namespace="research")


def test_a_job_that_is_over(folder: Path) -> None:
    """A name under which a job has ended is refused before anything is applied."""
    cluster = Memory()
    over = {
        "conditions": [{"type": "Failed", "status": "True", "reason": "X"}],
        "display": {"state": "Failed"},
    }
    path = "/apis/fljob.dev/v1alpha1/namespaces/research/fljobs/digits"
    cluster.kept[path] = {"metadata": {"name": "digits"}, "status": over}
    with pytest.raises(JobError, match="is Failed"):
        submit(cluster, prepare(job(), folder, namespace="research"))  # type: ignore[arg-type]
    assert cluster.asked == ["GET digits"]


def test_namespace() -> None:
    """The job's own namespace counts, then --namespace, then the context's; two that differ are refused."""
    assert namespace_of(job(), asked=None, usual="mine") == "mine"
    assert namespace_of(job(), asked="theirs", usual="mine") == "theirs"
    assert namespace_of(job(namespace="own"), asked=None, usual="mine") == "own"
    with pytest.raises(SpecError, match="leave one of them out"):
        namespace_of(job(namespace="own"), asked="theirs", usual="mine")
