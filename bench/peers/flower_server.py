"""Flower's plain gRPC server with FedAvg, run in Flower's own environment; a JSON line per round."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.common import ndarrays_to_parameters  # type: ignore[import-not-found]
from flwr.server import ServerConfig, start_server  # type: ignore[import-not-found]
from flwr.server.strategy import FedAvg  # type: ignore[import-not-found]

CONNECT_SECONDS = 600


class Timed(FedAvg):  # type: ignore[misc]
    """FedAvg as it is, which says when it is ready and when a round ended."""

    def __init__(self, clients: int, elements: int, events: Path) -> None:
        quiet = {"fraction_evaluate": 0.0, "min_evaluate_clients": 0}
        super().__init__(min_fit_clients=clients, min_available_clients=clients, **quiet)
        self._clients = clients
        self._elements = elements
        self._events = events

    def initialize_parameters(self, client_manager: Any) -> Any:  # noqa: ANN401  # Flower has no types here
        """Load the model only when all clients are there, so that idle memory does not contain it."""
        self._write(event="ready")
        client_manager.wait_for(self._clients, CONNECT_SECONDS)
        tensors = np.random.default_rng(0).standard_normal((10, self._elements // 10), np.float32)
        return ndarrays_to_parameters(list(tensors))

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> Any:  # noqa: ANN401
        """Average, then note the time."""
        averaged = super().aggregate_fit(server_round, results, failures)
        self._write(event="round", number=server_round, monotonic=time.monotonic(), replies=len(results))
        return averaged

    def _write(self, **line: str | float) -> None:
        with self._events.open("a") as file:
            file.write(json.dumps(line) + "\n")


def main(address: str, clients: str, elements: str, rounds: str, events: str) -> None:
    """Serve the rounds."""
    strategy = Timed(int(clients), int(elements), Path(events))
    start_server(server_address=address, config=ServerConfig(num_rounds=int(rounds)), strategy=strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
