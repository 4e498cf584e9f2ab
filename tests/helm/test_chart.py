"""What the chart makes of its values, without a cluster."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from fl_core.bundle import bundle, bundle_digest
from fl_operator import settings
from fl_operator.authority import NAME as AUTHORITY
from fl_operator.command import run
from job_generator.compiler import compile_job
from job_generator.policies import RESOLVER_PORTS
from job_generator.settings import ENROLLED_BY, ENROLMENT_PORT, Images
from job_generator.spec import FLJob

if TYPE_CHECKING:
    from conftest import Map, Render

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "fljob"
FILES = sorted((CHART / "ci").glob("*.yaml"))
MANIFEST = ROOT / "manifests" / "operator.yaml"
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
DIGEST = f"sha256:{'a1' * 32}"


def only(objects: list[Map], kind: str, name: str | None = None) -> Map:
    """The one object of a kind, or of a kind and a name."""
    found = [one for one in objects if one["kind"] == kind and name in {None, one["metadata"]["name"]}]
    assert len(found) == 1, [one["metadata"]["name"] for one in found]
    return found[0]


def plain(file: Path) -> list[Map]:
    """The objects of a manifest for `kubectl apply`."""
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


def kinds(objects: list[Map]) -> set[str]:
    return {one["kind"] for one in objects}


def operator_of(objects: list[Map]) -> Map:
    """The pod template of the operator."""
    template: Map = only(objects, "Deployment")["spec"]["template"]
    return template


def rules_of(objects: list[Map]) -> Iterator[tuple[Map, Map]]:
    """Each rule of the operator's roles, with its role; those for people aggregate."""
    for one in objects:
        if one["kind"] in {"Role", "ClusterRole"} and not one["metadata"]["name"].endswith(
            ("viewer", "editor")
        ):
            yield from ((one, rule) for rule in one["rules"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_value_file_renders_objects_that_know_where_they_belong(render: Render, file: Path) -> None:
    """Each object has the chart's labels, and one that lives in a namespace names it."""
    everywhere = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    for one in render(file, tests=True):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "fljob"
        assert labels["app.kubernetes.io/version"] == VERSION
        assert ("namespace" in one["metadata"]) == (one["kind"] not in everywhere), one["kind"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_value_file_is_good(helm: str, file: Path) -> None:
    """`helm lint --strict` finds nothing in any of them."""
    words = [helm, "lint", "--strict", str(CHART), "--values", str(file), "--kube-version", "1.37.0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replica", "2"),
        ("image__tagg", '"1"'),
        ("image__digest", '"latest"'),
        ("image__store__digest", '"latest"'),
        ("image__pullPolicy", '"Sometimes"'),
        ("replicas", "0"),
        ("watchNamespaces", '["Team_A"]'),
        ("podUser", '"root"'),
        ("workerImages", '{"torch": "x"}'),
        ("podTemplate", '{"containers": []}'),
        ("operator__logLevel", '"loud"'),
        ("podMonitor__roles", '["operator"]'),
        ("networkPolicy__apiServerCIDRs", '["10.0.0.1"]'),
        ("networkPolicy__scrapers", '{"namespaceSelector": {}}'),
    ],
)
def test_a_wrong_value_is_refused(render: Render, path: str, value: str) -> None:
    """A value that is misspelt or makes no sense is named, and nothing is installed."""
    with pytest.raises(ValueError, match=re.escape(path.split("__", maxsplit=1)[0])):
        render(**{path: value})


def test_the_schema_knows_every_value() -> None:
    """What has a default has a place in the schema, and no map takes names that nobody reads."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def missing(tree: Any, known: Map, path: str) -> Iterator[str]:
        if not isinstance(tree, dict) or "properties" not in known:
            return
        assert known["additionalProperties"] is False, path
        for name, value in tree.items():
            if name not in known["properties"]:
                yield f"{path}.{name}"
            else:
                yield from missing(value, known["properties"][name], f"{path}.{name}")

    assert list(missing(values, schema, "")) == []
    assert set(schema["properties"]) - set(values) == {"global"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_operator_takes_its_arguments(
    render: Render, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fl-operator run` understands what the chart starts it with, and would do what the values say."""
    container = operator_of(render(file))["spec"]["containers"][0]
    taken: dict[str, Any] = {}
    monkeypatch.setattr("fl_operator.command.run_until_stopped", lambda operator: taken.update(of=operator))
    monkeypatch.setattr("fl_core.logs.configure", lambda **_: None)
    words = [word for word in container["args"] if not word.startswith("--template")]
    result = CliRunner().invoke(run, [*words, "--namespace", "ops"])
    assert result.exit_code == 0, result.output
    given: settings.Settings = taken["of"].settings
    values = yaml.safe_load(file.read_text())
    assert list(given.watch_namespaces) == values.get("watchNamespaces", [])
    assert given.leader_election == values.get("leaderElection", {}).get("enabled", True)
    assert given.control_image == container["image"]
    assert set(given.worker_images) == {"numpy", "paddle", "sklearn"}
    assert given.pull_policy == container["imagePullPolicy"]
    network = values.get("networkPolicy", {})
    assert given.resolvers == tuple(network.get("resolvers", settings.RESOLVERS))
    assert given.scrapers == network.get("scrapers", {})


def test_images_without_values_are_the_projects_own(render: Render) -> None:
    """Without values the chart installs the images that the operator would take by itself."""
    arguments = operator_of(render())["spec"]["containers"][0]["args"]
    own = Images.of(VERSION)
    assert f"--control-image={own.control}" in arguments
    assert f"--store-image={own.store}" in arguments
    workers = ",".join(f"{name}={image}" for name, image in sorted(own.workers.items()))
    assert f"--worker-image={workers}" in arguments


def test_the_image_of_servers_with_a_store_is_named_by_its_own_digest(render: Render) -> None:
    """Each of the two images has a digest of its own: neither counts for the other one."""
    for value, word in (("image__digest", "--control-image="), ("image__store__digest", "--store-image=")):
        arguments = operator_of(render(**{value: f'"{DIGEST}"'}))["spec"]["containers"][0]["args"]
        (named,) = (one for one in arguments if DIGEST in one)
        assert named.startswith(word)


def test_an_image_is_named_by_its_digest(render: Render) -> None:
    """A digest counts instead of the tag, with the registry before it."""
    objects = render(image__registry='"registry.example.com"', image__digest=f'"{DIGEST}"')
    assert operator_of(objects)["spec"]["containers"][0]["image"] == f"registry.example.com/fljob@{DIGEST}"


def test_jobs_find_the_operator(render: Render) -> None:
    """Service, port and labels are those that the jobs' pods and their NetworkPolicies know."""
    objects = render()
    labels = operator_of(objects)["metadata"]["labels"]
    assert ENROLLED_BY.items() <= labels.items()
    service = only(objects, "Service")
    assert ENROLMENT_PORT in {port["port"] for port in service["spec"]["ports"]}
    assert service["spec"]["selector"].items() <= labels.items()
    assert f"--service={service['metadata']['name']}" in operator_of(objects)["spec"]["containers"][0]["args"]


def test_the_operator_asks_for_names_where_its_jobs_do(render: Render) -> None:
    """The operator's NetworkPolicy opens the ports of name servers that those of the jobs open, and no other."""
    rules = only(render(), "NetworkPolicy")["spec"]["egress"]
    (names,) = (rule for rule in rules if {"namespaceSelector": {}} in rule.get("to", ()))
    opened = {(port["port"], port["protocol"]) for port in names["ports"]}
    assert opened == {(port, protocol) for port in RESOLVER_PORTS for protocol in ("UDP", "TCP")}


@pytest.mark.parametrize("file", [*FILES, MANIFEST], ids=lambda file: file.stem)
def test_rights_are_named_one_by_one(render: Render, file: Path) -> None:
    """No role, of the operator or of people, has a wildcard, a Secret elsewhere, or a way to more rights."""
    objects = plain(file) if file == MANIFEST else render(file, tests=True)
    own = only(objects, "Deployment")["metadata"]["namespace"]
    roles = [one for one in objects if one["kind"] in {"Role", "ClusterRole"}]
    assert len(roles) >= 2
    for role, rule in ((one, rule) for one in roles for rule in one["rules"]):
        words = {*rule.get("apiGroups", ()), *rule.get("resources", ()), *rule["verbs"]}
        assert not words & {"*", "escalate", "bind", "impersonate", "pods/exec", "pods/attach"}
        assert not any("*" in word for word in words)
        assert "nonResourceURLs" not in rule
        if any(word.startswith("secrets") for word in words):
            assert (role["kind"], role["metadata"]["namespace"]) == ("Role", own)


@pytest.mark.parametrize("file", [*FILES, MANIFEST], ids=lambda file: file.stem)
def test_rights_are_given_to_the_operator_alone(render: Render, file: Path) -> None:
    """Each binding names the operator's service account, or that of `helm test`, and nobody else."""
    objects = plain(file) if file == MANIFEST else render(file, tests=True)
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    accounts.add(operator_of(objects)["spec"]["serviceAccountName"])
    bindings = [one for one in objects if one["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    subjects = [subject for one in bindings for subject in one["subjects"]]
    assert subjects
    assert {subject["kind"] for subject in subjects} == {"ServiceAccount"}
    assert {subject["name"] for subject in subjects} <= accounts


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_operator_may_do_no_more_than_it_must(render: Render, file: Path) -> None:
    """No wildcard, no pods/exec, no rights on roles, and Secrets only in its own namespace and by name, once made."""
    for role, rule in rules_of(render(file)):
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "*" not in words
        assert not {"pods/exec", "pods/attach", "roles", "clusterroles", "serviceaccounts"} & set(words)
        if "secrets" in rule["resources"]:
            assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "ops")
            assert rule.get("resourceNames") == [AUTHORITY] or rule["verbs"] == ["create"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_operator_replaces_nothing_but_a_status_and_its_lease(render: Render, file: Path) -> None:
    """Children are made, applied and removed, and not replaced; a status and the Lease are replaced, not patched."""
    verbs: dict[str, set[str]] = {}
    for _, rule in rules_of(render(file)):
        for resource in rule["resources"]:
            verbs[resource] = verbs.get(resource, set()) | set(rule["verbs"])
    replaced = {resource for resource, words in verbs.items() if "update" in words}
    assert replaced == {"fljobs/status", "fljobs/finalizers", "leases"}
    patched = {resource for resource, words in verbs.items() if "patch" in words}
    children = {"jobs", "configmaps", "services", "persistentvolumeclaims", "networkpolicies"}
    assert patched == {*children, "events"}
    assert all({"create", "delete"} <= verbs[child] for child in children)


def test_with_namespaces_it_has_no_right_elsewhere(render: Render) -> None:
    """With watchNamespaces the operator gets Roles there and in its own namespace, and nothing on the cluster."""
    objects = render(CHART / "ci" / "namespaced.yaml")
    assert not kinds(objects) & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    assert {one["metadata"]["namespace"] for one in objects if one["kind"] == "Role"} == {
        "ops",
        "team-a",
        "team-b",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_pods_are_restricted(render: Render, file: Path) -> None:
    """The pods of the operator and of `helm test` meet Pod Security `restricted`, with a read-only root file system."""
    objects = render(file, tests=True)
    for spec in (operator_of(objects)["spec"], only(objects, "Pod")["spec"]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = spec["containers"][0]["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_definition_stays(render: Render) -> None:
    """Uninstalling the chart keeps the definition, which is that of manifests/, and so the jobs."""
    objects = render()
    installed = only(objects, "CustomResourceDefinition")
    assert installed["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert installed["spec"] == yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())["spec"]
    assert "CustomResourceDefinition" not in kinds(render(crds__enabled="false"))


def test_a_single_replica_has_no_budget(render: Render) -> None:
    """A budget over one replica would only block a node's drain."""
    assert "PodDisruptionBudget" in kinds(render())
    assert "PodDisruptionBudget" not in kinds(render(replicas="1"))


def test_two_without_election_never_overlap(render: Render) -> None:
    """Without leader election an upgrade ends the old operator before it starts the new one."""
    objects = render(CHART / "ci" / "namespaced.yaml")
    assert only(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_a_pod_template_reaches_the_operator(render: Render) -> None:
    """PodTemplate lies in the file that the operator is told of, and a change of it starts the operator anew."""
    before = render(podTemplate='{"spec": {"priorityClassName": "low"}}')
    after = render(podTemplate='{"spec": {"priorityClassName": "high"}}')
    held = yaml.safe_load(only(after, "ConfigMap")["data"]["template.yaml"])
    assert held == {"spec": {"priorityClassName": "high"}}
    spec = operator_of(after)["spec"]
    mounts = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
    assert f"--template={mounts['pod-template']}/template.yaml" in spec["containers"][0]["args"]
    assert operator_of(before)["metadata"]["annotations"] != operator_of(after)["metadata"]["annotations"]


def test_monitoring_is_off_by_default(render: Render) -> None:
    """A cluster without the CRDs of the Prometheus operator takes the chart as it comes."""
    assert not {"ServiceMonitor", "PodMonitor", "PrometheusRule"} & kinds(render())


def test_jobs_are_counted_under_their_own_namespaces(render: Render) -> None:
    """The Prometheus operator gives what is scraped the `namespace` of the pod, unless the monitor says otherwise."""
    (endpoint,) = only(render(serviceMonitor__enabled="true"), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True


def test_the_jobs_name_comes_from_the_pods_label(render: Render) -> None:
    """The PodMonitor takes the job's name from a label, asks the chosen roles only, and finds their metrics port."""
    monitor = only(render(podMonitor__enabled="true"), "PodMonitor")["spec"]
    endpoint = monitor["podMetricsEndpoints"][0]
    assert {
        "sourceLabels": ["__meta_kubernetes_pod_label_fljob_dev_job"],
        "targetLabel": "fljob",
    } in endpoint["relabelings"]
    assert endpoint["port"] == "metrics"
    roles = [
        one["values"] for one in monitor["selector"]["matchExpressions"] if one["key"] == "fljob.dev/role"
    ]
    assert roles == [["server", "scheduler"]]


def test_rules_can_be_left_out_and_labelled(render: Render) -> None:
    """Disabled alerts are gone, the others have the labels and the runbook's address."""
    spec = only(render(CHART / "ci" / "monitoring.yaml"), "PrometheusRule")["spec"]
    rules = {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"]}
    written = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert set(rules) == {rule["alert"] for group in written["groups"] for rule in group["rules"]} - {
        "FLJobRoundStalled"
    }
    assert {rule["labels"]["team"] for rule in rules.values()} == {"ml"}
    address = rules["FLJobNoLeader"]["annotations"]["runbook_url"]
    assert address == "https://docs.example.com/how-to/alerts/#fljobnoleader"


def test_a_group_without_alerts_is_left_out(render: Render) -> None:
    """No list of rules is empty, whichever alerts are disabled."""
    written = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    first, *others = written
    names = json.dumps([rule["alert"] for rule in first["rules"]])
    made = only(render(prometheusRule__enabled="true", prometheusRule__disabled=names), "PrometheusRule")
    assert [group["name"] for group in made["spec"]["groups"]] == [group["name"] for group in others]
    every = json.dumps([rule["alert"] for group in written for rule in group["rules"]])
    none = only(render(prometheusRule__enabled="true", prometheusRule__disabled=every), "PrometheusRule")
    assert none["spec"]["groups"] == []


def test_large_numbers_are_written_out(render: Render, tmp_path: Path) -> None:
    """Helm reads numbers as floats, and would write a million as 1e+06."""
    file = tmp_path / "values.yaml"
    file.write_text("operator: {requestBurst: 1500000}\n")
    assert "--request-burst=1500000" in operator_of(render(file))["spec"]["containers"][0]["args"]


def test_dashboards_arrive_whole(render: Render) -> None:
    """Each dashboard lies in a ConfigMap with the sidecar's label, letter for letter."""
    maps = [one for one in render(dashboards__enabled="true") if one["kind"] == "ConfigMap"]
    held = {json.dumps(json.loads(text)) for one in maps for text in one["data"].values()}
    assert held == {
        json.dumps(json.loads(file.read_text())) for file in (CHART / "dashboards").glob("*.json")
    }
    assert {one["metadata"]["labels"]["grafana_dashboard"] for one in maps} == {"1"}


def test_what_helm_test_runs_is_a_good_job(render: Render, tmp_path: Path) -> None:
    """`helm test` makes a job that `fl-submit check` would accept, in a namespace that the operator watches."""
    objects = render(CHART / "ci" / "namespaced.yaml", tests=True)
    pod = only(objects, "Pod")
    job = json.loads(
        next(one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == "JOB")
    )
    assert compile_job(FLJob.model_validate(job)).workers == 2
    assert job["metadata"]["namespace"] == "team-a"
    held = only(objects, "ConfigMap", job["spec"]["program"]["source"]["configMap"]["name"])["data"]
    for name, text in held.items():
        (tmp_path / name).write_text(text)
    assert bundle_digest(bundle(tmp_path, "program")) == job["spec"]["program"]["sha256"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_helm_test_finds_the_log_of_its_pod(render: Render) -> None:
    """Helm looks for it in the release's namespace, wherever the job is, and Helm 3 under the name of each hook."""
    objects = render(CHART / "ci" / "everything.yaml", tests=True)
    hooks = [one for one in objects if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    assert {one["metadata"]["name"] for one in hooks} == {"fljob-test"}
    places = {one["kind"]: one["metadata"]["namespace"] for one in hooks}
    own = {"Pod": "ops", "ServiceAccount": "ops"}
    assert places == own | dict.fromkeys(("ConfigMap", "Role", "RoleBinding"), "trials")
    assert only(hooks, "RoleBinding")["subjects"][0]["namespace"] == "ops"
