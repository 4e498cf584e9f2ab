from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import SpecError
from job_generator.problems import InvalidJobError
from job_generator.source import LARGEST_FILE, MOST_NODES, Document, load_job, parse, read

Text = Callable[..., str]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
maps = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


def value_of(scalar: str) -> Any:
    """What a scalar is read as."""
    return parse(f"a: {scalar}\n", name="job.yaml").value["a"]


def refused(text: str) -> str:
    """The sentence with which a text is refused."""
    with pytest.raises(SpecError) as caught:
        parse(text, name="job.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-5", 1e-5), ("1E3", 1000.0), (".5", 0.5), ("-1.", -1.0), ("+3", 3), ("0x10", 16), ("1_000", 1000),
        ("010", 8), ("0", 0), ("true", True), ("no", False), ("~", None), ("", None), ("'1'", "1"),
        ("2026-01-02", "2026-01-02"), ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"), ("1:30", "1:30"),
        ("12:30:45", "12:30:45"), ("1.2.3", "1.2.3"), ("1e", "1e"), ("=", "="), ("<<", "<<"), ("é", "é"),
        ("!!str 1", "1"), ("!!float 1", 1.0), ("!!int '7'", 7), ("[1, [2]]", [1, [2]]), ("{b: {}}", {"b": {}}),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ],
)  # fmt: skip
def test_scalars(scalar: str, value: Any) -> None:
    """A number with an exponent is a number; what looks like a date or a time of day is a text."""
    found = value_of(scalar)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("scalar", [".nan", ".inf", "-.INF", "1e400"])
def test_no_number(scalar: str) -> None:
    """A value that JSON has no word for is refused at its line."""
    message = refused(f"b: 1\na: {scalar}\n")
    assert message == f"job.yaml:2: a: {scalar} is not accepted; expected a finite number"


@pytest.mark.parametrize(
    "scalar", ["9223372036854775808", "0x" + "f" * 5000, "9" * 5000, "-" + "9" * 400], ids=len
)
def test_large_whole_numbers(scalar: str) -> None:
    """A whole number that a cluster would round is refused, however long it is."""
    message = refused(f"a: {scalar}\n")
    assert message.startswith("job.yaml:1: a: ")
    assert "is not accepted; expected" in message
    assert len(message) < 200


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['exit 3']", "!!python/name:os.system ''", "!!python/object:os.x {a: 1}",
        "!foo 1", "!foo {a: 1}", "!foo [1]", "!!binary aGk=", "!!timestamp 2026-01-02", "!!timestamp x",
        "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!seq {a: 1}", "!!map [1]", "!!bool x", "!!int x",
        "!!int ''", "!!float x", "!!float ''", "!!str {a: 1}", "!!null {a: 1}", "!!map x",
    ],
)  # fmt: skip
def test_tags(value: str) -> None:
    """Whatever is not plain JSON is refused at its line with its tag; nothing is ever built from a tag."""
    message = refused(f"b: 1\na: {value}\n")
    assert message.startswith("job.yaml:2: a: ")
    assert value.split(maxsplit=1)[0] in message


@pytest.mark.parametrize("text", [r'a: "\ud800"', r'"\udfff": 1', r'a: "\UFFFFFFFF"', r'a: "\U00110000"'])
def test_no_characters(text: str) -> None:
    """An escape that stands for no character is an error that every terminal and file can hold."""
    assert refused(f"{text}\n").encode("utf-8").startswith(b"job.yaml:")


def test_duplicates() -> None:
    """Every field that stands twice is named with both of its lines."""
    message = refused("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert message.splitlines() == [
        "job.yaml:4: b.c: stands twice, first in line 3; expected once",
        "job.yaml:5: a: stands twice, first in line 1; expected once",
    ]


def test_duplicates_by_another_spelling() -> None:
    """`1` and `'1'` are one field, as they would be in JSON."""
    assert "stands twice" in refused("1: a\n'1': b\n")
    assert "a field's name must be a text" in refused("[1]: a\n")


