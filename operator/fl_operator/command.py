"""`fl-operator run`."""

from __future__ import annotations

import click

from fl_core import logs
from fl_operator.assembly import WATCHES, assemble
from fl_operator.run import Operator, run_until_stopped
from fl_operator.settings import PREFIX, Settings, with_settings


@click.command(context_settings={"auto_envvar_prefix": PREFIX, "help_option_names": ["-h", "--help"]})
@with_settings
def run(*, settings: Settings, log_format: logs.Format, log_level: str) -> None:
    """Look after the FLJobs of a cluster, until SIGTERM.

    Each option can be given by an environment variable: FLJOB_WATCH_NAMESPACES=a,b is --watch-namespace a
    --watch-namespace b.

    \b
    Example:
      fl-operator run --kubeconfig ~/.kube/config --namespace fljob-system --no-leader-election
    """
    logs.configure(style=log_format, level=log_level)
    run_until_stopped(Operator(settings, WATCHES, assemble))
