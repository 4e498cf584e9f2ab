"""Writes what is generated from the types and templates: `python -m job_generator.generate` (see `make generate`)."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from job_generator.crd import crd
from job_generator.reference import reference
from job_generator.samples import first_sample
from job_generator.schema import job_schema
from job_generator.spec import API_VERSION

ROOT = Path(__file__).parents[1]
MARK = "# Generated from job_generator/spec.py by `make generate`.\n"
SAMPLE_MARK = "# Generated from job_generator/templates/numpy by `make generate`.\n"


def files() -> dict[str, str]:
    """Every generated file of the job generator, by its path in the repository."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"FLJob {API_VERSION}",
        **job_schema(),
    }
    return {
        "manifests/crd.yaml": MARK + yaml.safe_dump(crd(), sort_keys=False, width=110),
        "manifests/samples/first.yaml": SAMPLE_MARK + first_sample(),
        "docs/reference/fljob.schema.json": json.dumps(schema, indent=2) + "\n",
        "docs/reference/fljob.md": reference(),
    }


def main() -> None:
    """Write them."""
    for name, text in files().items():
        target = ROOT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