def test_lines(job_text: Text) -> None:
    """Every value and field is remembered with the line that it stands in."""
    document = parse("a:\n- b:\n    c: 1\n- 2\nd: {e: 3}\n", name="x.yaml")
    lines = {path: place.removeprefix("x.yaml:") for path, place in document.places.items()}
    expected = {("a",): "1", ("a", 0, "b"): "2", ("a", 0, "b", "c"): "3", ("a", 1): "4", ("d", "e"): "5"}
    assert {path: lines[path] for path in expected} == expected
    assert parse(job_text(), name="x.yaml").job().spec.rounds == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n\tb: 2\n", "job.yaml:2: this is not YAML: found character '\\t'"),
        ("a: [1\n", "job.yaml:2: this is not YAML: "),
        ("a: *nobody\n", "job.yaml:1: this is not YAML: found undefined alias 'nobody'"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2: this is not YAML: but found another document"),
        ("a: 1\nb: \x01\n", "job.yaml:2: this is not YAML: it holds '\\x01'"),
        ("a: 'x\n", "job.yaml:2: this is not YAML: "),
        ("", "job.yaml: expected a map with apiVersion, kind, metadata and spec"),
        ("# nothing\n", "job.yaml: expected a map"),
        ("- a\n", "job.yaml: expected a map"),
        ("text\n", "job.yaml: expected a map"),
    ],
)
def test_no_job(text: str, message: str) -> None:
    """What is no YAML map is refused in one line that names the file, and the line where there is one."""
    found = refused(text)
    assert found.startswith(message)
    assert "\n" not in found


def test_byte_order_mark(tmp_path: Path, job_text: Text) -> None:
    """A byte order mark, as some editors on Windows write it, changes nothing."""
    (tmp_path / "job.yaml").write_bytes(b"\xef\xbb\xbf" + job_text().replace("\n", "\r\n").encode())
    assert load_job([tmp_path / "job.yaml"]).metadata.name == "digits"


@pytest.mark.parametrize("data", [b"a: 1\nb: caf\xe9\n", "a: 1\nb: é\n".encode("utf-16")])
def test_another_encoding(tmp_path: Path, data: bytes) -> None:
    """A file that is not UTF-8 is refused rather than read with wrong letters."""
    (tmp_path / "job.yaml").write_bytes(data)
    with pytest.raises(SpecError, match=r"job\.yaml:\d: this is not UTF-8"):
        read(tmp_path / "job.yaml")


def test_large_files(tmp_path: Path) -> None:
    """A file beyond the limit is refused by its size, one at the limit is read; an endless one ends, too."""
    file = tmp_path / "job.yaml"
    file.write_bytes(b"a: 1\n#".ljust(LARGEST_FILE, b"x"))
    assert read(file).value == {"a": 1}
    file.write_bytes(b"a: 1\n#".ljust(LARGEST_FILE + 1, b"x"))
    for name in (file, Path("/dev/zero")):
        with pytest.raises(SpecError, match="is larger than 1,048,576 bytes"):
            read(name)


def test_unreadable(tmp_path: Path) -> None:
    """A file that cannot be opened is named with the reason."""
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.yaml", "No such file")):
        with pytest.raises(SpecError, match=reason) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_aliases() -> None:
    """An alias stands for what it names, and its fields are remembered where they were written."""
    document = parse("a: &x {b: 1}\nc: *x\n", name="job.yaml")
    assert document.value == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.places["c", "b"] == "job.yaml:1"


def test_billion_laughs() -> None:
    """Aliases of aliases end at the limit of values, in seconds and not in gigabytes."""
    names = "abcdefghijkl"
    lines = [f"a: &a [{', '.join(['x'] * 9)}]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]" for last, name in pairwise(names)]
    started = time.process_time()
    assert f"more than {MOST_NODES:,} values" in refused("\n".join(lines))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "value", ["&a [*a]", "&a {b: *a}", "[" * 100 + "]" * 100, "{a: " * 900 + "1" + "}" * 900]
)
def test_depth(value: str) -> None:
    """An alias within itself, and nesting without end, are errors of one line."""
    message = refused(f"x: {value}\n")
    assert message.startswith("job.yaml")
    assert "\n" not in message


def test_a_pipe(job_text: Text) -> None:
    """A job may come from a pipe, as in `fl-submit check <(make-job)`."""
    reading, writing = os.pipe()
    os.write(writing, job_text().encode())
    os.close(writing)
    assert load_job([Path(f"/dev/fd/{reading}")]).metadata.name == "digits"
    os.close(reading)


