"""What a job with secure aggregation leaves behind when it went wrong: deaths, retries, a refusal and a rollback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from fl_core.secagg import keys
from fl_core.wire import fl_pb2 as pb
from tests.rounds import leaks
from tests.rounds.conftest import until
from tests.rounds.leaks import EVERYBODY
from tests.rounds.secure import Clear, SecureRun, numbers, runs
from tests.rounds.test_hostile import channel, status
from tests.rounds.test_secure_loss import two_die

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(280)]

ROUNDS = 5


@dataclass(frozen=True)
class Troubled:
    """A watched job that is over, and its metric pages from before its last round."""

    run: SecureRun
    pages: dict[str, str]


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    """Two workers die in round 2, the server in 3 and in 5, round 4 lost with it; one is lied to, and one is late."""
    with runs(tmp_path_factory.mktemp("troubled")) as build:
        run = build(rounds=ROUNDS)
        leaks.record(run)
        two_die(run, "update.mask.2")
        run.hold("train.3", 0)
        run.at("server", "update.signing.3", "kill")
        run.at("server", "update.frozen.4", "lie")
        run.hold("train.5", *EVERYBODY)
        run.begin()
        with leaks.observed(run):
            assert [run.code(f"worker-{index}") for index in (1, 2)] == [-9, -9]
            run.come_back(1, 2)
            run.let_go("train.3", 0)
            run.code("server")
        run.serve_again()
        with leaks.observed(run):
            until(lambda: len(run.rounds()) == ROUNDS - 1, what="round 4")
            for index in EVERYBODY:
                run.wait_at(f"worker-{index}", "train.5")
            with channel(
                run.announced["server"]["address"], run.folder / "worker-0", peer="server"
            ) as opened:
                late = run.messages("server", "Protect")[0]
                assert status(opened, "server", "Protect", late) == grpc.StatusCode.INVALID_ARGUMENT
            pages = {name: run.scrape(name) for name in leaks.PROCESSES}
            run.kill("server")
        max((run.storage / "checkpoints").glob("round-*")).unlink()
        run.server(listen=run.announced["server"]["address"])
        run.let_go("train.5", *EVERYBODY)
        with leaks.observed(run):
            assert run.ends() == 0, run.said("server")
        yield Troubled(run, pages)


def test_all_of_it_happened(troubled: Troubled) -> None:
    """A retry, a sum that was signed and sought again, a refusal, a round that was made again; each model is right."""
    run, clear = troubled.run, Clear(troubled.run)
    rows = leaks.kept(run)
    assert [row["model"] for row in rows] == [clear.step(numbers(row["reporters"])) for row in rows]
    assert [row["round"] for row in run.rounds() if "cohort" in row] == [1, 2, 3, 4, 4, 5]
    assert [row["attempt"] > 1 for row in rows] == [False, True, True, True, True]
    assert rows[3]["reporters"] == ["worker-0", "worker-2", "worker-3"]
    refused = [row["reason"] for row in run.log("worker-1") if row["event"] == "nothing to hand in"]
    assert any("worker-0: the signature does not fit" in reason for reason in refused)
    assert any("refused" in row for row in run.recorded("server"))


def test_no_secret_of_a_session_that_failed_is_anywhere(troubled: Troubled) -> None:
    """No key, seed, coefficient or agreed secret of any life of a worker is anywhere; the public halves are."""
    seen, sent = leaks.everything(troubled.run, troubled.pages), leaks.traffic(troubled.run)
    come = Counter(one.worker for one in leaks.advertised(troubled.run))
    for index in EVERYBODY:
        drawn = leaks.secrets(troubled.run, index)
        assert leaks.found([one[: keys.KEY_BYTES] for one in drawn], seen) == []
        made = leaks.derived(troubled.run, index)
        assert len(made) >= leaks.DERIVED_IN_A_SESSION * ROUNDS
        assert leaks.found(set(made), seen) == []
        assert len(leaks.private(drawn, sent)) == leaks.SECRETS_IN_A_SESSION * come[index]


def test_no_number_of_a_single_worker_is_left_by_a_failure(troubled: Troubled) -> None:
    """Examples, losses, sums and durations of one worker are in no spelling anywhere, tracebacks included."""
    seen, single = leaks.everything(troubled.run, troubled.pages), leaks.singles(troubled.run)
    assert all(len(leaks.durations(troubled.run, index)) > ROUNDS for index in EVERYBODY)
    assert [one for one in single if leaks.found_number(one, seen)] == []


def test_no_key_seed_or_commitment_ever_comes_twice(troubled: Troubled) -> None:
    """Over deaths, retries and the rollback every advertisement has keys and a commitment that no other has."""
    made = leaks.advertised(troubled.run)
    public = [key for one in made for key in (one.mask_key, one.seal_key, one.commitment)]
    assert len(made) > len(EVERYBODY) * (1 + 2 * ROUNDS)
    assert len(set(public)) == len(public)
    drawn = [one for index in EVERYBODY for one in leaks.secrets(troubled.run, index)]
    assert len(set(drawn)) == len(drawn)
    said = [pb.MemberMessage.FromString(one) for one in troubled.run.messages("server", "Protect")]
    sealed = [text for one in said for text in one.shares.shares.values()]
    assert len(set(sealed)) == len(sealed)
