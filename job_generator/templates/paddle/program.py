"""What each worker trains, and on what. Plain Paddle: nothing in it is federated."""

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn.functional import cross_entropy

from fl_worker import Site, Task, metrics


def shard(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """This worker's examples: x float32 [n, 2], y int64 [n].

    With `fl-submit run job.yaml --data 'shards/{index}.npz'` they come from a file with the arrays x and y.
    Without, they are two rings of points, a little different at each site: replace them with your own.
    """
    if site.data:
        with np.load(site.data) as file:
            return file["x"].astype("float32"), file["y"].astype("int64")
    random = np.random.default_rng([site.seed, site.index])
    y = random.integers(0, 2, size=240)
    radius = np.where(y == 1, 1.0, 2.0) + random.normal(scale=0.2, size=y.size)
    angle = random.uniform(0, 2 * np.pi, size=y.size)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return x.astype("float32"), y.astype("int64")


def loader(x: np.ndarray, y: np.ndarray, *, batch: int, shuffle: bool = False) -> paddle.io.DataLoader:
    data = paddle.io.TensorDataset([paddle.to_tensor(x), paddle.to_tensor(y)])
    return paddle.io.DataLoader(data, batch_size=batch, shuffle=shuffle)


def task(config: dict[str, Any], site: Site) -> Task:
    x, y = shard(site)
    held_out = len(y) // 5  # measured on after each round, never trained on
    return Task(
        model=nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)),
        loss=cross_entropy,
        optimizer=lambda parameters, round: paddle.optimizer.SGD(config["learning_rate"], parameters),
        train=loader(x[held_out:], y[held_out:], batch=config["batch_size"], shuffle=True),
        test=loader(x[:held_out], y[:held_out], batch=256),
        metrics={"accuracy": metrics.Accuracy()},
        epochs=config["epochs"],
    )