# -- merging


def merged(*texts: str) -> Document:
    whole = Document()
    for number, text in enumerate(texts):
        whole = whole.merged(parse(text, name=f"{number}.yaml"))
    return whole


@pytest.mark.parametrize(
    ("below", "over", "result"),
    [
        ("{a: b}", "{a: c}", {"a": "c"}),
        ("{a: b}", "{b: c}", {"a": "b", "b": "c"}),
        ("{a: b}", "{a: null}", {}),
        ("{a: b, b: c}", "{a: null}", {"b": "c"}),
        ("{a: [b]}", "{a: c}", {"a": "c"}),
        ("{a: c}", "{a: [b]}", {"a": ["b"]}),
        ("{a: {b: c}}", "{a: {b: d, c: null}}", {"a": {"b": "d"}}),
        ("{a: [{b: c}]}", "{a: [1]}", {"a": [1]}),
        ("{e: null}", "{a: 1}", {"a": 1}),
        ("{}", "{a: {bb: {ccc: null}}}", {"a": {"bb": {}}}),
        ("{a: foo}", "{a: {b: {c: null, d: 1}}}", {"a": {"b": {"d": 1}}}),
    ],
)
def test_merge(below: str, over: str, result: dict[str, Any]) -> None:
    """The table of RFC 7386, for files that hold maps: null removes, also where there was nothing."""
    assert merged(below, over).value == result


@given(maps, maps, maps)
@settings(max_examples=25, deadline=None)
def test_merging_is_in_order(first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]) -> None:
    """A file laid twice changes nothing more, a later one wins, and the inputs stay as they are."""
    copies = [repr(one) for one in (first, second, third)]
    whole = Document().merged(Document(first)).merged(Document(second)).merged(Document(third))
    assert whole.merged(Document(third)).value == whole.value
    for name, value in third.items():
        assert (name in whole.value) == (value is not None)
        if not isinstance(value, dict) and value is not None:
            assert whole.value[name] == value
    assert [repr(one) for one in (first, second, third)] == copies


def test_merged_places() -> None:
    """A problem is shown in the file that its value came from, and never in one that was replaced."""
    whole = merged("a: 1\nb: {c: 1, d: 2}\ne:\n- {f: 1}\n", "b: {c: 3}\ne: [{}]\n")
    named = {path: place for path, place in whole.places.items() if path}
    assert named["a",] == "0.yaml:1"
    assert (named["b", "c"], named["b", "d"]) == ("1.yaml:1", "0.yaml:2")
    assert named["e", 0] == "1.yaml:2"
    assert ("e", 0, "f") not in named


def test_order_of_files(job_text: Text) -> None:
    """Problems come in the order of the files and their lines, whichever field was there first."""
    over = "spec:\n  seed: -1\n  rounds: 0\n"
    with pytest.raises(InvalidJobError) as caught:
        merged(job_text(evaluation=3), over).job()
    assert [problem.place for problem in caught.value.problems] == ["0.yaml:8", "1.yaml:2", "1.yaml:3"]


def test_three_files(tmp_path: Path, job_text: Text) -> None:
    """A job may be spread over files: strategy and cluster come from others than the program."""
    texts = {
        "job.yaml": job_text(strategy={"name": "fedprox", "mu": 1}),
        "strategy.yaml": "spec: {strategy: {name: fedavg, mu: null}}\n",
        "cluster.yaml": "spec: {workers: {replicas: 9}, selection: {perRound: 6}}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    job = load_job([tmp_path / name for name in texts])
    assert (job.spec.strategy.name, job.spec.workers.replicas, job.per_round) == ("fedavg", 9, 6)


def test_null_in_a_config(tmp_path: Path) -> None:
    """In the first file a null is a value of the program's; only a file laid over it removes with a null."""
    base, over = tmp_path / "job.yaml", tmp_path / "over.yaml"
    base.write_text(
        "{apiVersion: fljob.dev/v1alpha1, kind: FLJob, metadata: {name: a}, spec: {rounds: 1, workers: "
        "{replicas: 1}, program: {entrypoint: 'a:b', config: {depth: null, width: 3}}}}"
    )
    over.write_text("{spec: {program: {config: {width: null}}}}")
    assert load_job([base, over]).spec.program.config == {"depth": None}
