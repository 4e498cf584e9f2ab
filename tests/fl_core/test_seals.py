"""Lines that servers have signed: whoever else changes one is found out, though the chain fits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fl_core.identity import Authority, Identity
from fl_core.record import Head, Record, Row, read, written
from fl_core.seals import Seal, broken

PLAN, JOB = "5" * 64, "job-1"
AUTHORITY = Authority(JOB)


def seal(authority: Authority = AUTHORITY, role: str = "server", index: int | None = None) -> Seal:
    """A new certificate's."""
    return Seal(authority.issue(Identity(JOB, role, index)))


def signed(*seals: Seal, lines: int = 3) -> list[Row]:
    """The rows of a record to which each of these has added so many lines."""
    head, rows = Head.of(PLAN), []
    for one in seals:
        for _ in range(lines):
            row = one.under(head.bound({"round": head.lines + 1, "plan": PLAN, "loss": 0.1 + 1e-17}))
            one.written()
            head = head.after(written(row))
            rows.append(row)
    return rows


def bound(rows: list[Row]) -> Record:
    """The record of these rows, all bound anew to each other."""
    head, content = Head.of(PLAN), b""
    for row in rows:
        line = written({**row, **head.bound({})})
        head, content = head.after(line), content + line + b"\n"
    return read(content, PLAN)


def found(rows: list[Row], *authorities: Authority) -> list[str]:
    """What is wrong with a record of these rows whose chain is made to fit."""
    record = bound(rows)
    assert record.findings == ()
    ours = [one.dump()[1] for one in authorities or [AUTHORITY]]
    return [str(one) for one in broken(record, job=JOB, authorities=ours)]


def test_what_servers_have_signed_holds() -> None:
    """One certificate stands in the record for each of two servers, and nothing is found."""
    rows = signed(seal(), seal())
    assert found(rows) == []
    assert [row["line"] for row in rows if "certificate" in row] == [1, 4]
    assert len({row["signer"] for row in rows}) == 2


@pytest.mark.parametrize("place", range(6))
def test_a_line_that_was_changed_is_found_though_the_chain_was_made_anew(place: int) -> None:
    """In the lines of the server that wrote it or of one after it."""
    rows = signed(seal(), seal())
    rows[place]["loss"] = 9.0
    assert any("its signature does not fit: somebody else" in one for one in found(rows))


def stripped(rows: list[Row]) -> list[Row]:
    gone = {"signer", "signature", "certificate"}
    return [{name: value for name, value in row.items() if name not in gone} for row in rows]


def exchanged(rows: list[Row]) -> list[Row]:
    return [*signed(seal(Authority(JOB))), *rows[3:]]


def unnamed(rows: list[Row]) -> list[Row]:
    return [rows[0], {**rows[1], "signer": "somebody"}, *rows[2:]]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (stripped, "line 1 (round 1): no server has signed it"),
        (lambda rows: [*stripped(rows[:3]), *rows[3:]], "line 1 (round 1): no server has signed it"),
        (lambda rows: [*rows[:3], *stripped(rows[3:])], "line 6 (round 6): its server's certificate or"),
        (exchanged, "line 3 (round 3): it is signed under a certificate that no trusted authority"),
        (unnamed, "line 3 (round 3): not all lines from 1 to here name the server"),
        (lambda _: signed(seal(role="worker", index=0)), "line 3 (round 3): it is signed by spiffe://"),
        (lambda rows: [{**rows[0], "certificate": "x"}], "line 1 (round 1): its server's certificate or"),
    ],
)
def test_who_has_not_the_servers_key_cannot_sign_for_it(change: Any, finding: str) -> None:
    """Unsigned lines, those of a stranger or of a worker, and what is no certificate are each named."""
    assert found(change(signed(seal(), seal())))[0].startswith(finding)


@pytest.mark.parametrize("number", ["1e905", "NaN", "[" * 5_000 + "]" * 5_000])
def test_what_no_server_could_have_signed_is_found(number: str) -> None:
    """Numbers beyond all floats, which JSON's reader takes, and lines that nobody can read."""
    rows = signed(seal())
    content = b"".join(written(row) + b"\n" for row in rows)
    place = content.rindex(b'"loss":')
    after = content[place:].partition(b",")[2]
    record = read(content[:place] + b'"loss":' + number.encode() + b"," + after, PLAN)
    assert [*record.findings, *broken(record, job=JOB, authorities=[AUTHORITY.dump()[1]])]


def test_lines_hold_under_each_authority_that_is_trusted() -> None:
    """A run that is resumed has a new authority: who knows both checks all lines, who knows one trusts no others."""
    earlier = Authority(JOB)
    rows = signed(seal(earlier), seal())
    assert found(rows, AUTHORITY, earlier) == []
    assert len(found(rows)) == 1
    rows[1]["loss"] = 9.0
    assert found(rows, AUTHORITY, earlier)[0].startswith("line 3 (round 3): its signature does not fit")


def test_a_signed_line_is_read_as_it_was_written() -> None:
    """Numbers of all kinds come back from JSON as those that were signed."""
    one = seal()
    odd = {"metrics": {"a": 1e-300, "b": -0.0, "c": 2**63, "d": 0.1 + 0.2, "e": 1e22}, "text": "ü\n"}
    row = one.under(Head.of(PLAN).bound({"round": 1, "plan": PLAN, **odd}))
    assert json.loads(written(row)) == row
    assert found([row]) == []
