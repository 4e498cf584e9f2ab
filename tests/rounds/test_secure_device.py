"""A job of the profile cross-device as real processes: a worker sees its neighbours, with proofs, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.wire import fl_pb2 as pb
from tests.rounds.secure import in_the_clear, models, runs

pytestmark = pytest.mark.rounds

WORKERS = 6
"""The fewest of whom each shares with some of the others only: with four."""

NEIGHBOURS = 4

EVERYBODY = [f"worker-{index}" for index in range(WORKERS)]
OTHERS = [name for name in EVERYBODY if name != "worker-1"]

POLICY = "secureAggregation: {members: 4, threshold: 0.6, corrupt: 0.05, dropout: 0.3}\n"


def test_a_job_in_cross_device_loses_a_worker_and_goes_on(tmp_path: Path) -> None:
    """The models are those of the same sums in the clear; who is killed before it masks is missing in one sum only."""
    policy = tmp_path / "site.yaml"
    policy.write_text(POLICY)
    with runs(tmp_path) as build:
        run = build(
            workers={"replicas": WORKERS},
            secure={"profile": "cross-device", "maxExamples": 2**30},
            rounds=4,
            evaluation={"everyRounds": 4},
        )
        run.at("worker-1", "update.mask.2", "kill")
        run.at("server", "record", "")
        run.hold("train.3", *(index for index in range(WORKERS) if index != 1))
        run.scheduler()
        run.server()
        run.worker(*range(WORKERS), policy=str(policy))
        assert run.code("worker-1") == -9
        run.come_back(1)
        run.let_go("train.3", *(index for index in range(WORKERS) if index != 1))
        assert run.ends() == 0, run.said("server")
        first, second, _, last = (row["reporters"] for row in run.rounds())
        assert (first, second, last) == (EVERYBODY, OTHERS, EVERYBODY)
        assert models(run) == in_the_clear(run)
        said = [pb.MemberMessage.FromString(message) for message in run.messages("server", "Protect")]
        dealt = [len(one.shares.shares) for one in said if one.WhichOneof("what") == "shares"]
        assert set(dealt) == {NEIGHBOURS}
