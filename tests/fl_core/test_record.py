"""A record is a chain: what was changed in it is found and named."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fl_core.errors import MismatchError
from fl_core.record import Claim, Head, against, read, standing, strayed, written

PLAN = "5" * 64


def chain(*rows: dict[str, Any], plan: str = PLAN) -> bytes:
    """A record with these rows."""
    head, content = Head.of(plan), b""
    for row in rows:
        line = written(head.bound({"plan": plan, **row}))
        head, content = head.after(line), content + line + b"\n"
    return content


def ten() -> list[bytes]:
    """The lines of ten rounds, each made from the model before it."""
    rows = [{"round": n, "result": "Committed", "base": f"m{n - 1}", "model": f"m{n}"} for n in range(1, 11)]
    return chain(*rows).splitlines(keepends=True)


def head(lines: list[bytes]) -> Head:
    return read(b"".join(lines), PLAN).head


def found(lines: list[bytes], signed: Head | None = None) -> list[tuple[int | None, int | None, str]]:
    """Line, round and sentence of each finding; with what was signed, if it was."""
    record = read(b"".join(lines), PLAN)
    end = against(record, signed) if signed else None
    findings = [*record.findings, *([end] if end else [])]
    return [(one.line, one.round, one.sentence) for one in findings]


def test_a_whole_record_has_no_findings() -> None:
    """What was written is read as it was, with the digest of the last line."""
    lines = ten()
    record = read(b"".join(lines), PLAN)
    assert (record.findings, record.head.lines, record.torn) == ((), 10, False)
    assert [row["round"] for row in record.rows()] == list(range(1, 11))
    assert found(lines, head(lines)) == []


def test_any_changed_byte_is_found_and_its_line_named() -> None:
    """Whichever byte becomes another, the finding names its line; nearly always it names this line alone."""
    lines, draw = ten(), random.Random(7)
    signed, exact = head(lines), 0
    for _ in range(400):
        place = draw.randrange(10)
        line = bytearray(lines[place])
        line[draw.randrange(len(line) - 1)] ^= 1 << draw.randrange(7)
        if b"\n" in line[:-1]:
            continue
        named = {one for one, _, _ in found([*lines[:place], bytes(line), *lines[place + 1 :]], signed)}
        assert place + 1 in named
        exact += named == {place + 1}
    assert exact > 380


@pytest.mark.parametrize("line", [b"[]", b"3", b'{"round":3,"line":3,"previous":[]}', b'{"round":"3"}', b""])
def test_what_is_no_line_is_named(line: bytes) -> None:
    """Any JSON that is not a round's, and no JSON, is told by its place."""
    lines = ten()
    (place, _, sentence), *more = found([*lines[:2], line + b"\n", *lines[3:]])
    assert (place, sentence, more) == (3, "it was changed: it is no line of a record", [])


def test_a_removed_line_is_a_hole() -> None:
    """Lines that are gone from the middle or the front are counted, with their rounds."""
    lines = ten()
    assert found([*lines[:3], *lines[4:]]) == [(4, 5, "before it 1 line is missing (round 4)")]
    assert found(lines[2:]) == [(1, 3, "before it 2 lines are missing (rounds 1 to 2)")]
    assert found([*lines[:3], *lines[4:]], head(lines)) == found([*lines[:3], *lines[4:]])


def test_a_line_out_of_order_is_named() -> None:
    """Two lines that changed places, and one that stands twice, are said to be out of place."""
    lines = ten()
    swapped = [*lines[:2], lines[3], lines[2], *lines[4:]]
    assert found(swapped)[0] == (3, 4, "it is not in its place: it was written after line 4")
    assert [line for line, _, _ in found(swapped)] == [3, 4, 5]
    assert (4, 3, "it is not in its place: it was written after line 2") in found([*lines[:3], *lines[2:]])


def test_a_truncated_end_is_found_by_what_was_signed() -> None:
    """Without its last lines a record is a whole chain; the signed head says that they are missing."""
    lines = ten()
    assert found(lines[:8]) == []
    assert found(lines[:8], head(lines)) == [(9, None, "2 lines are missing at the end: 10 were signed")]
    assert found([], head(lines)) == [(1, None, "10 lines are missing at the end: 10 were signed")]


def test_lines_may_come_after_what_was_signed() -> None:
    """A job that went on after its signature is whole as far as it was signed."""
    lines = ten()
    assert found(lines, head(lines[:6])) == []


def test_a_record_made_anew_is_not_what_was_signed() -> None:
    """Whoever changes a line and makes the chain anew after it cannot make the signed end."""
    lines = ten()
    rows = [dict(row) for row in read(b"".join(lines), PLAN).rows()]
    rows[4]["reporters"] = ["worker-9"]
    again = chain(*rows).splitlines(keepends=True)
    assert found(again) == []
    assert found(again, head(lines)) == [(10, 10, "it was changed: it is not the last line that was signed")]


def test_a_record_of_another_plan_is_found_in_its_first_line() -> None:
    """The chain begins with the plan."""
    content = chain({"round": 1}, {"round": 2}, plan="6" * 64)
    assert [str(one) for one in read(content, PLAN).findings] == [
        "line 1 (round 1): it was changed, or the record is of another plan"
    ]


def test_a_record_without_a_chain_ends_with_a_sentence() -> None:
    """Lines of earlier versions are told as such."""
    with pytest.raises(
        MismatchError, match="no chain: its lines have no `previous`; let that version finish"
    ):
        read(b'{"round":1,"result":"Committed"}\n', PLAN)


def test_an_unfinished_line_is_no_part_of_it() -> None:
    """What a crash leaves at the end is told and not read."""
    lines = ten()
    record = read(b"".join(lines) + b'{"rou', PLAN)
    assert (len(record.lines), record.torn, record.findings) == (10, True, ())


def test_a_model_that_nobody_made_is_a_contradiction() -> None:
    """A round that begins with another model than the one before it made is named."""
    one = {"round": 1, "base": "a", "model": "b"}
    (finding,) = read(chain(one, {"round": 2, "base": "c", "model": "d"}), PLAN).findings
    assert str(finding) == (
        "line 2 (round 2): its model was made from c, while the round before it had made b"
    )
    assert not read(
        chain(one, {"round": 2, "base": "b"}, {"round": 3, "base": "b", "model": "d"}), PLAN
    ).findings


def test_what_was_given_up_does_not_stand() -> None:
    """Going back to a round's model takes the later rounds away; a round that is made again takes its own place."""
    rows = [{"round": n, "result": "Committed"} for n in (1, 2, 3)]
    back = {"round": 1, "result": "Restored"}
    again = {"round": 2, "result": "Skipped"}
    assert standing([*rows, back]) == [0]
    assert standing([*rows, again]) == [0, 3]
    assert standing([*rows, back, again]) == [0, 4]
    assert standing([back]) == standing([{}]) == []


@pytest.mark.parametrize("odd", [{"checkpoint": 5}, {"checkpoint": [1]}, {"refused": 5}, {"refused": None}])
def test_a_line_with_fields_of_other_kinds_refuses_no_checkpoint(odd: dict[str, Any]) -> None:
    """No server has written them, so nothing is known by them."""
    record = read(chain({"round": 1, "result": "Committed", "base": "a", "model": "b", **odd}), PLAN)
    assert strayed(record, Claim(1, "b", "a", "s" * 64)) == ""
    assert "b" in strayed(record, Claim(1, "c", "a", "s" * 64))
