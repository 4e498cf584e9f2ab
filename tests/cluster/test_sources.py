"""Programs and data lie where a job says: in an image, in a claim, in parts of one claim, in a claim of a site."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job_generator.settings import Images
from tests.cluster.tenant import Map, Tenant

pytestmark = [pytest.mark.cluster, pytest.mark.level(4), pytest.mark.timeout(600)]

IN_IMAGE = "/opt/fljob/lib/python3.11/site-packages/job_generator/templates/numpy"
PROGRAM = """\
from pathlib import Path

import numpy as np


class Add:
    def __init__(self, number):
        self.number = np.float32(number)

    def weights(self):
        return {"w": np.zeros(1, "float32")}

    def train(self, weights):
        return {"w": weights["w"] + self.number}, 1

    def evaluate(self, weights):
        return {"sum": float(weights["w"][0])}


def task(config, site):
    return Add((Path(site.data) / "number").read_text())
"""


def apply(tenant: Tenant, name: str, **spec: Any) -> None:
    """Create a job."""
    job: Map = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": {"name": name}, "spec": spec}
    tenant.kubectl("apply", "-f", "-", stdin=json.dumps(job))


def test_each_worker_reads_its_own_part(tenant: Tenant, tmp_path: Path) -> None:
    """A program in a folder of a claim, the pool's data in parts of one claim, a site's in its own: each number of
    them, and no other, is in the mean. The mean is plain: a masked one is rounded to its scale.
    """
    tenant.volume("code", {"v1/program.py": PROGRAM.encode()})
    tenant.volume("parts", {f"part-{index}/number": b"%d" % 10**index for index in range(3)})
    tenant.volume("hospital", {"number": b"7000"})
    apply(
        tenant,
        "sum",
        rounds=2,
        secureAggregation={"enabled": False},
        program={
            "entrypoint": "program:task",
            "framework": "numpy",
            "source": {"persistentVolumeClaim": {"claimName": "code", "subPath": "v1"}},
        },
        workers={"replicas": 2, "data": {"claimName": "parts", "subPath": "part-{index}"}},
        sites=[{"name": "hospital-a", "data": {"claimName": "hospital"}}],
    )
    tenant.completes("sum")
    assert tenant.model("sum", tmp_path)["w"] == np.float32(2 * (1 + 10 + 7000) / 3)
    assert [len(row["reporters"]) for row in tenant.record("sum")] == [3, 3]


def test_a_program_in_an_image(tenant: Tenant) -> None:
    """The workers run that image, and find the program in its folder."""
    image = {"reference": Images.of(version("fljob")).workers["numpy"], "path": IN_IMAGE}
    program = {"entrypoint": "program:task", "framework": "numpy", "source": {"image": image}}
    apply(
        tenant,
        "built",
        rounds=3,
        program={**program, "config": {"learning_rate": 0.5, "steps": 20}},
        workers={"replicas": 2},
    )
    tenant.completes("built")
    assert tenant.shown("built")["metric"].startswith("accuracy=0.9")
