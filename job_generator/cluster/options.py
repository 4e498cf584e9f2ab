"""Options by which a command finds its cluster, and what tells a job's name from a run's folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from job_generator.cluster.connection import Connection

STAMP: Final = re.compile(r"-\d{8}-\d*(-\d+)?$")
"""What a run's folder has in its name besides that of its job."""
NEAR: Final = 3
"""So many runs are named, at most, where a name is not found."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and which namespace of it."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None

    @property
    def given(self) -> bool:
        """Whether the user named a cluster or a namespace."""
        return any((self.kubeconfig, self.context, self.namespace))

    def connect(self, word: str = "") -> Connection:
        """Open the connection to ask for a job; where there is no cluster, the word may be a run's name."""
        from job_generator.cluster.connection import Connection, RefusedError

        try:
            return Connection.open(kubeconfig=self.kubeconfig, context=self.context, namespace=self.namespace)
        except RefusedError as error:
            if self.given or not word:
                raise
            raise RefusedError(
                f"{_absent(word)}{_meant(word)}, and no cluster to ask for a job of that name: {error}"
            ) from error

    @property
    def words(self) -> str:
        """The same options as one would type them again, with a space before."""
        named = (
            ("--kubeconfig", self.kubeconfig), ("--context", self.context), ("-n", self.namespace)
        )  # fmt: skip
        return "".join(f" {option} {value}" for option, value in named if value)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command kubectl's options; it takes them as `where`."""

    @wraps(command)
    def with_where(
        *arguments: Any,  # noqa: ANN401 - click's
        kubeconfig: Path | None,
        context: str | None,
        namespace: str | None,
        **options: Any,  # noqa: ANN401 - click's
    ) -> Any:  # noqa: ANN401 - click's
        return command(*arguments, where=Where(kubeconfig, context, namespace), **options)

    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    for option in (
        click.option("-n", "--namespace", help="The namespace; that of the context without it."),
        click.option("--context", help="The context of the kubeconfig; its current one without it."),
        click.option(
            "--kubeconfig", type=file, help="The kubeconfig; KUBECONFIG, ~/.kube/config without it."
        ),
    ):
        with_where = option(with_where)
    return with_where


def is_run(word: str) -> bool:
    """Whether a word means a run's folder: it has a slash, or such a folder is here. Else a job on a cluster.

    A folder without a run, such as that of the job's own files, is not meant.
    """
    return "/" in word or (Path(word) / "run.json").is_file()


def _absent(word: str) -> str:
    if Path(word).is_dir():
        return f"{word} is a folder here but no run, for it has no run.json"
    return f"there is no run {word} here"


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's
    """The runs here whose folders begin so, newest first, for a shell that completes; else any folder."""
    from job_generator.local.folder import run_folders

    found = [str(run.path) for run in (*run_folders(), *run_folders(Path()))]
    near = [CompletionItem(path) for path in found if path.startswith(incomplete)]
    return near or [CompletionItem(incomplete, type="dir")]


def existing_folder(word: str) -> Path:
    """The run's folder that a word names; refused as click refuses an argument."""
    if not Path(word).is_dir():
        raise click.BadParameter(
            f"Directory {word!r} does not exist{_meant(word)}.", param_hint="'JOB|FOLDER'"
        )
    return Path(word)


def refuse_run(word: str, where: Where, *, instead: str) -> None:
    """Refuse a run's folder where a job on a cluster is meant; `instead` says what to do with the folder {run}."""
    if is_run(word) and not where.given:
        folder = shlex.quote(str(existing_folder(word)))
        raise click.UsageError(f"{word} is a run on this machine: {instead.format(run=folder)}")


def _meant(word: str) -> str:
    """The runs whose names are like this one, in brackets, of each job the newest; or how to list all."""
    from job_generator.local.folder import run_folders

    runs = {run.path.name: run.path for run in reversed(run_folders())}
    newest = {STAMP.sub("", name): path for name, path in runs.items()}
    name = Path(word).name
    jobs = get_close_matches(STAMP.sub("", name), newest, n=NEAR)
    near = [str(runs[name])] if name in runs else [str(newest[job]) for job in jobs]
    if near:
        return f" (did you mean {' or '.join(near)}?)"
    return " (fl-submit list shows those that are)" if runs else ""
