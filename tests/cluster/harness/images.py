"""Images without a registry: a local base, made once; images built on it from a folder of wheels alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.binaries import cache, locked
from harness.errors import HarnessError
from harness.processes import system

RELEASE = "bookworm"  # Debian 12: Python 3.11
PACKAGES = ("python3", "python3-venv", "ca-certificates")
BASE = f"localhost/fljob-base:{RELEASE}"


def base() -> Path:
    """The archive of the local base image, as `docker save` writes it; made once, from Debian's mirror."""
    archive = cache() / "images" / f"base-{RELEASE}-{'-'.join(PACKAGES)}.tar"
    with locked(archive):
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=archive.parent, prefix="making-") as scratch:
                fresh = Path(scratch) / "base.tar"
                _make_base(Path(scratch), fresh)
                fresh.rename(archive)
    return archive


def build(
    dockerfile: Path,
    context: Path,
    archive: Path,
    *,
    tag: str,
    arguments: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
) -> Path:
    """Build the Dockerfile with `--build-arg BASE=<the local base>` and write the image, so tagged, to the archive.

    `volumes` are folders of this machine, such as one of wheels, by where the build sees them. In the namespaces of a
    cluster nothing else can be reached: a build that works there is hermetic.
    """
    given = {"BASE": BASE, **(arguments or {})}
    flags = [flag for name, value in given.items() for flag in ("--build-arg", f"{name}={value}")]
    flags += [f"--volume={folder}:{place}:ro" for folder, place in (volumes or {}).items()]
    with tempfile.TemporaryDirectory(prefix="fljob-build-") as scratch:
        store = Path(scratch)
        _buildah(store, "pull", "--quiet", f"docker-archive:{base()}")
        archive.unlink(missing_ok=True)  # a second image would be added to it
        words = [
            "--isolation=chroot",
            "--network=host",
            "--pull-never",
            "--tag",
            f"docker-archive:{archive.resolve()}:{tag}",
            "--file",
            str(dockerfile),
        ]
        _buildah(store, "build", *words, *flags, str(context))
    return archive


def _make_base(scratch: Path, archive: Path) -> None:
    root = scratch / "root"
    debootstrap = system("debootstrap", package="debootstrap")
    _run([debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(root)])
    shutil.rmtree(root / "var/cache/apt")
    shutil.rmtree(root / "var/lib/apt/lists")
    container = _buildah(scratch, "from", "scratch").strip()
    _buildah(scratch, "add", "--quiet", container, str(root), "/")
    _buildah(scratch, "commit", "--quiet", container, BASE)
    _buildah(scratch, "push", "--quiet", BASE, f"docker-archive:{archive}:{BASE}")
    _buildah(scratch, "rm", container)


def _buildah(store: Path, *words: str) -> str:
    """Run buildah with its store below this folder and its mounts in a namespace: both go with their owner."""
    private = [system("unshare", package="util-linux"), "--mount"]
    places = ["--root", str(store / "store"), "--runroot", str(store / "run"), "--storage-driver=overlay"]
    return _run([*private, system("buildah", package="buildah"), *places, *words])


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = (done.stdout + done.stderr)[-4000:]
        raise HarnessError(f"{' '.join(command)} ended with {done.returncode}:\n{told}")
    return done.stdout


if __name__ == "__main__":
    base()
