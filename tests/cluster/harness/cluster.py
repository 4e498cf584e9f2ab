"""A running cluster: what a test or a person holds of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.binaries import binary
from harness.certificates import Authority, Pair
from harness.network import NODE_ADDRESS

API_PORT = 6443
SERVER = f"https://{NODE_ADDRESS}:{API_PORT}"


@dataclass(frozen=True)
class Cluster:
    """A cluster of this level whose parts write below `folder`; `kubeconfig` is its administrator's."""

    level: int
    folder: Path
    authority: Authority
    administrator: Pair
    kubeconfig: Path

    @property
    def logs(self) -> Path:
        """A file `<component>.log` for each component."""
        return self.folder / "logs"

    def kubectl(
        self, *words: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; with `check`, a failure is an error with kubectl's own words."""
        done = subprocess.run(
            self.kubectl_command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done

    def kubectl_command(self, *words: str) -> list[str]:
        """The command that `kubectl` runs, for one that is to be run in another way."""
        return [str(binary("kubectl")), "--kubeconfig", str(self.kubeconfig), *words]

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply these objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def user(self, name: str, *, groups: tuple[str, ...] = ()) -> Path:
        """The kubeconfig of a user of this name, with a certificate of its own."""
        return kubeconfig(self.authority, self.authority.sign(name, groups=groups), name)


def kubeconfig(authority: Authority, pair: Pair, user: str) -> Path:
    """Write, beside the certificate, how its user reaches the API server; JSON is YAML."""
    cluster = {"server": SERVER, "certificate-authority": str(authority.certificate)}
    credentials = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    path = pair.certificate.with_suffix(".kubeconfig")
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
