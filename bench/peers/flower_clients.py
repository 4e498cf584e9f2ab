"""No-op clients for Flower's gRPC server, run in Flower's own environment.

Each is a process, forked after the imports and before any connection: that spares minutes of imports and lets
them share the pages of the libraries, so that fifty fit on a small machine.
"""

import os
import sys
from typing import Any

from flwr.client import NumPyClient, start_client  # type: ignore[import-not-found]


class Echo(NumPyClient):  # type: ignore[misc]
    """Returns the weights it got, at once."""

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict[str, Any]]:
        """Train nothing."""
        del config
        return parameters, 1, {}


def main(address: str, clients: str) -> None:
    """Fork the clients and wait until the last has left."""
    children = [_fork(address) for _ in range(int(clients))]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(abs(code) for code in codes))


def _fork(address: str) -> int:
    child = os.fork()
    if child == 0:
        start_client(server_address=address, client=Echo().to_client(), insecure=True)
        os._exit(0)
    return child


if __name__ == "__main__":
    main(*sys.argv[1:])
