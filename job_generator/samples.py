"""The sample that needs nothing but a cluster: the program that `fl-submit init` writes, with its job, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from job_generator.program import sealed
from job_generator.source import read

TEMPLATE: Final = Path(__file__).parent / "templates" / "numpy"
NAME: Final = "first"
HEAD = """# Trains on data that the program makes up, so nothing else is needed:
#   kubectl apply -f manifests/samples/first.yaml && kubectl get fljob first --watch
"""


def first_sample() -> str:
    """A ConfigMap with the program, and the FLJob that runs it."""
    document = read(TEMPLATE / "job.yaml")
    job = sealed(document.job(), TEMPLATE)
    program = {
        **document.value["spec"]["program"],
        "sha256": job.spec.program.sha256,
        "source": {"configMap": {"name": f"{NAME}-program"}},
    }
    configuration: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{NAME}-program"},
        "immutable": True,
        "data": {"program.py": (TEMPLATE / "program.py").read_text(encoding="utf-8")},
    }
    spec = {**document.value["spec"], "program": program}
    whole = {**document.value, "metadata": {"name": NAME}, "spec": spec}
    return HEAD + "---\n".join(_text(one) for one in (configuration, whole))


def _text(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a block, as people do."""


def _scalar(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _scalar)
