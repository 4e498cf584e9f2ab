"""MNIST with a convolutional network in Paddle; the data path leads to an .npz file.

The file holds `images` (uint8, [n, 28, 28]) and `labels` ([n]); its last 2,000 rows are the test set.
"""

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn.functional import cross_entropy

from fl_worker import Site, Task, metrics, partition

TEST = 2000


def net() -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(1, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2D(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def loader(images: Any, labels: Any, *, batch: int, shuffle: bool = False) -> paddle.io.DataLoader:
    data = paddle.io.TensorDataset([paddle.to_tensor(images), paddle.to_tensor(labels)])
    return paddle.io.DataLoader(data, batch_size=batch, shuffle=shuffle)


def task(config: dict[str, Any], site: Site) -> Task:
    if site.data is None:
        raise SystemExit(
            "this example needs a data path: fl-submit run examples/mnist_cnn/job.yaml --data mnist.npz"
        )
    with np.load(site.data) as file:
        images = (file["images"] / 255).astype("float32")[:, None]
        labels = file["labels"].astype("int64")
    rest = len(labels) - TEST
    mine = partition.dirichlet(labels[:rest], site.count, alpha=config["alpha"], seed=site.seed)[site.index]
    tested = partition.iid(TEST, site.count, seed=site.seed)[site.index] + rest

    return Task(
        model=net(),
        loss=cross_entropy,
        optimizer=lambda parameters, round: paddle.optimizer.Momentum(
            config["learning_rate"] * 0.95**round, 0.9, parameters
        ),
        train=loader(images[mine], labels[mine], batch=config["batch_size"], shuffle=True),
        test=loader(images[tested], labels[tested], batch=500),
        metrics={"accuracy": metrics.Accuracy()},
        epochs=config["epochs"],
    )
