"""`fl-submit site`: sites outside the cluster."""

from __future__ import annotations

import re
from pathlib import Path

import click

from fl_core.commands import Commands
from job_generator.cluster.options import Where, cluster_options
from job_generator.local.documents import document_option, write_document

UNITS = {"m": 60, "h": 3600, "d": 86_400}
SHORTEST = 600
"""Seconds; the API server prints no token that is good for less."""


class Lifetime(click.ParamType[int]):
    """A time such as 30m, 12h or 2d, in seconds."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; refuses what is shorter than the API server allows."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value)
        seconds = int(found[1]) * UNITS[found[2]] if found else 0
        if seconds < SHORTEST:
            self.fail(f"{value!r} is no time such as 30m, 12h or 2d, at least 10m.", param, ctx)
        return seconds


@click.group(cls=Commands)
def site() -> None:
    """Let sites outside the cluster join a job.

    \b
    Example:
      fl-submit site token scans hospital
    """


@site.command()
@click.argument("job")
@click.argument("name", metavar="SITE")
@cluster_options
@click.option(
    "-o",
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file; JOB-SITE.json without it.",
)
@click.option(
    "--expires", type=Lifetime(), default="1h", show_default=True, help="How long the site has to join."
)
@document_option
def token(
    job: str, name: str, *, where: Where, target: Path | None, expires: int, output: str | None
) -> None:
    """Print a token with which a site joins a job, into a file with everything else that the site needs.

    The token is good once, for one key, which the site makes and keeps. Whoever has the file before the site has
    used it can be the site, so send it as you would send a password.

    \b
    Examples:
      fl-submit site token scans hospital
      fl-submit site token scans hospital -n research -o hospital.json --expires 12h
    """
    from job_generator.cluster.sites import invite

    printed = invite(where.connect(), job, name, seconds=expires)
    target = target or Path(f"{job}-{name}.json")
    printed.invitation.write(target)
    if output:
        told = {"file": str(target), "address": printed.invitation.address, "until": printed.until}
        write_document({"job": job, "site": name, **told}, output)
        return
    plan = printed.invitation.plan
    folder = f"program of the digest {plan.program.sha256[:12]}" if plan.program.sha256 else "program"
    click.echo(
        f"{target} lets {name} join {job} at {printed.invitation.address}, once, until {printed.until}."
    )
    click.echo(
        f"\nAt the site, beside the {folder}:\n"
        f"  fl-worker train --join {target.name} --program PROGRAM --data DATA --identity {name}"
    )
