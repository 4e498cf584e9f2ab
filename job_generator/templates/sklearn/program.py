"""What each worker trains, and on what. Plain scikit-learn: nothing in it is federated."""

from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier

from fl_worker import Site, Task, metrics

UNITS = np.array([0.25, 0.5, 1.0, 2.0])  # each feature is measured in one of its own


def shard(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """This worker's examples: x float64 [n, 4], y int64 [n].

    With `fl-submit run job.yaml --data 'shards/{index}.npz'` they come from a file with the arrays x and y.
    Without, they are two clouds of points, a little different at each site: replace them with your own.
    """
    if site.data:
        with np.load(site.data) as file:
            return file["x"].astype("float64"), file["y"].astype("int64")
    random = np.random.default_rng([site.seed, site.index])
    y = random.integers(0, 2, size=240)
    x = UNITS * (random.normal(size=(y.size, 4)) + 0.8 * (2 * y[:, None] - 1))
    return x, y


def task(config: dict[str, Any], site: Site) -> Task:
    x, y = shard(site)
    held_out = len(y) // 5  # measured on after each round, never trained on
    return Task(
        model=SGDClassifier(loss="log_loss", learning_rate="constant", eta0=config["learning_rate"]),
        classes=[0, 1],
        train=(x[held_out:], y[held_out:]),
        test=(x[:held_out], y[:held_out]),
        metrics={"accuracy": metrics.Accuracy()},
        epochs=config["epochs"],
    )
