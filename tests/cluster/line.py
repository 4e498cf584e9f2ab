"""A job whose rounds take their time, and whose program is a package with folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PROGRAM = {
    "program/__init__.py": """\
from program.model.line import Line


def task(config, site):
    return Line(site.index, **config)
""",
    "program/model/__init__.py": "",
    "program/model/line.py": '''\
import time

import numpy as np


class Line:
    """Goes a tenth of the way to a point of the worker's own in each round, and takes its time."""

    def __init__(self, index, *, seconds):
        self.goal = np.linspace(index, 1, 8, dtype="float32")
        self.seconds = seconds

    def weights(self):
        return {"w": np.zeros(8, "float32")}

    def train(self, weights):
        time.sleep(self.seconds)
        return {"w": weights["w"] + np.float32(0.1) * (self.goal - weights["w"])}, 10

    def evaluate(self, weights):
        return {"distance": float(np.abs(weights["w"] - self.goal).mean())}
''',
}

AT_ONCE = {"seconds": 0.0}
"""The program's config where nobody needs it to take its time; its models are the same."""


def write(folder: Path, *, name: str = "line", **changes: Any) -> Path:
    """Write the job, with changes to its spec, and its program; three workers, six rounds of half a second."""
    for file, text in PROGRAM.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    spec = {
        "seed": 7,
        "program": {"entrypoint": "program:task", "framework": "numpy", "config": {"seconds": 0.5}},
        "rounds": 6,
        "workers": {"replicas": 3},
        **changes,
    }
    head = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": name}}
    (folder / "job.yaml").write_text(yaml.safe_dump({**head, "spec": spec}), encoding="utf-8")
    return folder / "job.yaml"
