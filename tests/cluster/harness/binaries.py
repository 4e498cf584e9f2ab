"""Programs of a cluster, found or built once, all from one Go module, which pins their versions.

One module has one version of each library, so what several programs share is compiled once. They are looked for in
`KUBEBUILDER_ASSETS`, then in the cache (`FLJOB_CACHE`, by default `~/.cache/fljob`), then built.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError, MissingError

KUBERNETES_VERSION = "1.37.0"
MODULE = Path(__file__).parents[1] / "binaries"
PAUSE = "pause"  # what holds the namespaces of a pod
KUBERNETES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)
OTHERS = {
    "helm": "helm.sh/helm/v4/cmd/helm",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    PAUSE: f"./{PAUSE}",
    "coredns": "./coredns",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
"""Programs of their own, and the package of each."""
ALL = ("helm", "kubeconform", *KUBERNETES, PAUSE, "coredns", "kwok")
"""In the order in which they are built: what tests without a cluster need comes first."""
GO_NEEDED = "Go 1.26 or newer is needed to build a cluster's programs: install it from go.dev/dl."


def cache() -> Path:
    """The folder that holds what was built and made: binaries, images."""
    return Path(os.environ.get("FLJOB_CACHE", "~/.cache/fljob")).expanduser()


def binary(name: str) -> Path:
    """The program of this name, one of `ALL`; built when it is not there. Raises MissingError without Go."""
    return found(name) or _built(name)


def found(name: str) -> Path | None:
    """The program of this name when it need not be built."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folders = ([Path(assets)] if assets else []) + [_folder(name)]
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def buildable() -> bool:
    """Whether this machine has Go."""
    return shutil.which("go") is not None


def _folder(name: str) -> Path:
    """Where the cache keeps this program: another version of anything is another folder."""
    group = f"kubernetes-{KUBERNETES_VERSION}" if name in KUBERNETES else name
    return cache() / f"{group}-{_digest()}"


@functools.cache
def _digest() -> str:
    """What the programs are built from, in short."""
    digest = hashlib.sha256()
    for part in sorted(part for kind in ("go.*", "*.go", "*/*.go") for part in MODULE.glob(kind)):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def _built(name: str) -> Path:
    """Build the program into the cache; a second process waits for the first and finds it built."""
    if not buildable():
        raise MissingError(GO_NEEDED)
    folder = _folder(name)
    with locked(folder):
        if not (folder / name).exists():
            with tempfile.TemporaryDirectory(dir=cache(), prefix="building-") as scratch:
                fresh = Path(scratch) / "bin"
                fresh.mkdir()
                _build(OTHERS[name], fresh / name) if name in OTHERS else _build_kubernetes(fresh)
                fresh.rename(folder)
    return folder / name


def _build_kubernetes(folder: Path) -> None:
    """One program of about 160 MB, and a link for each of its names."""
    version = "k8s.io/component-base/version.git"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamps = {"Version": f"v{KUBERNETES_VERSION}", "Major": major, "Minor": minor}
    _build(".", folder / "kubernetes", *(f"-X {version}{key}={value}" for key, value in stamps.items()))
    for name in KUBERNETES:
        (folder / name).symlink_to("kubernetes")


def _build(package: str, program: Path, *flags: str) -> None:
    """Build a package of the module without what debuggers need, which takes a part of the time to make."""
    words = ["-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", " ".join(["-s -w", *flags])]
    _go(["build", *words, "-o", str(program), package])


def _go(words: list[str]) -> None:
    go = shutil.which("go")
    if go is None:
        raise MissingError(GO_NEEDED)
    # Memory is there; a compiler that collects its garbage as usual takes an eighth longer.
    environment = {"GOGC": "400", **os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(
        [go, *words], cwd=MODULE, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HarnessError(f"go {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One builder at a time for one folder of the cache."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ALL:
        binary(wanted)
