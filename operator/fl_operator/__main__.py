"""`fl-operator`: what the control plane can do so far."""

from __future__ import annotations

import click

from fl_core.commands import Commands


@click.group(cls=Commands)
def main() -> None:
    """FLJobs on Kubernetes. The controller that runs them is not written yet; this prints their definition."""


@main.command()
def crd() -> None:
    """Print the custom resource definition of FLJob as YAML.

    \b
    Example:
      fl-operator crd | kubectl apply -f -
    """
    import yaml  # noqa: PLC0415 - `--help` is quick

    from job_generator.crd import crd as definition  # noqa: PLC0415

    click.echo(yaml.safe_dump(definition(), sort_keys=False), nl=False)


if __name__ == "__main__":
    main(prog_name="fl-operator")
