"""Handwritten digits, 8 x 8 pixels, with a small convolutional network in Paddle.

scikit-learn is needed for the data only.
"""

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn.functional import cross_entropy
from sklearn.datasets import load_digits

from fl_worker import Site, Task, metrics, partition

TEST = 360  # of 1,797 examples; no worker trains on them


def net() -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def loader(images: Any, labels: Any, *, batch: int, shuffle: bool = False) -> paddle.io.DataLoader:
    data = paddle.io.TensorDataset([paddle.to_tensor(images), paddle.to_tensor(labels)])
    return paddle.io.DataLoader(data, batch_size=batch, shuffle=shuffle)


def task(config: dict[str, Any], site: Site) -> Task:
    digits = load_digits()
    order = np.random.default_rng(site.seed).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype("float32")[:, None]
    labels = digits.target[order].astype("int64")

    # What each worker trains on is unlike the others' (Dirichlet); the test set is dealt out evenly.
    mine = (
        partition.dirichlet(labels[TEST:], site.count, alpha=config["alpha"], seed=site.seed)[site.index]
        + TEST
    )
    tested = partition.iid(TEST, site.count, seed=site.seed)[site.index]

    return Task(
        model=net(),
        loss=cross_entropy,
        optimizer=lambda parameters, round: paddle.optimizer.Momentum(
            config["learning_rate"] * 0.97**round, config["momentum"], parameters
        ),
        train=loader(images[mine], labels[mine], batch=config["batch_size"], shuffle=True),
        test=loader(images[tested], labels[tested], batch=256),
        metrics={"accuracy": metrics.Accuracy()},
        epochs=config["epochs"],
    )
