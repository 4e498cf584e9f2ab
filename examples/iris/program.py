"""The classic two-worker tutorial: alice (worker 0) and bob (worker 1), half of the iris flowers each.

scikit-learn is needed for the data only.
"""

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn.functional import cross_entropy
from sklearn.datasets import load_iris

from fl_worker import Site, Task, metrics, partition

TEST = 30  # of 150 flowers; nobody trains on them
CENTRE = np.array([5.8, 3.0, 3.8, 1.2], "float32")  # centimetres: agreed on beforehand, so that nobody
SPREAD = np.array([0.8, 0.4, 1.8, 0.8], "float32")  # needs to look at the other's flowers


def loader(flowers: Any, kinds: Any, *, batch: int, shuffle: bool = False) -> paddle.io.DataLoader:
    data = paddle.io.TensorDataset([paddle.to_tensor(flowers), paddle.to_tensor(kinds)])
    return paddle.io.DataLoader(data, batch_size=batch, shuffle=shuffle)


def task(config: dict[str, Any], site: Site) -> Task:
    iris = load_iris()
    order = np.random.default_rng(site.seed).permutation(len(iris.target))
    flowers = ((iris.data[order] - CENTRE) / SPREAD).astype("float32")
    kinds = iris.target[order].astype("int64")
    mine = partition.iid(len(kinds) - TEST, site.count, seed=site.seed)[site.index] + TEST
    tested = partition.iid(TEST, site.count, seed=site.seed)[site.index]

    return Task(
        model=nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)),
        loss=cross_entropy,
        optimizer=lambda parameters, _: paddle.optimizer.SGD(config["learning_rate"], parameters),
        train=loader(flowers[mine], kinds[mine], batch=config["batch_size"], shuffle=True),
        test=loader(flowers[tested], kinds[tested], batch=256),
        metrics={"accuracy": metrics.Accuracy()},
        epochs=config["epochs"],
    )
