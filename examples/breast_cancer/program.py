"""Breast cancer (569 tumours, 30 measurements each) with scikit-learn's logistic regression."""

from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from fl_worker import Site, Task, metrics, partition

TEST = 114  # of 569; no worker trains on them
LOW = np.array(
    [
        7.0,
        9.7,
        44,
        144,
        0.05,
        0.02,
        0,
        0,
        0.1,
        0.05,
    ]  # means of radius, texture, perimeter, area, smoothness, ...
    + [0.1, 0.4, 0.8, 6.8, 0.002, 0.002, 0, 0, 0.008, 0.001]  # their standard errors
    + [7.9, 12, 50, 185, 0.07, 0.03, 0, 0, 0.16, 0.055]  # their worst values
)
HIGH = np.array(
    [28, 39, 189, 2501, 0.16, 0.35, 0.43, 0.2, 0.3, 0.1]
    + [2.9, 4.9, 22, 542, 0.03, 0.14, 0.4, 0.05, 0.08, 0.03]
    + [36, 50, 251, 4254, 0.22, 1.06, 1.25, 0.29, 0.66, 0.21]
)
"""The range of each measurement as the data set's public description prints it.

Scaling by constants that everybody knew beforehand tells nobody anything of another worker's data, as a
common mean and deviation would.
"""


def task(config: dict[str, Any], site: Site) -> Task:
    tumours = load_breast_cancer()
    order = np.random.default_rng(site.seed).permutation(len(tumours.target))
    x, y = 6 * (tumours.data[order] - LOW) / (HIGH - LOW), tumours.target[order]
    mine = partition.dirichlet(y[TEST:], site.count, alpha=config["alpha"], seed=site.seed)[site.index] + TEST
    tested = partition.iid(TEST, site.count, seed=site.seed)[site.index]

    return Task(
        model=LogisticRegression(C=config["C"]),
        classes=[0, 1],
        train=(x[mine], y[mine]),
        test=(x[tested], y[tested]),
        metrics={"auc": metrics.AUC(), "accuracy": metrics.Accuracy()},
        epochs=config["iterations"],
    )
