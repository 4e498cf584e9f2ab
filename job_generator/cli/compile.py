"""`fl-submit compile`: what the job generator makes of a job, as files to read."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from job_generator.cli.files import JobFiles, job_files, write
from job_generator.processes import ROLES

if TYPE_CHECKING:
    from fl_core.plan import Plan
    from job_generator.spec import FLJob


@click.command("compile")
@job_files
@click.option(
    "-o",
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write; without it, the Plan goes to standard output.",
)
def compile_(*, given: JobFiles, folder: Path | None) -> None:
    """Compile a job: its Plan, and for each role the FL-Job and the Kubernetes objects that it is started as.

    The same job gives the same files, byte for byte, so they can be reviewed and kept in git.

    \b
    Examples:
      fl-submit compile job.yaml -o jobs/
      fl-submit compile job.yaml | jq .selection
    """
    from job_generator.compiler import compile_job
    from job_generator.program import sealed

    job = sealed(given.load(), given.program)
    plan = compile_job(job)
    if folder is None:
        click.echo(plan.to_json())
        return
    for name, text in (written(plan) | rendered(job, plan)).items():
        target = folder / name
        write(target, text)
        click.echo(f"{target}")


def written(plan: Plan) -> dict[str, str]:
    """The files of a compiled job, by their names in its folder."""
    from job_generator.roles import role_jobs

    jobs = role_jobs(plan)
    return {"plan.json": plan.to_json()} | {f"{role}/fl-job.yaml": _text(one) for role, one in jobs.items()}


def rendered(job: FLJob, plan: Plan) -> dict[str, str]:
    """The Kubernetes objects of a job: those of each role in its folder, and those that all of them need."""
    from job_generator.manifests import Rendering, children, of_all, of_role

    objects = children(Rendering(job=job, plan=plan))
    files = {"kubernetes.yaml": of_all(objects)}
    files |= {f"{role}/kubernetes.yaml": of_role(objects, role) for role in ROLES}
    return {name: _documents(some) for name, some in files.items()}


def _documents(objects: list[dict[str, Any]]) -> str:
    import yaml

    plain = json.loads(json.dumps(objects))
    head = "# As the operator applies them, but for its own settings; written by fl-submit compile\n"
    return head + yaml.safe_dump_all(plain, sort_keys=False, allow_unicode=True, width=100)


def _text(one: dict[str, Any]) -> str:
    import yaml

    head = f"# {one['processes']} of {shlex.join(one['command'][:1])}, written by fl-submit compile\n"
    return head + yaml.safe_dump(json.loads(json.dumps(one)), sort_keys=False, allow_unicode=True, width=100)
