"""What can be set, by flags and by environment variables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fl_core.errors import SpecError
from fl_operator import settings as module
from fl_operator.command import run
from fl_operator.settings import Settings, with_settings


def read(*flags: str, **environment: str) -> Any:
    """The settings that these flags and variables make, or what is said of them."""
    found: list[Settings] = []

    @with_settings
    def command(*, settings: Settings, **_: Any) -> None:
        found.append(settings)

    made = click.command(context_settings={"auto_envvar_prefix": "FLJOB"})(command)
    result = CliRunner().invoke(made, list(flags), env=environment)
    return found[0] if result.exit_code == 0 else result.output


def test_flags_and_variables_say_the_same() -> None:
    """Each flag has its variable; lists may be written with commas."""
    flags = read(
        "--namespace=system",
        "--watch-namespace=a",
        "--watch-namespace=b",
        "--worker-image=numpy=n:1",
        "--worker-image=paddle=p:1",
        "--workers=2",
        "--no-leader-election",
    )
    variables = read(
        FLJOB_NAMESPACE="system",
        FLJOB_WATCH_NAMESPACES="a,b",
        FLJOB_WORKER_IMAGES="numpy=n:1, paddle=p:1",
        FLJOB_WORKERS="2",
        FLJOB_LEADER_ELECTION="false",
    )
    for name in ("namespace", "watch_namespaces", "worker_images", "workers", "leader_election"):
        assert getattr(flags, name) == getattr(variables, name)
    assert flags.watch_namespaces == ("a", "b")
    assert flags.worker_images == {"numpy": "n:1", "paddle": "p:1"}
    assert not flags.leader_election


def test_the_defaults_of_flags_are_those_of_the_class() -> None:
    """Whoever makes settings in Python gets what the command gives."""
    asked, made = read("--namespace=system"), Settings(namespace="system")
    different = {
        name for name in Settings.__dataclass_fields__ if getattr(asked, name) != getattr(made, name)
    }
    assert different == {"identity"}


def test_two_processes_are_two() -> None:
    """Two replicas never have the same identity, even on one machine."""
    assert Settings(namespace="a").identity != Settings(namespace="a").identity


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--namespace is missing"),
        (("--namespace=Big",), "'Big' is no namespace's name"),
        (("--namespace=a", "--watch-namespace=b,c/d"), "'c/d' is no namespace's name"),
        (("--namespace=a", "--worker-image=numpy"), "expected FRAMEWORK=IMAGE"),
        (("--namespace=a", "--user=root"), "expected a number above 0, or cluster"),
        (("--namespace=a", "--user=0"), "expected a number above 0, or cluster"),
        (("--namespace=a", "--workers=0"), "0 is not in the range"),
        (("--namespace=a", "--resolver=10.0.0.53"), "'10.0.0.53'; expected a CIDR"),
        (("--namespace=a", "--resolver=10.0.0.53/33"), "'10.0.0.53/33'; expected a CIDR"),
        (("--namespace=a", "--scrapers=monitoring"), "'monitoring'; expected a label selector"),
        (("--namespace=a", '--scrapers={"team": "a"}'), "expected a label selector"),
    ],
)
def test_what_is_wrong_is_said(flags: tuple[str, ...], said: str) -> None:
    """A wrong setting is refused with what would be accepted."""
    assert said in read(*flags)


def test_the_pods_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod the operator's namespace is that of the pod."""
    file = tmp_path / "namespace"
    file.write_text("fljob-system\n", encoding="utf-8")
    monkeypatch.setattr(module, "NAMESPACE_FILE", file)
    assert read().namespace == "fljob-system"


def test_what_jobs_get(tmp_path: Path) -> None:
    """Jobs get the images, the template, the user and where to enrol; own images stay where none is named."""
    template = tmp_path / "template.yaml"
    template.write_text("spec: {priorityClassName: high}", encoding="utf-8")
    settings = read(
        "--namespace=system",
        "--control-image=c:1",
        "--store-image=s:1",
        "--worker-image=numpy=n:1",
        f"--template={template}",
        "--user=cluster",
    )
    jobs = settings.for_jobs(authority="PEM")
    assert (jobs.images.control, jobs.images.workers["numpy"]) == ("c:1", "n:1")
    assert jobs.images.store == "s:1"
    assert jobs.images.workers["paddle"].startswith("fljob-worker-paddle:")
    assert (jobs.template, jobs.user, jobs.authority) == (
        {"spec": {"priorityClassName": "high"}},
        None,
        "PEM",
    )
    assert jobs.enrolment == "https://fljob-operator.system.svc:8443"


def test_whom_jobs_may_reach() -> None:
    """Name servers and readers of metrics are those of the flags; an empty list of name servers is none."""
    only = {"matchLabels": {"team": "observability"}}
    settings = read("--namespace=a", "--resolver=10.0.0.53/32,fd00::/64", f"--scrapers={json.dumps(only)}")
    jobs = settings.for_jobs(authority="")
    assert (jobs.resolvers, jobs.scrapers) == (("10.0.0.53/32", "fd00::/64"), only)
    assert read("--namespace=a", "--resolver=").for_jobs(authority="").resolvers == ()


@pytest.mark.parametrize("text", ["- a list", "{"])
def test_templates_that_are_none(tmp_path: Path, text: str) -> None:
    """A file that holds no pod template is named."""
    template = tmp_path / "template.yaml"
    template.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match="--template"):
        Settings(namespace="a", template=template).for_jobs(authority="")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("spec: x", "spec is 'x'"),
        ("metadata:", "metadata is None"),
        ("metadata: {labels: x}", "metadata.labels is 'x'"),
        ("metadata: {annotations: [1]}", "metadata.annotations is [1]"),
        ("spec: {containers: x}", "spec.containers is 'x'"),
        ("spec: {containers: [{name: fl}, 1]}", "spec.containers[1] is 1"),
    ],
)
def test_templates_of_another_shape(tmp_path: Path, text: str, field: str) -> None:
    """What no pod can be built on is refused with its place, as the API server's own findings are."""
    template = tmp_path / "template.yaml"
    template.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=re.escape(f"--template {template}: {field}; expected a ")):
        Settings(namespace="a", template=template).for_jobs(authority="")


def test_help() -> None:
    """The command shows every option and how it is called."""
    text = CliRunner().invoke(run, ["--help"]).output
    assert "fl-operator run --kubeconfig" in text
    assert text.count("  --") >= 19
