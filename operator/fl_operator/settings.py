"""Everything that can be set of the operator's process, by flags or by environment variables `FLJOB_...`."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import yaml

from fl_core.errors import SpecError
from job_generator.settings import RESOLVERS, Images
from job_generator.settings import Settings as JobSettings

PREFIX = "FLJOB"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SELECTORS = ("matchLabels", "matchExpressions")
"""What a label selector consists of."""
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator's process is started with."""

    namespace: str
    """Its own: there are its Lease and its Secret."""
    watch_namespaces: tuple[str, ...] = ()
    """Where it looks after FLJobs; everywhere if empty."""
    kubeconfig: Path | None = None
    """Without it: the service account of its pod."""
    control_image: str = ""
    """Of servers and schedulers; this version's own if empty."""
    store_image: str = ""
    """Of servers that keep their storage in a store of objects; this version's own if empty."""
    worker_images: Mapping[str, str] = field(default_factory=dict)
    """Of workers, by framework, where they are not this version's own."""
    pull_policy: str | None = None
    template: Path | None = None
    """A file with the partial pod template below those of the jobs."""
    service: str = "fljob-operator"
    """The Service by which pods reach the enrolment endpoint."""
    user: int | None = 65_532
    """User and group of the pods' processes; None lets the cluster choose."""
    resolvers: tuple[str, ...] = RESOLVERS
    """Addresses of name servers that are no pods, as CIDRs: jobs' NetworkPolicies let their pods ask them."""
    scrapers: Mapping[str, Any] = field(default_factory=dict)
    """A selector of the namespaces that may read the metrics of jobs' pods; all of them without it."""
    workers: int = 4
    """Reconciles at the same time."""
    resync_seconds: float = 600.0
    request_rate: float = 300.0
    """Requests to the API server per second, 0 for no limit."""
    request_burst: int = 600
    metrics: str = "0.0.0.0:8080"
    enrolment: str = "0.0.0.0:8443"
    lease: str = "fljob-operator"
    leader_election: bool = True
    identity: str = field(
        default_factory=lambda: f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"
    )
    """Who holds the Lease, and who reports Events."""

    def for_jobs(self, *, authority: str) -> JobSettings:
        """What every job gets of this; `authority` is the PEM text of who signs certificates."""
        own = Images.of(version("fljob"))
        return JobSettings(
            images=Images(
                self.control_image or own.control,
                {**own.workers, **self.worker_images},
                self.store_image or own.store,
            ),
            pull_policy=self.pull_policy,
            operator_namespace=self.namespace,
            operator_service=self.service,
            authority=authority,
            user=self.user,
            template=_template(self.template) if self.template else {},
            resolvers=self.resolvers,
            scrapers=self.scrapers,
        )


def _split(given: tuple[str, ...]) -> list[str]:
    """The values of an option that was given several times, or with commas as in an environment variable."""
    return [part.strip() for value in given for part in re.split(r"[\s,]+", value) if part.strip()]


