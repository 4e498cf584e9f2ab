from __future__ import annotations

from pathlib import Path

import pytest

from job_generator.local.chaos_file import load_faults
from job_generator.local.chaos_spec import Faults
from job_generator.problems import InvalidJobError


def faults(tmp_path: Path, text: str, *, framework: str = "sklearn") -> Faults:
    file = tmp_path / "chaos.yaml"
    file.write_text(text)
    return load_faults(file, workers=4, rounds=100, framework=framework)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(InvalidJobError) as error:
        faults(tmp_path, text)
    return str(error.value)


def test_labels_of_a_plain_object_cannot_be_flipped(tmp_path: Path) -> None:
    """It keeps them to itself, which is said before the run begins."""
    text = "faults: [{fault: label_flip, who: worker-1, round: 2}]"
    (planned,) = faults(tmp_path, text, framework="paddle").planned(2, 4)
    assert (planned.who, planned.step) == ("worker-1", "train")
    with pytest.raises(
        InvalidJobError, match=r"faults\[0\].fault: label_flip needs labels, which a plain object"
    ):
        faults(tmp_path, text, framework="numpy")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("{fault: burn, who: server}", 'faults[0].fault: "burn" is unknown; expected kill, stop, slow'),
        ("{who: server}", "faults[0].fault: is missing; expected kill, stop"),
        ("{fault: kill}", "faults[0].who: is missing; expected server, scheduler, worker"),
        ("{fault: kill, who: sever}", 'faults[0].who: "sever" is not accepted; expected server, scheduler'),
        (
            "{fault: kill, who: worker-4}",
            'faults[0].who: "worker-4" is nobody; the job has worker-0 to worker-3',
        ),
        (
            "{fault: full_disk, who: worker-3, seconds: 1}",
            'faults[0].who: "worker-3" is not accepted; expected server, as it alone has a storage',
        ),
        (
            "{fault: nan, who: server}",
            'faults[0].who: "server" is not accepted; expected worker (one of them',
        ),
        (
            "{fault: kill, who: any, round: 0}",
            "faults[0].round: 0 is not accepted; expected a round such as 3",
        ),
        ("{fault: kill, who: any, round: 4-x}", 'faults[0].round: "4-x" is not accepted; expected a round'),
        (
            "{fault: kill, who: any, step: lunch}",
            'faults[0].step: "lunch" is not accepted; expected open, select',
        ),
        ("{fault: nan, step: open}", 'faults[0].step: "open" is not accepted; nan happens at train'),
        ("{fault: stop, who: any}", "faults[0].seconds: is missing; expected a number above 0 up to 3600"),
        (
            "{fault: slow, who: any, seconds: 1}",
            "faults[0]: slow needs kilobytesPerSecond, delaySeconds or both",
        ),
        (
            "{fault: kill, who: any, probability: 2}",
            "faults[0].probability: 2 is not accepted; expected a number",
        ),
        (
            "{fault: slow, who: any, rate: 1}",
            "faults[0].rate: there is no such field; expected round, every, step",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, fault: str, sentence: str) -> None:
    """Each mistake is told with file, line, path, value and what would be accepted."""
    said = refused(tmp_path, f"faults:\n  - {fault}\n")
    assert said.startswith(f"{tmp_path / 'chaos.yaml'}:2: ")
    assert sentence in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "expected a map with seed and faults"),
        ("faults: []", "faults: [] is not accepted; expected a list of 1 to 1000 faults"),
        ("seed: 1", "faults: is missing; expected a list of 1 to 1000 faults"),
        ("faults: [{fault: kill, who: any}]\nsed: 1", "sed: there is no such field; expected seed or faults"),
        ("faults: [kill]", 'faults[0]: "kill" is not accepted; expected a map such as'),
    ],
)
def test_a_file_that_is_no_list_of_faults(tmp_path: Path, text: str, sentence: str) -> None:
    """What the whole file should be is told too."""
    assert sentence in refused(tmp_path, text)


@pytest.mark.parametrize("when", ["101", "5-2", "101-"])
def test_a_fault_that_can_never_happen_is_refused(tmp_path: Path, when: str) -> None:
    """Who reads the report would take it for survived."""
    told = refused(tmp_path, f"faults: [{{fault: kill, who: server, round: {when}}}]")
    assert "faults.0.round" in told or "faults[0].round" in told
    assert "is none of the job's rounds, 1 to 100" in told
