"""The ServerApp: Flower's FedAvg as it is, which writes a JSON line when ready and at each round's end."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message  # type: ignore[import-not-found]
from flwr.serverapp import Grid, ServerApp  # type: ignore[import-not-found]
from flwr.serverapp.strategy import FedAvg  # type: ignore[import-not-found]

app = ServerApp()


class Timed(FedAvg):  # type: ignore[misc]
    """FedAvg that notes when a round ended."""

    def __init__(self, clients: int, events: Path) -> None:
        quiet = {"fraction_evaluate": 0.0, "min_evaluate_nodes": 0}
        super().__init__(min_train_nodes=clients, min_available_nodes=clients, **quiet)
        self._events = events

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:  # noqa: ANN401
        """Average, then note the time."""
        received = list(replies)
        averaged = super().aggregate_train(server_round, received)
        good = sum(not reply.has_error() for reply in received)
        write(self._events, event="round", number=server_round, monotonic=time.monotonic(), replies=good)
        return averaged


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Load the model only when all SuperNodes are there, so that idle memory does not contain it."""
    config = context.run_config
    clients, elements, events = int(config["clients"]), int(config["elements"]), Path(config["events"])
    write(events, event="ready")
    while len(list(grid.get_node_ids())) < clients:
        time.sleep(0.5)
    tensors = np.random.default_rng(0).standard_normal((10, elements // 10), np.float32)
    model = ArrayRecord(list(tensors))
    Timed(clients, events).start(grid=grid, initial_arrays=model, num_rounds=int(config["rounds"]))


def write(events: Path, **line: str | float) -> None:
    """Append one JSON line."""
    with events.open("a") as file:
        file.write(json.dumps(line) + "\n")