def _networks(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(_split(given))
    for one in found:
        try:
            ip_network(one, strict=False)  # as the API server reads it
            is_network = "/" in one
        except ValueError:
            is_network = False
        if not is_network:
            raise click.BadParameter(f"{one!r}; expected a CIDR such as 10.0.0.53/32")
    return found


def _selector(_context: click.Context, _option: click.Parameter, given: str) -> dict[str, Any]:
    try:
        found = json.loads(given)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.keys() - set(SELECTORS):
        raise click.BadParameter(
            f"{given!r}; expected a label selector as JSON, of {' and '.join(SELECTORS)}"
        )
    return found


_OPTIONS = (
    click.option("--namespace", help="The operator's own namespace; its pod's by default."),
    click.option(
        "--watch-namespace",
        "watch_namespaces",
        multiple=True,
        help="Look after FLJobs of this namespace only; may be given several times, or with commas.",
    ),
    click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        envvar=["FLJOB_KUBECONFIG", "KUBECONFIG"],
        help="How to reach the cluster; the pod's service account by default.",
    ),
    click.option("--control-image", default="", help="The image of servers and schedulers."),
    click.option(
        "--store-image",
        default="",
        help="The image of servers that keep their storage in a store of objects.",
    ),
    click.option(
        "--worker-image",
        "worker_images",
        multiple=True,
        metavar="FRAMEWORK=IMAGE",
        help="The image of a framework's workers; may be given several times, or with commas.",
    ),
    click.option(
        "--pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), help="Of those images."
    ),
    click.option(
        "--template",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A YAML file with the partial pod template that every job's pods start from.",
    ),
    click.option("--service", default="fljob-operator", show_default=True, help="The operator's Service."),
    click.option(
        "--user",
        default="65532",
        show_default=True,
        metavar="NUMBER|cluster",
        help="User and group of the jobs' processes, or `cluster` to let the cluster choose.",
    ),
    click.option(
        "--resolver",
        "resolvers",
        multiple=True,
        default=RESOLVERS,
        show_default=True,
        metavar="CIDR",
        callback=_networks,
        help="Address of a name server that is no pod, which jobs' pods may ask; may be given several times, or with "
        "commas.",
    ),
    click.option(
        "--scrapers",
        default="{}",
        show_default=True,
        metavar="JSON",
        callback=_selector,
        help="Label selector of the namespaces that may read the metrics of jobs' pods; all if empty.",
    ),
    click.option(
        "--workers",
        default=4,
        show_default=True,
        type=click.IntRange(1, 64),
        help="Reconciles at the same time.",
    ),
    click.option(
        "--resync-seconds",
        default=600.0,
        show_default=True,
        type=click.FloatRange(1),
        help="Every job is looked at so often.",
    ),
    click.option(
        "--request-rate",
        default=300.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Requests to the API server per second; 0 sets no limit.",
    ),
    click.option(
        "--request-burst", default=600, show_default=True, type=click.IntRange(1), help="Of those, at once."
    ),
    click.option(
        "--metrics", default="0.0.0.0:8080", show_default=True, help="Address of /metrics and probes."
    ),
    click.option(
        "--enrolment", default="0.0.0.0:8443", show_default=True, help="Address at which pods enrol."
    ),
    click.option("--lease", default="fljob-operator", show_default=True, help="The Lease of the leader."),
    click.option(
        "--leader-election/--no-leader-election",
        default=True,
        help="Whether several replicas agree on one that works; on by default.",
    ),
    click.option("--log-format", type=click.Choice(["json", "console"]), default="json", show_default=True),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
    ),
)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for every setting; it gets them as `settings`."""

    def run(
        *,
        namespace: str | None,
        watch_namespaces: tuple[str, ...],
        worker_images: tuple[str, ...],
        user: str,
        log_format: str,
        log_level: str,
        **own: Any,  # noqa: ANN401 - the other options
    ) -> None:
        settings = Settings(
            namespace=_namespace(namespace),
            watch_namespaces=_namespaces(watch_namespaces),
            worker_images=_images(worker_images),
            user=_user(user),
            **own,
        )
        command(settings=settings, log_format=log_format, log_level=log_level)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def _namespace(given: str | None) -> str:
    found = given or own_namespace()
    if not found:
        raise click.UsageError(
            "--namespace is missing: outside a pod the operator does not know its own namespace"
        )
    return _valid(found)


def _namespaces(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_valid(name) for name in _split(given)))


def _valid(name: str) -> str:
    if not NAMESPACE.fullmatch(name):
        raise click.UsageError(f"{name!r} is no namespace's name; expected lower-case letters, digits and -")
    return name


def _images(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in _split(given)]
    for framework, _, image in pairs:
        if not framework or not image:
            raise click.UsageError(f"--worker-image {framework!r}: expected FRAMEWORK=IMAGE")
    return {framework: image for framework, _, image in pairs}


def _template(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError(f"--template {path}: {error}") from error
    if not isinstance(found, dict):
        raise SpecError(f"--template {path} holds no mapping; expected metadata and spec of a pod template")
    for place, value, wanted in _misshapen(found):
        raise SpecError(f"--template {path}: {place} is {value!r}; expected {wanted}")
    return found


def _misshapen(template: dict[str, Any]) -> Iterator[tuple[str, object, str]]:
    """The fields on which jobs' pods are built and that are none: where, what stands there, what is expected."""
    for above, name in (("metadata", "labels"), ("metadata", "annotations"), ("spec", "containers")):
        outer = template.get(above, {})
        if not isinstance(outer, dict):
            yield above, outer, "a mapping"
        elif name == "containers":
            yield from _miscontained(outer.get(name, []))
        elif not isinstance(inner := outer.get(name, {}), dict):
            yield f"{above}.{name}", inner, "a mapping"


def _miscontained(containers: object) -> Iterator[tuple[str, object, str]]:
    if not isinstance(containers, list):
        yield "spec.containers", containers, "a list of containers"
        return
    for place, one in enumerate(containers):
        if not isinstance(one, dict):
            yield f"spec.containers[{place}]", one, "a mapping"


def _user(given: str) -> int | None:
    if given == "cluster":
        return None
    if not given.isdecimal() or int(given) == 0:
        raise click.UsageError(f"--user {given!r}: expected a number above 0, or cluster")
    return int(given)


def own_namespace() -> str | None:
    """The namespace of the pod that this process runs in."""
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
