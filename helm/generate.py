"""Writes what the chart copies and what tells of it: `python helm/generate.py` (see `make generate`).

The definition and the program of `helm test` are copied into the chart; the pages of its values and of its alerts
are made from them; `manifests/` is rendered where helm is installed.
"""  # noqa: INP001 - a script beside the chart

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fl_core.bundle import bundle, bundle_digest

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "fljob"
PROGRAM = ROOT / "job_generator" / "templates" / "numpy"
OPERATOR, ROLES = "manifests/operator.yaml", "manifests/roles-for-people.yaml"
NAMESPACE = "fljob-system"
KUBERNETES = "1.37.0"
"""Without it, helm takes the version that it was built for, which may be too old for the chart."""
KEY = re.compile(r"^(?P<indent> *)(?P<name>\w+):")
TEST = re.compile(r"templates/tests/")
SET = ("crds.enabled=false", "rbac.aggregate=true")
HEAD = """\
# Generated from helm/fljob by `make generate`: `kubectl apply -k manifests` installs it with the definition.
apiVersion: v1
kind: Namespace
metadata:
  name: fljob-system
  labels:
    app.kubernetes.io/name: fljob
    pod-security.kubernetes.io/enforce: restricted
"""


@dataclass(frozen=True, slots=True)
class Value:
    """One documented value of the chart."""

    path: str
    default: Any
    text: str


def values(source: str) -> Iterator[Value]:
    """The values that have a comment, in the order of the file; those inside a documented one are part of it."""
    defaults = yaml.safe_load(source)
    comment: list[str] = []
    above: list[str] = []
    inside: int | None = None
    for line in source.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip("# "))
        elif found := KEY.match(line):
            depth = len(found["indent"]) // 2
            above = [*above[:depth], found["name"]]
            if inside is None or depth <= inside:
                inside = depth if comment else None
                if comment:
                    yield Value(".".join(above), _at(defaults, above), " ".join(comment))
            comment = []
        else:
            comment = []


def _at(tree: Any, path: list[str]) -> Any:  # noqa: ANN401 - a YAML document
    return _at(tree[path[0]], path[1:]) if path else tree


def table(rows: list[Value]) -> str:
    """The values as a table of Markdown."""
    lines = ["| value | default | what it is |", "|---|---|---|"]
    lines += [f"| `{one.path}` | `{_cell(one.default)}` | {one.text} |" for one in rows]
    return "\n".join(lines) + "\n"


def _cell(default: Any) -> str:  # noqa: ANN401 - a YAML value
    return json.dumps(default).replace("|", "\\|")


def alerts(source: str) -> str:
    """The alerts as a table of Markdown, with a link to each runbook."""
    lines = ["| alert | severity | after | what it says |", "|---|---|---|---|"]
    for group in yaml.safe_load(source)["groups"]:
        for rule in group["rules"]:
            name, words = rule["alert"], rule["annotations"]
            said = re.sub(r"\{\{ *\$(labels\.)?(\w+).*?\}\}", r"*\2*", words["summary"])
            link = f"[{name}](../how-to/alerts.md#{name.lower()})"
            lines.append(f"| {link} | {rule['labels']['severity']} | {rule.get('for', '0m')} | {said} |")
    return "\n".join(lines) + "\n"


ROLES_HEAD = """\
# Generated from helm/fljob by `make generate`: with it the cluster's roles view, edit and admin are about FLJobs, too.
# For an installation that may not make roles for the whole cluster; otherwise a part of operator.yaml and of the chart.
"""


def operator(helm: str) -> str:
    """The chart with its defaults as plain objects, in a namespace of its own, without the definition."""
    return HEAD + rendered(helm)


def roles(helm: str) -> str:
    """What is in them for people."""
    return ROLES_HEAD + rendered(helm, "--show-only", "templates/roles-for-people.yaml")


def rendered(helm: str, *more: str) -> str:
    """The objects that helm makes of the chart."""
    sets = [word for one in SET for word in ("--set", one)]
    words = [
        helm,
        "template",
        "fljob",
        str(CHART),
        "--namespace",
        NAMESPACE,
        "--no-hooks",
        "--skip-tests",
        "--kube-version",
        KUBERNETES,
        *sets,
        *more,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    kept = [document for document in done.stdout.split("\n---\n") if not TEST.search(document)]
    body = "\n---\n".join(part.removeprefix("---\n").strip() for part in kept)
    return f"---\n{body}\n".replace(
        "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl"
    )


def files() -> dict[str, str]:
    """Every generated file, by its path in the repository."""
    rows = list(values((CHART / "values.yaml").read_text(encoding="utf-8")))
    rules = (CHART / "files" / "alerts.yaml").read_text(encoding="utf-8")
    made = {
        "helm/fljob/files/crd.yaml": (ROOT / "manifests" / "crd.yaml").read_text(encoding="utf-8"),
        "helm/fljob/files/program.txt": (PROGRAM / "program.py").read_text(encoding="utf-8"),
        "helm/fljob/files/program.sha256": bundle_digest(bundle(PROGRAM, "program")) + "\n",
        "helm/fljob/README.md": README.format(values=table(rows)),
        "docs/reference/values.md": VALUES.format(values=table(rows)),
        "docs/reference/alerts.md": ALERTS.format(alerts=alerts(rules)),
    }
    helm = shutil.which("helm")
    return {**made, OPERATOR: operator(helm), ROLES: roles(helm)} if helm else made


README = """\
# FLJob

Federated learning as a Kubernetes resource: one FLJob says what to train, how, and with whom; the operator that this
chart installs runs it, and the data stay with the workers.

```text
helm install fljob ./fljob --namespace fljob-system --create-namespace
helm test fljob --namespace fljob-system --logs
```

Kubernetes 1.35 or newer (tested on 1.37), Helm 4 (tested with 4.3.1) or 3 (tried with 3.22.0). How to install, upgrade
and remove it, and what it may do in your cluster, is in `docs/how-to/install.md` of the project.

The definition of the FLJob, the jobs themselves and the Secret `fljob-authority` stay when the release goes.

## Values

Generated from the comments in `values.yaml`; `values.schema.json` refuses everything else.

{values}"""

VALUES = """\
# Values of the chart

Generated from `helm/fljob/values.yaml`. The schema refuses what is not listed here. How to use them:
[Install the operator](../how-to/install.md).

{values}"""

ALERTS = """\
# Alerts

Generated from `helm/fljob/files/alerts.yaml`. They need the operator's metrics, and those of the jobs with the label
`fljob`, which the chart's PodMonitor adds: [Watch a cluster](../how-to/monitor.md). Each links to its runbook.

{alerts}"""


def main() -> None:
    """Write them."""
    for name, text in files().items():
        target = ROOT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
