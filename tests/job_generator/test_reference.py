from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from job_generator.reference import reference
from job_generator.schema import job_schema, status_schema

PAGE = reference()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


def test_every_field() -> None:
    """Every field of the API has a row, with what it accepts."""

    def fields(schema: dict[str, Any]) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            yield name
            yield from fields(field)
        for kind in (*schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else [])):
            yield from fields(kind)

    job = job_schema()["properties"]
    wanted = ["apiVersion", "kind", *fields(job["metadata"]), *fields(job["spec"]), *fields(status_schema())]
    assert len(wanted) > 50
    found = [re.findall(r"`(\w+)`", row)[0] for row in ROWS]
    assert sorted(found) == sorted(wanted)


def test_rows() -> None:
    """Every row has the four cells of its head: no text within splits one."""
    cells = [len(re.split(r"(?<!\\)\|", row)) - 2 for row in ROWS]
    assert set(cells) == {4}
    assert [row for row in ROWS if "| |" in row.replace("|  |", "")] == []


def test_sections() -> None:
    """Every map has a section of its own, called by its path, once."""
    heads = re.findall(r"^#{2,4} `(.*)`$", PAGE, re.MULTILINE)
    assert len(heads) == len(set(heads))
    wanted = {
        "metadata",
        "spec",
        "spec.selection.onShortfall",
        "spec.server.checkpoint",
        "spec.strategy: {name: fedprox}",
    }
    assert wanted - set(heads) == set()


def test_defaults() -> None:
    """A row says the value that a field has without being set, or that it must be."""
    rows = {
        re.findall(r"`(\w+)`", row)[0]: row for row in reversed(ROWS)
    }  # the status, which comes last, has none
    for name, default in {
        "joinSeconds": "`60`",
        "action": "`Retry`",
        "replicas": "required",
        "strategy": "`{name: fedavg}`",
    }.items():
        assert f"| {default} |" in rows[name]


def test_plain_text() -> None:
    """The page is Markdown that ends with a newline and has no trailing spaces."""
    assert PAGE.endswith("\n")
    assert not re.search(r"[ \t]+$", PAGE, re.MULTILINE)
