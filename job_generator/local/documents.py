"""Data printed for programs: JSON or YAML on standard output."""

from __future__ import annotations

import json
from typing import Any

import click

document_option = click.option(
    "--output", type=click.Choice(["json", "yaml"]), help="Print data for programs instead of a page."
)


def write_document(document: Any, kind: str) -> None:  # noqa: ANN401 - any JSON value
    """Print one document."""
    if kind == "yaml":
        import yaml  # noqa: PLC0415 - only where it is asked for

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def write_sentence(job: str, sentence: str, kind: str | None) -> None:
    """Print what was done with a job: a sentence for people, or a document that holds it."""
    if kind is None:
        click.echo(sentence)
    else:
        write_document({"job": job, "message": sentence}, kind)
