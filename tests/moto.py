"""S3 on this machine: moto's server, from an environment of its own.

moto needs an older python-dateutil than the client of Kubernetes does, so it is not in ours; `make .venv-moto/.made`
fills that environment, and tests that need it are skipped without.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from pathlib import Path

MOTO = Path(__file__).parents[1] / ".venv-moto" / "bin" / "moto_server"
ABSENT = "make .venv-moto/.made"
SECRET = "never-to-be-seen"  # noqa: S105 - moto takes any


class Moto:
    """moto's server at a free port of this address, which forgets all when it is stopped."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        with socket.create_server((host, 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.process = subprocess.Popen(
            [str(MOTO), "-H", host, "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < end, "moto does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), 0.2).close()
        except OSError:
            return False
        return True

    def ask(self, method: str, path: str, body: bytes | None = None) -> None:
        """One request of no S3 client."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        connection.request(method, f"/{path}", body)
        assert connection.getresponse().status == http.HTTPStatus.OK
        connection.close()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here."""
        keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": SECRET}
        return {**keys, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": self.url}

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
