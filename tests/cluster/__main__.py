"""`python tests/cluster <command>`: clusters of this machine's own, for people and for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import click

from harness.binaries import ALL, binary, found
from harness.cluster import Cluster
from harness.errors import HarnessError, MissingError
from harness.folder import inside
from harness.images import build as build_image
from harness.levels import LEVELS, prepare, require, required, start
from harness.namespaces import first, run
from harness.runtime import load

MAIN = str(Path(__file__))
ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "dist" / "images"
LOWEST = "2"
TENANT, LAB = "tenant: Tenant", "lab: Lab"
"""What the files have in their text that share a cluster: all that they make is in namespaces, or removed."""
LANES = 4
"""So many groups run side by side, as tests wait for a cluster more than they compute."""
LABS = 3
"""At most so many files with operators of their own share a cluster of their level."""
MARK = re.compile(r"mark\.level\(([234])\)")
INTERRUPTED = 2  # pytest's exit status after Ctrl-C
WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
level_option = click.option(
    "--level", type=click.Choice([str(level) for level in LEVELS]), default="4", show_default=True
)

Map = dict[str, Any]
Group = tuple[tuple[str, ...], str]
"""Files of tests that share a cluster, and its level."""


@click.group(help=__doc__)
def main() -> None:
    """Say what may be typed."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(ALL))
def build(names: tuple[str, ...]) -> None:
    """Print the path of each of these programs, built if need be; of all when none is named."""
    for name in names or ALL:
        click.echo(binary(name))


@main.command()
@level_option
def able(level: str) -> None:
    """Say what this machine lacks for a cluster of this level, if anything."""
    require(int(level))


@main.command()
@level_option
def up(level: str) -> None:
    """Run a cluster to play with until Ctrl-C."""
    prepare(int(level))
    if level == "4":
        binary("helm")
    sys.exit(run([sys.executable, MAIN, "serve", "--level", level]))


@main.command(context_settings=WORDS)
@level_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def test(level: str, words: tuple[str, ...]) -> None:
    """Run the tests that need a cluster, each file of them on a fresh one: of the level that it asks for, up to this.

    Files of tests that have a namespace beside an installed chart share four. Four groups run side by side. Words go
    to pytest, which then runs once, on one cluster of this level.
    """
    try:
        prepare(int(level))
    except MissingError as error:
        click.echo(f"skipped: {error}", err=True)
        sys.exit(1 if required() else 0)
    os.chdir(ROOT)
    if words:
        os.environ["FLJOB_CLUSTER_LEVEL"] = level
        sys.exit(run([sys.executable, "-m", "pytest", "-m", "cluster", *words]))
    groups = deque((names, min(enough, level)) for names, enough in _groups())
    with ThreadPoolExecutor(LANES) as pool:
        sys.exit(max(pool.map(_one_by_one, [groups] * LANES)))


@main.command()
@click.argument("dockerfile", type=click.Path(path_type=Path, exists=True))
@click.argument("context", type=click.Path(path_type=Path, exists=True))
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--tag", required=True, help="The image's name and tag.")
@click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="A build argument.")
def image(dockerfile: Path, context: Path, archive: Path, *, tag: str, arguments: tuple[str, ...]) -> None:
    """Build an image on the local base into an archive that clusters of level 4 can load."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    given = dict(argument.split("=", 1) for argument in arguments)
    click.echo(build_image(dockerfile, context, archive, tag=tag, arguments=given))


@main.command(hidden=True)
@level_option
def serve(level: str) -> None:
    """Inside the namespaces: start the cluster, say how to reach it, wait."""
    folder = inside()
    if folder is None:
        raise click.ClickException("serve runs in the namespaces of `up` only")
    cluster = start(int(level), folder)
    with suppress(KeyboardInterrupt):
        if cluster.level == 4:
            click.echo(f"Images of FLJob in it: {_filled()}")
        click.echo(
            f"\nLevel {level} is ready. To enter it, in another terminal, as root:\n"
            f"  sh {_entrance(folder, cluster)}\n"
            f"Logs: {cluster.logs}\nCtrl-C here ends it and leaves nothing."
        )
        signal.pause()


def _entrance(folder: Path, cluster: Cluster) -> Path:
    """A script that runs a shell, or the words it is given, where the cluster is and its programs are found."""
    tools = [str(path.parent) for path in (*map(found, ("kubectl", "helm")), Path(sys.executable)) if path]
    given = f'KUBECONFIG="{cluster.kubeconfig}" PATH="{":".join(tools)}:$PATH"'
    script = folder / "enter"
    script.write_text(
        f'#!/bin/sh\n[ $# -gt 0 ] || set -- "${{SHELL:-/bin/sh}}"\n'
        f'exec nsenter --net=/proc/{(folder / "pid").read_text()}/ns/net env {given} "$@"\n'
    )
    return script


def _filled() -> str:
    """Load the images that were built, so that `helm install fljob helm/fljob` works there; their names."""
    archives = sorted(IMAGES.glob("*.tar"))
    for archive in archives:
        load(archive)
    return ", ".join(archive.stem for archive in archives) or "none; `make cluster-images` builds them"


@main.command("first", hidden=True, context_settings=WORDS)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def first_process(words: tuple[str, ...]) -> None:
    """Inside the namespaces: be their first process."""
    sys.exit(first(words))


def _one_by_one(groups: deque[Group]) -> int:
    """Run groups as long as there are any, each on a cluster of its level; the worst exit status.

    Another thread may take some, too. What a group says is printed when it is through.
    """
    worst = 0
    # An API server that collects its garbage less often takes 100 MB more, and an eighth less of the processors.
    environment = {"GOGC": "400", **os.environ}
    pipes: Map = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    while worst != INTERRUPTED and (group := _taken(groups)):
        names, level = group
        command = [sys.executable, MAIN, "test", "--level", level, *names]
        done = subprocess.run(command, env=environment, check=False, **pipes)
        click.echo(done.stdout)
        worst = max(worst, done.returncode)
    return worst


def _taken(groups: deque[Group]) -> Group | None:
    """The next group, if there is any."""
    with suppress(IndexError):
        return groups.popleft()
    return None


def _groups() -> list[Group]:
    """The files of tests that need a cluster, each with the highest level that one of its tests asks for.

    Those whose tests have a namespace beside the chart are one group for each lane; those that start operators of their
    own share with others of their level. First come those that have the most to start, then those that have the most
    to say: they take longest.
    """
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    wanted = {name: text for name, text in texts.items() if "mark.cluster" in text}
    longest = sorted(wanted, key=lambda name: len(wanted[name]), reverse=True)
    tenants = sorted(name for name, text in wanted.items() if TENANT in text)
    labs = [name for name in longest if LAB in wanted[name]]
    by_level = [[name for name in labs if _level_of(wanted[name]) == str(level)] for level in LEVELS]
    others = ((name,) for name in longest if name not in {*tenants, *labs})
    together = [_dealt(tenants, LANES), *(_dealt(names, ceil(len(names) / LABS)) for names in by_level)]
    groups = [
        (names, max(_level_of(wanted[name]) for name in names)) for names in (*chain(*together), *others)
    ]
    return sorted(groups, key=lambda group: group[1], reverse=True)


def _dealt(names: list[str], hands: int) -> list[tuple[str, ...]]:
    """These names, dealt one by one."""
    return [tuple(names[hand::hands]) for hand in range(hands)]


def _level_of(text: str) -> str:
    return max([LOWEST, *MARK.findall(text)])


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
