"""Uploads whose connection is cut, with real processes over a proxy that counts what they send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from fl_core.wire.arrays import CHUNK
from tests.rounds.cutting import cutting
from tests.rounds.faults import added_up
from tests.rounds.secure import SecureRun, in_the_clear, runs

pytestmark = [pytest.mark.rounds, pytest.mark.timeout(200)]

SIZE = 2_500_000
"""Elements of four bytes, in the clear and masked."""

CUTS = 4
UNHEARD = 2 * CHUNK
"""Bytes that may be under way when a connection is cut, and go again: an unfinished chunk, and one before it."""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., SecureRun]]:
    """Build runs of four workers."""
    with runs(tmp_path) as build:
        yield build


@pytest.mark.parametrize(("secure", "seed"), [(False, 1), (True, 2)])
def test_an_upload_that_is_cut_goes_on_where_it_stopped(
    job: Callable[..., SecureRun], seed: int, *, secure: bool
) -> None:
    """Cut at four drawn places, a worker sends each byte about once, trains once, and is in the right sum."""
    run = job(
        size=SIZE,
        rounds=1,
        evaluation={"everyRounds": 1000},
        secure=None if secure else {"enabled": False},
        selection={"minimum": 4},
    )
    nbytes = SIZE * 4
    drawn = Random(seed)
    cuts = [drawn.randrange(CHUNK, nbytes) for _ in range(CUTS)]
    run.scheduler()
    own = run.server()
    with cutting(own, cuts) as (address, proxy):
        run.announced["server"]["address"] = address
        run.worker(1)
        run.announced["server"]["address"] = own
        run.worker(0, 2, 3)
        assert run.ends() == 0, run.said("server")
    (row,) = run.rounds()
    assert (row["attempt"], row["dropouts"], len(row["reporters"])) == (1, {}, 4)
    expected = in_the_clear(run) if secure else list(added_up(run))  # type: ignore[arg-type]
    assert [row["model"]] == expected
    assert proxy.connections == CUTS + 1
    assert nbytes < proxy.came < nbytes + CUTS * UNHEARD


BROKEN = """
import errno, os, sys
from pathlib import Path

sound = os.pread

def broken(*place):
    if any(Path(storage, "checkpoints").iterdir()):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return sound(*place)

if "fl_server" in sys.orig_argv:
    from fl_server import spool

    storage = sys.orig_argv[sys.orig_argv.index("--storage") + 1]

    spool.PATIENCE_SECONDS = 0
    spool.Spools._fits = lambda *_: False
    os.pread = broken
"""
"""Every update waits in a file, which cannot be read once there is a first model."""


@pytest.mark.parametrize("secure", [False, True])
def test_a_disk_that_gives_an_update_back_no_more_ends_the_server_with_a_sentence(
    job: Callable[..., SecureRun], *, secure: bool
) -> None:
    """The exit code is that of the storage, and a server with a sound one makes the round."""
    run = job(size=100_000, rounds=1, tied=False, secure=None if secure else {"enabled": False})
    (run.folder / "sitecustomize.py").write_text(BROKEN)
    run.begin()
    assert run.code("server") == 74, run.said("server")
    assert "an update cannot be read back from disk: Input/output error; look after it" in run.said("server")
    assert run.rounds() == []
    (run.folder / "sitecustomize.py").unlink()
    run.server(listen=run.announced["server"]["address"])
    assert run.ends() == 0, run.said("server")
    (row,) = run.rounds()
    expected = in_the_clear(run) if secure else list(added_up(run))  # type: ignore[arg-type]
    assert [row["model"]] == expected
