"""Options by which a command finds its cluster, and what tells a job's name from a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from job_generator.cluster.connection import Connection


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

    def connect(self) -> Connection:
        """Open the connection."""
        from job_generator.cluster.connection import Connection

        return Connection.open(kubeconfig=self.kubeconfig, context=self.context, namespace=self.namespace)

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


def existing_folder(word: str) -> Path:
    """The run's folder that a word names; refused as click refuses an argument."""
    if not Path(word).is_dir():
        raise click.BadParameter(f"Directory {word!r} does not exist.", param_hint="'JOB|FOLDER'")
    return Path(word)
