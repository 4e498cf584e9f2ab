"""Runs of the toy program by `fl-submit run`, as a person would start them, and what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SPEC: dict[str, Any] = {
    "seed": 1,
    "rounds": 5,
    "program": {"entrypoint": "toy:task", "framework": "numpy", "config": {"gate": 3}},
    "selection": {"minimum": 3, "deadlineSeconds": 60, "stallSeconds": 60},
    "workers": {"replicas": 3},
}
"""A job of three workers who train at their gates from round 3 on."""


def fl_submit(*words: object) -> list[str]:
    """The line of `fl-submit` with these words."""
    return [sys.executable, "-m", "job_generator.cli", *map(str, words)]


def spawned(*words: object) -> subprocess.Popen[str]:
    """`fl-submit` with these words, as a process whose words are read."""
    return subprocess.Popen(fl_submit(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def written(run: Any, spec: dict[str, Any]) -> Path:
    """The job's file, beside its program."""
    path = Path(run.program / "job.yaml")
    metadata = {"name": "toy"}
    document = {"apiVersion": "fljob.dev/v1alpha1", "kind": "FLJob", "metadata": metadata, "spec": spec}
    path.write_text(yaml.safe_dump(document))
    return path


def submitted(run: Any, **more: Any) -> subprocess.Popen[str]:
    """A run of `SPEC` with these further fields, into its `folder`."""
    return spawned("run", written(run, {**SPEC, **more}), "--folder", folder(run))


def folder(run: Any) -> Path:
    """The run's folder."""
    return Path(run.folder / "run")


def state(folder: Path) -> Any:
    """What `run.json` says."""
    return json.loads((folder / "run.json").read_text())


def rows(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the record, so far."""
    record = folder / "storage" / "metrics.jsonl"
    text = record.read_text() if record.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def model(folder: Path) -> bytes:
    """The final model's file."""
    return (folder / "storage" / "models" / "last.safetensors").read_bytes()


def heard(process: subprocess.Popen[str], word: str) -> str:
    """What a process prints, as far as the line with this word."""
    said = ""
    while word not in said:
        line = process.stdout.readline()  # type: ignore[union-attr]
        assert line, f"{word!r} was not said: {said}"
        said += line
    return said
