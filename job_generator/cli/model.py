"""`fl-submit model`: the model of a run or a job, as a file for what comes next."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from fl_core.errors import SpecError, StorageError
from job_generator.cli.files import write
from job_generator.cluster.options import Where, cluster_options, existing_folder, is_run, runs

if TYPE_CHECKING:
    from fl_core.models import StoredModel
    from job_generator.cluster.connection import Connection, Object

SUFFIXES = {"npz": ".npz", "safetensors": ".safetensors", "paddle": ".pdparams"}


@click.command()
@click.argument("what", metavar="JOB|FOLDER", shell_complete=runs)
@cluster_options
@click.option("--best", is_flag=True, help="The model that scored best instead of the last one.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(SUFFIXES)),
    help="What to write; without it, what the file's ending says.",
)
@click.option(
    "-o",
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file.",
)
def model(what: str, *, where: Where, best: bool, kind: str | None, target: Path) -> None:
    """Write the model of a run, by its folder, or of a job on a cluster, by its name, to a file.

    Of one that has not ended well, or goes on, that is the newest whole checkpoint. From a cluster it comes
    through a pod that reads the job's storage, and that is removed afterwards.

    \b
    Examples:
      fl-submit model fl-runs/digits-20260101-120000 -o digits.npz
      fl-submit model fl-runs/digits-20260101-120000 --best --format paddle -o digits.pdparams
      fl-submit model digits -n research -o digits.npz
    """
    kind = kind or _kind(target)
    if is_run(what):
        _of_run(existing_folder(what), target, kind=kind, best=best)
    else:
        _of_job(where.connect(what), what, target, kind=kind, best=best)


def _of_run(folder: Path, target: Path, *, kind: str, best: bool) -> None:
    from fl_core.plan import Plan
    from job_generator.cluster.reader import BEST, LAST, NEWEST
    from job_generator.local.folder import RunFolder
    from job_generator.local.recovered import storage_of

    run = RunFolder(folder)
    state = run.state()
    _check_format(kind, Plan.read(run.plan).program.framework)
    source = Source(run.plan, Path(state.program), state.data)
    only = (BEST,) if best else (LAST, NEWEST)
    with storage_of(run, state, only=only, say=lambda told: click.echo(told, err=True)) as storage:
        _write(
            _stored(storage, best=best, name=folder.name, state=state.state), target, kind=kind, source=source
        )


def _of_job(cluster: Connection, name: str, target: Path, *, kind: str, best: bool) -> None:
    from job_generator.cluster.jobs import display, read
    from job_generator.cluster.reader import fetch

    job = read(cluster, name)
    _check_format(kind, job["spec"]["program"].get("framework", "paddle"))
    with TemporaryDirectory(prefix="fljob-") as scratch:
        storage = Path(scratch) / "storage"
        source = _unpacked(cluster, job, Path(scratch)) if kind == "paddle" else None
        fetch(cluster, job, storage, best=best, say=lambda told: click.echo(told, err=True))
        stored = _stored(storage, best=best, name=name, state=display(job)["state"])
        _write(stored, target, kind=kind, source=source)


def _unpacked(cluster: Connection, job: Object, scratch: Path) -> Source:
    """The Plan, and the program out of its ConfigMap."""
    from job_generator.cluster.connection import Request
    from job_generator.cluster.jobs import core
    from job_generator.cluster.progress import plan_of

    packed = (job["spec"]["program"].get("source") or {}).get("configMap")
    if packed is None:
        raise SpecError(
            "--format paddle needs the program, which is in no ConfigMap; write .npz or .safetensors"
        )
    files = cluster.send(Request("GET", core(cluster.namespace, "configmaps", packed["name"])))["data"]
    program = scratch / "program"
    paths = {item["key"]: item["path"] for item in packed.get("items", ())} or {name: name for name in files}
    for key, path in paths.items():
        write(program / path, files[key])
    (scratch / "plan.json").write_text(plan_of(job).to_json(), encoding="utf-8")
    return Source(scratch / "plan.json", program)


def _stored(storage: Path, *, best: bool, name: str, state: str) -> StoredModel:
    """The model that is wanted; says so where it is a checkpoint."""
    from fl_core.models import best_model, newest_model

    if best and not (storage / "models" / "best.safetensors").exists():
        raise click.UsageError(
            "--best: there is none, for no round was evaluated, or its program reports no loss and the job has "
            "no target; leave it out for the last one"
        )
    stored = best_model(storage) if best else newest_model(storage)
    if stored.path.parent.name != "models":
        newest = f"its newest whole checkpoint, {stored.path.name}"
        click.echo(f"{name} is {state} and has no final model; this is {newest}", err=True)
    return stored


def _write(stored: StoredModel, target: Path, *, kind: str, source: Source | None) -> None:
    from fl_core.models import write_npz, write_safetensors

    if kind == "npz":
        write_npz(stored, target)
    elif kind == "safetensors" or source is None:
        write_safetensors(stored, target)
    else:
        with TemporaryDirectory(prefix="fljob-") as scratch:
            plain = Path(scratch) / "model.safetensors"
            write_safetensors(stored, plain)
            _export(source, plain, target)
    arrays = f"{len(stored.arrays)} arrays, {stored.parameters:,} parameters"
    click.echo(f"{target}: the model of round {stored.round}, {arrays}")


@dataclass(frozen=True, slots=True)
class Source:
    """What a framework's own format needs: the Plan's file, the program's folder, and its data."""

    plan: Path
    program: Path
    data: str | None = None


def _kind(target: Path) -> str:
    for kind, suffix in SUFFIXES.items():
        if target.suffix == suffix:
            return kind
    raise click.UsageError(f"{target} does not end in {', '.join(SUFFIXES.values())}; say which --format")


def _check_format(kind: str, framework: str) -> None:
    """Refuse Paddle's own format for a model of another framework."""
    if kind == "paddle" and framework != "paddle":
        raise click.UsageError(
            f"--format paddle (.pdparams) is for Paddle's models, and this is one of {framework}; "
            "write .npz or .safetensors"
        )


def _export(source: Source, plain: Path, target: Path) -> None:
    """Let a worker process write Paddle's own format: only workers load frameworks and programs."""
    from job_generator.local.preflight import data_path

    command = [sys.executable, "-m", "fl_worker", "export"]
    command += ["--plan", str(source.plan), "--program", str(source.program)]
    command += ["--data", str(data_path(source.data, 0))] if source.data else []
    command += ["--model", str(plain), "--format", "paddle", "-o", str(target)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code > 0:
        raise click.exceptions.Exit(code)  # the worker has said why
    if code:
        raise StorageError(f"{target} was not written: the export ended with exit code {code}")
