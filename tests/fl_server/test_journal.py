"""What a server knows of its sessions after a restart is what it had begun, and nothing that was never on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.errors import MismatchError, StorageError, UnusableError
from fl_server.journal import Journal
from fl_server.storage import Lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lines are."""
    return tmp_path / "sessions.jsonl"


def written(path: Path) -> Journal:
    """Rounds 1 and 2, each summed; of round 3 two attempts, of which nobody signed."""
    journal = Journal(Lines(path))
    journal.dealing(1, 1, "range", candidates=[0, 1, 2])
    journal.signing(1, 1, "range", survivors=[0, 1, 2])
    for number in (1, 2):
        journal.dealing(number, 1, "update", candidates=[0, 1, 2])
        journal.signing(number, 1, "update", survivors=[0, number])
        journal.dealing(number, 1, "measure", candidates=[0, 2])
        journal.signing(number, 1, "measure", survivors=[0, 2])
    journal.dealing(3, 1, "update", candidates=[0, 1, 2])
    journal.dealing(3, 2, "update", candidates=[0, 1])
    journal.gathered(4, 1, members=[2, 0])
    return journal


def test_another_process_knows_what_this_one_began(path: Path) -> None:
    """Candidates, signatures and members are the same after a restart."""
    before, after = written(path), Journal(Lines(path))
    assert after.restore(done=1) == {2, 3}
    assert (after.members(4), after.members(3)) == ((0, 2), ())
    for number, purpose in ((1, "range"), (2, "update"), (2, "measure"), (3, "update"), (4, "update")):
        assert after.candidates(number, purpose) == before.candidates(number, purpose)  # type: ignore[arg-type]
        assert after.survivors(number, purpose) == before.survivors(number, purpose)  # type: ignore[arg-type]
    assert (after.survivors(2, "update"), after.survivors(3, "update")) == ((0, 2), ())


@pytest.mark.parametrize(("done", "begun"), [(0, {1, 2, 3}), (1, {2, 3}), (2, {3}), (3, set())])
def test_rounds_that_were_begun_and_not_committed_are_known(path: Path, done: int, begun: set[int]) -> None:
    """A range or an update for which a vector may have left binds its round; what was committed is no longer asked."""
    written(path)
    assert Journal(Lines(path)).restore(done=done) == begun


def test_a_measurement_binds_no_round(path: Path) -> None:
    """The model is committed already when it is measured."""
    journal = Journal(Lines(path))
    journal.dealing(1, 1, "measure", candidates=[0, 1, 2])
    journal.signing(1, 1, "measure", survivors=[0, 1, 2])
    assert not Journal(Lines(path)).restore(done=0)


def test_ranges_that_were_learned_bind_no_round(path: Path) -> None:
    """Whoever voted for them is not needed again; another process knows them, by bucket, the newest."""
    journal = Journal(Lines(path))
    journal.dealing(1, 1, "range", candidates=[0, 1, 2])
    journal.signing(1, 1, "range", survivors=[0, 1, 2])
    journal.learned(1, 1, bucket=0, exponents=(3, 4))
    journal.signing(2, 1, "range", bucket=1, survivors=[3, 4, 5])
    journal.learned(3, 1, bucket=0, exponents=(5, 6))
    after = Journal(Lines(path))
    assert after.restore(done=0) == {2}
    assert (after.ranges(done=0), after.ranges(done=3)) == ({0: (5, 6)}, {})


def test_the_first_candidates_count(path: Path) -> None:
    """Later attempts of a sum have fewer members, and the candidates of the first."""
    written(path)
    journal = Journal(Lines(path))
    journal.restore(done=2)
    assert journal.candidates(3, "update") == (0, 1, 2)
    assert journal.candidates(4, "update") == ()


def test_a_line_that_a_crash_cut_off_was_never_acted_upon(path: Path) -> None:
    """Without its end a line does not count, and the next one is whole."""
    written(path)
    lines = path.read_bytes()
    path.write_bytes(lines[: lines.rindex(b'"attempt":2') + 4])
    journal = Journal(Lines(path))
    assert journal.restore(done=2) == {3}
    journal.dealing(4, 1, "update", candidates=[0, 1, 2])
    assert Journal(Lines(path)).restore(done=2) == {3, 4}


def test_a_full_disk_stops_what_was_to_be_noted(tmp_path: Path) -> None:
    """What cannot be written is not done; the error names the file."""
    journal = Journal(Lines(tmp_path / "missing" / "sessions.jsonl"))
    with pytest.raises(StorageError, match="sessions.jsonl cannot be written"):
        journal.signing(1, 1, "update", survivors=[0, 1, 2])


def test_nobody_signs_what_there_is_no_room_for(path: Path) -> None:
    """Without room the sum is not noted as signed, so another process seeks it again."""

    def full() -> None:
        raise StorageError("no room")

    written(path)
    with pytest.raises(StorageError, match="no room"):
        Journal(Lines(path), check_room=full).signing(3, 2, "update", survivors=[0, 1])
    Journal(Lines(path), check_room=full).signing(3, 2, "measure", survivors=[0, 1])  # no model comes of it
    after = Journal(Lines(path))
    assert after.restore(done=2) == {3}
    assert after.survivors(3, "update") == ()


def test_a_damaged_journal_is_refused(path: Path) -> None:
    """A server that does not know what it has begun does not begin."""
    written(path)
    path.write_bytes(path.read_bytes().replace(b'"purpose"', b'"purpose', 1))
    with pytest.raises(UnusableError, match="damaged"):
        Journal(Lines(path)).restore(done=0)


def test_a_journal_from_before_buckets_is_told(path: Path) -> None:
    """Lines of an FLJob that knew no buckets end with what to do, and stay as they are."""
    before = '{"attempt":1,"candidates":[0,1],"purpose":"update","round":1}\n'
    path.write_text(before)
    with pytest.raises(
        MismatchError,
        match=r"another version of FLJob \(KeyError: 'bucket'\); nothing was changed: put a copy back, go",
    ):
        Journal(Lines(path)).restore(done=0)
    assert path.read_text() == before
