"""`fl-operator`: the control plane."""

from __future__ import annotations

import click

from fl_core.commands import Commands

RUN = {"run": ("fl_operator.command:run", "Look after the FLJobs of a cluster.")}


@click.group(cls=Commands, later=RUN, extra="fljob[operator]")
def main() -> None:
    """FLJobs on Kubernetes: their definition, and the controller that runs them."""


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
