from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from job_generator.crd import crd
from job_generator.generate import ROOT, files

FILES = files()


@pytest.mark.parametrize("name", FILES)
def test_on_disk(name: str) -> None:
    """What is generated from the types is what is committed; `make generate` writes it anew."""
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name]


def test_formats() -> None:
    """Each file is what its name says."""
    assert {Path(name).suffix for name in FILES} == {".yaml", ".json", ".md"}
    assert yaml.safe_load(FILES["manifests/crd.yaml"]) == crd()
    schema = json.loads(FILES["docs/reference/fljob.schema.json"])
    assert schema["required"] == ["metadata", "spec"]
    assert schema["$schema"].startswith("https://json-schema.org/")
